"""Which labels a confident out-of-fold answer contradicts, and how many may be wrong. Arrays only.

Confident learning (Northcutt, Jiang and Chuang 2021): a case counts as confidently of class j when its probability of j
is at least the mean probability of j among the cases labelled j. Cases that are confidently of another class than their
label are doubted, ranked by how far the other class leads; the counts of label against confident class, scaled to the
counts of the labels, estimate the share of wrong labels. The thresholds are relative, so an uncalibrated probability
does as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anymc3d.evaluate.weighted import Floats

LEAST = 5
"""Cases of a class, below which nothing is said of the labels."""


@dataclass(frozen=True)
class Doubts:
    """``cases``: those doubted, most first, as positions; ``answers``: the class that contradicts each; ``lead``: by
    how much its probability is above that of the label. ``noise``: estimated share of wrong labels."""

    cases: NDArray[np.intp]
    answers: NDArray[np.intp]
    lead: Floats
    noise: float


def doubts(labels: NDArray[np.intp], probabilities: Floats) -> Doubts | str:
    """Compare labels (n,) with out-of-fold probabilities (n, K); returns why not where a class has too few cases."""
    number = probabilities.shape[1]
    counts = np.bincount(labels, minlength=number)
    if counts.min() < LEAST:
        return f"a class has {counts.min()} labelled cases, at least {LEAST} are needed to know a confident answer"
    thresholds = np.array([probabilities[labels == j, j].mean() for j in range(number)])
    confident = np.where(probabilities >= thresholds, probabilities, -1.0)
    answer = confident.argmax(axis=1)
    is_confident = confident.max(axis=1) >= 0
    lead = probabilities.max(axis=1) - probabilities[np.arange(len(labels)), labels]
    doubted = np.flatnonzero(is_confident & (answer != labels) & (lead > 0))
    order = doubted[np.argsort(-lead[doubted], kind="stable")]
    return Doubts(order, answer[order], lead[order], _noise(labels[is_confident], answer[is_confident], counts))


def _noise(labels: NDArray[np.intp], answer: NDArray[np.intp], counts: NDArray[np.intp]) -> float:
    """Share of wrong labels: the confident joint, with each row scaled to the number of cases that bear its label."""
    joint = np.zeros((len(counts), len(counts)))
    np.add.at(joint, (labels, answer), 1)
    rows = joint.sum(axis=1, keepdims=True)
    scaled = np.divide(joint, rows, out=np.zeros_like(joint), where=rows > 0) * counts[:, None]
    return float(1 - np.trace(scaled) / scaled.sum()) if scaled.sum() else 0.0
