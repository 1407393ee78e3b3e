"""What one batch costs: the loss of its labels and that of its masks, by whatever the method is trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from anymc3d.models.build import Classifier
from anymc3d.models.classifier import Encoding, PackedSlices
from anymc3d.models.lessons import learn, teaches_itself
from anymc3d.train.draws import Visit
from anymc3d.train.losses import Loss, LossSum, loss_of_answers
from anymc3d.train.segmentation import Segmentation


@dataclass(frozen=True)
class Moment:
    """Where training stands; what decoders draw and anneal depends on it."""

    visits: Sequence[Visit]
    """The visits of the batch's cases."""
    epoch: int
    progress: float
    """0 at the first step of a run, 1 at its last."""


def batch_losses(
    classifier: Classifier,
    batch: Mapping[str, PackedSlices],
    targets: Tensor,
    loss: Loss,
    *,
    backbone: nn.Module | None,
    encoding: Encoding,
    segmentation: Segmentation | None,
    moment: Moment,
) -> tuple[LossSum, LossSum]:
    """The loss over the labels (B, L) of a batch, and over its cases that have a mask."""
    if teaches_itself(classifier):
        lesson = learn(classifier, batch, encoding)
        return loss_of_answers(loss, lesson.answers, targets), _sum(list(lesson.mask_losses.values()), targets)
    if segmentation is None:
        return loss(classifier(backbone, batch, encoding).logits, targets), _sum([], targets)
    logits, of_masks = segmentation.learn(
        classifier, backbone, batch, encoding, moment.visits, epoch=moment.epoch, progress=moment.progress
    )
    return loss(logits, targets), of_masks


def _sum(losses: Sequence[Tensor], targets: Tensor) -> LossSum:
    total = torch.stack(list(losses)).sum() if losses else targets.new_zeros(())
    return LossSum(total, len(losses))
