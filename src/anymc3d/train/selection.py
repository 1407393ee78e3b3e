"""Which epoch is the best: by validation AUROC (supplement A3), by validation loss only where AUROC is undefined.

Small validation sets often give several epochs one AUROC; of these the one with the lower validation loss is kept.
Where training starts from a solution, that is epoch 0, and a later epoch has to beat it by more than the noise of such
a choice: the best of many epochs on a hundred cases is always a little better than it will be on others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from anymc3d.evaluate import outputs
from anymc3d.evaluate.metrics import macro_auroc
from anymc3d.evaluate.paired_auroc import mean_auroc_difference
from anymc3d.settings.config import LabelSettings
from anymc3d.train.losses import Loss

NOISE = 0.5
"""Standard errors of the paired difference by which an epoch must be better than the start to take its place."""


OF_A_NUMBER = "loss: of a number"
"""The rule of labels that are numbers, which have no AUROC."""


@dataclass(frozen=True)
class ValidationScore:
    """``value``: larger is better. ``rule``: ``auroc``, or ``loss: <why AUROC is undefined>``."""

    value: float
    auroc: float | None
    rule: str


def score_validation(targets: np.ndarray, logits: np.ndarray, labels: LabelSettings, loss: float) -> ValidationScore:
    """Score one validation: targets (n, L) with NaN = missing, logits (n, K), mean loss.

    Binary: AUROC; several labels, classes or grades: the mean of the defined (one-vs-rest) AUROCs.
    """
    if labels.is_number:
        return ValidationScore(-loss, None, OF_A_NUMBER)
    truth, scores = _truth_and_scores(targets, logits, labels)
    mean = macro_auroc(truth, scores, labels.output_names)
    if mean.value is None:
        return ValidationScore(-loss, None, f"loss: {mean.reason}")
    return ValidationScore(mean.value, mean.value, "auroc")


def beats_start(
    later: np.ndarray,
    start: np.ndarray,
    targets: np.ndarray,
    patients: Sequence[str] | None,
    labels: LabelSettings,
    loss: Loss,
) -> bool:
    """Whether an epoch's validation is better than the start's by more than ``NOISE`` of its paired standard error.

    By AUROC as :func:`score_validation` takes it; where that is undefined or equal (both may be 1) by the cases' loss.

    Args:
        later: logits (n, K) of the epoch.
        start: those of epoch 0, for the same cases.
        targets: (n, L), NaN = missing.
        patients: (n,) of the cases, whose errors are taken together; None: each case is its own.
        labels: what targets and logits mean.
        loss: of the task.
    """
    gain, error = 0.0, 0.0
    if not labels.is_number:
        truth, scores = _truth_and_scores(targets, later, labels)
        _, before = _truth_and_scores(targets, start, labels)
        gain, error = mean_auroc_difference(truth, scores, before, patients)
    if not gain:
        saved = _losses(loss, start, targets) - _losses(loss, later, targets)
        gain = float(saved.mean())
        error = float(saved.std(ddof=1)) / math.sqrt(len(saved)) if len(saved) > 1 else math.inf
    return gain > NOISE * error


def _truth_and_scores(targets: np.ndarray, logits: np.ndarray, labels: LabelSettings) -> tuple[np.ndarray, np.ndarray]:
    """What is true (n, labels) and what ranks the cases (n, labels)."""
    raw = outputs.raw_logits(logits, labels.kind)
    truth = outputs.label_targets(targets, labels.kind, len(labels.output_names))
    return truth, outputs.ranking_scores(raw, labels.kind)


def _losses(loss: Loss, logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The loss of every case, (n,), summed over its labels."""
    rows = zip(torch.from_numpy(logits).split(1), torch.from_numpy(targets).split(1), strict=True)
    return np.array([float(loss(case, truth).total) for case, truth in rows])
