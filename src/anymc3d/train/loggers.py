"""Ready callbacks that hand a run's numbers to TensorBoard, MLflow or Weights & Biases; each an extra of its own.

What they are given: the numbers of every epoch, and the settings without a path (:meth:`RunBegin.settings`). Nothing of
a case, a scan or a folder. Where the numbers go is for those programs and their environment variables to say; nothing
is sent anywhere unless one of them is asked for.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from anymc3d.errors import OptionError, PackageError, did_you_mean
from anymc3d.files import atomic, regular
from anymc3d.files.private import make_private
from anymc3d.train.callbacks import Callback, RunBegin, RunEnd

TENSORBOARD_FOLDER, MLFLOW_ID = "tensorboard", "mlflow-run"
"""In the run folder."""


def numbers_of(record: Mapping[str, Any]) -> dict[str, float]:
    """What of an epoch's record is a number that is there, but for its own count."""
    return {
        name: float(value)
        for name, value in record.items()
        if name != "epoch" and isinstance(value, int | float) and not isinstance(value, bool)
    }


class TensorBoard(Callback):
    """Scalars in ``RUN/tensorboard``: one point per epoch."""

    name = "tensorboard"

    def __init__(self) -> None:
        self._library = _imported("torch.utils.tensorboard", "tensorboard", "tensorboard")

    def on_begin(self, run: RunBegin) -> None:
        """Open the folder; what a killed run wrote beyond its last saved epoch is left out of the curves."""
        folder = run.folder / TENSORBOARD_FOLDER
        make_private(folder)
        after = run.history[-1]["epoch"] + 1 if run.history else None
        self._writer = self._library.SummaryWriter(str(folder), purge_step=after)
        if not run.history:
            rows = "".join(f"    {key}: {value}\n" for key, value in run.settings().items())
            self._writer.add_text("settings", rows)

    def on_epoch_end(self, record: Mapping[str, Any]) -> None:
        """One point of each number."""
        for name, value in numbers_of(record).items():
            self._writer.add_scalar(name, value, record["epoch"])
        self._writer.flush()

    def on_end(self, end: RunEnd) -> None:
        """Close the file."""
        self._writer.close()


class MLflow(Callback):
    """One run of MLflow, named after the task, at ``MLFLOW_TRACKING_URI`` and in ``MLFLOW_EXPERIMENT_NAME``."""

    name = "mlflow"

    def __init__(self) -> None:
        self._library = _imported("mlflow", "mlflow", "mlflow")

    def on_begin(self, run: RunBegin) -> None:
        """Begin the run, or go on with the one that was begun."""
        place = run.folder / MLFLOW_ID
        known = regular.read_text(place).strip() if place.exists() else None
        begun = self._library.start_run(run_id=known, run_name=None if known else run.task.name)
        if known is None:
            atomic.write_text(place, begun.info.run_id + "\n")
            self._library.log_params(run.settings())

    def on_epoch_end(self, record: Mapping[str, Any]) -> None:
        """One point of each number."""
        self._library.log_metrics(numbers_of(record), step=record["epoch"])

    def on_end(self, end: RunEnd) -> None:
        """Say how it ended."""
        status = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}[end.state]
        self._library.end_run(status=status)


class WeightsAndBiases(Callback):
    """One run of Weights & Biases in the project ``WANDB_PROJECT`` (else anymc3d); without code, git and console."""

    name = "wandb"

    def __init__(self) -> None:
        self._library = _imported("wandb", "wandb", "wandb")

    def on_begin(self, run: RunBegin) -> None:
        """Begin the run, or go on with the one that was begun."""
        make_private(run.folder / "wandb")  # in which it writes
        quietly = {"console": "off", "disable_git": True, "save_code": False, "x_disable_meta": True}
        self._run = self._library.init(
            project=os.environ.get("WANDB_PROJECT") or "anymc3d",
            name=run.task.name,
            id=run.run_id[:32],
            resume="allow",
            dir=str(run.folder),
            config=run.settings(),
            settings=self._library.Settings(**quietly),
        )
        self._run.define_metric("*", step_metric="epoch")

    def on_epoch_end(self, record: Mapping[str, Any]) -> None:
        """One point of each number."""
        self._run.log({"epoch": record["epoch"], **numbers_of(record)})

    def on_end(self, end: RunEnd) -> None:
        """Say how it ended."""
        self._run.finish(exit_code=0 if end.state == "finished" else 1)


LOGGERS: dict[str, Callable[[], Callback]] = {
    "tensorboard": TensorBoard,
    "mlflow": MLflow,
    "wandb": WeightsAndBiases,
}


def loggers(names: Sequence[str]) -> list[Callback]:
    """The ready callbacks of these names, each once.

    Raises:
        OptionError, PackageError: there is none of this name, or its package is not installed.
    """
    for name in names:
        if name not in LOGGERS:
            raise OptionError(f"--log: unknown name {name!r}{did_you_mean(name, LOGGERS)}")
    return [LOGGERS[name]() for name in dict.fromkeys(names)]


def _imported(module: str, package: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        what = f"logging to {package} needs the package {package}"
        raise PackageError(f"{what}; pip install 'anymc3d[{extra}]' ({error})") from error
