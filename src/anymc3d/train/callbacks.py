"""What a training run calls while it goes on: to log, to show, to stop. Nothing here changes what is learnt.

A callback is an object with any of the methods of :class:`Callback`. Only the first process of a run calls it. One that
fails is named in a warning and not called again in this run: a night of training is worth more than its log. To end a
run on purpose raise :class:`~anymc3d.errors.InterruptedRunError`: its state is saved, and the same call resumes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from anymc3d.errors import TRACEBACKS, InterruptedRunError, UsageError
from anymc3d.printable import shown
from anymc3d.settings.config import TaskSettings
from anymc3d.settings.task_file import is_path

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RunBegin:
    """``folder``: of the run; ``task``: its settings; ``run_id``: the same whenever it is resumed; ``history``: the
    records of epochs that were done before, where it is."""

    folder: Path
    task: TaskSettings
    run_id: str
    history: tuple[Mapping[str, Any], ...] = ()

    def settings(self) -> dict[str, str | int | float | bool | None]:
        """The settings of a run as a flat table for a log; no path of this machine and nothing of a case."""
        task = self.task
        backbone = "a local folder" if is_path(task.backbone.name) else task.backbone.name
        table = {"task": task.name, "labels": task.labels.kind, "fusion": task.fusion, "features": task.features}
        table |= {"backbone": backbone, "augmentation": task.augmentation, "segmentation": task.segmentation.decoder}
        method = {f"method.{key}": value for key, value in asdict(task.method).items() if key != "weights"}
        return table | method | {f"train.{key}": value for key, value in asdict(task.train).items()}


@dataclass(frozen=True, kw_only=True)
class RunEnd:
    """``state``: how it ended, ``stopped`` with its state saved; ``plugin``: its path, where the run is finished;
    ``error``: what ended it, where it failed."""

    state: Literal["finished", "stopped", "failed"]
    plugin: Path | None = None
    error: BaseException | None = None


class Callback:
    """A base to inherit; an object with some of these methods does as well."""

    def on_begin(self, run: RunBegin) -> None:
        """Before the first epoch, or before the next one of a run that is resumed."""

    def on_step(self, record: Mapping[str, Any]) -> None:
        """After every optimiser step: ``epoch`` and ``step`` from 1, ``steps`` an epoch, the epoch's mean
        ``train_loss`` so far, ``lr_factor`` on the learning rates."""

    def on_epoch_end(self, record: Mapping[str, Any]) -> None:
        """After every epoch, once its state is saved: its row of ``log.csv``. A run that is resumed calls with the last
        row once more: it may have been killed just then."""

    def on_end(self, end: RunEnd) -> None:
        """When the run ends, however it does, unless it is killed."""


METHODS = ("on_begin", "on_step", "on_epoch_end", "on_end")


@dataclass
class Callbacks:
    """Those of one run, in their order."""

    given: Sequence[Any] = ()
    _live: list[Any] = field(default_factory=list, init=False)
    _begun: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        for callback in self.given:
            if not any(callable(getattr(callback, name, None)) for name in METHODS):
                raise UsageError(
                    f"callbacks: expected objects with {', '.join(METHODS)} (any of them; see anymc3d.Callback), "
                    f"got {shown(repr(callback))}"
                )
        self._live = list(self.given)

    @property
    def want_steps(self) -> bool:
        """Whether any of them looks at steps."""
        return any(callable(getattr(callback, "on_step", None)) for callback in self._live)

    def begin(self, run: RunBegin) -> None:
        """Call ``on_begin``."""
        self._begun = True
        self._call("on_begin", run)

    def step(self, record: Mapping[str, Any]) -> None:
        """Call ``on_step``."""
        self._call("on_step", record)

    def epoch_end(self, record: Mapping[str, Any]) -> None:
        """Call ``on_epoch_end``, each with a record of its own."""
        self._call("on_epoch_end", record)

    @contextmanager
    def ending(self, plugin: Path) -> Iterator[None]:
        """Around what is between the begin and the end of a run, whose plugin is then at ``plugin``."""
        try:
            yield
        except BaseException as error:
            stopped = isinstance(error, InterruptedRunError | KeyboardInterrupt)
            self._end(RunEnd(state="stopped" if stopped else "failed", error=error))
            raise
        self._end(RunEnd(state="finished", plugin=plugin))

    def _end(self, end: RunEnd) -> None:
        if self._begun:
            self._call("on_end", end)

    def _call(self, method: str, about: Any) -> None:
        for callback in list(self._live):
            function = getattr(callback, method, None)
            if function is None:
                continue
            try:
                function(dict(about) if isinstance(about, Mapping) else about)
            except InterruptedRunError:
                raise
            except Exception as error:  # whatever others wrote
                self._live.remove(callback)
                name = getattr(callback, "name", type(callback).__name__)
                logger.warning(
                    "callback %s failed in %s (%s: %s) and is not called again in this run; training goes on",
                    *(shown(name, 100), method, type(error).__name__, shown(error)),
                )
                logger.log(TRACEBACKS, "callback %s", shown(name, 100), exc_info=True)
