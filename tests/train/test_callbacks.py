"""Callbacks see every epoch, change nothing, and cost no run; the ready ones say the right words to their programs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import anymc3d
from anymc3d.cli.main import parse
from anymc3d.errors import InterruptedRunError, UsageError
from anymc3d.plugins import load_plugin
from anymc3d.settings.task_file import read_task
from anymc3d.train.callbacks import RunBegin, RunEnd
from anymc3d.train.fit import fit
from anymc3d.train.loggers import LOGGERS, loggers, numbers_of


class Noted(anymc3d.Callback):
    """Notes what it is called with, and stops the run after an epoch, if it is to."""

    def __init__(self, stop_after=None):
        self.calls, self.stop_after = [], stop_after

    def on_begin(self, run):
        self.run = run
        self.calls.append(("begin", len(run.history)))

    def on_step(self, record):
        self.calls.append(("step", record["epoch"], record["step"]))

    def on_epoch_end(self, record):
        self.calls.append(("epoch", record["epoch"]))
        record["val_loss"] = "changed"
        if record["epoch"] == self.stop_after:
            raise InterruptedRunError("enough")

    def on_end(self, end):
        self.calls.append((end.state, end.plugin and end.plugin.name))


class Broken:
    def on_epoch_end(self, record):
        raise ZeroDivisionError("two\nlines")


@pytest.fixture(scope="module")
def runs(journey, tmp_path_factory):
    """One run that is stopped after its first epoch and resumed, with callbacks; the journey's is without any."""
    folder = tmp_path_factory.mktemp("called") / "run"
    task = read_task(journey.task)
    first, second, broken = Noted(stop_after=1), Noted(), Broken()
    with pytest.raises(InterruptedRunError, match="enough"):
        fit(task, folder, device="cpu", quiet=True, callbacks=[first])
    with pytest.MonkeyPatch.context() as patch:
        lines = []
        patch.setattr("anymc3d.train.callbacks.logger.warning", lambda text, *rest: lines.append(text % rest))
        plugin = fit(task, folder, device="cpu", quiet=True, callbacks=[broken, second])
    return SimpleNamespace(
        folder=folder, plugin=plugin, first=first.calls, second=second.calls, lines=lines, run=second.run
    )


def test_every_step_and_epoch_is_told_in_order(runs):
    steps = [5, 5]
    assert runs.first == [("begin", 0), *[("step", 1, k + 1) for k in range(steps[0])], ("epoch", 1), ("stopped", None)]
    again = [("begin", 1), ("epoch", 1)]  # it may have been killed before
    end = [("epoch", 2), ("finished", "plugin.safetensors")]
    assert runs.second == [*again, *[("step", 2, k + 1) for k in range(steps[1])], *end]


def test_they_change_nothing(runs, journey):
    assert load_plugin(runs.plugin).tensors.keys() == load_plugin(journey.plugin).tensors.keys()
    assert load_plugin(runs.plugin).card.tensors_sha256 == load_plugin(journey.plugin).card.tensors_sha256
    rows = [json.loads(line) for line in (runs.folder / "log.jsonl").read_text().splitlines()]
    assert all(isinstance(row["val_loss"], float) for row in rows)


def test_one_that_fails_is_a_warning_once(runs):
    (line,) = runs.lines
    assert line.startswith("callback Broken failed in on_epoch_end (ZeroDivisionError: two\\nlines) and is not called")


def test_settings_for_a_log_hold_no_path(runs, journey):
    settings = runs.run.settings()
    assert settings["train.epochs"] == 2
    assert str(journey.data) not in json.dumps(settings)
    other = read_task(journey.task, ["backbone=weights/mine", "method.weights=some/file.safetensors"])
    found = RunBegin(folder=runs.folder, task=other, run_id="1").settings()
    assert found["backbone"] == "a local folder"
    assert "some/file" not in json.dumps(found)


def test_a_finished_run_calls_nobody(runs, journey):
    late = Noted()
    assert fit(read_task(journey.task), runs.folder, device="cpu", quiet=True, callbacks=[late]) == runs.plugin
    assert late.calls == []


def test_what_is_no_callback_is_refused(journey, tmp_path):
    task = read_task(journey.task)
    with pytest.raises(UsageError, match=r"expected objects with on_begin.* got 3"):
        fit(task, tmp_path / "run", callbacks=[3])
    with pytest.raises(UsageError, match="did you mean 'tensorboard'"):
        fit(task, tmp_path / "run", callbacks=["tensorbord"])
    plain = read_task(journey.task, ["method=voxels"])
    with pytest.raises(UsageError, match="without epochs"):
        fit(plain, tmp_path / "run", callbacks=[Noted()])
    assert not (tmp_path / "run").exists()


def test_the_command_takes_names():
    args = parse("train", ["task.yaml", "-o", "run", "--log", "tensorboard", "--log", "wandb"])
    assert args.log == ["tensorboard", "wandb"]
    assert set(args.log) < set(LOGGERS)


MODULES = {"tensorboard": "torch.utils.tensorboard", "mlflow": "mlflow", "wandb": "wandb"}


class Recorder:
    """Stands for a library: every call is noted, and gives another recorder."""

    def __init__(self, name="", notes=None):
        self.name, self.notes = name, [] if notes is None else notes

    def __getattr__(self, name):
        return Recorder(f"{self.name}.{name}".strip("."), self.notes)

    def __call__(self, *arguments, **named):
        self.notes.append((self.name, arguments, named))
        return self

    def __str__(self):
        return "run-7"

    def __add__(self, text):
        return str(self) + text


@pytest.mark.parametrize(
    ("name", "begin", "point", "end"),
    [
        ("tensorboard", "SummaryWriter", ("SummaryWriter.add_scalar", ("val_loss", 0.5, 3), {}), "SummaryWriter.close"),
        ("mlflow", "start_run", ("log_metrics", ({"val_loss": 0.5},), {"step": 3}), "end_run"),
        ("wandb", "init", ("init.log", ({"epoch": 3, "val_loss": 0.5},), {}), "init.finish"),
    ],
)
def test_ready_ones_hand_on_the_numbers(name, begin, point, end, journey, tmp_path, monkeypatch):
    library, module = Recorder(), MODULES[name]
    monkeypatch.setitem(sys.modules, module, library)
    (one,) = loggers([name, name])
    for history in ((), ({"epoch": 2},)):
        one.on_begin(RunBegin(folder=tmp_path, task=read_task(journey.task), run_id="f" * 64, history=history))
    one.on_epoch_end({"epoch": 3, "val_loss": 0.5, "val_auroc": None, "selection": "auroc"})
    one.on_end(RunEnd(state="failed"))
    names = [called for called, _, _ in library.notes]
    assert begin in names
    assert point in library.notes
    assert names[-1] == end
    assert str(journey.data) not in str(library.notes).replace(str(tmp_path), "")
    opened = [named for called, _, named in library.notes if called == begin]
    if name == "tensorboard":
        assert [named["purge_step"] for named in opened] == [None, 3]
        assert (tmp_path / "tensorboard").stat().st_mode & 0o777 == 0o700
    if name == "mlflow":
        assert [named["run_id"] for named in opened] == [None, "run-7"]
    if name == "wandb":
        assert [named["id"] for named in opened] == ["f" * 32] * 2
        private = next(named for called, _, named in library.notes if called == "Settings")
        assert private == {"console": "off", "disable_git": True, "save_code": False, "x_disable_meta": True}


def test_a_package_that_is_missing_is_named_before_anything_is_read(monkeypatch, journey, tmp_path):
    for name, module in MODULES.items():
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(UsageError, match=rf"needs the package {name}; pip install 'anymc3d\[{name}\]'"):
            fit(read_task(journey.task), tmp_path / "run", callbacks=[name])


def test_only_numbers_are_handed_on():
    record = {"epoch": 1, "a": 1, "b": 2.5, "c": None, "d": "x", "e": True}
    assert numbers_of(record) == {"a": 1.0, "b": 2.5}


def test_tensorboard_itself_reads_what_was_written(journey, tmp_path):
    pytest.importorskip("tensorboard", reason="needs the package tensorboard, an extra")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    task = read_task(journey.task)
    for history, rows in (((), (1, 2)), (({"epoch": 1},), (2, 3))):
        (one,) = loggers(["tensorboard"])
        one.on_begin(RunBegin(folder=tmp_path, task=task, run_id="1", history=history))
        for epoch in rows:
            one.on_epoch_end({"epoch": epoch, "val_loss": 1 / epoch + len(history)})
        one.on_end(RunEnd(state="finished"))
    read = EventAccumulator(str(Path(tmp_path, "tensorboard")))
    read.Reload()
    assert [(point.step, round(point.value, 3)) for point in read.Scalars("val_loss")] == [
        (1, 1.0),
        (2, 1.5),
        (3, 1.333),
    ]
