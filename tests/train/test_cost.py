"""What a run cost: counted from the modules, added up over a resumed run."""

import json
from dataclasses import replace

import pytest

from anymc3d.cost.energy import EnergyMeter
from anymc3d.data.manifest import read_manifest
from anymc3d.files.tables import read_table
from anymc3d.models.store import find_backbone
from anymc3d.plugins import load_plugin
from anymc3d.predict.cohort import predict_cohort
from anymc3d.predict.predictor import load
from anymc3d.settings.task_file import read_task
from anymc3d.train import loop
from anymc3d.train.fit import fit

KEYS = (
    "trainable_parameters",
    "total_parameters",
    "train_seconds",
    "train_seconds_per_volume",
    "peak_memory_bytes",
    "memory_per_volume_bytes",
    "memory_kind",
    "device",
    "energy_joules",
    "energy_note",
)


def test_a_run_says_its_parameters_seconds_and_memory(journey):
    found = json.loads((journey.run / "cost.json").read_text())
    assert tuple(found) == KEYS
    plugin = load_plugin(journey.plugin)
    own = sum(tensor.numel() for tensor in plugin.tensors.values())
    frozen = sum(p.numel() for p in find_backbone("tiny-random").module.parameters())
    assert (found["trainable_parameters"], found["total_parameters"]) == (own, own + frozen)
    assert plugin.card.training["total_parameters"] == own + frozen
    seconds = sum(float(row["seconds"]) for row in read_table(journey.run / "log.csv"))
    assert found["train_seconds"] == pytest.approx(seconds, abs=0.01)
    assert 0 < found["train_seconds_per_volume"] < seconds / (2 * 10), "of the steps, without validation"
    assert 2**20 < found["peak_memory_bytes"] < 2**40
    assert 2**10 < found["memory_per_volume_bytes"] < found["peak_memory_bytes"]
    assert (found["energy_joules"] is None) == found["energy_note"].startswith("not measured")


class Played(EnergyMeter):
    """A meter that shows the same at every reading."""

    def __init__(self):
        super().__init__((), "by the counters of a test, of all that ran on it meanwhile")

    def read(self):
        """Nothing: what is taken is always the same."""

    def take(self):
        return 2.5


def test_energy_is_added_up_over_epochs_and_over_predicted_cases(journey, tmp_path, monkeypatch):
    monkeypatch.setattr("anymc3d.train.parts.meter_of", lambda _: Played())
    monkeypatch.setattr("anymc3d.predict.cohort.meter_of", lambda _: Played())
    fit(read_task(journey.task, ["train.epochs=2"]), tmp_path / "run", device="cpu", quiet=True)
    found = json.loads((tmp_path / "run" / "cost.json").read_text())
    assert (found["energy_joules"], found["energy_note"]) == (5.0, Played().note)
    cases = read_manifest(journey.data / "manifest.csv").cases[:3]
    for number in (2, 3):
        predict_cohort(load(journey.plugin), cases[:number], tmp_path / "out", quiet=True)
    assert json.loads((tmp_path / "out" / "cost.json").read_text())["energy_joules"] == 7.5


def test_a_resumed_run_adds_to_what_was_spent_before(journey, tmp_path, monkeypatch):
    """Stopped inside the first epoch: its seconds before the stop count, and the peak memory of both processes."""
    step, clock, calls = loop._step, [0.0], []
    monkeypatch.setattr(loop.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(loop, "SAVE_EVERY_S", -1.0)
    monkeypatch.setattr(loop, "peak_memory", lambda _: 2**50 if len(calls) < 4 else 1)

    def slow(*args):
        calls.append(1)
        clock[0] += 100.0
        if len(calls) == 3:
            raise KeyboardInterrupt
        return step(*args)

    monkeypatch.setattr(loop, "_step", slow)
    task = read_task(journey.task, ["train.epochs=1"])
    with pytest.raises(KeyboardInterrupt):
        fit(task, tmp_path / "run", device="cpu", quiet=True)
    assert not (tmp_path / "run" / "cost.json").exists()
    clock[0] = 1e6
    fit(task, tmp_path / "run", device="cpu", quiet=True)
    found = json.loads((tmp_path / "run" / "cost.json").read_text())
    assert found["train_seconds"] == 500.0, "five steps of 100 s; the lost third one was done again"
    assert found["train_seconds_per_volume"] == 50.0
    assert found["peak_memory_bytes"] == 2**50


def test_a_prediction_says_its_seconds_per_volume_also_of_cases_done_before(journey, tmp_path):
    cases = read_manifest(journey.data / "manifest.csv").cases[:3]
    predictor = load(journey.plugin)
    predict_cohort(predictor, cases[:2], tmp_path / "out", quiet=True)
    predict_cohort(predictor, cases, tmp_path / "out", quiet=True)
    found = json.loads((tmp_path / "out" / "cost.json").read_text())
    lines = [json.loads(line) for line in (tmp_path / "out" / "journal.jsonl").read_text().splitlines()]
    assert len(lines) == found["cases"] == 3
    assert found["predict_seconds_per_volume"] == pytest.approx(sum(line["seconds"] for line in lines) / 3, abs=1e-4)
    assert found["predict_seconds_per_volume"] > 0


def test_memory_of_a_volume_is_that_of_its_slices_and_less_when_recomputed_or_frozen(journey, tmp_path):
    """Twice the slices keep about twice as much; a frozen backbone keeps no activation at all."""
    found = {}
    for name, words in {
        "plain": (),
        "half": ("views.image.size=[28, 28, 2]",),
        "recompute": ("train.recompute=true",),
        "frozen": ("method=frozen",),
    }.items():
        task = read_task(journey.task, ["train.epochs=1", *words])
        fit(task, tmp_path / name, device="cpu", quiet=True)
        found[name] = json.loads((tmp_path / name / "cost.json").read_text())["memory_per_volume_bytes"]
    assert found["half"] < 0.8 * found["plain"]
    assert found["recompute"] < 0.6 * found["plain"]
    assert found["frozen"] < 0.05 * found["plain"]


def test_a_prediction_without_a_finished_case_has_no_energy_and_says_why(journey, tmp_path, monkeypatch):
    monkeypatch.setattr("anymc3d.predict.cohort.meter_of", lambda _: Played())
    cases = [replace(case, images={"image": str(tmp_path / "gone.nii.gz")}) for case in _cases(journey)[:2]]
    predict_cohort(load(journey.plugin), cases, tmp_path / "out", quiet=True)
    found = json.loads((tmp_path / "out" / "cost.json").read_text())
    assert (found["cases"], found["energy_joules"], found["predict_seconds_per_volume"]) == (0, None, None)
    assert found["energy_note"].startswith("not measured")


def _cases(journey):
    return read_manifest(journey.data / "manifest.csv").cases
