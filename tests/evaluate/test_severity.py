"""Severity tables: one threshold for disease of any grade, the same negatives in every line, sums that are right."""

import numpy as np
import pytest
import sklearn.metrics as sk

from anymc3d.errors import ManifestError, UsageError
from anymc3d.evaluate import outputs
from anymc3d.evaluate.measures import Sampling
from anymc3d.evaluate.metrics import compute
from anymc3d.evaluate.study import evaluate_rows, evaluate_study
from anymc3d.evaluate.study_cases import StudySettings
from anymc3d.evaluate.summary import markdown, severity_table
from anymc3d.settings.config import LabelSettings

SEVERITY = StudySettings(severity=("grade",), sampling=Sampling(num_resamples=200))
GROUPS = ("grade=0 vs 1", "grade=0 vs 2", "grade=0 vs 1+2")
ON_TEST = "youden (chosen on test)"


def rows_of(raw, names, kind):
    probability, decision = outputs.probabilities(raw, kind), outputs.decisions(raw, kind, [0.3] * raw.shape[1])
    return [
        {"case": f"c{i}", "status": "ok", "message": ""}
        | outputs.prediction_cells(names, raw[i], probability[i], decision[i])
        for i in range(len(raw))
    ]


def study(kind="binary", seed=0, n=240):
    """Predictions, manifest, and as arrays: split, grade, and the score of being diseased."""
    rng = np.random.default_rng(seed)
    grade = rng.choice([0, 0, 1, 2], n)
    split = np.array(["train", "val", "test"])[np.arange(n) % 3]
    manifest = [
        {"case": f"c{i}", "split": split[i], "injured": str(int(grade[i] > 0)), "grade": str(grade[i])}
        for i in range(n)
    ]
    if kind == "binary":
        raw = rng.normal(size=(n, 1)) + grade[:, None]
        return rows_of(raw, ["injured"], kind), manifest, split, grade, raw[:, 0]
    raw = rng.normal(size=(n, 3)) + 2 * np.eye(3)[grade]
    probability = outputs.probabilities(raw, kind)
    names = ["grade=0", "grade=1", "grade=2"]
    return rows_of(raw, names, kind), manifest, split, grade, np.log(1 / probability[:, 0] - 1)


def value(rows, metric, group, point="", label="injured"):
    key = (metric, label, group, point)
    (row,) = [r for r in rows if (r["metric"], r["label"], r["group"], r["operating_point"]) == key]
    return row["value"]


def best_youden(truth, score):
    """Independently, by trying every middle between two scores; ties: nearest to (0, 1), then the lowest."""
    ordered = np.unique(score)
    middles = (ordered[1:] + ordered[:-1]) / 2
    sensitivity = np.array([(score[truth] >= middle).mean() for middle in middles])
    specificity = np.array([(score[~truth] < middle).mean() for middle in middles])
    best = sensitivity + specificity
    tied = best >= best.max() - 1e-12
    distance = np.where(tied, (1 - sensitivity) ** 2 + (1 - specificity) ** 2, np.inf)
    return middles[np.argmin(distance)]


@pytest.mark.parametrize("kind", ["binary", "multiclass"])
@pytest.mark.parametrize("seed", range(3))
def test_H12_every_line_equals_scikit_learn_at_both_thresholds(kind, seed):
    table, manifest, split, grade, score = study(kind, seed)
    rows = evaluate_rows(table, manifest, settings=SEVERITY)
    label = "injured" if kind == "binary" else "grade"
    test, val = split == "test", split == "val"
    for point, source in (("youden", val), (ON_TEST, test)):
        threshold = best_youden(grade[source] > 0, score[source])
        for group, members in zip(GROUPS, (grade != 2, grade != 1, grade >= 0), strict=True):
            mine = test & members
            truth, called = grade[mine] > 0, score[mine] >= threshold
            expected = {
                "accuracy": sk.accuracy_score(truth, called),
                "sensitivity": sk.recall_score(truth, called),
                "specificity": sk.recall_score(~truth, ~called),
                "balanced_accuracy": sk.balanced_accuracy_score(truth, called),
            }
            for metric, wanted in expected.items():
                assert value(rows, metric, group, point, label) == pytest.approx(wanted, abs=1e-11), (group, metric)
            assert value(rows, "auroc", group, label=label) == pytest.approx(
                sk.roc_auc_score(truth, score[mine]), abs=1e-11
            )


@pytest.mark.parametrize("kind", ["binary", "multiclass"])
def test_specificity_is_one_number_and_sensitivity_of_all_is_the_mean_weighted_by_cases(kind):
    table, manifest, split, grade, _ = study(kind)
    rows = evaluate_rows(table, manifest, settings=SEVERITY)
    label = "injured" if kind == "binary" else "grade"
    counts = [int(((split == "test") & (grade == g)).sum()) for g in (1, 2)]
    for point in ("plugin", "youden", ON_TEST):
        assert len({value(rows, "specificity", group, point, label) for group in GROUPS}) == 1
        mild, severe, both = (value(rows, "sensitivity", group, point, label) for group in GROUPS)
        assert both == pytest.approx((counts[0] * mild + counts[1] * severe) / sum(counts), abs=1e-11)


def test_B16_test_labels_move_only_the_threshold_that_says_so():
    table, manifest, *_ = study()
    turned = [
        {**row, "grade": str(2 - int(row["grade"])), "injured": str(int(row["grade"] != "2"))}
        if row["split"] == "test"
        else row
        for row in manifest
    ]
    ours, theirs = (evaluate_rows(table, rows, settings=SEVERITY) for rows in (manifest, turned))
    both = [[value(rows, "threshold", GROUPS[2], point) for rows in (ours, theirs)] for point in ("youden", ON_TEST)]
    assert both[0][0] == both[0][1]
    assert both[1][0] != both[1][1]
    splits = {row["operating_point"]: row["split"] for row in ours if row["metric"] == "threshold"}
    assert splits == {"youden": "val", ON_TEST: "test"}


def test_the_version_chosen_on_test_can_be_asked_for_in_the_main_table_and_is_marked():
    table, manifest, split, grade, score = study()
    settings = StudySettings(operating_points=("youden", "youden@test"), sampling=Sampling(num_resamples=100))
    rows = evaluate_rows(table, manifest, settings=settings)
    test = split == "test"
    called = score[test] >= best_youden(grade[test] > 0, score[test])
    assert value(rows, "sensitivity", "all", ON_TEST) == pytest.approx(sk.recall_score(grade[test] > 0, called))
    assert value(rows, "threshold", "all", "youden") != value(rows, "threshold", "all", ON_TEST)
    with pytest.raises(UsageError, match="chosen on nothing"):
        evaluate_rows(table, manifest, settings=StudySettings(operating_points=("probability=0.5@test",)))


def test_without_val_rows_only_the_marked_threshold_is_there():
    table, manifest, *_ = study()
    unsplit = [{name: cell for name, cell in row.items() if name != "split"} for row in manifest]
    rows = evaluate_rows(table, unsplit, settings=SEVERITY)
    assert {row["operating_point"] for row in rows if row["group"] == GROUPS[0] and row["metric"] == "sensitivity"} == {
        "plugin",
        "youden (chosen on all)",
    }


PUBLISHED = {
    "liver": (94, 846, 80, 730, (0.8617, 0.8511, 0.8629)),
    "kidney": (55, 879, 53, 847, (0.9636, 0.9636, 0.9636)),
    "spleen": (109, 829, 96, 778, (0.9318, 0.8807, 0.9385)),
    "bowel": (21, 915, 20, 822, (0.8996, 0.9524, 0.8984)),
}
"""Table 8: positives, negatives, the whole numbers of right ones that its figures imply, and those figures."""


@pytest.mark.parametrize("organ", PUBLISHED)
def test_the_counts_of_the_papers_table_8_give_its_printed_figures(organ):
    positives, negatives, found, spared, printed = PUBLISHED[organ]
    targets = np.repeat([1, 0], [positives, negatives])
    decisions = np.concatenate([np.arange(positives) < found, np.arange(negatives) >= spared]).astype(int)
    ours = [compute(metric, targets, decisions).value for metric in ("accuracy", "sensitivity", "specificity")]
    assert tuple(round(figure, 4) for figure in ours) == printed


def test_several_labels_each_have_their_own_grade_column():
    rng = np.random.default_rng(5)
    grades = rng.integers(0, 3, (90, 2))
    manifest = [
        {"case": f"c{i}", "a": str(int(g[0] > 0)), "b": str(int(g[1] > 0)), "ga": str(g[0]), "gb": str(g[1])}
        for i, g in enumerate(grades)
    ]
    table = rows_of(rng.normal(size=(90, 2)) + grades, ["a", "b"], "multilabel")
    settings = StudySettings(severity=("a=ga", "b=gb"), sampling=Sampling(num_resamples=100))
    found = evaluate_study(table, manifest, settings=settings)
    assert found.severity_groups == tuple(f"{c}=0 vs {k}" for c in ("ga", "gb") for k in ("1", "2", "1+2"))
    assert value(found.rows, "auroc", "gb=0 vs 2", label="b") > 0.8
    with pytest.raises(UsageError, match="expected LABEL=ga with one of the labels a, b"):
        evaluate_rows(table, manifest, settings=StudySettings(severity=("ga",)))
    with pytest.raises(UsageError, match="no label 'c'"):
        evaluate_rows(table, manifest, settings=StudySettings(severity=("c=ga",)))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"grade": "mild"}, ManifestError, "case 'c0': grade is 'mild', expected a grade: 0, 1, 2"),
        ({"grade": "2", "injured": "0"}, ManifestError, "case 'c0': injured is 0 and grade is 2"),
    ],
)
def test_cells_that_are_no_grade_or_contradict_the_label_are_named(change, error, message):
    table, manifest, *_ = study()
    with pytest.raises(error, match=message):
        evaluate_rows(table, [manifest[0] | change, *manifest[1:]], settings=SEVERITY)


def test_a_column_with_a_gap_as_pandas_writes_it_gives_the_same_table():
    table, manifest, *_ = study()
    manifest = [manifest[0] | {"grade": ""}, *manifest[1:]]
    written = [row | {"grade": row["grade"] and f"{row['grade']}.0"} for row in manifest]
    assert evaluate_rows(table, written, settings=SEVERITY) == evaluate_rows(table, manifest, settings=SEVERITY)


def test_every_faulty_grade_is_counted():
    table, manifest, *_ = study()
    with pytest.raises(ManifestError, match="20 problems"):
        evaluate_rows(table, [*({**row, "grade": "mild"} for row in manifest[:20]), *manifest[20:]], settings=SEVERITY)


def test_columns_without_grades_are_refused():
    table, manifest, *_ = study()
    for severity, message in (
        ("injured", "expected injured to hold 0 and 2 to 9 higher grades, got 0, 1"),
        ("grad", "no column 'grad', did you mean 'grade'"),
    ):
        with pytest.raises(UsageError, match=message):
            evaluate_rows(table, manifest, settings=StudySettings(severity=(severity,)))
    classes, manifest, *_ = study("multiclass")
    with pytest.raises(UsageError, match="the classes of a multiclass plugin are its grades; expected grade"):
        evaluate_rows(classes, manifest, settings=StudySettings(severity=("injured",)))


def test_text_grades_of_an_ordinal_task_are_in_the_order_of_the_task():
    table, manifest, *_ = study("multiclass")
    names = ("none", "mild", "severe")
    renamed = [{column.replace("=", "=g"): cell for column, cell in row.items()} for row in table]
    for number, name in enumerate(names):
        renamed = [{column.replace(f"=g{number}", f"={name}"): cell for column, cell in row.items()} for row in renamed]
    manifest = [row | {"grade": names[int(row["grade"])]} for row in manifest]
    ordinal = LabelSettings(columns=("grade",), kind="ordinal", classes=names)
    found = evaluate_study(renamed, manifest, known=[ordinal], settings=SEVERITY)
    assert found.severity_groups == ("grade=none vs mild", "grade=none vs severe", "grade=none vs mild+severe")


def test_the_table_has_the_columns_of_the_paper_and_stays_out_of_the_subgroups():
    table, manifest, *_ = study()
    found = evaluate_study(table, manifest, settings=SEVERITY)
    text = severity_table(found)
    assert [part.strip() for part in text.splitlines()[0].strip("|").split("|")] == [
        "group",
        "label",
        "n",
        "AUROC",
        "operating point",
        "accuracy",
        "sensitivity",
        "specificity",
    ]
    assert text.count(ON_TEST) == 3
    whole = markdown(found, level=0.95)
    assert "## Severity" in whole and "## Subgroups" not in whole and "optimistic" in whole
