"""The training loop: epochs of steps, validation after each, the best tensors kept, state saved so a kill costs little.

Read :func:`run_epochs` first. Nothing here knows files other than the checkpoint folder, or what kind of task it is.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from anymc3d.cost.energy import added
from anymc3d.cost.memory import KeptForBackward, peak_memory
from anymc3d.cost.progress import Progress
from anymc3d.errors import InterruptedRunError, TrainingDivergedError
from anymc3d.models.standardisation import Scale
from anymc3d.settings.training import TrainSettings
from anymc3d.train.checkpoint import TrainingState, load_optimizer_tensors, optimizer_tensors, save_checkpoint
from anymc3d.train.draws import (
    Visit,
    balanced_order,
    balancing_weights,
    batches,
    drawing,
    epoch_order,
    num_steps,
    stratified_order,
    visits,
)
from anymc3d.train.loop_parts import Parts
from anymc3d.train.objective import Moment, batch_losses
from anymc3d.train.optimisation import clip_gradients, learning_rate_factor, set_learning_rate
from anymc3d.train.selection import OF_A_NUMBER, beats_start, score_validation
from anymc3d.train.stopping import StopRequest, listening
from anymc3d.train.validation import Validation, validate
from anymc3d.train.weight_interpolation import interpolated, own_tensors

logger = logging.getLogger(__name__)

SAVE_EVERY_S = 300.0
"""Seconds between checkpoints inside an epoch; one is always written at an epoch's end."""


def run_epochs(
    parts: Parts, state: TrainingState, best: dict[str, Tensor], after_epoch: Callable[[TrainingState], None]
) -> dict[str, Tensor]:
    """Train from ``state`` to the last epoch and return the best tensors (plugin-file names).

    ``after_epoch`` is called once per finished epoch, by the first process only.

    Raises:
        InterruptedRunError: a stop was asked for; the state is saved.
        TrainingDivergedError: loss or gradient stopped being finite; names the cases.
    """
    with listening() as stop:
        if parts.settings.start == "frozen" and not state.history:
            parts.start = own_tensors(parts) if parts.settings.trained_share != 1 else {}
            best = _score_start(parts, state)
            parts.processes.on_first(partial(_record, parts, state, best, after_epoch))
        while state.epoch < parts.settings.epochs and not _out_of_patience(state, parts.settings):
            started = time.monotonic() - state.seconds
            _train_epoch(parts, state, best, stop, started)
            state.step_seconds = added(state.step_seconds, time.monotonic() - started)
            with interpolated(parts):
                validation = validate(parts)
                if _is_best(parts, state, validation):
                    best = parts.classifier.plugin_tensors()
            state.history.append(
                _row(parts, state, validation, state.epoch + 1, time.monotonic() - started)
                | {
                    "train_loss": state.loss_total / max(state.loss_count, 1),
                    "lr_factor": _lr_factor(parts, state.epoch, 0),
                }
            )
            state.epoch, state.step, state.loss_total, state.loss_count = state.epoch + 1, 0, 0.0, 0
            state.mask_loss_total, state.mask_loss_count, state.seconds = 0.0, 0, 0.0
            parts.processes.on_first(partial(_record, parts, state, best, after_epoch))
    return best


def _score_start(parts: Parts, state: TrainingState) -> dict[str, Tensor]:
    """Validate what training starts from: epoch 0, which is the best until a later one beats it."""
    started = time.monotonic() - state.seconds
    validation = validate(parts)
    score = score_validation(parts.val.targets, validation.logits, parts.labels, validation.loss)
    state.best_score, state.best_loss, state.best_epoch = score.value, validation.loss, 0
    state.start_logits = validation.logits.tolist()
    state.history.append(_row(parts, state, validation, 0, time.monotonic() - started))
    state.seconds = 0.0
    return parts.classifier.plugin_tensors()


def _is_best(parts: Parts, state: TrainingState, validation: Validation) -> bool:
    """Whether the epoch that ends is the best so far, and beats the start where that competes; the state notes it."""
    score = score_validation(parts.val.targets, validation.logits, parts.labels, validation.loss)
    competes = state.start_logits is not None
    if competes and not beats_start(
        validation.logits, np.array(state.start_logits), parts.val.targets, parts.val.patients, parts.labels, parts.loss
    ):
        return False
    is_first = state.best_score is None or (competes and state.best_epoch == 0)
    if not is_first and (score.value, -validation.loss) <= (state.best_score, -state.best_loss):
        return False
    state.best_score, state.best_loss, state.best_epoch = score.value, validation.loss, state.epoch + 1
    return True


def _row(parts: Parts, state: TrainingState, validation: Validation, epoch: int, seconds: float) -> dict[str, Any]:
    """The log's row of an epoch; of the start without a training loss."""
    score = score_validation(parts.val.targets, validation.logits, parts.labels, validation.loss)
    return {
        "epoch": epoch,
        "train_loss": None,
        "val_loss": validation.loss,
        "val_auroc": score.auroc,
        "selection": score.rule,
        "best_epoch": state.best_epoch,
        "lr_factor": None,
        "seconds": round(seconds, 2),
        **_mask_figures(parts, state, validation.dice),
    }


def _record(
    parts: Parts, state: TrainingState, best: dict[str, Tensor], after_epoch: Callable[[TrainingState], None]
) -> None:
    logger.info(_epoch_line(state, parts.settings))
    save(parts, state, best)
    after_epoch(state)


def _train_epoch(
    parts: Parts, state: TrainingState, best: dict[str, Tensor], stop: StopRequest, started: float
) -> None:
    """Run the remaining steps of an epoch; ``started``: when it would have begun, had the run never been stopped."""
    settings, processes = parts.settings, parts.processes
    least = _least_batch(parts)
    visited = _epoch_visits(parts, state.epoch)
    steps = batches(visited, _volumes_a_step(settings), processes.rank, processes.world_size, least)
    todo = [batches(step, settings.batch_size, least=least) for step in steps[state.step :]]
    stream = parts.train.loader.steps([batch for step in todo for batch in step], state.epoch)
    parts.classifier.train()
    saved = time.monotonic()
    bar = Progress(
        todo,
        what=f"epoch {state.epoch + 1}/{settings.epochs}",
        total=len(steps),
        initial=state.step,
        unit="step",
        quiet=parts.quiet or not processes.is_first,
    )
    for step in bar:
        set_learning_rate(parts.optimizer, _lr_factor(parts, state.epoch, state.step))
        with drawing(parts.device, settings.seed, "dropout", state.epoch, state.step, processes.rank):
            _step(parts, state, islice(stream, len(step)))
        mean_loss = state.loss_total / max(state.loss_count, 1)
        bar.set_postfix(loss=f"{mean_loss:.4f}")
        _call_back(parts, state, len(steps), mean_loss)
        stopping = any(processes.gather(stop.signal is not None))
        if processes.is_first and (stopping or time.monotonic() - saved > SAVE_EVERY_S):
            state.seconds = time.monotonic() - started
            save(parts, state, best)
            saved = time.monotonic()
        if stopping:
            bar.close()
            stream.close()
            raise InterruptedRunError(
                f"stopped at epoch {state.epoch + 1}, step {state.step} of {len(steps)}; "
                "the state is saved: the same command resumes"
            )
    # Batch norm's statistics are each process's own until here; those of the first are the ones that are stored.
    processes.broadcast(parts.classifier.buffers())


def _call_back(parts: Parts, state: TrainingState, num_steps: int, mean_loss: float) -> None:
    """Hand the step that just ended to the callbacks."""
    if parts.on_step is not None:
        rate = _lr_factor(parts, state.epoch, state.step - 1)
        where = {"epoch": state.epoch + 1, "step": state.step, "steps": num_steps}
        parts.on_step(where | {"train_loss": mean_loss, "lr_factor": rate})


def _epoch_visits(parts: Parts, epoch: int) -> list[Visit]:
    """The cases of one epoch in their order."""
    seed = parts.settings.seed
    if parts.settings.sampling == "balanced":
        return visits(balanced_order(balancing_weights(parts.train.targets), seed, epoch))
    if parts.settings.sampling == "stratified":
        width = _volumes_a_step(parts.settings) * parts.processes.world_size
        return visits(stratified_order(parts.train.targets, width, seed, epoch))
    return visits(epoch_order(len(parts.train), seed, epoch))


def _volumes_a_step(settings: TrainSettings) -> int:
    """Volumes of one process in one optimiser step."""
    return settings.batch_size * settings.accumulate


def _least_batch(parts: Parts) -> int:
    """Cases a batch needs where there are so many; a batch size of one is taken as it is."""
    return min(parts.classifier.least_batch, parts.settings.batch_size)


def _step(parts: Parts, state: TrainingState, loaded: Iterable[tuple[Sequence[Visit], Any]]) -> None:
    """One optimiser step over all processes and accumulated batches; the state gets its loss sums and counts.

    Sums are added up and divided once by the number of labels of them all, so how a step is spread changes nothing.
    """
    parameters = list(parts.classifier.parameters())
    parts.optimizer.zero_grad(set_to_none=True)
    total, count, mask_total, mask_count, seen = _add_gradients(parts, state, loaded)
    total, all_counts, mask_total, all_masks = parts.processes.sum(total, count, mask_total, mask_count)
    count, mask_count = int(all_counts), int(all_masks)
    parts.processes.sum_gradients(parameters)
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad /= max(count, 1)
    norm = clip_gradients(parts.classifier, parts.settings, with_decoder=mask_count > 0)
    if not (math.isfinite(total + mask_total) and math.isfinite(norm)):
        _diverged(parts, total + mask_total, norm, seen)
    parts.optimizer.step()
    parts.meter.read()
    state.loss_total, state.loss_count, state.step = state.loss_total + total, state.loss_count + count, state.step + 1
    state.mask_loss_total, state.mask_loss_count = (
        state.mask_loss_total + mask_total,
        state.mask_loss_count + mask_count,
    )


def _add_gradients(
    parts: Parts, state: TrainingState, loaded: Iterable[tuple[Sequence[Visit], Any]]
) -> tuple[float, int, float, int, list[int]]:
    """Forward and backward of this process's batches: sum and count of the losses of labels and masks, cases seen."""
    total, count, mask_total, mask_count, factor, seen = 0.0, 0, 0.0, 0, 0.0, []
    if parts.segmentation is not None:
        loaded = list(loaded)
        factor = parts.segmentation.factor(loaded, parts.train.targets, parts.classifier.decoder, parts.processes)
    for batch_visits, batch in loaded:
        indices = [visit.case for visit in batch_visits]
        targets = torch.from_numpy(parts.train.targets[indices]).to(batch_device(batch))
        with _measured_once(parts, state, len(batch_visits)):
            loss, mask_loss = batch_losses(
                parts.classifier,
                batch,
                targets,
                parts.loss,
                backbone=parts.backbone,
                encoding=parts.encoding,
                segmentation=parts.segmentation,
                moment=Moment(batch_visits, state.epoch, _progress(parts, state.epoch, state.step)),
            )
        (loss.total + factor * mask_loss.total if mask_loss.count else loss.total).backward()
        total, count = total + float(loss.total.detach()), count + loss.count
        mask_total, mask_count = mask_total + float(mask_loss.total.detach()), mask_count + mask_loss.count
        seen += indices
    return total, count, mask_total, mask_count, seen


def _diverged(parts: Parts, loss: float, norm: float, seen: Sequence[int]) -> NoReturn:
    """End a run whose step would leave values that are not finite; all processes come here together."""
    cases = dict.fromkeys(parts.train.ids[i] for share in parts.processes.gather(seen) for i in share)
    rates = "train.lora_lr and train.head_lr" if parts.backbone is not None else "train.lr"
    raise TrainingDivergedError(
        f"loss {loss} and gradient norm {norm} are not both finite at a step with cases {', '.join(cases)}; "
        f"check these scans (anymc3d doctor), or lower {rates}"
    )


@contextmanager
def _measured_once(parts: Parts, state: TrainingState, num_volumes: int) -> Iterator[None]:
    """Note what a volume of a run's first batch makes autograd keep; later batches are like it."""
    if state.memory_per_volume is not None:
        yield
        return
    frozen = () if parts.backbone is None else parts.backbone.parameters()
    with KeptForBackward((*parts.classifier.parameters(), *frozen)) as measured:
        yield
    state.memory_per_volume = measured.bytes // num_volumes


def save(parts: Parts, state: TrainingState, best: dict[str, Tensor]) -> None:
    """Write a checkpoint: current tensors, optimiser, best tensors, progress and what it cost."""
    state.peak_memory = max(state.peak_memory, peak_memory(parts.device))
    state.energy_joules = added(state.energy_joules, parts.meter.take())
    tensors = {f"model.{name}": tensor for name, tensor in parts.classifier.tensors().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in best.items()}
    tensors |= {f"start.{name}": tensor for name, tensor in parts.start.items()}
    if parts.classifier.scale is not None:
        tensors |= {"scale.mean": parts.classifier.scale.mean, "scale.spread": parts.classifier.scale.spread}
    save_checkpoint(parts.checkpoints, tensors | optimizer_tensors(parts.optimizer), state, run=parts.run_hash)


def restore(parts: Parts, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Put a checkpoint's tensors back into model and optimiser; returns the best ones."""
    model = {name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")}
    parts.classifier.load_tensors(model)
    if "scale.mean" in tensors:
        parts.classifier.scale = Scale(tensors["scale.mean"], tensors["scale.spread"]).to(parts.device)
    load_optimizer_tensors(parts.optimizer, tensors)
    parts.start = {name.removeprefix("start."): t for name, t in tensors.items() if name.startswith("start.")}
    return {name.removeprefix("best."): t for name, t in tensors.items() if name.startswith("best.")}


def batch_device(batch: Any) -> torch.device:
    """The device a batch lies on."""
    return next(iter(batch.values())).slices.device


def _mask_figures(parts: Parts, state: TrainingState, dice: float | None) -> dict[str, float | None]:
    """What a run with a decoder logs besides."""
    if parts.segmentation is None:
        return {}
    return {"seg_loss": state.mask_loss_total / max(state.mask_loss_count, 1), "val_dice": dice}


def _steps_an_epoch(parts: Parts) -> int:
    world_size, least = parts.processes.world_size, _least_batch(parts)
    return num_steps(len(parts.train), _volumes_a_step(parts.settings), world_size, least)


def _progress(parts: Parts, epoch: int, step: int) -> float:
    per_epoch = _steps_an_epoch(parts)
    return (epoch * per_epoch + step) / (parts.settings.epochs * per_epoch)


def _lr_factor(parts: Parts, epoch: int, step: int) -> float:
    per_epoch = _steps_an_epoch(parts)
    settings = parts.settings
    total = settings.epochs * per_epoch
    return learning_rate_factor(epoch * per_epoch + step, total, settings.schedule, settings.warmup or 0.0)


def _epoch_line(state: TrainingState, settings: TrainSettings) -> str:
    row = state.history[-1]
    loss = "" if row["train_loss"] is None else f"loss {row['train_loss']:.4f}, "
    dice = "" if row.get("val_dice") is None else f", Dice {row['val_dice']:.3f}"
    auroc = "" if row["val_auroc"] is None else f", AUROC {row['val_auroc']:.4f}"
    auroc = ", AUROC undefined" if not auroc and row["selection"] != OF_A_NUMBER else auroc
    return (
        f"epoch {row['epoch']}/{settings.epochs}: {loss}validation loss {row['val_loss']:.4f}"
        f"{auroc}{dice} (best: epoch {row['best_epoch']}), {row['seconds']:.0f} s"
    )


def _out_of_patience(state: TrainingState, settings: TrainSettings) -> bool:
    """Whether the selection metric has not risen for ``patience`` epochs; at an equal AUROC a lower loss is no rise."""
    if settings.patience is None:
        return False
    best, risen = -math.inf, 0
    for row in state.history:
        value = -row["val_loss"] if row["val_auroc"] is None else row["val_auroc"]
        if value > best:
            best, risen = value, row["epoch"]
    return state.epoch > 0 and state.epoch - risen >= settings.patience
