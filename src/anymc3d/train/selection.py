"""Which epoch is the best: by validation AUROC (supplement A3), by validation loss only where AUROC is undefined.

Small validation sets often give several epochs one AUROC; of these the one with the lower validation loss is kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anymc3d.evaluate import outputs
from anymc3d.evaluate.metrics import macro_auroc
from anymc3d.settings.config import LabelSettings


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
    raw = outputs.raw_logits(logits, labels.kind)
    scores = outputs.ranking_scores(raw, labels.kind)
    truth = outputs.label_targets(targets, labels.kind, len(labels.output_names))
    mean = macro_auroc(truth, scores, labels.output_names)
    if mean.value is None:
        return ValidationScore(-loss, None, f"loss: {mean.reason}")
    return ValidationScore(mean.value, mean.value, "auroc")
