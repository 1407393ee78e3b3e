"""The variance of the AUROC: interval for one score, paired test for two scores of the same cases.

Independent cases: E. DeLong, D. DeLong and D. Clarke-Pearson, Biometrics 1988. Several cases per patient: N.
Obuchowski, Biometrics 1997, which sums the same placement values by patient and adds how those of a patient's
positives and negatives go together. With one case per patient its variance is DeLong's, and so is all that is made of
it here. Placement values are computed from mid-ranks in O(n log n), the same numbers as over all pairs.

With clusters the interval takes Student's t, with degrees of freedom by Satterthwaite from the patients that have a
positive and those that have none: ``benchmarks/intervals.py`` has the simulated coverage.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anymc3d.errors import UsageError
from anymc3d.evaluate.intervals import (
    LEVEL,
    Interval,
    group_index,
    is_grouped,
    normal_quantile,
    satterthwaite,
    t_quantile,
    two_sided_p,
)
from anymc3d.evaluate.metrics import check_pair, why_undefined
from anymc3d.evaluate.weighted import Floats

Patients = Sequence[str] | NDArray[np.object_]


@dataclass(frozen=True)
class PairedTest:
    """AUROC of the first score minus that of the second, on the same cases; two-sided p-value of no difference."""

    difference: float | None
    interval: Interval
    p_value: float | None
    reason: str = ""


def delong_interval(
    targets: ArrayLike, scores: ArrayLike, *, patients: Patients | None = None, level: float = LEVEL
) -> Interval:
    """Return the AUROC's interval, made on the logit scale so that it stays within (0, 1).

    There is none when the outcomes are perfectly separated either way, or when all scores are equal: the variance
    estimate is 0 then, and "1.00 to 1.00" would claim certainty that the data do not give.

    Args:
        targets: (n,) of 0 and 1.
        scores: (n,), higher is more positive.
        patients: (n,), whose each case is; None = every case is another patient's.
        level: of confidence.
    """
    target_array, score_array = check_pair(targets, scores)
    groups = _groups(patients, target_array)
    method = "delong_logit" if groups is None else "obuchowski_logit"
    reason = _why_no_variance(target_array, groups)
    if reason:
        return Interval(None, None, method, level, reason)
    placed = placements(target_array, score_array[None], groups)
    area, variance = float(placed.areas[0]), float(placed.covariance[0, 0])
    if not 0 < area < 1:
        return Interval(None, None, method, level, "no interval: the scores separate the outcomes perfectly")
    if np.ptp(score_array) == 0:
        return Interval(None, None, method, level, "no interval: all cases have the same score")
    if variance <= 1e-18:
        return Interval(None, None, method, level, "no interval: the variance is 0")
    half = _reach(placed, np.ones(1), level) * math.sqrt(variance) / (area * (1 - area))
    centre = math.log(area / (1 - area))
    return Interval(_expit(centre - half), _expit(centre + half), method, level)


def delong_paired_test(
    targets: ArrayLike,
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    *,
    patients: Patients | None = None,
    level: float = LEVEL,
) -> PairedTest:
    """Compare two scores of the same cases, (n,) each, in the same order; ``patients`` as :func:`delong_interval`."""
    target_array, first = check_pair(targets, scores_a)
    _, second = check_pair(targets, scores_b)
    groups = _groups(patients, target_array)
    method = "delong_paired" if groups is None else "obuchowski_paired"
    reason = why_undefined("auroc", target_array)
    if reason:
        return PairedTest(None, Interval(None, None, method, level, reason), None, reason)
    placed = placements(target_array, np.stack([first, second]), groups)
    difference = float(placed.areas[0] - placed.areas[1])
    reason = _why_no_variance(target_array, groups)
    contrast = np.array([1.0, -1.0])
    variance = float(contrast @ placed.covariance @ contrast)
    if not reason and variance <= 1e-18:
        why = "the variance is 0" if difference else "the two scores order the cases alike"
        reason = f"no interval and no test: {why}"
    if reason:
        return PairedTest(difference, Interval(None, None, method, level, reason), None, reason)
    error = math.sqrt(variance)
    half = _reach(placed, contrast, level) * error
    interval = Interval(max(-1.0, difference - half), min(1.0, difference + half), method, level)
    if groups is None:
        return PairedTest(difference, interval, math.erfc(abs(difference) / error / math.sqrt(2)))
    return PairedTest(difference, interval, two_sided_p(difference / error, placed.freedom(contrast)))


@dataclass(frozen=True)
class Placements:
    """AUROCs (scores,), the covariance of their estimates (scores, scores), and what it is made of.

    ``residuals`` (scores, patients): what each patient adds to the estimate's deviation. ``has_positive`` (patients,).
    Both None for independent cases.
    """

    areas: Floats
    covariance: Floats
    residuals: Floats | None = None
    has_positive: NDArray[np.bool_] | None = None

    def freedom(self, contrast: Floats) -> float:
        """Degrees of freedom of the variance of ``contrast`` (scores,) @ areas, by patients with and without a
        positive."""
        if self.residuals is None or self.has_positive is None:
            return math.inf
        projected = contrast @ self.residuals
        parts = [projected[members] for members in (self.has_positive, ~self.has_positive)]
        return satterthwaite(
            [float(part.var(ddof=1)) * part.size if part.size > 1 else 0.0 for part in parts],
            [max(0, part.size - 1) for part in parts],
        )


def placements(targets: Floats, scores: Floats, groups: NDArray[np.intp] | None = None) -> Placements:
    """Return areas and covariance for ``scores`` (num_scores, n); needs two cases of each outcome for a variance.

    ``groups`` (n,): the patient of each case, counted from 0; None = independent cases.
    """
    of_positive, of_negative = placement_values(targets, scores)
    num_positive, num_negative = of_positive.shape[1], of_negative.shape[1]
    areas = of_positive.mean(axis=1)
    if groups is not None:
        by_outcome = groups[targets == 1], groups[targets != 1]
        return _by_patient(areas, of_positive, of_negative, *by_outcome)
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


def _by_patient(
    areas: Floats,
    of_positive: Floats,
    of_negative: Floats,
    positive_groups: NDArray[np.intp],
    negative_groups: NDArray[np.intp],
) -> Placements:
    """Obuchowski's S10, S01 and S11, each already divided by the numbers of cases."""
    num_groups = int(max(positive_groups.max(), negative_groups.max())) + 1
    first = _sums(of_positive - areas[:, None], positive_groups, num_groups) / of_positive.shape[1]
    second = _sums(of_negative - areas[:, None], negative_groups, num_groups) / of_negative.shape[1]
    has_positive = np.bincount(positive_groups, minlength=num_groups) > 0
    has_negative = np.bincount(negative_groups, minlength=num_groups) > 0
    mixed = first @ second.T * _correction(int((has_positive | has_negative).sum()))
    covariance = (
        first @ first.T * _correction(int(has_positive.sum()))
        + second @ second.T * _correction(int(has_negative.sum()))
        + mixed
        + mixed.T
    )
    has_case = has_positive | has_negative
    return Placements(areas, covariance, (first + second)[:, has_case], has_positive[has_case])


def _sums(values: Floats, groups: NDArray[np.intp], num_groups: int) -> Floats:
    return np.stack([np.bincount(groups, row, num_groups) for row in values])


def _correction(num_patients: int) -> float:
    return num_patients / (num_patients - 1) if num_patients > 1 else math.nan


def _share_below(values: Floats, others: Floats) -> Floats:
    """For each value, the share of ``others`` below it, ties one half."""
    ordered = np.sort(others)
    below = np.searchsorted(ordered, values, side="left")
    not_above = np.searchsorted(ordered, values, side="right")
    return (below + not_above) / (2 * others.size)


def _groups(patients: Patients | None, targets: Floats) -> NDArray[np.intp] | None:
    if patients is None:
        return None
    if len(patients) != targets.size:
        raise UsageError(f"expected one patient per case, got {len(patients)} for {targets.size} cases")
    return group_index(patients) if is_grouped(patients) else None


def _why_no_variance(targets: Floats, groups: NDArray[np.intp] | None) -> str:
    reason = why_undefined("auroc", targets)
    if reason:
        return reason
    if groups is None:
        smaller = int(min(targets.sum(), targets.size - targets.sum()))
        return "" if smaller >= 2 else "no interval: DeLong's variance needs two cases of each outcome"
    smaller = min(np.unique(groups[targets == outcome]).size for outcome in (0, 1))
    return "" if smaller >= 2 else "no interval: Obuchowski's variance needs two patients with each outcome"


def _reach(placed: Placements, contrast: Floats, level: float) -> float:
    """Standard errors to either side: of the normal distribution for independent cases, else of Student's t."""
    freedom = placed.freedom(contrast)
    return normal_quantile(level) if math.isinf(freedom) else t_quantile(level, freedom)


def _expit(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value >= 0 else math.exp(value) / (1 + math.exp(value))
