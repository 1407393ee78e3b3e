"""Metrics of a predicted number: error, explained variance, correlations and calibration, each with an interval.

Intervals are of a bootstrap over patients: the value plus and minus Student's t times the standard deviation of the
resamples, errors on the logarithmic scale, correlations on Fisher's (R. Fisher, 1915), so that no interval leaves what
the metric can be. Two answers to the same cases are compared by their absolute errors: a paired t-test, with several
rows a patient by the sums of its rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from anymc3d.evaluate.intervals import Interval, group_index, is_grouped, t_quantile, two_sided_p
from anymc3d.evaluate.measures import Measure, Sampling
from anymc3d.evaluate.metrics import Metric
from anymc3d.evaluate.rare_outcomes import FEW, rarity_note
from anymc3d.evaluate.resampling import UNSTRATIFIED, Draws, bootstrap, bootstrap_interval
from anymc3d.evaluate.weighted import Floats, ratio

LEAST = 3
"""Cases that a correlation needs."""


@dataclass(frozen=True, eq=False)
class NumberCases:
    """The cases of one label that have both a true and a predicted number; (m,) arrays."""

    label: str
    rows: NDArray[np.intp]
    """Where these cases stand among all cases of the group."""
    truth: Floats
    predicted: Floats


Kernel = Callable[[Floats, Floats, Floats], Floats]
"""Truth (n,), predicted (n,), weights (R, n) -> values (R,), NaN where undefined."""


def mean_absolute_error(truth: Floats, predicted: Floats, weights: Floats) -> Floats:
    """Mean of the absolute differences, in the units of the label."""
    return ratio(weights @ np.abs(predicted - truth), weights.sum(axis=1))


def root_mean_squared_error(truth: Floats, predicted: Floats, weights: Floats) -> Floats:
    """Root of the mean squared difference, in the units of the label."""
    return np.sqrt(ratio(weights @ np.square(predicted - truth), weights.sum(axis=1)))


def mean_error(truth: Floats, predicted: Floats, weights: Floats) -> Floats:
    """Predicted minus true, on average: above 0 where the answers are too high."""
    return ratio(weights @ (predicted - truth), weights.sum(axis=1))


def r2(truth: Floats, predicted: Floats, weights: Floats) -> Floats:
    """Share of the variance of these cases that is explained: 1 - squared error / variance; below 0 where the mean of
    the cases would be the better answer."""
    total = weights.sum(axis=1)
    mean = ratio(weights @ truth, total)
    variance = ratio(weights @ np.square(truth), total) - np.square(mean)
    variance = np.where(variance > 1e-12 * np.square(np.ptp(truth) or 1.0), variance, 0.0)
    return 1 - ratio(ratio(weights @ np.square(predicted - truth), total), variance)


def pearson(truth: Floats, predicted: Floats, weights: Floats) -> Floats:
    """Pearson's correlation."""
    return _correlation(np.broadcast_to(truth, weights.shape), np.broadcast_to(predicted, weights.shape), weights)


def spearman(truth: Floats, predicted: Floats, weights: Floats) -> Floats:
    """Spearman's correlation: Pearson's of the mid-ranks, which each weighting ranks anew."""
    return _correlation(_ranks(truth, weights), _ranks(predicted, weights), weights)


def calibration_slope(truth: Floats, predicted: Floats, weights: Floats) -> Floats:
    """Slope of the least-squares line of the true on the predicted numbers: 1 where a difference of one unit between
    two answers is one between the cases, below 1 where answers are too far apart."""
    total = weights.sum(axis=1)
    mean_x, mean_y = ratio(weights @ predicted, total), ratio(weights @ truth, total)
    both = ratio(weights @ (predicted * truth), total) - mean_x * mean_y
    spread = ratio(weights @ np.square(predicted), total) - np.square(mean_x)
    return ratio(both, np.where(spread > 1e-12 * np.square(np.ptp(predicted) or 1.0), spread, 0.0))


NUMBER_METRICS: Mapping[str, Kernel] = {
    "mae": mean_absolute_error,
    "rmse": root_mean_squared_error,
    "mean_error": mean_error,
    "r2": r2,
    "pearson": pearson,
    "spearman": spearman,
    "calibration_slope": calibration_slope,
}
"""THE table of metrics of a number."""
_LOG, _FISHER = ("mae", "rmse"), ("pearson", "spearman")


def _correlation(x: Floats, y: Floats, weights: Floats) -> Floats:
    total = weights.sum(axis=1)
    mean_x, mean_y = ((ratio((weights * values).sum(axis=1), total))[:, None] for values in (x, y))
    both = (weights * (x - mean_x) * (y - mean_y)).sum(axis=1)
    spread = [(weights * np.square(values - mean)).sum(axis=1) for values, mean in ((x, mean_x), (y, mean_y))]
    flat = 1e-12 * total * np.array([[np.square(np.ptp(x) or 1.0)], [np.square(np.ptp(y) or 1.0)]])
    spread = np.where(np.array(spread) > flat, spread, 0.0)
    return np.clip(ratio(both, np.sqrt(spread[0] * spread[1])), -1, 1)


def _ranks(values: Floats, weights: Floats) -> Floats:
    """(R, n): the mid-rank of every case where each counts as often as it weighs."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    of_group = np.add.reduceat(weights[:, order], starts, axis=1)
    middle = np.cumsum(of_group, axis=1) - of_group / 2
    group = np.searchsorted(starts, np.arange(len(ordered)), side="right") - 1
    ranks = np.empty_like(weights)
    ranks[:, order] = middle[:, group]
    return ranks


def value_of(metric: str, truth: Floats, predicted: Floats) -> Metric:
    """One metric, or why it is undefined."""
    if not truth.size:
        return Metric(None, "no case has both a prediction and a label")
    if metric in ("r2", *_FISHER, "calibration_slope") and truth.size < LEAST:
        return Metric(None, f"{truth.size} cases; {metric} needs {LEAST}")
    value = float(NUMBER_METRICS[metric](truth, predicted, np.ones((1, truth.size)))[0])
    if math.isnan(value):
        return Metric(None, "all cases have the same number" if np.ptp(truth) == 0 else "all answers are the same")
    return Metric(value)


def number_measures(cases: NumberCases, patients: NDArray[np.object_], sampling: Sampling) -> list[Measure]:
    """Every metric of one label with its interval; ``patients`` (m,) of its cases."""
    values = {name: value_of(name, cases.truth, cases.predicted) for name in NUMBER_METRICS}
    resampled = {name: _statistic(NUMBER_METRICS[name], cases) for name, value in values.items() if value.is_defined}
    count = len(set(patients.tolist()))
    draws: dict[str, Draws] = {}
    if count >= 2 and resampled:
        options = {"num_resamples": sampling.num_resamples, "seed": sampling.seed}
        draws = bootstrap(resampled, patients, np.zeros(cases.truth.size), **options)
    few = rarity_note(count, patients, of="") if count < FEW else ""
    return [
        Measure(name, "", value, _interval(name, value, draws.get(name), sampling, few), cases.truth.size, None)
        for name, value in values.items()
    ]


def _statistic(kernel: Kernel, cases: NumberCases) -> Callable[[Floats], Floats]:
    return lambda weights: kernel(cases.truth, cases.predicted, weights)


def _interval(name: str, value: Metric, draws: Draws | None, sampling: Sampling, few: str) -> Interval:
    if value.value is None or draws is None:
        reason = value.reason or "no interval: needs two patients"
        return Interval(None, None, UNSTRATIFIED, sampling.level, reason)
    forward, back = _scale(name)
    with np.errstate(all="ignore"):
        moved = replace(draws, values=forward(draws.values))
        middle = float(forward(np.array(value.value)))
    if not math.isfinite(middle):
        return Interval(None, None, UNSTRATIFIED, sampling.level, "no interval: the answers are perfect")
    moved = replace(moved, values=np.where(np.isfinite(moved.values), moved.values, np.nan))
    interval = bootstrap_interval(middle, moved, scale="real", level=sampling.level, method=UNSTRATIFIED)
    if interval.low is None or interval.high is None:
        return interval
    return replace(interval, low=float(back(interval.low)), high=float(back(interval.high)), reason=few)


def _scale(name: str) -> tuple[Callable[[Floats], Floats], Callable[[float], float]]:
    if name in _LOG:
        return np.log, np.exp
    if name in _FISHER:
        return np.arctanh, np.tanh
    return (lambda values: values), (lambda value: value)


@dataclass(frozen=True)
class ErrorTest:
    """Mean absolute error of the first answer minus that of the second, on the same cases."""

    difference: float | None
    interval: Interval
    p_value: float | None
    n: int


def compare_errors(
    truth: Floats, first: Floats, second: Floats, patients: Sequence[str] | NDArray[np.object_], level: float
) -> ErrorTest:
    """Paired t-test of the absolute errors (n,); with several rows a patient by the patients' sums."""
    saved = np.abs(first - truth) - np.abs(second - truth)
    method = "paired_t_clustered" if is_grouped(patients) else "paired_t"
    if saved.size < 2:
        reason = f"no interval and no test: {saved.size} cases"
        value = float(saved.mean()) if saved.size else None
        return ErrorTest(value, Interval(None, None, method, level, reason), None, saved.size)
    mean = float(saved.mean())
    sums = np.bincount(group_index(patients), weights=saved - mean)
    count = sums.size
    variance = count / max(count - 1, 1) * float(np.square(sums).sum()) / saved.size**2
    if variance <= 1e-24 or count < 2:
        reason = "no interval and no test: " + ("one patient" if count < 2 else "the errors differ by a constant")
        return ErrorTest(mean, Interval(None, None, method, level, reason), None, saved.size)
    error = math.sqrt(variance)
    half = t_quantile(level, count - 1) * error
    few = rarity_note(count, patients, of="") if count < FEW else ""
    interval = Interval(mean - half, mean + half, method, level, few)
    return ErrorTest(mean, interval, two_sided_p(mean / error, count - 1), saved.size)
