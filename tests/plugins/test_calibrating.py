"""Recalibration for a new site: other probabilities and decisions, the same weights to the last bit."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import special

from anymc3d.cli.main import main
from anymc3d.errors import PluginError, UsageError
from anymc3d.evaluate import metrics, outputs
from anymc3d.evaluate.calibration import Calibration
from anymc3d.files.tables import read_table, write_table
from anymc3d.models.tensor_hash import tensors_hash
from anymc3d.plugins import load_plugin, save_plugin
from anymc3d.plugins.ensemble import make_ensemble, warnings_of
from anymc3d.plugins.file import HEADER_KEY
from anymc3d.plugins.recalibrate import choose_cases, read_scored, recalibrate
from anymc3d.predict.predictor import load
from anymc3d.settings.config import LabelSettings
from anymc3d.settings.plain import to_plain
from anymc3d.settings.task_file import read_task


def site(folder, *, n=60, label="block", splits=None, positives=None, plugin_name=None, other_label=None):
    """Predictions and a manifest of ``n`` labelled cases of a new site."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(7)
    raw = rng.normal(-1, 3, (n, 1)).astype(np.float32).astype(float)
    targets = (rng.random(n) < special.expit(raw[:, 0] / 2 + 1)).astype(int)
    if positives is not None:
        targets = (np.arange(n) < positives).astype(int)
    probability, decision = outputs.probabilities(raw, "binary"), outputs.decisions(raw, "binary", [0.0])
    named = other_label or label
    rows = [
        {"case": f"c{i}", "status": "ok"}
        | ({"plugin": plugin_name} if plugin_name else {})
        | outputs.prediction_cells([named], raw[i], probability[i], decision[i])
        for i in range(n)
    ]
    columns = outputs.prediction_columns([named], with_plugin=plugin_name is not None)
    write_table(folder / "predictions.csv", columns, rows)
    cells = [{"case": f"c{i}", "image": f"c{i}.nii", label: targets[i]} for i in range(n)]
    if splits:
        cells = [cell | {"split": splits[i % len(splits)]} for i, cell in enumerate(cells)]
    write_table(folder / "manifest.csv", list(cells[0]), cells)
    return folder / "predictions.csv", folder / "manifest.csv"


def calibrate(*words):
    return main(["calibrate", *map(str, words)])


def recalibrated(plugin, tables, *, split=None, **wanted):
    chosen, name, _ = choose_cases(read_scored(plugin, *tables), split)
    return recalibrate(plugin, chosen, split=name, **wanted)


def test_weights_stay_bit_identical_and_only_what_depends_on_the_calibration_changes(journey, tmp_path):
    tables = site(tmp_path / "site")
    new = tmp_path / "new.safetensors"
    assert calibrate("-p", journey.plugin, *tables, "-o", new, "--criterion", "f1", "--quiet") == 0
    before, after = load_plugin(journey.plugin), load_plugin(new)
    assert tensors_hash(before.tensors) == tensors_hash(after.tensors)
    assert before.card.tensors_sha256 == after.card.tensors_sha256
    size = sum(tensor.numel() * 2 for tensor in before.tensors.values())
    assert journey.plugin.read_bytes()[-size:] == new.read_bytes()[-size:]
    same = {"calibration": None, "operating_points": (), "metrics": ()}
    assert replace(before.card, **same) == replace(after.card, **same)
    assert {row["metric"] for row in after.card.metrics} <= {"auroc", "average_precision"}
    assert after.card.calibration.fitted_on == before.hash


def test_the_new_plugin_decides_at_one_half_what_was_chosen_on_the_new_site(journey, tmp_path):
    tables = site(tmp_path / "site")
    new = recalibrated(load_plugin(journey.plugin), tables, criterion="f1")
    (threshold,) = new.card.thresholds
    assert new.card.calibration.maps["block"].threshold == threshold
    save_plugin(tmp_path / "new.safetensors", new.card, load_plugin(journey.plugin).tensors)
    predictor = load(tmp_path / "new.safetensors", device="cpu")
    raw = load(journey.plugin, device="cpu")
    for scan in journey.scans[:3]:
        prediction = predictor.predict(scan)
        assert prediction.calibrated
        assert prediction.logits == raw.predict(scan).logits
        assert prediction.decisions["block"] == int(prediction.logits["block"] >= threshold)
        assert prediction.decisions["block"] == int(float(prediction.row()["probability.block"]) >= 0.5)
    assert not raw.predict(journey.scans[0]).calibrated


def test_the_operating_point_is_the_one_of_the_largest_f1(journey, tmp_path):
    from sklearn.metrics import f1_score

    tables = site(tmp_path / "site")
    plugin = load_plugin(journey.plugin)
    cases = read_scored(plugin, *tables)
    new = recalibrate(plugin, cases, split="all", criterion="f1")
    reached = f1_score(cases.targets[:, 0], cases.raw[:, 0] >= new.card.thresholds[0])
    best = max(f1_score(cases.targets[:, 0], cases.raw[:, 0] >= t) for t in cases.raw[:, 0])
    assert reached == pytest.approx(best, abs=1e-12)
    calibrated = new.card.calibration.apply(cases.raw)[:, 0]
    raw_auroc = metrics.auroc(cases.targets[:, 0], cases.raw[:, 0])
    assert metrics.auroc(cases.targets[:, 0], calibrated) == raw_auroc


def test_it_says_how_many_cases_it_used_and_that_few_are_few(journey, tmp_path, capsys):
    tables = site(tmp_path / "site", n=24, positives=6)
    assert calibrate("-p", journey.plugin, *tables, "-o", tmp_path / "new.safetensors") == 0
    printed = capsys.readouterr()
    assert "fitted on 24 cases (all rows); the weights are unchanged" in printed.out
    assert "block: 6 of 24 positive" in printed.out
    assert "6 cases of the rarer outcome, below 10: slope left at 1" in printed.err
    assert calibrate("-p", tmp_path / "new.safetensors", *site(tmp_path / "b"), "-o", tmp_path / "b.safetensors") == 0
    slope = load_plugin(tmp_path / "b.safetensors").card.calibration.maps["block"].slope
    capsys.readouterr()
    calibrate("-p", tmp_path / "b.safetensors", *tables, "-o", tmp_path / "c.safetensors")
    assert f"slope left at {slope:.4g}" in capsys.readouterr().err
    assert load_plugin(tmp_path / "c.safetensors").card.calibration.maps["block"].slope == slope


class TestSplits:
    def test_val_rows_are_used_and_test_rows_never_unasked(self, journey, tmp_path):
        plugin = load_plugin(journey.plugin)
        tables = site(tmp_path / "a", splits=["train", "val", "test"])
        new = recalibrated(plugin, tables)
        assert (new.split, new.cases) == ("val", 20)
        only_test = site(tmp_path / "b", splits=["test"])
        with pytest.raises(UsageError, match=r"no val case .* there are some in test .*--split test takes them"):
            recalibrated(plugin, only_test)
        chosen, name, warnings = choose_cases(read_scored(plugin, *only_test), "test")
        assert (len(chosen.splits), name) == (60, "test")
        assert "not a fair test" in warnings[0]

    def test_B16_the_labels_of_test_rows_move_nothing(self, journey, tmp_path):
        plugin = load_plugin(journey.plugin)
        tables = site(tmp_path / "a", splits=["val", "test"])
        before = recalibrated(plugin, tables).card
        rows = read_table(tables[1])
        for row in rows:
            row["block"] = "1" if row["split"] == "test" else row["block"]
        write_table(tables[1], list(rows[0]), rows)
        assert recalibrated(plugin, tables).card == before

    def test_a_split_that_is_not_there_is_refused(self, journey, tmp_path):
        cases = read_scored(load_plugin(journey.plugin), *site(tmp_path / "a"))
        with pytest.raises(UsageError, match="no split column"):
            choose_cases(cases, "test")


@pytest.mark.parametrize(
    ("tables", "words", "message"),
    [
        ({"other_label": "tumour"}, [], "expected the labels of the plugin, block, got tumour"),
        ({"positives": 0}, [], "no label has both outcomes in the rows (block: 0 positive of 60)"),
        ({"positives": 60, "splits": ["val", "test"]}, [], "both outcomes in the val rows (block: 30 positive of 30)"),
        ({}, ["--method", "plat"], "unknown method 'plat', did you mean 'platt'?"),
        ({}, ["--criterion", "yuden"], "unknown 'yuden', did you mean 'youden'?"),
        ({"plugin_name": "other"}, [], "no row of plugin 'block', only of other"),
        ({}, ["--figure", "x.png"], "got no val row"),
        ({}, ["--figure", "x.pdf"], "ends in .png or .csv"),
    ],
)
def test_D10_bad_input_is_one_line_and_exit_code_2(journey, tmp_path, monkeypatch, capsys, tables, words, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("anymc3d.models.store.find_by_fingerprint", None)
    out = [] if "--figure" in words else ["-o", "new.safetensors"]
    assert calibrate("-p", journey.plugin, *site(tmp_path / "site", **tables), *out, *words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not (tmp_path / "new.safetensors").exists()


def test_all_labels_missing_and_every_case_failed_are_one_line(journey, tmp_path):
    plugin = load_plugin(journey.plugin)
    predictions, manifest = site(tmp_path / "site")
    rows = read_table(manifest)
    write_table(manifest, list(rows[0]), [row | {"block": ""} for row in rows])
    with pytest.raises(UsageError, match="block empty in all 60 rows"):
        read_scored(plugin, predictions, manifest)
    rows = read_table(predictions)
    write_table(predictions, list(rows[0]), [{"case": row["case"], "status": "error"} for row in rows])
    with pytest.raises(UsageError, match="every case of plugin 'block' failed"):
        read_scored(plugin, predictions, manifest)


def test_predictions_of_other_weights_are_refused_where_the_run_left_its_record(journey, tmp_path):
    plugin = load_plugin(journey.plugin)
    predictions, manifest = site(tmp_path / "site")
    record = predictions.parent / "predict.json"
    record.write_text(json.dumps({"logits": {"block": plugin.card.logits_id}}))
    read_scored(plugin, predictions, manifest)
    record.write_text(json.dumps({"logits": {"block": "0" * 64}}))
    with pytest.raises(UsageError, match="predicted by other weights"):
        read_scored(plugin, predictions, manifest)


def test_the_plugin_itself_and_other_files_are_never_written_over(journey, tmp_path, capsys):
    tables = site(tmp_path / "site")
    before = journey.plugin.read_bytes()
    assert calibrate("-p", journey.plugin, *tables, "-o", journey.plugin) == 2
    assert "one of the inputs" in capsys.readouterr().err
    assert journey.plugin.read_bytes() == before
    new = tmp_path / "new.safetensors"
    assert calibrate("-p", journey.plugin, *tables, "-o", new, "--criterion", "f1") == 0
    assert calibrate("-p", journey.plugin, *tables, "-o", new, "--criterion", "f1") == 0
    assert calibrate("-p", journey.plugin, *tables, "-o", new, "--criterion", "crg", "--method", "isotonic") == 2
    assert "--overwrite" in capsys.readouterr().err
    words = ["-o", new, "--criterion", "crg", "--method", "isotonic", "--overwrite"]
    assert calibrate("-p", journey.plugin, *tables, *words) == 0
    assert load_plugin(new).card.calibration.method == "isotonic"


def test_an_ensemble_can_be_recalibrated_like_a_plugin(journey, tmp_path):
    plugin = load_plugin(journey.plugin)
    card, tensors = make_ensemble([plugin], name="block")
    save_plugin(tmp_path / "e.safetensors", card, tensors)
    whole = load_plugin(tmp_path / "e.safetensors")
    new = recalibrated(whole, site(tmp_path / "site"))
    assert new.card.calibration.criterion == "youden"
    save_plugin(tmp_path / "new.safetensors", new.card, whole.tensors)
    prediction = load(tmp_path / "new.safetensors", device="cpu").predict(journey.scans[0])
    assert prediction.calibrated
    expected = new.card.calibration.maps["block"].apply(prediction.logits["block"])
    assert prediction.probabilities["block"] == pytest.approx(special.expit(expected), abs=1e-9)


def test_F4_a_header_whose_calibration_contradicts_its_decisions_is_refused(journey, tmp_path):
    from safetensors.torch import save_file

    new = recalibrated(load_plugin(journey.plugin), site(tmp_path / "site"))
    plain = to_plain(new.card)
    tensors = {name: tensor.half() for name, tensor in load_plugin(journey.plugin).tensors.items()}
    changes = [
        (("maps", {"block": to_plain(Calibration(kind="platt", threshold=9.0))}), "0.5 is at logit 9.0"),
        (("maps", {"other": plain["calibration"]["maps"]["block"]}), "expected maps for block, got other"),
        (("method", "magic"), "calibration.method: expected one of platt, temperature, isotonic"),
        (("slope", 2), "calibration.slope: unknown key"),
    ]
    for (key, value), message in changes:
        odd = plain | {"calibration": plain["calibration"] | {key: value}}
        save_file(tensors, str(tmp_path / "odd.safetensors"), metadata={HEADER_KEY: json.dumps(odd)})
        with pytest.raises(PluginError, match=message):
            load_plugin(tmp_path / "odd.safetensors")


def test_multiclass_takes_a_temperature_and_no_criterion(journey, tmp_path):
    labels = LabelSettings(columns=("kind",), kind="multiclass", classes=("x", "y"))
    plugin = load_plugin(journey.plugin)
    multi = replace(plugin, card=replace(plugin.card, labels=labels, operating_points=(), metrics=()))
    rng = np.random.default_rng(0)
    raw = rng.normal(0, 4, (80, 2))
    rows = [
        {"case": f"c{i}", "status": "ok"}
        | outputs.prediction_cells(
            labels.output_names,
            raw[i],
            outputs.probabilities(raw[i : i + 1], "multiclass")[0],
            outputs.decisions(raw[i : i + 1], "multiclass", [])[0],
        )
        for i in range(80)
    ]
    write_table(tmp_path / "p.csv", outputs.prediction_columns(labels.output_names), rows)
    kinds = np.array(["x", "y"])[(rng.random(80) < special.expit((raw[:, 1] - raw[:, 0]) / 3)).astype(int)]
    cells = [{"case": f"c{i}", "image": "a.nii", "kind": kinds[i]} for i in range(80)]
    write_table(tmp_path / "m.csv", list(cells[0]), cells)
    tables = tmp_path / "p.csv", tmp_path / "m.csv"
    new = recalibrated(multi, tables)
    assert new.card.calibration.method == "temperature"
    assert 0.2 < new.card.calibration.maps["kind"].slope < 0.6
    with pytest.raises(UsageError, match="decided by the largest probability and takes none"):
        recalibrated(multi, tables, criterion="f1")
    with pytest.raises(UsageError, match="takes temperature, got platt"):
        recalibrated(multi, tables, method="platt")


@pytest.mark.parametrize(("key", "method"), [("f1", "platt"), ("temperature", "temperature")])
def test_train_fits_what_the_task_file_asks_for(journey, key, method):
    from anymc3d.train.result import decide_how, validation_rows

    task = read_task(journey.task, [f"calibration={key}"])
    rng = np.random.default_rng(0)
    raw = rng.normal(0, 3, (50, 1))
    targets = (rng.random((50, 1)) < special.expit(raw)).astype(float)
    points, calibration = decide_how(task, targets, raw)
    assert (calibration.method, calibration.split, calibration.cases) == (method, "val", 50)
    rows = validation_rows(task, [str(i) for i in range(50)], raw, points, calibration)
    assert [row["decision.block"] for row in rows] == [str(int(z >= points[0].threshold)) for z in raw[:, 0]]
    assert [float(row["logit.block"]) for row in rows] == pytest.approx(raw[:, 0].tolist(), rel=1e-8)
    if method == "platt":
        assert all((float(row["probability.block"]) >= 0.5) == (row["decision.block"] == "1") for row in rows)


def test_a_multiclass_task_file_cannot_ask_for_platt(journey):
    from anymc3d.errors import TaskFileError

    with pytest.raises(TaskFileError, match="takes none or temperature, got f1"):
        read_task(journey.task, ["labels.kind=multiclass", "calibration=f1"])


def test_the_figure_command_writes_its_numbers_and_prints_them(journey, tmp_path, capsys):
    tables = site(tmp_path / "site", n=120, splits=["val", "test"])
    assert calibrate("-p", journey.plugin, *tables, "--figure", tmp_path / "strategies.csv") == 0
    rows = read_table(tmp_path / "strategies.csv")
    assert [row["strategy"] for row in rows[::4]] == ["none", "F1", "CRG", "F1+CRG"]
    assert len({row["value"] for row in rows if row["metric"] == "auroc"}) == 1
    assert {row["n"] for row in rows} == {"60"}
    assert "F1+CRG" in capsys.readouterr().out
    assert not (tmp_path / "strategies.png").exists()


def test_ensemble_command_and_show_end_to_end(journey, tmp_path, capsys):
    tables = site(tmp_path / "site")
    for fold, criterion in enumerate(["f1", "crg"]):
        out = tmp_path / f"fold_{fold}" / "plugin.safetensors"
        words = ["-p", journey.plugin, *tables, "-o", out, "--criterion", criterion, "--method", "platt", "--quiet"]
        assert calibrate(*words) == 0
    folds = [str(path) for path in sorted(tmp_path.glob("fold_*/plugin.safetensors"))]
    out = tmp_path / "ensemble.safetensors"
    assert main(["ensemble", *folds, "-o", str(out), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["calibrated"]
    assert len(printed["members"]) == 2
    assert main(["plugin", "show", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "ensemble of 2" in shown
    assert "each member's own" in shown
    assert main(["plugin", "verify", str(out)]) == 0
    assert main(["plugin", "show", folds[0]]) == 0
    assert "calibration: platt through the operating point" in capsys.readouterr().out
    assert main(["ensemble", folds[0], folds[0], "-o", str(tmp_path / "twice.safetensors")]) == 2
    assert "are the same plugin" in capsys.readouterr().err
    words = ["predict", "-p", str(out), "-i", str(journey.scans[0]), "-o", str(tmp_path / "out"), "--quiet"]
    assert main(words) == 0
    assert "uncalibrated" not in capsys.readouterr().out


def rare_site(folder):
    """A new site with 3 positives among 40, and out-of-fold predictions of 60 other cases in one manifest."""
    few, many = site(folder / "few", n=40, positives=3), site(folder / "many", n=60)
    rows = [read_table(few[1]), [row | {"case": f"o{row['case']}"} for row in read_table(many[1])]]
    splits = ["val"] * 40 + ["train"] * 55 + ["test"] * 5
    listed = [row | {"split": split} for row, split in zip([*rows[0], *rows[1]], splits, strict=True)]
    write_table(folder / "manifest.csv", list(listed[0]), listed)
    pooled = [row | {"case": f"o{row['case']}"} for row in read_table(many[0])]
    write_table(folder / "oof.csv", list(pooled[0]), pooled)
    return few[0], folder / "manifest.csv", folder / "oof.csv"


def test_B16_a_rare_label_is_fitted_on_the_pooled_cases_outside_the_test_split_and_says_so(journey, tmp_path, capsys):
    predictions, manifest, oof = rare_site(tmp_path)
    new = tmp_path / "new.safetensors"
    words = ("-p", journey.plugin, predictions, manifest, "-o", new, "--criterion", "f1")
    assert calibrate(*words, "--pooled", oof, "--json") == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["pooled"] == ["block"]
    assert "block: 3 cases of the rarer outcome, below 10: fitted on pooled cases" in printed.err
    card = load_plugin(new).card
    assert card.calibration.maps["block"].n == 55
    assert card.operating_points[0]["source_split"] == "pooled"
    assert calibrate(*words, "--overwrite", "--json") == 0
    assert json.loads(capsys.readouterr().out)["pooled"] == []


@pytest.mark.parametrize("name", ["predictions.png", "manifest.csv"])
def test_the_figure_never_writes_over_a_table_it_reads(journey, tmp_path, capsys, name):
    tables = site(tmp_path / "site", n=120, splits=["val", "test"])
    before = [table.read_bytes() for table in tables]
    assert calibrate("-p", journey.plugin, *tables, "--figure", tmp_path / "site" / name) == 2
    assert "one of the inputs" in capsys.readouterr().err
    assert [table.read_bytes() for table in tables] == before


@pytest.mark.parametrize("words", [("--criterion", "f1"), ("--method", "platt"), ("--split", "test")])
def test_options_of_the_new_plugin_are_not_ignored_by_the_figure(journey, tmp_path, capsys, words):
    tables = site(tmp_path / "site", n=40, splits=["val", "test"])
    assert calibrate("-p", journey.plugin, *tables, "--figure", tmp_path / "f.csv", *words) == 2
    assert f"{words[0]}: only with -o" in capsys.readouterr().err


def test_pooled_cases_without_a_new_plugin_are_refused(journey, tmp_path, capsys):
    predictions, manifest, oof = rare_site(tmp_path)
    words = ("-p", journey.plugin, predictions, manifest, "--figure", tmp_path / "f.csv", "--pooled", oof)
    assert calibrate(*words) == 2
    assert "--pooled: only with -o" in capsys.readouterr().err


def test_an_ensemble_says_which_labels_had_too_few_cases(journey, tmp_path):
    predictions, manifest, _ = rare_site(tmp_path)
    plugin = load_plugin(journey.plugin)
    new = recalibrated(plugin, (predictions, manifest), split="val", criterion="f1")
    save_plugin(tmp_path / "few.safetensors", new.card, plugin.tensors)
    card, _ = make_ensemble([load_plugin(tmp_path / "few.safetensors")])
    (warning,) = warnings_of(card)
    assert "block in 1 of 1 members" in warning and "--pooled" in warning
