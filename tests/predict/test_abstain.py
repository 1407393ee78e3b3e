"""``calibrate --coverage`` and ``predict --abstain``: sets in the table, decisions that are not answered."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from anymc3d.cli.main import main
from anymc3d.evaluate.conformal import PredictionSets, SetBounds
from anymc3d.files.tables import read_table, write_table
from anymc3d.plugins import load_plugin, save_plugin
from anymc3d.predict.predictor import load


def command(journey, folder) -> list[object]:
    """``predict`` of one scan by the plugin in ``folder``."""
    plugin, out = folder / "p.safetensors", folder / "out"
    return ["predict", "-p", plugin, "--device", "cpu", "-o", out, "-i", journey.scans[0]]


def run(*words: object) -> int:
    return main([str(word) for word in words])


@pytest.fixture(scope="module")
def calibrated(journey, tmp_path_factory):
    """The journey's plugin with sets, fitted to a table of logits that it could have given."""
    folder = tmp_path_factory.mktemp("sets")
    rows, cells = [], []
    for i in range(40):
        logit = (2.0 if i % 2 else -2.0) + 0.1 * (i % 20)
        rows.append({"case": f"c{i}", "status": "ok", "message": "", "logit.block": logit})
        rows[-1] |= {"probability.block": 0.5, "decision.block": int(logit >= 0)}
        cells.append({"case": f"c{i}", "block": i % 2})
    write_table(folder / "p.csv", list(rows[0]), rows)
    write_table(folder / "m.csv", list(cells[0]), cells)
    common = ["calibrate", "-p", journey.plugin, folder / "p.csv", folder / "m.csv", "-o", folder / "new.safetensors"]
    assert run(*common, "--coverage", 0.9, "--quiet") == 0
    return folder / "new.safetensors"


def test_sets_alone_leave_calibration_and_operating_points(journey, calibrated, capsys) -> None:
    before, after = load_plugin(journey.plugin).card, load_plugin(calibrated).card
    assert replace(after, prediction_sets=None) == before
    assert after.prediction_sets.coverage == 0.9 and after.prediction_sets.cases == 40
    # The 19th of 20 cases with each answer, by (20 + 1) * 0.9.
    assert after.prediction_sets.labels["block"] == SetBounds(
        positive_from=pytest.approx(2.1), negative_to=pytest.approx(-0.2), n_positive=20, n_negative=20
    )
    assert run("plugin", "show", calibrated) == 0
    assert "prediction sets: coverage 0.9 of every answer, fitted on 40 cases (all)" in capsys.readouterr().out


@pytest.mark.parametrize(("positive_from", "negative_to", "cell"), [(-50.0, 50.0, "{0, 1}"), (50.0, -50.0, "{}")])
def test_an_empty_or_full_set_is_not_answered_with_abstain_alone(
    journey, tmp_path, positive_from, negative_to, cell
) -> None:
    plugin = load_plugin(journey.plugin)
    bounds = SetBounds(positive_from=positive_from, negative_to=negative_to, n_positive=20, n_negative=20)
    sets = PredictionSets(coverage=0.9, split="val", cases=40, labels={"block": bounds})
    save_plugin(tmp_path / "p.safetensors", replace(plugin.card, prediction_sets=sets), plugin.tensors)
    common = command(journey, tmp_path)
    assert run(*common, "--quiet") == 0
    (plain,) = read_table(tmp_path / "out" / "predictions.csv")
    assert plain["set.block"] == cell and plain["decision.block"] in "01"
    assert run(*common, "--abstain") == 0
    (row,) = read_table(tmp_path / "out" / "predictions.csv")
    assert row == plain | {"decision.block": "not answered"}
    assert len((tmp_path / "out" / "journal.jsonl").read_text().splitlines()) == 1
    assert run(*common, "--quiet") == 0
    assert read_table(tmp_path / "out" / "predictions.csv") == [plain]


def test_an_alarm_is_not_answered_and_a_decision_in_doubt_says_so_in_python(journey, tmp_path) -> None:
    plugin = load_plugin(journey.plugin)
    near = {name: replace(one, limit=one.limit / 1e6) for name, one in plugin.card.scan_statistics.measures.items()}
    card = replace(plugin.card, scan_statistics=replace(plugin.card.scan_statistics, measures=near))
    save_plugin(tmp_path / "p.safetensors", card, plugin.tensors)
    assert load(tmp_path / "p.safetensors", device="cpu").predict(journey.scans[0]).in_doubt == ("block",)
    assert load(journey.plugin, device="cpu").predict(journey.scans[0]).in_doubt == ()
    common = command(journey, tmp_path)
    assert run(*common, "--abstain", "--quiet") == 0
    (row,) = read_table(tmp_path / "out" / "predictions.csv")
    assert row["decision.block"] == "not answered" and row["logit.block"]


def test_abstain_without_anything_to_abstain_on_is_refused(journey, tmp_path, capsys) -> None:
    plugin = load_plugin(journey.plugin)
    save_plugin(tmp_path / "old.safetensors", replace(plugin.card, scan_statistics=None), plugin.tensors)
    words = ["predict", "-p", tmp_path / "old.safetensors", "-o", tmp_path / "out", "-i", journey.scans[0], "--abstain"]
    assert run(*words) == 2
    assert "has neither prediction sets nor statistics of its training scans" in capsys.readouterr().err


def test_what_calibrate_cannot_do_with_a_coverage_is_said(journey, calibrated, tmp_path, capsys) -> None:
    tables = [calibrated.parent / "p.csv", calibrated.parent / "m.csv"]
    base = ["calibrate", "-p", journey.plugin, *tables]
    assert run(*base, "-o", tmp_path / "n.safetensors", "--coverage", "90") == 2
    assert "--coverage: expected 0.5 to 0.999, got 90" in capsys.readouterr().err
    assert run(*base, "-o", tmp_path / "n.safetensors", "--coverage", "0.9", "--pooled", tables[0]) == 2
    assert "give --method or --criterion with it" in capsys.readouterr().err
    assert run(*base, "-o", tmp_path / "n.safetensors", "--coverage", "0.99", "--method", "platt", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["coverage"] == 0.99 and sum("is in every set" in line for line in found["warnings"]) == 2
    assert load_plugin(tmp_path / "n.safetensors").card.calibration.method == "platt"
