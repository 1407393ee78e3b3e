"""The answers to the validation cases, over all processes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from anymc3d.cost.progress import Progress
from anymc3d.models.decoders.run import classify_and_decode
from anymc3d.train.draws import batches, visits
from anymc3d.train.loop_parts import Parts
from anymc3d.train.segmentation import dice_of, masked_positions, mean_dice


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
    own_batches = batches(visits(range(len(val))), parts.settings.batch_size, processes.rank, processes.world_size)
    parts.classifier.eval()
    rows: list[tuple[int, list[float]]] = []
    dice: list[dict[int, float]] = []
    steps = [step for step in own_batches if step]
    hides_bar = parts.quiet or not processes.is_first
    with torch.no_grad(), Progress(total=len(steps), what="validating", unit="step", quiet=hides_bar) as bar:
        for batch_visits, batch in val.loader.steps(steps, epoch=0):
            logits, maps = _maps(parts, batch)
            parts.meter.read()
            dice += maps
            rows += zip([visit.case for visit in batch_visits], logits.cpu().tolist(), strict=True)
            bar.update()
    gathered = dict(row for part in processes.gather(rows) for row in part)
    logits = torch.tensor([gathered[index] for index in range(len(val))], dtype=torch.float32)
    loss = parts.loss(logits, torch.from_numpy(val.targets))
    dice_mean = mean_dice(case_dice for part in processes.gather(dice) for case_dice in part)
    return Validation(logits.numpy().astype(np.float64), float(loss.total) / max(loss.count, 1), dice_mean)


def _maps(parts: Parts, batch: Any) -> tuple[Tensor, list[dict[int, float]]]:
    """Logits (B, K), and the Dice of every mask of the batch; the networks of the zoo draw no maps."""
    if parts.segmentation is None or parts.backbone is None:
        return parts.classifier(parts.backbone, batch, parts.encoding).logits, []
    wanted = masked_positions(batch, parts.classifier.decoder)
    answer, maps = classify_and_decode(parts.classifier, parts.backbone, batch, parts.encoding, wanted)
    dices = []
    for (view, i), output in maps.items():
        target = batch[view].masks[i]
        probabilities = parts.classifier.decoder[view].probabilities(output, tuple(target.labels.shape[-2:]))
        dices.append(dice_of(probabilities, target))
    return answer.logits, dices
