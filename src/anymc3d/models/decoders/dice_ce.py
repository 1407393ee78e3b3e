"""Dice + cross-entropy, 1 : 1, as nnU-Net's (MIC-DKFZ/nnUNet, ``nnUNetTrainer``, ``training/loss/dice.py``)."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

SMOOTH = 1e-5


def dice_and_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The loss of one sample: minus the mean soft Dice of the structures, plus the mean cross-entropy.

    Args:
        logits: (K, ...), background first. Dice is of the softmax over all K, averaged without the background.
        labels: (...) of class indices below K.
    """
    shape = (logits.shape[0], -1)
    flat, truth = logits.reshape(shape), labels.reshape(-1).long()
    probabilities = flat.softmax(dim=0)[1:]
    hot = one_hot(truth, shape[0]).T[1:].to(probabilities.dtype)
    overlap = (probabilities * hot).sum(dim=1)
    dice = (2 * overlap + SMOOTH) / (probabilities.sum(dim=1) + hot.sum(dim=1) + SMOOTH).clamp_min(1e-8)
    return cross_entropy(flat.T, truth) - dice.mean()


def annotated_only(logits: Tensor, labels: Tensor, annotated: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Logits and labels of background and the annotated structures alone, numbered anew: the others get no gradient."""
    if len(annotated) == len(logits) - 1:
        return logits, labels
    segments = labels.new_tensor((0, *annotated)).long()
    renumbered = labels.new_zeros(len(logits))
    renumbered[segments] = labels.new_tensor(range(len(segments)))
    return logits.index_select(0, segments.to(logits.device)), renumbered[labels.long()]
