"""The training loop: epochs of steps, validation after each, the best tensors kept, state saved so a kill costs little.

Read :func:`run_epochs` first. Nothing here knows files other than the checkpoint folder, or what kind of task it is.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from anymc3d.cost.energy import EnergyMeter, added
from anymc3d.cost.memory import KeptForBackward, peak_memory
from anymc3d.errors import InterruptedRunError, TrainingDivergedError
from anymc3d.models.build import Classifier
from anymc3d.models.classifier import Encoding
from anymc3d.models.decoders.run import classify_and_decode
from anymc3d.settings.config import LabelSettings, TrainSettings
from anymc3d.train.batch import BatchLoader
from anymc3d.train.checkpoint import TrainingState, load_optimizer_tensors, optimizer_tensors, save_checkpoint
from anymc3d.train.draws import (
    Visit,
    balanced_order,
    balancing_weights,
    batches,
    drawing,
    epoch_order,
    num_steps,
    visits,
)
from anymc3d.train.losses import Loss
from anymc3d.train.objective import Moment, batch_losses
from anymc3d.train.optimisation import learning_rate_factor, set_learning_rate
from anymc3d.train.processes import Processes
from anymc3d.train.segmentation import Segmentation, dice_of, masked_positions, mean_dice
from anymc3d.train.selection import score_validation
from anymc3d.train.stopping import StopRequest, listening

logger = logging.getLogger(__name__)

SAVE_EVERY_S = 300.0
"""Seconds between checkpoints inside an epoch; one is always written at an epoch's end."""


@dataclass
class LabelledSet:
    """Cases of one split as the loop sees them: ids for messages, a loader, and targets (n, L) with NaN = missing."""

    ids: Sequence[str]
    loader: BatchLoader
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def in_float32(self) -> LabelledSet:
        """The same cases for a backbone that computes in float32: with trunk tokens of that precision."""
        return replace(self, loader=self.loader.in_float32())


@dataclass
class Parts:
    """What the loop is handed."""

    backbone: nn.Module | None
    classifier: Classifier
    optimizer: torch.optim.Optimizer
    encoding: Encoding
    train: LabelledSet
    val: LabelledSet
    labels: LabelSettings
    loss: Loss
    settings: TrainSettings
    processes: Processes
    checkpoints: Path
    meter: EnergyMeter
    segmentation: Segmentation | None = None
    quiet: bool = False

    @property
    def device(self) -> torch.device:
        """Where the classifier is."""
        return next(self.classifier.parameters()).device


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
        while state.epoch < parts.settings.epochs and not _out_of_patience(state, parts.settings):
            started = time.monotonic() - state.seconds
            _train_epoch(parts, state, best, stop, started)
            state.step_seconds = added(state.step_seconds, time.monotonic() - started)
            logits, val_loss, dice = validate(parts)
            score = score_validation(parts.val.targets, logits, parts.labels, val_loss)
            if state.best_score is None or (score.value, -val_loss) > (state.best_score, -state.best_loss):
                state.best_score, state.best_loss, state.best_epoch = score.value, val_loss, state.epoch + 1
                best = {name: tensor.detach().clone() for name, tensor in parts.classifier.tensors().items()}
            state.history.append(
                {
                    "epoch": state.epoch + 1,
                    "train_loss": state.loss_total / max(state.loss_count, 1),
                    "val_loss": val_loss,
                    "val_auroc": score.auroc,
                    "selection": score.rule,
                    "best_epoch": state.best_epoch,
                    "lr_factor": _lr_factor(parts, state.epoch, 0),
                    "seconds": round(time.monotonic() - started, 2),
                    **_mask_figures(parts, state, dice),
                }
            )
            state.epoch, state.step, state.loss_total, state.loss_count = state.epoch + 1, 0, 0.0, 0
            state.mask_loss_total, state.mask_loss_count, state.seconds = 0.0, 0, 0.0
            parts.processes.on_first(partial(_record, parts, state, best, after_epoch))
    return best


def _record(
    parts: Parts, state: TrainingState, best: dict[str, Tensor], after_epoch: Callable[[TrainingState], None]
) -> None:
    logger.info(_epoch_line(state, parts.settings))
    save(parts, state, best)
    after_epoch(state)


def _train_epoch(
    parts: Parts, state: TrainingState, best: dict[str, Tensor], stop: StopRequest, started: float
) -> None:
    """Run the steps of one epoch that are still to do; ``started``: when it would have, had it never been stopped."""
    settings, processes = parts.settings, parts.processes
    least = _least_batch(parts)
    visited = _epoch_visits(parts, state.epoch)
    steps = batches(visited, _volumes_a_step(settings), processes.rank, processes.world_size, least)
    todo = [_cut(step, settings.batch_size, least) for step in steps[state.step :]]
    stream = parts.train.loader.steps([batch for step in todo for batch in step], state.epoch)
    parts.classifier.train()
    saved = time.monotonic()
    bar = tqdm(
        todo,
        desc=f"epoch {state.epoch + 1}/{settings.epochs}",
        total=len(steps),
        initial=state.step,
        unit="step",
        disable=True if parts.quiet or not processes.is_first else None,
        leave=False,
    )
    for step in bar:
        set_learning_rate(parts.optimizer, _lr_factor(parts, state.epoch, state.step))
        with drawing(parts.device, settings.seed, "dropout", state.epoch, state.step, processes.rank):
            _step(parts, state, islice(stream, len(step)))
        bar.set_postfix(loss=f"{state.loss_total / max(state.loss_count, 1):.4f}")
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


def _epoch_visits(parts: Parts, epoch: int) -> list[Visit]:
    """The cases of one epoch in their order."""
    seed = parts.settings.seed
    if parts.settings.sampling == "balanced":
        return visits(balanced_order(balancing_weights(parts.train.targets), seed, epoch))
    return visits(epoch_order(len(parts.train), seed, epoch))


def _volumes_a_step(settings: TrainSettings) -> int:
    """Volumes of one process in one optimiser step."""
    return settings.batch_size * settings.accumulate


def _least_batch(parts: Parts) -> int:
    """Cases a batch needs where there are so many; a batch size of one is taken as it is."""
    return min(parts.classifier.least_batch, parts.settings.batch_size)


def _cut(step: Sequence[Visit], batch_size: int, least: int = 1) -> list[Sequence[Visit]]:
    """The batches of a step; a last one with fewer than ``least`` cases joins the one before it."""
    return batches(step, batch_size, least=least)


def _step(parts: Parts, state: TrainingState, loaded: Iterable[tuple[Sequence[Visit], Any]]) -> None:
    """One optimiser step over all processes and accumulated batches; the state gets its loss sums and counts.

    Sums are added up and divided once by the number of labels of them all, so how a step is spread changes nothing.
    """
    parameters = list(parts.classifier.parameters())
    parts.optimizer.zero_grad(set_to_none=True)
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
    total, all_counts, mask_total, all_masks = parts.processes.sum(total, count, mask_total, mask_count)
    count, mask_count = int(all_counts), int(all_masks)
    parts.processes.sum_gradients(parameters)
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad /= max(count, 1)
    norm = _clip(parts.classifier, parts.settings.clip_norm, with_decoder=mask_count > 0)
    if not (math.isfinite(total + mask_total) and math.isfinite(norm)):
        cases = dict.fromkeys(parts.train.ids[i] for share in parts.processes.gather(seen) for i in share)
        raise TrainingDivergedError(
            f"loss {total + mask_total} and gradient norm {norm} are not both finite at a step with cases "
            f"{', '.join(cases)}; check these scans (anymc3d doctor), or lower "
            f"{'train.lora_lr and train.head_lr' if parts.backbone is not None else 'train.lr'}"
        )
    parts.optimizer.step()
    parts.meter.read()
    state.loss_total, state.loss_count, state.step = state.loss_total + total, state.loss_count + count, state.step + 1
    state.mask_loss_total, state.mask_loss_count = (
        state.mask_loss_total + mask_total,
        state.mask_loss_count + mask_count,
    )


@contextmanager
def _measured_once(parts: Parts, state: TrainingState, num_volumes: int) -> Iterator[None]:
    """Note what a volume of a run's first batch makes autograd keep; later batches are like it."""
    if state.memory_per_volume is not None:
        yield
        return
    frozen = () if parts.backbone is None else parts.backbone.parameters()
    with KeptForBackward((*parts.classifier.parameters(), *frozen)) as kept:
        yield
    state.memory_per_volume = kept.bytes // num_volumes


def _clip(classifier: Classifier, most: float, *, with_decoder: bool) -> float:
    """Shorten the gradients to ``most``, the decoder's by themselves: a large one must not slow the classifier down.

    Without a mask in the step the decoder stands still, however the step is spread over processes.
    """
    decoder = list(classifier.decoder.parameters())
    own = {id(parameter) for parameter in decoder}
    norm = nn.utils.clip_grad_norm_([p for p in classifier.parameters() if id(p) not in own], most)
    if not with_decoder:
        for parameter in decoder:
            parameter.grad = None
        return float(norm)
    return math.hypot(float(norm), float(nn.utils.clip_grad_norm_(decoder, most)))


class Validation(NamedTuple):
    """``logits`` (n, K) of the validation cases, their mean ``loss``, and the mean Dice where they have masks."""

    logits: np.ndarray
    loss: float
    dice: float | None


def validate(parts: Parts) -> Validation:
    """Answer the validation cases, over all processes.

    A network of the zoo, whose last layers are computed in the format of training too, answers in float32 as its plugin
    does: rounded logits tie, and ties decide between epochs.
    """
    if parts.backbone is None:
        parts = replace(parts, encoding=replace(parts.encoding, dtype=torch.float32))
    processes, val = parts.processes, parts.val
    mine = batches(visits(range(len(val))), parts.settings.batch_size, processes.rank, processes.world_size)
    parts.classifier.eval()
    rows: list[tuple[int, list[float]]] = []
    dice: list[dict[int, float]] = []
    with torch.no_grad():
        for batch_visits, batch in val.loader.steps([step for step in mine if step], epoch=0):
            logits, maps = _maps(parts, batch)
            parts.meter.read()
            dice += maps
            rows += zip([visit.case for visit in batch_visits], logits.cpu().tolist(), strict=True)
    gathered = dict(row for part in processes.gather(rows) for row in part)
    logits = torch.tensor([gathered[index] for index in range(len(val))], dtype=torch.float32)
    loss = parts.loss(logits, torch.from_numpy(val.targets))
    found = mean_dice(one for part in processes.gather(dice) for one in part)
    return Validation(logits.numpy().astype(np.float64), float(loss.total) / max(loss.count, 1), found)


def _maps(parts: Parts, batch: Any) -> tuple[Tensor, list[dict[int, float]]]:
    """Logits (B, K), and the Dice of every mask of the batch; the networks of the zoo draw no maps."""
    if parts.segmentation is None or parts.backbone is None:
        return parts.classifier(parts.backbone, batch, parts.encoding).logits, []
    wanted = masked_positions(batch, parts.classifier.decoder)
    answer, maps = classify_and_decode(parts.classifier, parts.backbone, batch, parts.encoding, wanted)
    found = []
    for (view, i), output in maps.items():
        target = batch[view].masks[i]
        probabilities = parts.classifier.decoder[view].probabilities(output, tuple(target.labels.shape[-2:]))
        found.append(dice_of(probabilities, target))
    return answer.logits, found


def save(parts: Parts, state: TrainingState, best: dict[str, Tensor]) -> None:
    """Write a checkpoint: current tensors, optimiser, best tensors, progress and what it cost."""
    state.peak_memory = max(state.peak_memory, peak_memory(parts.device))
    state.energy_joules = added(state.energy_joules, parts.meter.take())
    tensors = {f"model.{name}": tensor for name, tensor in parts.classifier.tensors().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in best.items()}
    save_checkpoint(parts.checkpoints, tensors | optimizer_tensors(parts.optimizer), state)


def restore(parts: Parts, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Put a checkpoint's tensors back into model and optimiser; returns the best ones."""
    model = {name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")}
    parts.classifier.load_tensors(model)
    load_optimizer_tensors(parts.optimizer, tensors)
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
    return learning_rate_factor(epoch * per_epoch + step, parts.settings.epochs * per_epoch, parts.settings.schedule)


def _epoch_line(state: TrainingState, settings: TrainSettings) -> str:
    row = state.history[-1]
    dice = "" if row.get("val_dice") is None else f", Dice {row['val_dice']:.3f}"
    auroc = "undefined" if row["val_auroc"] is None else f"{row['val_auroc']:.4f}"
    return (
        f"epoch {row['epoch']}/{settings.epochs}: loss {row['train_loss']:.4f}, validation loss {row['val_loss']:.4f}, "
        f"AUROC {auroc}{dice} (best: epoch {row['best_epoch']}), {row['seconds']:.0f} s"
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
