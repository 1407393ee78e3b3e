"""``fit``: a task and a run folder in, a plugin out. The training twin of ``anymc3d.predict.predictor``.

The order of work is the order of the calls in :func:`fit`: cases, start, scans, parts, epochs, result.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from anymc3d.cost.device import choose_device
from anymc3d.cost.memory import forget_peak
from anymc3d.data.pseudonyms import Pseudonyms
from anymc3d.errors import UsageError
from anymc3d.files.folders import check_there, locked
from anymc3d.models.decoders.table import check_backbone
from anymc3d.models.plain import is_plain
from anymc3d.models.seam import check_blocks
from anymc3d.segmenters.build import build_segmenters, check_programs
from anymc3d.segmenters.store import with_stored_models
from anymc3d.settings.config import TaskSettings
from anymc3d.train import log, result
from anymc3d.train.callbacks import Callback, Callbacks, RunBegin
from anymc3d.train.checkpoint import TrainingState, load_checkpoint
from anymc3d.train.cost import write_cost
from anymc3d.train.frozen_start import begin_frozen
from anymc3d.train.identity import begin, write_task_of_run
from anymc3d.train.loggers import loggers
from anymc3d.train.loop import restore, run_epochs
from anymc3d.train.loop_parts import Parts
from anymc3d.train.memory import enough_memory
from anymc3d.train.parts import make_parts
from anymc3d.train.processes import join
from anymc3d.train.quick.run import fit_quick
from anymc3d.train.quick.settings import QuickSettings
from anymc3d.train.run import Run
from anymc3d.train.run_folder import RunFolder
from anymc3d.train.scans import read_scans
from anymc3d.train.segmentation import with_structures
from anymc3d.train.start import Start, find_start, with_recipe
from anymc3d.train.study import Study, load_study, undefined_figures
from anymc3d.train.task_checks import check_steps, check_task, unused

logger = logging.getLogger(__name__)


def fit(
    task: TaskSettings,
    run_dir: Path | str,
    *,
    device: str = "auto",
    pseudonyms: Pseudonyms | None = None,
    segmenters: Sequence[str | Path] = (),
    number_format: str | None = None,
    quiet: bool = False,
    callbacks: Sequence[Callback | str] = (),
) -> Path:
    """Train ``task`` in ``run_dir`` and return the path of the plugin. The same call again resumes, or is done.

    A plain method (:mod:`anymc3d.models.plain`) has no epochs and is fitted at once.

    With ``pseudonyms`` nothing in ``run_dir`` says which cases they were; splits and weights are the same as without.
    ``segmenters``: files of networks that draw regions, or the TotalSegmentator program, which runs only if named here.
    ``callbacks``: called while it trains, see :class:`anymc3d.Callback`; or names of ready ones: tensorboard, mlflow,
    wandb. They change nothing that is learnt.
    ``number_format`` (fp32, bf16) is for a run that is a part of another, which all parts share: it stands for what
    ``train.precision`` would become here.

    Raises:
        AnyMC3DError: manifest, backbone or folder cannot be used; see ``anymc3d.errors`` for the kinds.
        InterruptedRunError: a stop was asked for; the state is saved.
    """
    called = _called_back(task, callbacks)
    if is_plain(task.method):
        return _fit_plain(task, Path(run_dir), device, pseudonyms, segmenters, quiet=quiet)
    check_task(task)
    check_steps(task)
    check_programs(task.views.values(), segmenters)
    task = with_recipe(replace(task, views=with_stored_models(task.views)))
    drawn_by, where = build_segmenters(task.views.values(), given_paths=segmenters), choose_device(device)
    run = Run(RunFolder(Path(run_dir)), where, join(where), quiet, called)
    folder, processes = run.folder, run.processes
    with ExitStack() as locks:
        processes.on_first(lambda: locks.enter_context(locked(folder.path)))
        study = processes.together(lambda: load_study(task, pseudonyms))
        if processes.is_first:
            _say_beforehand(task, study)
        start = processes.together(lambda: find_start(task))
        _check_backbone_fits(task, start)
        begun = processes.on_first(lambda: begin(folder, task, study, start, where, number_format))
        if begun.finished:
            logger.info("%s is finished; nothing to do", folder.path)
            return folder.plugin
        scans = read_scans(task, study, drawn_by, run)
        if task.segmentation.is_on:
            task = with_structures(task, scans.study, scans.prepared)
            processes.on_first(partial(write_task_of_run, folder, task))
        forget_peak(where)
        with enough_memory(task.train, where), called.ending(folder.plugin):
            parts = make_parts(task, scans, start, run, begun.number_format)
            state, best = _train(parts, run, task, partial(begin_frozen, task, scans, start, parts, run))
            processes.on_first(
                lambda: result.finish(folder, task, scans.study, start, state, best, scans.of_split("train"), parts)
            )
    return folder.plugin


def _called_back(task: TaskSettings, callbacks: Sequence[Callback | str]) -> Callbacks:
    """The callbacks of a run, those given by name made; a plain method takes none."""
    if callbacks and is_plain(task.method):
        raise UsageError(f"callbacks: method {task.method.name} is fitted at once, without epochs; leave them out")
    return Callbacks(
        [
            made_callback
            for callback in callbacks
            for made_callback in (loggers([callback]) if isinstance(callback, str) else [callback])
        ]
    )


def _check_backbone_fits(task: TaskSettings, start: Start) -> None:
    """Whether a decoder, or LoRA in the last blocks alone, can be trained on this backbone."""
    if start.backbone is None:
        return
    if task.segmentation.is_on:
        check_backbone(start.backbone.module, start.backbone.card.name)
    if task.method.blocks is not None:
        check_blocks(start.backbone.module, task.method.blocks)


def _fit_plain(
    task: TaskSettings,
    folder: Path,
    device: str,
    pseudonyms: Pseudonyms | None,
    segmenters: Sequence[str | Path],
    *,
    quiet: bool,
) -> Path:
    """A method that is fitted at once: as ``--quick`` does it, without a learning curve."""
    settings = QuickSettings(fractions=())
    options = {"device": device, "segmenters": segmenters, "quiet": quiet, "pseudonyms": pseudonyms}
    fit_quick(task, folder, settings=settings, **options)
    return RunFolder(folder).plugin


def _say_beforehand(task: TaskSettings, study: Study) -> None:
    """What the user should know before anything is read."""
    for line in undefined_figures(study, task.labels):
        logger.warning("%s", line)
    idle = unused(task)
    if idle:
        logger.warning("settings that say nothing to method %s: %s", task.method.name, ", ".join(idle))


def _train(
    parts: Parts, run: Run, task: TaskSettings, begin: Callable[[TrainingState], None]
) -> tuple[TrainingState, dict[str, torch.Tensor]]:
    """Start or resume, train to the end, and return where it ended and the best tensors."""
    state, best, folder = TrainingState(), {}, run.folder
    resumed = load_checkpoint(folder.checkpoints, run=parts.run_hash)
    tensors, state = ({}, state) if resumed is None else resumed
    begun = RunBegin(folder=folder.path, task=task, run_id=parts.run_hash, history=tuple(state.history))
    parts.processes.on_first(partial(run.callbacks.begin, begun))
    if resumed is not None:
        best = restore(parts, tensors)
        logger.info("resuming %s at epoch %d, step %d", folder.path, state.epoch + 1, state.step)
        # A kill between the checkpoint of an epoch and its line in the log must not cost the line.
        parts.processes.on_first(partial(_write_progress, run, parts, state))
    else:
        begin(state)
    return state, run_epochs(parts, state, best, partial(_write_progress, run, parts))


def _write_progress(run: Run, parts: Parts, state: TrainingState) -> None:
    check_there(run.folder.record)
    log.write(run.folder, state)
    write_cost(run.folder, parts, state)
    if state.history:
        run.callbacks.epoch_end(state.history[-1])
