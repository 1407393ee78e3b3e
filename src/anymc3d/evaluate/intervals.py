"""Confidence intervals: Wilson for proportions, bootstrap by patient for the rest, Holm for many tests.

The AUROC's own interval and test are in :mod:`anymc3d.evaluate.delong`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from anymc3d.errors import UsageError
from anymc3d.evaluate.weighted import Floats

LEVEL = 0.95
NUM_RESAMPLES = 2000
SEED = 0
_CELLS_AT_ONCE = 2_000_000
_MIN_DEFINED = 0.95

Statistic = Callable[[Floats], Floats]
"""Weights (R, n) -> values (R,), NaN where undefined."""


@dataclass(frozen=True)
class Interval:
    """Two-sided confidence interval with its method and level; without bounds it says why."""

    low: float | None
    high: float | None
    method: str
    level: float = LEVEL
    reason: str = ""


def wilson_interval(successes: int, total: int, *, level: float = LEVEL) -> Interval:
    """Return Wilson's score interval of a proportion of independent cases (E. B. Wilson, 1927)."""
    if not 0 <= successes <= total:
        raise UsageError(f"expected 0 <= successes <= total, got {successes} of {total}")
    if total == 0:
        return Interval(None, None, "wilson", level, "no case")
    z = NormalDist().inv_cdf(0.5 + level / 2)
    share, factor = successes / total, z * z / total
    centre = (share + factor / 2) / (1 + factor)
    half = z * math.sqrt(share * (1 - share) / total + factor / (4 * total)) / (1 + factor)
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == total else min(1.0, centre + half)
    return Interval(low, high, "wilson", level)


def resample_weights(
    patients: Sequence[str],
    strata: ArrayLike,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = SEED,
) -> Iterator[Floats]:
    """Yield the weights of bootstrap resamples, (some resamples, n) at a time, ``num_resamples`` in all.

    Patients, not rows, are drawn with replacement, within each stratum; all rows of a patient share its weight. A
    patient belongs to the stratum of its largest value in ``strata`` (n,), so one positive row makes it positive.
    Equal arguments give equal resamples, whatever the batch sizes.
    """
    if num_resamples < 1:
        raise UsageError(f"expected at least 1 resample, got {num_resamples}")
    names, patient_of_row = np.unique(np.asarray(patients, dtype=object).astype(str), return_inverse=True)
    values = np.asarray(strata, dtype=np.float64)
    if values.shape != patient_of_row.shape:
        raise UsageError(f"expected one patient and one stratum per row, got {patient_of_row.size} and {values.shape}")
    stratum = np.full(names.size, -np.inf)
    np.maximum.at(stratum, patient_of_row, values)
    members = [np.flatnonzero(stratum == value) for value in np.unique(stratum)]
    generators = [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(len(members))]
    at_once = max(1, _CELLS_AT_ONCE // max(1, patient_of_row.size))
    for start in range(0, num_resamples, at_once):
        rows = min(at_once, num_resamples - start)
        counts = np.zeros((rows, names.size))
        for group, generator in zip(members, generators, strict=True):
            drawn = generator.integers(group.size, size=(rows, group.size)) + np.arange(rows)[:, None] * group.size
            counts[:, group] = np.bincount(drawn.ravel(), minlength=rows * group.size).reshape(rows, group.size)
        yield counts[:, patient_of_row]


def bootstrap(
    statistics: Mapping[str, Statistic],
    patients: Sequence[str],
    strata: ArrayLike,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = SEED,
) -> dict[str, Floats]:
    """Return each statistic's values over the same resamples, (num_resamples,) each."""
    collected: dict[str, list[Floats]] = {name: [] for name in statistics}
    for weights in resample_weights(patients, strata, num_resamples=num_resamples, seed=seed):
        for name, statistic in statistics.items():
            collected[name].append(statistic(weights))
    return {name: np.concatenate(parts) for name, parts in collected.items()}


def percentile_interval(values: Floats, *, level: float = LEVEL, method: str = "bootstrap_patient") -> Interval:
    """Return the percentile interval of bootstrap ``values`` (R,).

    There is none when more than 5 % of the resamples are undefined, or when all agree: "1.00 to 1.00" would claim
    certainty that resampling cannot give.
    """
    defined = values[~np.isnan(values)]
    if defined.size < _MIN_DEFINED * values.size:
        reason = f"no interval: undefined in {values.size - defined.size} of {values.size} resamples"
        return Interval(None, None, method, level, reason)
    if np.ptp(defined) <= 1e-12:
        return Interval(None, None, method, level, "no interval: every resample gives the same value")
    low, high = np.quantile(defined, [0.5 - level / 2, 0.5 + level / 2])
    return Interval(float(low), float(high), method, level)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's step-down adjusted p-values, in the given order (S. Holm, 1979)."""
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted
