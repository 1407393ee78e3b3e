"""The metrics under many weightings at once: the arithmetic behind single values and behind the bootstrap.

Every function takes ``weights`` of shape (R, n), one row per weighting (a resample, or a single row of ones), and
returns (R,) values with NaN where the metric is undefined. Whole-number weights are summed exactly, so a metric
never depends on the order of the cases. Reasons for NaN are worded in :mod:`anymc3d.evaluate.metrics`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CALIBRATION_BINS = 15


class Confusion(NamedTuple):
    """Weighted counts, each (R,): true positive, false positive, false negative, true negative."""

    tp: Floats
    fp: Floats
    fn: Floats
    tn: Floats


def ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Return numerator / denominator with NaN where the denominator is 0."""
    result = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), np.nan)
    return np.divide(numerator, denominator, out=result, where=denominator != 0)


def tie_groups(targets: Floats, scores: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Return the positive and negative weight of each distinct score, ascending, each (R, groups)."""
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    in_order, positive = weights[:, order], targets[order]
    return (
        np.add.reduceat(in_order * positive, starts, axis=1),
        np.add.reduceat(in_order * (1 - positive), starts, axis=1),
    )


def auroc(targets: Floats, scores: Floats, weights: Floats) -> Floats:
    """Probability that a positive scores above a negative, ties one half; NaN with one outcome only."""
    positive, negative = tie_groups(targets, scores, weights)
    below = np.cumsum(negative, axis=1) - negative
    wins = np.sum(positive * (below + 0.5 * negative), axis=1)
    return ratio(wins, positive.sum(axis=1) * negative.sum(axis=1))


def average_precision(targets: Floats, scores: Floats, weights: Floats) -> Floats:
    """Step-wise sum of precision over the gain in recall, no interpolation; NaN with one outcome only."""
    positive, negative = (part[:, ::-1] for part in tie_groups(targets, scores, weights))
    true_positive, called = np.cumsum(positive, axis=1), np.cumsum(positive + negative, axis=1)
    precision = np.nan_to_num(ratio(true_positive, called))  # leading groups of weight 0 add nothing
    total = positive.sum(axis=1)
    value = ratio(np.sum(positive * precision, axis=1), total)
    return np.where(negative.sum(axis=1) > 0, value, np.nan)


def confusion(targets: Floats, decisions: Floats, weights: Floats) -> Confusion:
    """Count the four outcomes of 0/1 ``decisions``."""
    cells = np.stack(
        [
            targets * decisions,
            (1 - targets) * decisions,
            targets * (1 - decisions),
            (1 - targets) * (1 - decisions),
        ],
        axis=1,
    )
    return Confusion(*(weights @ cells).T)


def accuracy(counts: Confusion) -> Floats:
    """Share of right decisions."""
    return ratio(counts.tp + counts.tn, counts.tp + counts.fp + counts.fn + counts.tn)


def sensitivity(counts: Confusion) -> Floats:
    """Share of the positives called positive."""
    return ratio(counts.tp, counts.tp + counts.fn)


def specificity(counts: Confusion) -> Floats:
    """Share of the negatives called negative."""
    return ratio(counts.tn, counts.tn + counts.fp)


def ppv(counts: Confusion) -> Floats:
    """Share of true positives among the cases called positive."""
    return ratio(counts.tp, counts.tp + counts.fp)


def npv(counts: Confusion) -> Floats:
    """Share of true negatives among the cases called negative."""
    return ratio(counts.tn, counts.tn + counts.fn)


def balanced_accuracy(counts: Confusion) -> Floats:
    """Mean of sensitivity and specificity."""
    return (sensitivity(counts) + specificity(counts)) / 2


def f1(counts: Confusion) -> Floats:
    """Harmonic mean of PPV and sensitivity; NaN without positives."""
    positives = counts.tp + counts.fn
    value = ratio(2 * counts.tp, 2 * counts.tp + counts.fp + counts.fn)
    return np.where(positives > 0, value, np.nan)


def crg(counts: Confusion, odds: float | None = None) -> Floats:
    """CRG score of the counted cells: U / (2U - s), the published VLM3D definition.

    With X cells and A positives: U = (X - A) / 2, r = (X - A) / (2A), s = r TP - r FN - FP. Perfect is 1; all cells
    called the same way is 1/3. NaN without positives; 0 when every cell is positive, as in the official evaluation.
    Computed times 2A, so that whole counts stay whole.

    ``odds``: (X - A) / A of other cells, of which the counted ones are a part, such as one label of several. r is
    theirs then, and U the s of a part without a mistake, so what raises this raises the score of the whole.
    """
    positives = counts.tp + counts.fn
    negatives = counts.fp + counts.tn if odds is None else odds * positives
    gain = negatives * (counts.tp - counts.fn) - 2 * positives * counts.fp
    value = ratio(positives * negatives, 2 * positives * negatives - gain)
    value = np.where(negatives > 0, value, 0.0)
    return np.where(positives > 0, value, np.nan)


def brier(targets: Floats, probabilities: Floats, weights: Floats) -> Floats:
    """Mean squared distance between probability and outcome."""
    return ratio(weights @ (probabilities - targets) ** 2, weights.sum(axis=1))


def calibration_bin(probabilities: Floats) -> NDArray[np.intp]:
    """Return each probability's bin of equal width, (low, high]; 0 belongs to the first (as scikit-learn bins)."""
    return np.searchsorted(np.linspace(0, 1, CALIBRATION_BINS + 1)[1:-1], probabilities)


def bin_sums(values: Floats, bins: NDArray[np.intp], weights: Floats) -> Floats:
    """Return the weighted sum of ``values`` per bin, (R, CALIBRATION_BINS)."""
    members = (bins[:, None] == np.arange(CALIBRATION_BINS)).astype(np.float64)
    return weights @ (members * values[:, None])


def expected_calibration_error(targets: Floats, probabilities: Floats, weights: Floats) -> Floats:
    """Mean over 15 bins of equal width of \\|mean probability - share of positives\\|, weighted by the bin's cases."""
    gaps = bin_sums(probabilities - targets, calibration_bin(probabilities), weights)
    return ratio(np.abs(gaps).sum(axis=1), weights.sum(axis=1))
