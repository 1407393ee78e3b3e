"""Confidence intervals in closed form: Wilson for proportions, of independent and of grouped cases, and Holm's method.

The AUROC's own interval and test are in :mod:`anymc3d.evaluate.delong`, the bootstrap by patient in
:mod:`anymc3d.evaluate.resampling`. **No interval excludes its own estimate**, and a test holds all of them to that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anymc3d.errors import UsageError

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """Two-sided confidence interval with its method and level.

    ``reason``: without bounds why there are none; with bounds what to know of them, such as that they rest on few
    cases; "" otherwise.
    """

    low: float | None
    high: float | None
    method: str
    level: float = LEVEL
    reason: str = ""


def normal_quantile(level: float) -> float:
    """How many standard errors an interval of this level reaches to either side.

    Raises:
        UsageError: a level outside (0, 1).
    """
    if not 0 < level < 1:
        raise UsageError(f"expected a confidence level between 0 and 1, got {level}")
    return NormalDist().inv_cdf(0.5 + level / 2)


def t_quantile(level: float, freedom: float) -> float:
    """As :func:`normal_quantile`, of Student's t with ``freedom`` degrees of freedom (1 or more, any real number)."""
    from scipy.special import stdtrit

    normal_quantile(level)
    return float(stdtrit(max(freedom, 1.0), 0.5 + level / 2))


def two_sided_p(ratio: float, freedom: float) -> float:
    """p-value of an estimate ``ratio`` standard errors from what is tested, Student's t."""
    from scipy.special import stdtr

    return float(2 * stdtr(max(freedom, 1.0), -abs(ratio)))


def satterthwaite(variances: Sequence[float], freedoms: Sequence[int]) -> float:
    """Degrees of freedom of a sum of independent variance estimates (F. Satterthwaite, 1946); never below 1."""
    total = sum(variances)
    parts = sum(
        variance**2 / freedom for variance, freedom in zip(variances, freedoms, strict=True) if variance and freedom
    )
    return max(1.0, total**2 / parts) if parts > 0 else float(max(1, sum(freedoms)))


def wilson_interval(successes: int, total: int, *, level: float = LEVEL) -> Interval:
    """Return Wilson's score interval of a proportion of independent cases (E. B. Wilson, 1927)."""
    if not 0 <= successes <= total:
        raise UsageError(f"expected 0 <= successes <= total, got {successes} of {total}")
    if total == 0:
        return Interval(None, None, "wilson", level, "no case")
    low, high = _wilson(successes / total, total, level)
    return Interval(low, high, "wilson", level)


def clustered_wilson_interval(
    successes: ArrayLike, counted: ArrayLike, patients: Sequence[str] | NDArray[np.object_], *, level: float = LEVEL
) -> Interval:
    """Return Wilson's interval of a proportion of cases that belong together by patient.

    The cases count as so many independent ones as would give the variance that the patients show (the design effect
    of J. Rao and A. Scott, Biometrics 1992), fewer by the square of t to normal quantile where patients are few (as
    E. Korn and B. Graubard, 1998). Where all cases agree there is no variance to see, and each patient counts once.

    Args:
        successes: (n,), 1 where a counted case is a success.
        counted: (n,), 1 where a case is among those that the proportion is of.
        patients: (n,), whose each case is.
    """
    method = "wilson_clustered"
    of = np.asarray(counted, dtype=np.float64)
    good = np.asarray(successes, dtype=np.float64) * of
    if not of.any():
        return Interval(None, None, method, level, "no case")
    group = group_index(patients)
    totals, hits = np.bincount(group, of), np.bincount(group, good)
    num_patients, num_cases = int((totals > 0).sum()), float(of.sum())
    if num_patients < 2:
        return Interval(None, None, method, level, "no interval: all these cases are of one patient")
    share = float(good.sum()) / num_cases
    variance = num_patients / (num_patients - 1) * float(np.sum((hits - share * totals) ** 2)) / num_cases**2
    effective = share * (1 - share) / variance if variance > 0 else float(num_patients)
    effective = min(effective, num_cases) * (normal_quantile(level) / t_quantile(level, num_patients - 1)) ** 2
    low, high = _wilson(share, effective, level)
    return Interval(low, high, method, level)


def group_index(patients: Sequence[str] | NDArray[np.object_]) -> NDArray[np.intp]:
    """Which of the distinct patients, in order of appearance, each row belongs to, (n,).

    Not in order of their names: what is computed under pseudonyms is then, to the last digit, what it is under ids.
    """
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(str(name), len(numbers)) for name in patients], dtype=np.intp)


def is_grouped(patients: Sequence[str] | NDArray[np.object_]) -> bool:
    """Whether a patient has several rows, so that the rows are not independent."""
    return len(set(patients)) < len(patients)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's step-down adjusted p-values, in the given order (S. Holm, 1979)."""
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def _wilson(share: float, total: float, level: float) -> tuple[float, float]:
    """Ends of the score interval of a share of ``total`` cases, which need not be a whole number."""
    z = normal_quantile(level)
    factor = z * z / total
    centre = (share + factor / 2) / (1 + factor)
    half = z * math.sqrt(share * (1 - share) / total + factor / (4 * total)) / (1 + factor)
    low = 0.0 if share == 0 else max(0.0, centre - half)
    high = 1.0 if share == 1 else min(1.0, centre + half)
    return min(low, share), max(high, share)
