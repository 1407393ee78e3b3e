"""From rows of text to rows of metrics.csv: what is counted, on which split, with which threshold."""

import numpy as np
import pytest
import sklearn.metrics as sk

from anymc3d.data.case import Case
from anymc3d.data.labels import encode
from anymc3d.errors import ManifestError, ProblemsError, UsageError
from anymc3d.evaluate import outputs
from anymc3d.evaluate.delong import delong_paired_test
from anymc3d.evaluate.measures import Sampling
from anymc3d.evaluate.study import evaluate_rows, evaluate_study
from anymc3d.evaluate.study_cases import StudySettings
from anymc3d.evaluate.study_rows import COLUMNS
from anymc3d.evaluate.targets import encode_targets
from anymc3d.settings.config import LabelSettings

QUICK = StudySettings(sampling=Sampling(num_resamples=200))
BINARY = ["tumour"]
PARTS = ("logit", "probability", "decision")


def predictions(raw: np.ndarray, names: list[str], kind: str, plugin: str | None = None) -> list[dict[str, str]]:
    probability, decision = outputs.probabilities(raw, kind), outputs.decisions(raw, kind, [0.0] * raw.shape[1])
    rows = []
    for i, values in enumerate(raw):
        row = {"case": f"c{i}", "status": "ok", "message": ""}
        row |= {"plugin": plugin} if plugin else {}
        rows.append(row | outputs.prediction_cells(names, values, probability[i], decision[i]))
    return rows


def binary_study(n: int = 120, seed: int = 0) -> tuple[list[dict[str, str]], list[dict[str, str]], np.ndarray]:
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 2, n)
    raw = rng.normal(size=(n, 1)) + targets[:, None]
    splits = np.array(["train", "val", "test"])[np.arange(n) % 3]
    manifest = [
        {"case": f"c{i}", "split": str(splits[i]), "sex": "FM"[i // 3 % 2], "tumour": str(targets[i])} for i in range(n)
    ]
    return predictions(raw, BINARY, "binary"), manifest, raw[:, 0]


def find(rows, metric, *, label="tumour", point="", group="all", plugin="", split=None):
    key = (metric, label, point, group, plugin)
    columns = ("metric", "label", "operating_point", "group", "plugin")
    found = [row for row in rows if tuple(row[c] for c in columns) == key and (split is None or row["split"] == split)]
    assert len(found) == 1, f"{key}: {len(found)} rows"
    return found[0]


def arrays(table, manifest, split="test"):
    targets = np.array([int(row["tumour"]) for row in manifest if row["split"] == split])
    by_case = {row["case"]: row for row in table}
    cells = [by_case[row["case"]] for row in manifest if row["split"] == split]
    return targets, {part: np.array([float(c[f"{part}.tumour"]) for c in cells]) for part in PARTS}


def test_rows_have_the_columns_of_the_contract_and_each_figure_once():
    table, manifest, _ = binary_study()
    rows = evaluate_rows(table, manifest, settings=QUICK)
    assert all(tuple(row) == COLUMNS for row in rows)
    keys = [tuple(row[c] for c in COLUMNS[:6]) for row in rows]
    assert len(set(keys)) == len(keys)


def test_H12_figures_are_of_the_test_rows_and_equal_scikit_learn():
    table, manifest, _ = binary_study()
    rows = evaluate_rows(table, manifest, settings=QUICK)
    targets, values = arrays(table, manifest)
    expected = {
        "auroc": sk.roc_auc_score(targets, values["logit"]),
        "average_precision": sk.average_precision_score(targets, values["logit"]),
        "brier": sk.brier_score_loss(targets, values["probability"]),
    }
    for metric, value in expected.items():
        row = find(rows, metric, split="test")
        assert row["value"] == pytest.approx(value, abs=1e-11)
        assert (row["n"], row["n_positive"]) == (40, targets.sum())
        assert row["ci_low"] < row["value"] < row["ci_high"]
    own = find(rows, "f1", point="plugin")["value"]
    assert own == pytest.approx(sk.f1_score(targets, values["decision"]), abs=1e-11)
    assert find(rows, "sensitivity", point="plugin")["ci_method"] == "wilson"
    assert find(rows, "auroc")["ci_method"] == "delong_logit"


def test_B16_test_labels_and_scores_never_move_a_threshold():
    table, manifest, _ = binary_study()
    criteria = ("youden", "f1", "crg", "sensitivity=0.9")
    settings = StudySettings(operating_points=criteria, sampling=QUICK.sampling)
    before = evaluate_rows(table, manifest, settings=settings)
    rng = np.random.default_rng(9)
    test_rows = [i for i, row in enumerate(manifest) if row["split"] == "test"]
    shuffled = [dict(row) for row in manifest]
    for i, j in zip(test_rows, rng.permutation(test_rows), strict=True):
        shuffled[i]["tumour"] = manifest[j]["tumour"]
    changed = [dict(row) for row in table]
    for i in test_rows:
        changed[i]["logit.tumour"] = str(float(table[i]["logit.tumour"]) * 2 - 1)
    after = evaluate_rows(changed, shuffled, settings=settings)
    for criterion in criteria:
        assert find(after, "threshold", point=criterion) == find(before, "threshold", point=criterion)
    assert find(after, "auroc")["value"] != find(before, "auroc")["value"]


def test_B16_thresholds_come_from_the_val_rows():
    table, manifest, _ = binary_study()
    rows = evaluate_rows(table, manifest, settings=QUICK)
    threshold = find(rows, "threshold", point="youden")
    val_targets, val = arrays(table, manifest, "val")
    false_rate, true_rate, _ = sk.roc_curve(val_targets, val["logit"])
    decided = val["logit"] >= threshold["value"]
    youden = decided[val_targets == 1].mean() - decided[val_targets == 0].mean()
    assert youden == pytest.approx((true_rate - false_rate).max())
    assert (threshold["split"], threshold["n"]) == ("val", 40)
    targets, values = arrays(table, manifest)
    expected = sk.recall_score(targets, values["logit"] >= threshold["value"])
    assert find(rows, "sensitivity", point="youden")["value"] == pytest.approx(expected)


def test_train_rows_are_never_used():
    table, manifest, _ = binary_study()
    without = [row for row in manifest if row["split"] != "train"]
    kept = {row["case"] for row in without}
    full = evaluate_rows(table, manifest, settings=QUICK)
    assert evaluate_rows([row for row in table if row["case"] in kept], without, settings=QUICK) == full


class TestWithoutVal:
    def test_without_splits_all_rows_and_the_plugins_own_decisions(self):
        table, manifest, _ = binary_study()
        manifest = [{k: v for k, v in row.items() if k != "split"} for row in manifest]
        rows = evaluate_rows(table, manifest, settings=QUICK)
        assert {row["split"] for row in rows} == {"all"}
        assert {row["operating_point"] for row in rows} == {"", "plugin"}
        assert find(rows, "auroc")["n"] == 120

    def test_without_val_predictions_only_the_plugins_own_decisions_and_a_warning(self):
        table, manifest, _ = binary_study()
        test_only = [row for i, row in enumerate(table) if manifest[i]["split"] == "test"]
        study = evaluate_study(test_only, manifest, settings=QUICK)
        assert {row["operating_point"] for row in study.rows} == {"", "plugin"}
        assert any("no prediction of a val row" in warning for warning in study.warnings)

    def test_asking_for_a_threshold_without_val_is_refused(self):
        table, manifest, _ = binary_study()
        test_only = [row for i, row in enumerate(table) if manifest[i]["split"] == "test"]
        settings = StudySettings(operating_points=("probability=0.5", "f1"), sampling=QUICK.sampling)
        with pytest.raises(UsageError, match="'f1': thresholds come from val rows only"):
            evaluate_rows(test_only, manifest, settings=settings)

    def test_a_fixed_probability_needs_no_val_rows(self):
        table, manifest, _ = binary_study()
        test_only = [row for i, row in enumerate(table) if manifest[i]["split"] == "test"]
        settings = StudySettings(operating_points=("probability=0.3",), sampling=QUICK.sampling)
        rows = evaluate_rows(test_only, manifest, settings=settings)
        targets, values = arrays(table, manifest)
        expected = sk.recall_score(targets, values["probability"] >= 0.3)
        assert find(rows, "sensitivity", point="probability=0.3")["value"] == pytest.approx(expected)

    def test_a_manifest_of_val_rows_alone_is_evaluated_as_val_without_choosing_on_it(self):
        table, manifest, _ = binary_study()
        only = [row for row in manifest if row["split"] == "val"]
        own = [row for i, row in enumerate(table) if manifest[i]["split"] == "val"]
        study = evaluate_study(own, only, settings=QUICK)
        assert {row["split"] for row in study.rows} == {"val"}
        assert {row["operating_point"] for row in study.rows} == {"", "plugin"}
        assert any("no test rows" in warning for warning in study.warnings)

    def test_train_and_val_without_test_is_refused(self):
        table, manifest, _ = binary_study()
        with pytest.raises(UsageError, match="train, val but no test rows"):
            evaluate_rows(table, [row for row in manifest if row["split"] != "test"], settings=QUICK)


class TestFailedCases:
    def test_error_rows_and_absent_cases_are_counted_and_reported(self):
        table, manifest, _ = binary_study()
        table[2] = {**dict.fromkeys(table[2], ""), "case": "c2", "status": "error", "message": "broken"}
        del table[5]
        study = evaluate_study(table, manifest, settings=QUICK)
        row = find(study.rows, "failed_cases", label="")
        assert (row["value"], row["n"]) == (2, 40)
        assert row["reason"] == "1 with status error, 1 without a row"
        assert find(study.rows, "auroc")["n"] == 38
        assert any("2 of 40 test cases have no prediction" in warning for warning in study.warnings)

    def test_none_failed_is_said_too(self):
        table, manifest, _ = binary_study()
        assert find(evaluate_rows(table, manifest, settings=QUICK), "failed_cases", label="")["value"] == 0

    def test_predictions_of_other_cases_are_named(self):
        table, manifest, _ = binary_study()
        study = evaluate_study([*table, {**table[0], "case": "stranger"}], manifest, settings=QUICK)
        assert any("1 predicted cases are not in the manifest" in w and "stranger" in w for w in study.warnings)

    def test_a_missing_label_leaves_its_case_out(self):
        table, manifest, _ = binary_study()
        manifest[2]["tumour"] = ""
        assert find(evaluate_rows(table, manifest, settings=QUICK), "auroc")["n"] == 39


def test_B14_one_class_in_test_is_undefined_with_a_reason_never_0_or_1():
    table, manifest, _ = binary_study()
    manifest = [{**row, "tumour": "0"} if row["split"] == "test" else row for row in manifest]
    rows = evaluate_rows(table, manifest, settings=QUICK)
    for metric, point in (("auroc", ""), ("average_precision", ""), ("sensitivity", "plugin"), ("f1", "youden")):
        row = find(rows, metric, point=point)
        assert (row["value"], row["ci_low"], row["ci_method"]) == (None, None, "")
        assert row["reason"]
    assert find(rows, "specificity", point="plugin")["value"] is not None


def test_B14_one_class_in_val_gives_reasons_instead_of_a_threshold():
    table, manifest, _ = binary_study()
    manifest = [{**row, "tumour": "0"} if row["split"] == "val" else row for row in manifest]
    study = evaluate_study(table, manifest, settings=QUICK)
    row = find(study.rows, "sensitivity", point="youden")
    assert row["value"] is None
    assert "val rows have 0 positive of 40" in row["reason"]
    assert find(study.rows, "sensitivity", point="plugin")["value"] is not None
    assert any("no threshold" in warning for warning in study.warnings)


class TestGroups:
    def test_each_value_of_a_column_is_a_group_with_the_same_threshold(self):
        table, manifest, _ = binary_study()
        manifest[2]["sex"] = ""
        settings = StudySettings(groups=("sex",), sampling=QUICK.sampling)
        rows = evaluate_rows(table, manifest, settings=settings)
        sizes = {row["group"]: row["n"] for row in rows if row["metric"] == "failed_cases"}
        assert sizes["all"] == sum(n for group, n in sizes.items() if group != "all") == 40
        assert set(sizes) == {"all", "sex=F", "sex=M", "sex=(missing)"}
        assert len([row for row in rows if row["metric"] == "threshold"]) == 1

    def test_an_unknown_column_or_one_with_many_values_is_refused(self):
        table, manifest, _ = binary_study()
        with pytest.raises(UsageError, match="no column 'sax' to group by, did you mean 'sex'"):
            evaluate_rows(table, manifest, settings=StudySettings(groups=("sax",)))
        with pytest.raises(UsageError, match="120 different values"):
            evaluate_rows(table, manifest, settings=StudySettings(groups=("case",)))


class TestPatients:
    def test_H12_several_rows_per_patient_make_every_interval_one_by_patient(self):
        table, manifest, _ = binary_study(360)
        manifest = [{**row, "patient": f"{row['split']}{i // 9}"} for i, row in enumerate(manifest)]
        rows = evaluate_rows(table, manifest, settings=QUICK)
        methods = {row["ci_method"] for row in rows if row["ci_method"]}
        assert methods == {"obuchowski_logit", "wilson_clustered", "bootstrap_patient"}

    def test_H12_repeating_every_row_under_its_patient_keeps_values_and_intervals(self):
        table, manifest, _ = binary_study(150)
        manifest = [{**row, "patient": row["case"]} for row in manifest]
        twice = manifest + [{**row, "case": f"{row['case']}b"} for row in manifest]
        table_twice = table + [{**row, "case": f"{row['case']}b"} for row in table]
        once = find(evaluate_rows(table, manifest, settings=QUICK), "f1", point="plugin")
        again = find(evaluate_rows(table_twice, twice, settings=QUICK), "f1", point="plugin")
        assert [again[c] for c in ("value", "ci_low", "ci_high")] == pytest.approx(
            [once[c] for c in ("value", "ci_low", "ci_high")]
        )


class TestMulticlass:
    names = ["grade=low", "grade=mid", "grade=high"]

    def study(self):
        rng = np.random.default_rng(3)
        classes = rng.integers(0, 3, 90)
        raw = rng.normal(size=(90, 3)) + 1.5 * np.eye(3)[classes] + rng.normal(size=(90, 1)) * 5
        manifest = [{"case": f"c{i}", "grade": ["low", "mid", "high"][k]} for i, k in enumerate(classes)]
        return predictions(raw, self.names, "multiclass"), manifest, classes, raw

    def test_H12_one_vs_rest_and_macro_equal_scikit_learn(self):
        table, manifest, classes, raw = self.study()
        rows = evaluate_rows(table, manifest, settings=QUICK)
        probabilities = outputs.probabilities(raw, "multiclass")
        expected = sk.roc_auc_score(classes, probabilities, multi_class="ovr")
        macro = find(rows, "auroc", label="macro")
        assert macro["value"] == pytest.approx(expected, abs=1e-9)
        assert macro["ci_low"] < macro["value"] < macro["ci_high"]
        per_class = sk.roc_auc_score(classes == 1, probabilities[:, 1])
        assert find(rows, "auroc", label="grade=mid")["value"] == pytest.approx(per_class, abs=1e-9)
        decided = raw.argmax(axis=1)
        accuracy = find(rows, "accuracy", label="grade", point="plugin")
        assert accuracy["value"] == pytest.approx(sk.accuracy_score(classes, decided))
        recall = find(rows, "sensitivity", label="macro", point="plugin")["value"]
        assert recall == pytest.approx(sk.balanced_accuracy_score(classes, decided))

    def test_two_decided_classes_are_refused(self):
        table, manifest, _, _ = self.study()
        table[0] |= {f"decision.{name}": "1" for name in self.names}
        with pytest.raises(ProblemsError, match="3 classes of grade are decided, expected exactly one"):
            evaluate_rows(table, manifest, settings=QUICK)

    def test_a_class_that_is_not_in_the_predictions_is_refused(self):
        table, manifest, _, _ = self.study()
        manifest[4]["grade"] = "huge"
        with pytest.raises(ManifestError, match="'c4': grade is 'huge', expected low or mid or high"):
            evaluate_rows(table, manifest, settings=QUICK)


class TestMultilabel:
    def study(self):
        rng = np.random.default_rng(4)
        targets = (rng.random((80, 3)) < [0.5, 0.3, 0.0]).astype(int)
        raw = rng.normal(size=(80, 3)) + targets
        manifest = [
            {"case": f"c{i}", "mass": str(a), "stone": "" if i % 10 == 0 else str(b), "gas": str(c)}
            for i, (a, b, c) in enumerate(targets)
        ]
        return predictions(raw, ["mass", "stone", "gas"], "multilabel"), manifest, targets, raw

    def test_missing_labels_leave_out_and_macro_names_the_undefined(self):
        table, manifest, targets, raw = self.study()
        rows = evaluate_rows(table, manifest, settings=QUICK)
        known = np.arange(80) % 10 != 0
        stone = sk.roc_auc_score(targets[known, 1], raw[known, 1])
        mass = sk.roc_auc_score(targets[:, 0], raw[:, 0])
        assert find(rows, "auroc", label="stone")["value"] == pytest.approx(stone, abs=1e-9)
        assert find(rows, "auroc", label="stone")["n"] == 72
        assert find(rows, "auroc", label="gas")["value"] is None
        macro = find(rows, "auroc", label="macro")
        assert macro["value"] == pytest.approx((mass + stone) / 2, abs=1e-9)
        assert macro["reason"] == "mean of 2 of 3 labels; undefined for gas"
        assert macro["ci_method"] == "bootstrap_patient_unstratified"

    def test_crg_is_pooled_over_all_cells(self):
        table, manifest, targets, raw = self.study()
        row = find(evaluate_rows(table, manifest, settings=QUICK), "crg", label="pooled", point="plugin")
        known = np.ones((80, 3), bool)
        known[::10, 1] = False
        t, d = targets[known], (raw >= 0)[known]
        x, a = t.size, t.sum()
        r, u = (x - a) / (2 * a), (x - a) / 2
        s = r * (t & d).sum() - r * (t & ~d).sum() - ((1 - t) & d).sum()
        assert row["value"] == pytest.approx(u / (2 * u - s), abs=1e-11)
        assert (row["n"], row["n_positive"]) == (x, a)

    def test_a_label_without_any_value_takes_nothing_from_the_pooled_figures(self):
        table, manifest, _, _ = self.study()
        manifest = [{**row, "gas": "", "split": "val" if i % 2 else "test"} for i, row in enumerate(manifest)]
        two = [{name: cell for name, cell in row.items() if not name.endswith(".gas")} for row in table]
        settings = StudySettings(operating_points=("youden", "crg"), sampling=Sampling(num_resamples=200))
        found = evaluate_study(table, manifest, settings=settings)
        expected = evaluate_rows(two, manifest, settings=settings)
        for point in ("plugin", "youden", "crg"):
            row = find(found.rows, "crg", label="pooled", point=point)
            assert row["value"] is not None
            assert row == find(expected, "crg", label="pooled", point=point)
        (told,) = [warning for warning in found.warnings if "no threshold" in warning]
        assert told.count("gas") == 1


class TestTwoPlugins:
    def study(self, *, patients: bool = False):
        rng = np.random.default_rng(6)
        targets = rng.integers(0, 2, 80)
        good = rng.normal(size=(80, 1)) + 2 * targets[:, None]
        poor = good + rng.normal(size=(80, 1)) * 3
        manifest = [{"case": f"c{i}", "tumour": str(t)} for i, t in enumerate(targets)]
        if patients:
            manifest = [{**row, "patient": f"p{i // 2}"} for i, row in enumerate(manifest)]
        table = predictions(good, BINARY, "binary", "good") + predictions(poor, BINARY, "binary", "poor")
        return table, manifest

    def test_difference_has_delong_interval_and_p_value(self):
        table, manifest = self.study()
        rows = evaluate_rows(table, manifest, settings=QUICK)
        row = find(rows, "auroc_difference", plugin="good - poor")
        each = [find(rows, "auroc", plugin=name)["value"] for name in ("good", "poor")]
        assert row["value"] == pytest.approx(each[0] - each[1], abs=1e-11)
        assert row["ci_method"] == "delong_paired"
        scores = [[float(r["logit.tumour"]) for r in table if r["plugin"] == name] for name in ("good", "poor")]
        expected = delong_paired_test([int(r["tumour"]) for r in manifest], *scores)
        p_row = find(rows, "auroc_difference_p", plugin="good - poor")
        assert p_row["value"] == pytest.approx(expected.p_value, abs=1e-9)
        assert find(rows, "auroc_difference_p_holm", plugin="good - poor")["value"] == p_row["value"]

    def test_several_rows_per_patient_are_compared_by_patient(self):
        table, manifest = self.study(patients=True)
        rows = evaluate_rows(table, manifest, settings=QUICK)
        row = find(rows, "auroc_difference", plugin="good - poor")
        scores = [[float(r["logit.tumour"]) for r in table if r["plugin"] == name] for name in ("good", "poor")]
        targets, patients = [int(r["tumour"]) for r in manifest], [r["patient"] for r in manifest]
        expected = delong_paired_test(targets, *scores, patients=patients)
        assert row["ci_method"] == "obuchowski_paired"
        assert (row["ci_low"], row["ci_high"]) == pytest.approx((expected.interval.low, expected.interval.high))
        p_row = find(rows, "auroc_difference_p", plugin="good - poor")
        assert p_row["value"] == pytest.approx(expected.p_value)

    def test_only_cases_both_predicted_are_compared(self):
        table, manifest = self.study()
        table[0] |= {"status": "error", "logit.tumour": "", "probability.tumour": "", "decision.tumour": ""}
        rows = evaluate_rows(table, manifest, settings=QUICK)
        assert find(rows, "auroc_difference", plugin="good - poor")["n"] == 79

    def test_plugins_of_different_tasks_keep_their_own_labels(self):
        table, manifest = self.study()
        other = predictions(np.linspace(-1, 1, 80)[:, None], ["cyst"], "binary", "cysts")
        names = [f"{part}.{name}" for name in ("tumour", "cyst") for part in PARTS]
        table = [{**dict.fromkeys(names, ""), **row} for row in table[:80] + other]
        manifest = [{**row, "cyst": str(i % 2)} for i, row in enumerate(manifest)]
        rows = evaluate_rows(table, manifest, settings=QUICK)
        assert {(row["plugin"], row["label"]) for row in rows if row["metric"] == "auroc"} == {
            ("good", "tumour"),
            ("cysts", "cyst"),
        }
        assert not [row for row in rows if row["metric"] == "auroc_difference"]


class TestLabelCells:
    settings = LabelSettings(columns=("kind",), kind="binary", classes=("benign", "malignant"))

    def rows(self):
        table, manifest, _ = binary_study()
        text = {"0": "benign", "1": "malignant"}
        table = [{key.replace("tumour", "kind"): value for key, value in row.items()} for row in table]
        manifest = [
            {**{k: v for k, v in row.items() if k != "tumour"}, "kind": text[row["tumour"]]} for row in manifest
        ]
        return table, manifest

    def test_text_classes_need_the_task_file_and_work_with_it(self):
        table, manifest = self.rows()
        with pytest.raises(UsageError, match=r"holds 'benign', 'malignant', expected 0 or 1; give the task file"):
            evaluate_rows(table, manifest, settings=QUICK)
        rows = evaluate_rows(table, manifest, labels=self.settings, settings=QUICK)
        numeric = evaluate_rows(*binary_study()[:2], settings=QUICK)
        assert find(rows, "auroc", label="kind")["value"] == find(numeric, "auroc")["value"]

    @pytest.mark.parametrize(
        ("settings", "cells"),
        [
            (LabelSettings(columns=("y",), kind="binary", classes=("0", "1")), ["0", "1.0", "", "1", "+1"]),
            (LabelSettings(columns=("y",), kind="binary", classes=("no", "yes")), ["yes", "no", ""]),
            (LabelSettings(columns=("y",), kind="multiclass", classes=("1", "2", "10")), ["10", "2.0", "", "1"]),
        ],
    )
    def test_cells_mean_here_what_they_mean_in_training(self, settings, cells):
        cases = [Case(f"c{i}", "p", {}, {}, {"y": cell}, None, None, None, None, i) for i, cell in enumerate(cells)]
        expected = outputs.label_targets(encode(cases, settings), settings.kind, len(settings.output_names))
        ours = encode_targets([{"case": f"c{i}", "y": cell} for i, cell in enumerate(cells)], settings)
        np.testing.assert_array_equal(ours, expected)


class TestFaults:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"logit.tumour": "high"}, "logit.tumour is 'high', expected a finite number"),
            ({"logit.tumour": ""}, "logit.tumour is ''"),
            ({"logit.tumour": "inf"}, "expected a finite number"),
            ({"probability.tumour": "1.2"}, "expected a number from 0 to 1"),
            ({"decision.tumour": "0.5"}, "expected 0 or 1"),
            ({"status": "fine"}, "status is 'fine', expected ok, warn, error"),
        ],
    )
    def test_a_bad_cell_is_named_with_its_case(self, change, message):
        table, manifest, _ = binary_study()
        table[7] |= change
        with pytest.raises(ProblemsError) as caught:
            evaluate_rows(table, manifest, settings=QUICK)
        assert "case 'c7'" in str(caught.value)
        assert message in str(caught.value)

    def test_duplicates_are_named(self):
        table, manifest, _ = binary_study()
        with pytest.raises(ProblemsError, match="case 'c3': appears twice"):
            evaluate_rows([*table, table[3]], manifest, settings=QUICK)

    def test_no_common_case_lists_a_few_of_both(self):
        table, manifest, _ = binary_study()
        table = [{**row, "case": f"x{row['case']}"} for row in table]
        with pytest.raises(UsageError, match=r"predictions have xc0.*the manifest has c0.*115 more"):
            evaluate_rows(table, manifest, settings=QUICK)

    def test_missing_columns_are_named(self):
        table, manifest, _ = binary_study()
        with pytest.raises(UsageError, match=r"no column decision\.tumour; expected a predictions\.csv"):
            evaluate_rows(
                [{k: v for k, v in row.items() if k != "decision.tumour"} for row in table], manifest, settings=QUICK
            )
        with pytest.raises(UsageError, match="no column case"):
            evaluate_rows([{"id": "c0"}], manifest, settings=QUICK)
        with pytest.raises(UsageError, match="has no rows"):
            evaluate_rows([], manifest, settings=QUICK)

    def test_a_missing_label_column_suggests_the_right_one(self):
        table, manifest, _ = binary_study()
        manifest = [{("tumor" if k == "tumour" else k): v for k, v in row.items()} for row in manifest]
        with pytest.raises(UsageError, match="no label column 'tumour', did you mean 'tumor'"):
            evaluate_rows(table, manifest, settings=QUICK)

    def test_empty_label_columns_are_refused(self):
        table, manifest, _ = binary_study()
        with pytest.raises(UsageError, match="no labels: tumour empty in all 120 rows"):
            evaluate_rows(table, [{**row, "tumour": ""} for row in manifest], settings=QUICK)


def test_I7_the_same_tables_give_the_same_rows_in_any_order_of_cases():
    table, manifest, _ = binary_study()
    rows = evaluate_rows(table, manifest, settings=QUICK)
    assert evaluate_rows(table, manifest, settings=QUICK) == rows
    values = {tuple(r[c] for c in COLUMNS[:6]): r["value"] for r in rows}
    backwards = evaluate_rows(table[::-1], manifest[::-1], settings=QUICK)
    assert {tuple(r[c] for c in COLUMNS[:6]): r["value"] for r in backwards} == values


def test_B14_ids_that_a_spreadsheet_rewrote_are_refused_not_left_out():
    """Half of the cases would have been evaluated, and nobody told."""
    manifest = [{"case": f"{k:03d}", "patient": f"{k:03d}", "y": str(k % 2)} for k in range(20)]
    predictions = [
        {"case": row["case"] if k < 10 else str(k), "status": "ok", "message": ""}
        | {"logit.y": "0.5", "probability.y": "0.6", "decision.y": "1"}
        for k, row in enumerate(manifest)
    ]
    with pytest.raises(UsageError, match=r"10 cases of the predictions differ .*'10' for '010'"):
        evaluate_study(predictions, manifest)
