"""Losses as plain functions of (logits, targets), and the table of them.

Softmax tasks (binary with two logits, multi-class): targets (B,) class index. Sigmoid tasks (multi-label): targets
(B, K) of 0 and 1. A missing label is NaN in the targets, takes no part and gets no gradient. Every loss returns the
sum over the labels that are there together with their number, so that batches spread over processes average exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from anymc3d.config import TrainSettings
from anymc3d.errors import UsageError, did_you_mean


class LossSum(NamedTuple):
    """Sum of the loss over labels that are there, and how many they are; the mean is ``total / count``."""

    total: Tensor
    count: int


def log_likelihood(logits: Tensor, targets: Tensor, *, softmax: bool) -> Tensor:
    """Log probability of the true class of every label that is there: (number of labels,)."""
    there = ~torch.isnan(targets)
    if softmax:
        chosen = targets[there].long()
        return logits[there].log_softmax(dim=-1).gather(-1, chosen.unsqueeze(-1)).squeeze(-1)
    signs = targets[there] * 2 - 1
    return nn.functional.logsigmoid(logits[there] * signs)


def focal_loss(logits: Tensor, targets: Tensor, settings: TrainSettings, *, softmax: bool) -> LossSum:
    """L = -alpha (1 - p_t)^gamma log p_t with alpha a constant factor, as printed (supplement A3; METHODS 1.6)."""
    log_p = log_likelihood(logits, targets, softmax=softmax)
    weight = (-torch.expm1(log_p)).clamp_min(0) ** settings.focal_gamma
    return LossSum(-settings.focal_alpha * (weight * log_p).sum(), log_p.numel())


def cross_entropy(logits: Tensor, targets: Tensor, settings: TrainSettings, *, softmax: bool) -> LossSum:
    """L = -log p_t."""
    log_p = log_likelihood(logits, targets, softmax=softmax)
    return LossSum(-log_p.sum(), log_p.numel())


LOSSES: dict[str, Callable[..., LossSum]] = {"focal": focal_loss, "cross-entropy": cross_entropy}


def loss_function(name: str) -> Callable[..., LossSum]:
    """Return one entry of ``LOSSES``.

    Raises:
        UsageError: no loss has this name.
    """
    if name not in LOSSES:
        raise UsageError(f"train.loss: unknown name {name!r}{did_you_mean(name, LOSSES)}")
    return LOSSES[name]
