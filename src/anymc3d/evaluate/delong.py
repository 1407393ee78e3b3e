"""DeLong's variance of the AUROC: interval for one score, paired test for two scores of the same cases.

E. DeLong, D. DeLong and D. Clarke-Pearson, Biometrics 1988. The placement values are computed from mid-ranks in
O(n log n), which gives the same numbers as the definition over all pairs. Valid for independent cases; with several
rows per patient use the bootstrap by patient.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from anymc3d.errors import UsageError
from anymc3d.evaluate.intervals import LEVEL, Interval
from anymc3d.evaluate.metrics import check_pair, why_undefined
from anymc3d.evaluate.weighted import Floats


@dataclass(frozen=True)
class PairedTest:
    """AUROC of the first score minus that of the second, on the same cases; two-sided p-value of no difference."""

    difference: float | None
    interval: Interval
    p_value: float | None
    reason: str = ""


def delong_interval(targets: ArrayLike, scores: ArrayLike, *, level: float = LEVEL) -> Interval:
    """Return the AUROC's interval, made on the logit scale so that it stays within (0, 1).

    There is none when the outcomes are perfectly separated either way, or when all scores are equal: the variance
    estimate is 0 then, and "1.00 to 1.00" would claim certainty that the data do not give.
    """
    method = "delong_logit"
    target_array, score_array = check_pair(targets, scores)
    reason = _why_no_variance(target_array)
    if reason:
        return Interval(None, None, method, level, reason)
    placed = placements(target_array, score_array[None])
    area = float(placed.areas[0])
    if not 0 < area < 1:
        return Interval(None, None, method, level, "no interval: the scores separate the outcomes perfectly")
    if np.ptp(score_array) == 0:
        return Interval(None, None, method, level, "no interval: all cases have the same score")
    half = _quantile(level) * math.sqrt(float(placed.covariance[0, 0])) / (area * (1 - area))
    centre = math.log(area / (1 - area))
    return Interval(_expit(centre - half), _expit(centre + half), method, level)


def delong_paired_test(
    targets: ArrayLike, scores_a: ArrayLike, scores_b: ArrayLike, *, level: float = LEVEL
) -> PairedTest:
    """Compare two scores of the same cases, (n,) each, in the same order."""
    method = "delong_paired"
    target_array, first = check_pair(targets, scores_a)
    _, second = check_pair(targets, scores_b)
    reason = why_undefined("auroc", target_array)
    if reason:
        return PairedTest(None, Interval(None, None, method, level, reason), None, reason)
    placed = placements(target_array, np.stack([first, second]))
    difference = float(placed.areas[0] - placed.areas[1])
    reason = _why_no_variance(target_array)
    variance = float(placed.covariance[0, 0] + placed.covariance[1, 1] - 2 * placed.covariance[0, 1])
    if not reason and variance <= 1e-18:
        why = "DeLong's variance is 0" if difference else "the two scores order the cases alike"
        reason = f"no interval and no test: {why}"
    if reason:
        return PairedTest(difference, Interval(None, None, method, level, reason), None, reason)
    error = math.sqrt(variance)
    half = _quantile(level) * error
    interval = Interval(max(-1.0, difference - half), min(1.0, difference + half), method, level)
    return PairedTest(difference, interval, math.erfc(abs(difference) / error / math.sqrt(2)))


@dataclass(frozen=True)
class Placements:
    """AUROCs (scores,) and the DeLong covariance matrix of their estimates (scores, scores)."""

    areas: Floats
    covariance: Floats


def placements(targets: Floats, scores: Floats) -> Placements:
    """Return areas and covariance for ``scores`` (num_scores, n); needs two cases of each outcome for a variance."""
    of_positive, of_negative = placement_values(targets, scores)
    num_positive, num_negative = of_positive.shape[1], of_negative.shape[1]
    areas = of_positive.mean(axis=1)
    if min(num_positive, num_negative) < 2:
        return Placements(areas, np.full((len(scores), len(scores)), np.nan))
    covariance = np.atleast_2d(np.cov(of_positive)) / num_positive + np.atleast_2d(np.cov(of_negative)) / num_negative
    return Placements(areas, covariance)


def placement_values(targets: Floats, scores: Floats) -> tuple[Floats, Floats]:
    """For ``scores`` (num_scores, n): of each positive the share of negatives below it (num_scores, positives), and of
    each negative the share of positives above it (num_scores, negatives); ties one half."""
    is_positive = targets == 1
    positive, negative = scores[:, is_positive], scores[:, ~is_positive]
    of_positive = np.stack([_share_below(x, y) for x, y in zip(positive, negative, strict=True)])
    of_negative = np.stack([1 - _share_below(y, x) for x, y in zip(positive, negative, strict=True)])
    return of_positive, of_negative


def _share_below(values: Floats, others: Floats) -> Floats:
    """For each value, the share of ``others`` below it, ties one half."""
    ordered = np.sort(others)
    below = np.searchsorted(ordered, values, side="left")
    not_above = np.searchsorted(ordered, values, side="right")
    return (below + not_above) / (2 * others.size)


def _why_no_variance(targets: Floats) -> str:
    reason = why_undefined("auroc", targets)
    if reason:
        return reason
    smaller = int(min(targets.sum(), targets.size - targets.sum()))
    return "" if smaller >= 2 else "no interval: DeLong's variance needs two cases of each outcome"


def _quantile(level: float) -> float:
    if not 0 < level < 1:
        raise UsageError(f"expected a confidence level between 0 and 1, got {level}")
    return NormalDist().inv_cdf(0.5 + level / 2)


def _expit(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value >= 0 else math.exp(value) / (1 + math.exp(value))
