"""A run is the run it began as: its number format, its files, whatever happened to them since."""

import json

import pytest
import torch

from anymc3d.errors import InterruptedRunError, RunFolderError
from anymc3d.plugins import load_plugin
from anymc3d.settings.task_file import read_task
from anymc3d.train import folds, members
from anymc3d.train.checkpoint import LATEST, PREVIOUS
from anymc3d.train.fit import fit
from anymc3d.train.identity import FORMAT, Begun, begin
from anymc3d.train.run_folder import RunFolder
from anymc3d.train.start import find_start, with_recipe
from anymc3d.train.study import load_study
from damage import STAND_INS

CPU = torch.device("cpu")


@pytest.fixture
def started(journey, tmp_path):
    """What ``begin`` takes, of a run with ``precision: auto`` in a new folder."""
    task = with_recipe(read_task(journey.task, ["train.precision=auto"]))
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    return folder, task, load_study(task), find_start(task), CPU


def meaning(monkeypatch, name):
    """``auto`` as another processor takes it."""
    monkeypatch.setattr(
        "anymc3d.train.identity.number_format", lambda precision, _: name if precision == "auto" else precision
    )


@pytest.mark.parametrize(("first", "second"), [("bf16", "fp32"), ("fp32", "bf16")])
def test_a_run_goes_on_in_the_number_format_in_which_it_began(started, monkeypatch, caplog, first, second):
    meaning(monkeypatch, first)
    assert begin(*started) == Begun(False, first)
    assert json.loads(started[0].record.read_text())[FORMAT] == first
    assert not caplog.text
    meaning(monkeypatch, second)
    assert begin(*started) == Begun(False, first)
    assert f"goes on in {first}" in caplog.text and "another output folder" in caplog.text


def test_where_it_is_emulated_it_is_said_to_be_slow(started, monkeypatch, caplog):
    meaning(monkeypatch, "bf16")
    begin(*started)
    meaning(monkeypatch, "fp32")
    monkeypatch.setattr("anymc3d.train.identity.has_native_bf16", lambda _: False)
    begin(*started)
    assert "slow here, where it is emulated" in caplog.text


def test_a_run_of_before_it_was_recorded_goes_on_and_has_it_from_then_on(started, monkeypatch):
    meaning(monkeypatch, "fp32")
    begin(*started)
    record = json.loads(started[0].record.read_text())
    started[0].record.write_text(json.dumps({key: value for key, value in record.items() if key != FORMAT}))
    assert begin(*started) == Begun(False, "fp32")
    assert json.loads(started[0].record.read_text()) == record


def test_a_format_nobody_knows_is_refused(started, monkeypatch):
    meaning(monkeypatch, "fp32")
    begin(*started)
    record = json.loads(started[0].record.read_text())
    started[0].record.write_text(json.dumps(record | {FORMAT: "fp8"}))
    with pytest.raises(RunFolderError, match=r"number_format: expected fp32 or bf16, got 'fp8'"):
        begin(*started)


def test_the_parts_of_a_whole_share_its_format(started, monkeypatch):
    meaning(monkeypatch, "fp32")
    assert begin(*started, "bf16") == Begun(False, "bf16")
    assert begin(*started, "bf16") == Begun(False, "bf16")
    with pytest.raises(RunFolderError, match="number_format was 'bf16', now 'fp32'"):
        begin(*started, "fp32")


@pytest.mark.parametrize("whole", ["folds", "members"])
def test_a_whole_keeps_its_format_for_parts_that_begin_on_another_processor(journey, tmp_path, monkeypatch, whole):
    """Its parts are not trained here: what they are given is what counts."""
    given = []

    def stop(*_, number_format, **__):
        given.append(number_format)
        raise InterruptedRunError("stopped")

    module, run = {"folds": (folds, folds.fit_folds), "members": (members, members.fit_members)}[whole]
    monkeypatch.setattr(module, "fit", stop)
    task = read_task(journey.task, ["train.precision=auto", "data.fractions=[0.8,0.2,0.0]"])
    for name in ("bf16", "fp32"):
        meaning(monkeypatch, name)
        with pytest.raises(InterruptedRunError):
            run(task, tmp_path / "run", device="cpu", quiet=True, **{whole: 2})
    assert given == ["bf16", "bf16"]


def test_plugin_and_run_say_in_which_format_they_were_trained(journey):
    assert json.loads((journey.run / "run.json").read_text())[FORMAT] == "fp32"
    assert load_plugin(journey.plugin).card.training[FORMAT] == "fp32"


@pytest.fixture(scope="module")
def calm(journey, tmp_path_factory):
    run = tmp_path_factory.mktemp("identity") / "run"
    fit(read_task(journey.task), run, device="cpu", quiet=True)
    return run, (run / "plugin.safetensors").read_bytes()


def again(journey, run):
    fit(read_task(journey.task), run, device="cpu", quiet=True)
    return (run / "plugin.safetensors").read_bytes()


@pytest.mark.parametrize("name", ["empty", "half", "pipe", "link to nothing"])
def test_a_finished_run_whose_plugin_is_damaged_makes_it_again_from_the_checkpoint(journey, calm, name, caplog):
    run, content = calm
    STAND_INS[name](run / "plugin.safetensors")
    assert again(journey, run) == content
    assert "made again from the checkpoint" in caplog.text


def test_C6_a_changed_bit_of_the_progress_is_found_and_the_run_ends_the_same(journey, calm, caplog):
    run, content = calm
    (run / "plugin.safetensors").unlink()
    latest = run / "checkpoints" / LATEST
    changed = latest.read_bytes().replace(b'epoch\\": 2', b'epoch\\": 3', 1)
    assert changed != latest.read_bytes()
    latest.write_bytes(changed)
    assert again(journey, run) == content
    assert "damaged checkpoint" in caplog.text


def test_C6_checkpoints_in_each_others_place_or_of_another_run_change_nothing(journey, calm, tmp_path, caplog):
    run, content = calm
    checkpoints = run / "checkpoints"
    whole = {name: (checkpoints / name).read_bytes() for name in (LATEST, PREVIOUS)}
    (run / "plugin.safetensors").unlink()
    (checkpoints / LATEST).write_bytes(whole[PREVIOUS])
    (checkpoints / PREVIOUS).write_bytes(whole[LATEST])
    assert again(journey, run) == content
    other = tmp_path / "other"
    fit(read_task(journey.task, ["train.seed=1"]), other, device="cpu", quiet=True)
    (run / "plugin.safetensors").unlink()
    (checkpoints / LATEST).write_bytes((other / "checkpoints" / LATEST).read_bytes())
    assert again(journey, run) == content
    assert "belongs to another run" in caplog.text
