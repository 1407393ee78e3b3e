"""The bootstrap by patient: resamples, and intervals made of them that are centred on their own estimate.

Patients, not rows, are drawn, within strata of outcome where there are any. Of n patients of a stratum n - 1 are drawn
and weigh n / (n - 1) each, which makes the variance right also where n is small (J. Rao and C. Wu, JASA 1988). The
interval is the estimate plus and minus Student's t times the standard deviation of the resamples, on the log-odds
scale for what lies in [0, 1]. Percentiles of the resamples are not used: resampling whole patients gives pairs within
a patient more weight than they have in the estimate, so with few patients the resamples lie beside the estimate.
``benchmarks/intervals.py`` has the simulated coverage of these and of other bootstraps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anymc3d.errors import UsageError
from anymc3d.evaluate.intervals import LEVEL, Interval, group_index, satterthwaite, t_quantile
from anymc3d.evaluate.weighted import Floats

NUM_RESAMPLES = 2000
SEED = 0
METHOD, UNSTRATIFIED = "bootstrap_patient", "bootstrap_patient_unstratified"
_CELLS_AT_ONCE = 2_000_000
_MIN_DEFINED = 0.95
_FOR_FREEDOM = 400
"""Resamples of one stratum alone, enough to see which stratum the variance is of."""
_NEAR_END = 20.0
"""A resample counts as no nearer to 0 or 1 than the estimate by this factor, or by half a patient."""

Statistic = Callable[[Floats], Floats]
"""Weights (R, n) -> values (R,), NaN where undefined."""
Scale = Literal["share", "real"]
"""``share``: lies in [0, 1]. ``real``: any number."""


@dataclass(frozen=True, eq=False)
class Draws:
    """A statistic over resamples.

    ``values`` (R,): NaN where undefined. ``freedom``: degrees of freedom of their variance, by Satterthwaite from the
    strata, each of which gives one less than its patients. ``num_patients``: in all.
    """

    values: Floats
    freedom: float
    num_patients: int

    def map(self, *others: Draws, change: Callable[..., Floats]) -> Draws:
        """What ``change`` makes of the values of these and of other draws over the same resamples."""
        values = change(self.values, *(draws.values for draws in others))
        return replace(self, values=values, freedom=min(draws.freedom for draws in (self, *others)))


def resample_weights(
    patients: Sequence[str] | NDArray[np.object_],
    strata: ArrayLike,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = SEED,
    only: int | None = None,
) -> Iterator[Floats]:
    """Yield the weights of bootstrap resamples, (some resamples, n) at a time, ``num_resamples`` in all.

    Patients, not rows, are drawn with replacement, within each stratum; all rows of a patient share its weight. A
    patient belongs to the stratum of its largest value in ``strata`` (n,), so one positive row makes it positive.
    A patient that is alone in its stratum always weighs 1. Equal arguments give equal resamples, whatever the batch
    sizes. ``only``: the one stratum, counted from 0 in ascending order, that is resampled; others stay as they are.
    """
    if num_resamples < 1:
        raise UsageError(f"expected at least 1 resample, got {num_resamples}")
    patient_of_row, members = stratified(patients, strata)
    generators = [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(len(members))]
    at_once = max(1, _CELLS_AT_ONCE // max(1, patient_of_row.size))
    for start in range(0, num_resamples, at_once):
        rows = min(at_once, num_resamples - start)
        weights = np.ones((rows, sum(group.size for group in members)))
        for index, (group, generator) in enumerate(zip(members, generators, strict=True)):
            if group.size > 1 and only in (None, index):
                drawn = generator.integers(group.size, size=(rows, group.size - 1))
                drawn += np.arange(rows)[:, None] * group.size
                counts = np.bincount(drawn.ravel(), minlength=rows * group.size).reshape(rows, group.size)
                weights[:, group] = counts * (group.size / (group.size - 1))
        yield weights[:, patient_of_row]


def stratified(
    patients: Sequence[str] | NDArray[np.object_], strata: ArrayLike
) -> tuple[NDArray[np.intp], list[NDArray[np.intp]]]:
    """Return the patient of each row (n,), and the patients of each stratum, in ascending order of its value."""
    patient_of_row = group_index(patients)
    values = np.asarray(strata, dtype=np.float64)
    if values.shape != patient_of_row.shape:
        raise UsageError(f"expected one patient and one stratum per row, got {patient_of_row.size} and {values.shape}")
    stratum = np.full(int(patient_of_row.max(initial=-1)) + 1, -np.inf)
    np.maximum.at(stratum, patient_of_row, values)
    return patient_of_row, [np.flatnonzero(stratum == value) for value in np.unique(stratum)]


def bootstrap(
    statistics: Mapping[str, Statistic],
    patients: Sequence[str] | NDArray[np.object_],
    strata: ArrayLike,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = SEED,
) -> dict[str, Draws]:
    """Return each statistic over the same resamples."""
    options = {"num_resamples": num_resamples, "seed": seed}
    values = _collect(statistics, resample_weights(patients, strata, **options))
    _, members = stratified(patients, strata)
    sizes = [group.size for group in members]
    shares: dict[str, list[float]] = {name: [] for name in statistics}
    if len(sizes) > 1:
        options["num_resamples"] = min(num_resamples, _FOR_FREEDOM)
        for index, size in enumerate(sizes):
            alone = _collect(statistics, resample_weights(patients, strata, **options, only=index)) if size > 1 else {}
            for name in statistics:
                shares[name].append(_variance(alone[name]) if size > 1 else 0.0)
    return {
        name: Draws(values[name], satterthwaite(shares[name] or [1.0], [size - 1 for size in sizes]), sum(sizes))
        for name in statistics
    }


def bootstrap_interval(
    estimate: float | None, draws: Draws, *, scale: Scale = "share", level: float = LEVEL, method: str = METHOD
) -> Interval:
    """Return the interval about ``estimate``; see the head of this module.

    There is none when more than 5 % of the resamples are undefined, or when all agree: "1.00 to 1.00" would claim
    certainty that resampling cannot give.
    """
    values = draws.values
    defined = values[~np.isnan(values)]
    if estimate is None or defined.size < _MIN_DEFINED * values.size:
        reason = f"no interval: undefined in {values.size - defined.size} of {values.size} resamples"
        return Interval(None, None, method, level, reason)
    if np.ptp(defined) <= 1e-12:
        return Interval(None, None, method, level, "no interval: every resample gives the same value")
    low, high = bounds(np.array([estimate]), defined[:, None], draws, scale=scale, level=level)
    return Interval(float(low[0]), float(high[0]), method, level)


def bounds(
    estimates: Floats, values: Floats, draws: Draws, *, scale: Scale = "share", level: float = LEVEL
) -> tuple[Floats, Floats]:
    """Ends of the intervals of several estimates (m,) from their resamples (R, m), NaN where undefined.

    ``draws`` says how many patients and degrees of freedom there are. An end never passes its estimate.
    """
    reach = t_quantile(level, draws.freedom)
    if scale == "real":
        half = reach * np.nanstd(values, axis=0, ddof=1)
        return estimates - half, estimates + half
    least = np.minimum(0.5 / draws.num_patients, np.where(estimates > 0, estimates / _NEAR_END, np.inf))
    most = np.minimum(0.5 / draws.num_patients, np.where(estimates < 1, (1 - estimates) / _NEAR_END, np.inf))
    centre, spread = _log_odds(np.clip(estimates, least, 1 - most)), _log_odds(np.clip(values, least, 1 - most))
    half = reach * np.nanstd(spread, axis=0, ddof=1)
    low, high = np.minimum(_share(centre - half), estimates), np.maximum(_share(centre + half), estimates)
    return np.where(half > 0, low, estimates), np.where(half > 0, high, estimates)


def _collect(statistics: Mapping[str, Statistic], resamples: Iterator[Floats]) -> dict[str, Floats]:
    collected: dict[str, list[Floats]] = {name: [] for name in statistics}
    for weights in resamples:
        for name, statistic in statistics.items():
            collected[name].append(statistic(weights))
    return {name: np.concatenate(parts) for name, parts in collected.items()}


def _variance(values: Floats) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.var(ddof=1)) if defined.size > 1 else 0.0


def _log_odds(shares: Floats) -> Floats:
    return np.log(shares) - np.log1p(-shares)


def _share(log_odds: Floats) -> Floats:
    return np.exp(-np.logaddexp(0.0, -log_odds))
