"""``plan`` names an epoch's time, from slices that really went through the backbone, and weights that are not here."""

from dataclasses import replace

import pytest

from anymc3d.models.backbones import BACKBONES
from anymc3d.plan import training_time as module
from anymc3d.plan.training_time import TrainingTime, missing_weights, training_time
from anymc3d.settings.config import DataSettings, LabelSettings, TaskSettings
from anymc3d.settings.training import BackboneSettings, MethodSettings, TrainSettings
from anymc3d.settings.views import ViewSettings

VIEW = ViewSettings(size=(28, 42, 10), image="image", plane="axial", normalise="percentile")
TASK = TaskSettings(
    name="t",
    labels=LabelSettings(columns=("y",), kind="binary", classes=("0", "1")),
    data=DataSettings(manifest="m.csv"),
    views={"image": VIEW},
    backbone=BackboneSettings(name="tiny-random"),
    train=TrainSettings(precision="fp32"),
)


def test_slices_go_forward_and_back_and_are_scaled_to_whole_scans(monkeypatch):
    calls = []

    def timed(run, device):
        run()
        calls.append(device.type)
        return 0.5

    monkeypatch.setattr(module, "_timed", timed)
    found = training_time(TASK, 12, device="cpu")
    assert calls == ["cpu", "cpu"]  # one slice to warm up, then four
    assert found.seconds_per_scan == pytest.approx(0.5 * 10 / 4) and found.seconds_per_epoch == pytest.approx(15)
    large = replace(VIEW, size=(56, 42, 10), plane="coronal")
    both = training_time(replace(TASK, views={"axial": VIEW, "coronal": large}), 12, device="cpu")
    assert both.seconds_per_scan == pytest.approx(0.5 * 10 / 4)


def test_a_slow_first_slice_is_all_that_is_measured(monkeypatch):
    calls = []
    monkeypatch.setattr(module, "_timed", lambda run, device: calls.append(1) or 30.0)
    assert training_time(TASK, 2, device="cpu").seconds_per_epoch == pytest.approx(30 * 10 * 2)
    assert len(calls) == 1


def test_what_cannot_be_measured_here_is_left_out(monkeypatch):
    assert training_time(TASK, 0) is None
    assert training_time(replace(TASK, method=MethodSettings(name="resnet18-3d")), 4) is None
    assert training_time(replace(TASK, backbone=BackboneSettings(name="no-such-backbone")), 4) is None

    def full(run, device):
        raise MemoryError

    monkeypatch.setattr(module, "_timed", full)
    assert training_time(TASK, 4, device="cpu") is None


def test_the_line_names_the_machine_and_the_quick_way_where_it_is_long():
    short, long = TrainingTime(2.0, 30, "8 threads"), TrainingTime(30.0, 100, "2 threads")
    assert short.text(10).startswith("time: about 2 s a scan, 60 s an epoch of 30 scans, 10 min for 10 epochs")
    assert "8 threads" in short.text(10) and "--quick" not in short.text(10)
    assert "50 min an epoch of 100 scans, 83.3 h for 100 epochs" in long.text(100) and "--quick" in long.text(100)


def test_weights_that_are_not_here_are_told_before_training(tmp_path):
    assert "anymc3d backbone get dinov2-small" in missing_weights("dinov2-small")
    assert "gated" in missing_weights("dinov3-large") and "dinov3-large" in BACKBONES
    assert missing_weights("tiny-random") is None and missing_weights(str(tmp_path)) is None
    assert "did you mean" in missing_weights("dinov2-smal")
