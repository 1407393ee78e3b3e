"""Probabilities are called calibrated only where slope and shift were fitted on enough cases, wherever shown."""

import json
from dataclasses import replace

import numpy as np
import pytest

from anymc3d import load
from anymc3d.cli.main import main
from anymc3d.evaluate.calibration import SLOPE_FLOOR, Calibration
from anymc3d.evaluate.task_calibration import TaskCalibration, choose_points, fit_task, states_in_words
from anymc3d.plugins import load_plugin, save_plugin
from anymc3d.report.study import StudyFacts
from anymc3d.report.study_page import study_page
from anymc3d.settings.config import LabelSettings

BINARY = LabelSettings(columns=("block",), kind="binary", classes=("0", "1"))


def cases(num_positive, num_negative=30):
    rng = np.random.default_rng(0)
    targets = np.r_[np.ones(num_positive), np.zeros(num_negative)][:, None]
    return targets, rng.normal(size=targets.shape) + 1.5 * targets


def fitted(method, num_positive, labels=BINARY):
    targets, raw = cases(num_positive)
    points = choose_points(targets, raw, "youden")
    return points, fit_task(targets, raw, labels, points, method=method)


@pytest.mark.parametrize(
    ("method", "num_positive", "state"),
    [
        ("platt", 10, "calibrated"),
        ("platt", 9, "shifted"),
        ("isotonic", 10, "calibrated"),
        ("isotonic", 9, "none"),
        ("temperature", 10, "scaled"),
        ("temperature", 9, "none"),
    ],
)
def test_H15_a_state_says_what_was_fitted(method, num_positive, state):
    _, calibration = fitted(method, num_positive)
    assert calibration.states(BINARY) == {"block": state}


def test_H15_a_slope_at_its_floor_is_not_called_calibrated():
    """Logits that rise as the outcome falls: an AUROC of 0.3 once had a report that said calibrated."""
    one = Calibration(kind="platt", slope=SLOPE_FLOOR, n=100, n_positive=40)
    assert one.state(of_classes=False) == "shifted"


def test_one_temperature_is_all_there_is_to_fit_of_classes():
    labels = LabelSettings(columns=("kind",), kind="multiclass", classes=("x", "y", "z"))
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 3, 90)
    truth = np.eye(3)[classes]
    calibration = fit_task(truth, rng.normal(size=(90, 3)) + truth, labels, [], method="temperature")
    assert set(calibration.states(labels).values()) == {"calibrated"}


def test_words_name_the_labels_that_differ():
    states = {"mass": "calibrated", "stone": "shifted", "gas": "shifted"}
    assert states_in_words(states) == "shifted only, not calibrated: stone, gas; calibrated: mass"
    assert states_in_words(dict.fromkeys(states, "none")) == "uncalibrated"


@pytest.fixture(scope="module")
def shifted(journey, tmp_path_factory):
    """A plugin whose calibration saw three positives: only the operating point was moved."""
    points, calibration = fitted("platt", 3)
    plugin = load_plugin(journey.plugin)
    card = replace(
        plugin.card, calibration=calibration, operating_points=tuple(point.to_dict() for point in points), metrics=()
    )
    path = tmp_path_factory.mktemp("shifted") / "plugin.safetensors"
    save_plugin(path, card, plugin.tensors)
    return path


def test_H15_a_mere_shift_is_called_that_by_prediction_and_card(shifted, journey):
    card = load_plugin(shifted).card
    assert card.holds_calibration and not card.is_calibrated
    prediction = load(shifted, device="cpu").predict(journey.scans[0])
    assert not prediction.calibrated
    assert prediction.calibration == {"block": "shifted"}


def test_H15_a_mere_shift_is_called_that_by_show_predict_and_evaluate(shifted, journey, tmp_path, capsys):
    assert main(["plugin", "show", str(shifted)]) == 0
    assert "probabilities are shifted only, not calibrated" in capsys.readouterr().out
    out = tmp_path / "out"
    manifest = str(journey.data / "manifest.csv")
    assert main(["predict", "-p", str(shifted), "-i", manifest, "-o", str(out), "--device", "cpu"]) == 0
    assert "probabilities are shifted only, not calibrated" in capsys.readouterr().out
    record = json.loads((out / "predict.json").read_text())
    assert list(record["probabilities"].values()) == [{"block": "shifted"}]
    assert main(["evaluate", str(out / "predictions.csv"), manifest, "-o", str(tmp_path / "figures")]) == 0
    assert "shifted only, not calibrated." in (tmp_path / "figures" / "table.md").read_text()


def test_H15_a_mere_shift_is_called_that_by_the_report(shifted, journey):
    card = load_plugin(shifted).card
    facts = StudyFacts(
        case="c",
        status="ok",
        message="",
        plugin=card.name,
        probabilities={"block": 0.7},
        decisions={"block": 1},
        calibration=card.calibration_states,
        slice_weights={},
        view_weights={},
        maps=(),
        method="attention",
        scans={},
        card=card,
    )
    page = study_page(facts)
    assert "shifted only, not calibrated: 0.5 was put on the operating point" in page
    assert "fitted to outcomes of other cases" not in page
    assert "3 cases of the rarer outcome, below 10: slope left at 1" in page
    calibrated = {"block": "calibrated"}
    full = study_page(replace(facts, calibration=calibrated, card=None))
    assert "calibrated: slope and shift were fitted to outcomes of other cases" in full


def test_an_ensemble_says_no_more_than_its_least_member():
    maps = {"a": Calibration(kind="platt", n=100, n_positive=50), "b": Calibration(kind="platt", n=100, n_positive=4)}
    labels = LabelSettings(columns=("a", "b"), kind="multilabel")
    one = TaskCalibration(method="platt", criterion="f1", split="val", cases=100, maps=maps)
    assert one.states(labels) == {"a": "calibrated", "b": "shifted"}
