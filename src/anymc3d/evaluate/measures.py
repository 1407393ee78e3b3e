"""Every metric of a set of cases, with its interval: one label, the mean over labels, or labels pooled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anymc3d.evaluate import metrics, weighted
from anymc3d.evaluate.delong import delong_interval
from anymc3d.evaluate.intervals import (
    LEVEL,
    NUM_RESAMPLES,
    SEED,
    Interval,
    Statistic,
    bootstrap,
    percentile_interval,
    wilson_interval,
)
from anymc3d.evaluate.metrics import DECISION_METRICS, PROBABILITY_METRICS, RANKING_METRICS, Metric
from anymc3d.evaluate.weighted import Floats

NO_CI = {"expected_calibration_error": "no interval: resampling biases the binned error upwards"}


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How bootstrap intervals are made: patients drawn with replacement within the outcome strata."""

    num_resamples: int = NUM_RESAMPLES
    seed: int = SEED
    level: float = LEVEL


@dataclass(frozen=True)
class LabelCases:
    """The cases of one label that have both a target and a prediction; (m,) arrays."""

    label: str
    rows: NDArray[np.intp]
    """Where these cases stand among all cases of the group."""
    targets: Floats
    scores: Floats
    probabilities: Floats
    decisions: Mapping[str, Floats | str]
    """Operating point -> 0/1 decisions, or the reason why the point could not be chosen."""

    def values(self, metric: str, point: str) -> Floats | str:
        """Return what ``metric`` is computed from."""
        if metric in RANKING_METRICS:
            return self.scores
        return self.probabilities if metric in PROBABILITY_METRICS else self.decisions[point]


@dataclass(frozen=True)
class Measure:
    """One metric at one operating point ("" where it needs none), with the cases it is of."""

    metric: str
    point: str
    value: Metric
    interval: Interval
    n: int
    n_positive: int | None


def label_measures(cases: LabelCases, patients: NDArray[np.object_], sampling: Sampling) -> list[Measure]:
    """Return every metric of one label; ``patients`` are those of the label's cases, (m,)."""
    keys = metric_keys(cases.decisions)
    independent = len(set(patients)) == patients.size
    values = {key: _value(cases, *key) for key in keys}
    resampled = [
        key
        for key in keys
        if values[key].is_defined and key[0] not in NO_CI and not (independent and _is_exact(key[0]))
    ]
    statistics = {_join(key): _statistic(cases, *key) for key in resampled}
    draws = _draw(statistics, patients, cases.targets, sampling)
    found = []
    for key in keys:
        if _join(key) in draws:
            interval = percentile_interval(draws[_join(key)], level=sampling.level)
        elif not values[key].is_defined:
            interval = _none(values[key].reason, sampling)
        elif key[0] in NO_CI:
            interval = _none(NO_CI[key[0]], sampling)
        else:
            interval = _exact_interval(cases, *key, sampling)
        found.append(Measure(*key, values[key], interval, cases.targets.size, int(cases.targets.sum())))
    return found


def macro_measures(
    labels: Sequence[LabelCases],
    patients: NDArray[np.object_],
    strata: Floats | None,
    sampling: Sampling,
    *,
    without: Sequence[str] = ("crg",),
) -> list[Measure]:
    """Return the plain means over labels; ``patients`` and ``strata`` are of all cases of the group, (n,);
    without strata patients are drawn from all.

    A label that is undefined is left out and named; in a resample, too, the mean is of the defined labels.
    """
    keys = [key for key in metric_keys(labels[0].decisions) if key[0] not in without]
    per_label = {key: {cases.label: _value(cases, *key) for cases in labels} for key in keys}
    values = {key: metrics.macro(per_label[key]) for key in keys}
    statistics = {
        _join(key): _mean_statistic([cases for cases in labels if per_label[key][cases.label].is_defined], *key)
        for key in keys
        if values[key].is_defined and key[0] not in NO_CI
    }
    used = np.unique(np.concatenate([cases.rows for cases in labels]))
    draws = _draw(statistics, patients, strata, sampling)
    found = []
    for key in keys:
        if _join(key) in draws:
            interval = percentile_interval(draws[_join(key)], level=sampling.level, method=_method(strata))
        else:
            interval = _none(NO_CI.get(key[0], "") if values[key].is_defined else values[key].reason, sampling)
        found.append(Measure(*key, values[key], interval, used.size, None))
    return found


def pooled_crg(labels: Sequence[LabelCases], patients: NDArray[np.object_], sampling: Sampling) -> list[Measure]:
    """Return the CRG score of all (case, label) cells together, per operating point (METHODS 9.2).

    A label that no case has a value of adds no cell, so it needs no threshold.
    """
    points = labels[0].decisions
    labels = [cases for cases in labels if cases.rows.size] or list(labels)
    rows = np.concatenate([cases.rows for cases in labels])
    targets = np.concatenate([cases.targets for cases in labels])
    found = []
    for point in points:
        parts = [cases.decisions[point] for cases in labels]
        reasons = [f"{cases.label}: {part}" for cases, part in zip(labels, parts, strict=True) if isinstance(part, str)]
        if reasons:
            metric, interval = Metric(None, reasons[0]), _none(reasons[0], sampling)
        else:
            decisions = np.concatenate([part for part in parts if not isinstance(part, str)])
            metric = metrics.crg(targets, decisions)
            interval = _pooled_interval(targets, decisions, rows, patients, sampling)
        found.append(Measure("crg", point, metric, interval, targets.size, int(targets.sum())))
    return found


def class_accuracy(labels: Sequence[LabelCases], patients: NDArray[np.object_], sampling: Sampling) -> Measure:
    """Return the share of cases whose decided class (the largest probability) is the true one."""
    right = np.zeros(labels[0].targets.size)
    for cases in labels:
        decisions = cases.decisions["plugin"]
        right += cases.targets * decisions if not isinstance(decisions, str) else 0
    if right.size == 0:
        return Measure("accuracy", "plugin", Metric(None, "no case"), _none("no case", sampling), 0, None)
    value = Metric(float(right.mean()))
    own = patients[labels[0].rows]
    if len(set(own)) == own.size:
        interval = wilson_interval(int(right.sum()), right.size, level=sampling.level)
    else:
        strata = np.argmax([cases.targets for cases in labels], axis=0)
        share = {"": lambda weights: weighted.ratio(weights @ right, weights.sum(axis=1))}
        interval = percentile_interval(_draw(share, own, strata, sampling)[""], level=sampling.level)
    return Measure("accuracy", "plugin", value, interval, right.size, None)


def metric_keys(points: Mapping[str, object]) -> list[tuple[str, str]]:
    """Every (metric, operating point) there is, in the order of the tables."""
    free = [(metric, "") for metric in (*RANKING_METRICS, *PROBABILITY_METRICS)]
    return free + [(metric, point) for point in points for metric in DECISION_METRICS]


def _value(cases: LabelCases, metric: str, point: str) -> Metric:
    values = cases.values(metric, point)
    return Metric(None, values) if isinstance(values, str) else metrics.compute(metric, cases.targets, values)


def _statistic(cases: LabelCases, metric: str, point: str) -> Statistic:
    values = cases.values(metric, point)
    assert not isinstance(values, str), "undefined metrics are not resampled"
    if metric in DECISION_METRICS:
        kernel = DECISION_METRICS[metric]
        return lambda weights: kernel(weighted.confusion(cases.targets, values, weights))
    scored = RANKING_METRICS.get(metric) or PROBABILITY_METRICS[metric]
    return lambda weights: scored(cases.targets, values, weights)


def _mean_statistic(labels: Sequence[LabelCases], metric: str, point: str) -> Statistic:
    parts = [(cases.rows, _statistic(cases, metric, point)) for cases in labels]

    def mean(weights: Floats) -> Floats:
        values = np.stack([statistic(weights[:, rows]) for rows, statistic in parts])
        known = ~np.isnan(values)
        return weighted.ratio(np.where(known, values, 0).sum(axis=0), known.sum(axis=0).astype(np.float64))

    return mean


def _draw(
    statistics: Mapping[str, Statistic], patients: NDArray[np.object_], strata: Floats | None, sampling: Sampling
) -> dict[str, Floats]:
    if not statistics:
        return {}
    strata = np.zeros(patients.size) if strata is None else strata
    return bootstrap(statistics, list(patients), strata, num_resamples=sampling.num_resamples, seed=sampling.seed)


def _method(strata: Floats | None) -> str:
    return "bootstrap_patient_unstratified" if strata is None else "bootstrap_patient"


def _pooled_interval(
    targets: Floats, decisions: Floats, rows: NDArray[np.intp], patients: NDArray[np.object_], sampling: Sampling
) -> Interval:
    if not targets.any():
        return _none("no positive", sampling)

    def statistic(weights: Floats) -> Floats:
        return weighted.crg(weighted.confusion(targets, decisions, weights[:, rows]))

    draws = _draw({"": statistic}, patients, None, sampling)
    return percentile_interval(draws[""], level=sampling.level, method=_method(None))


_WILSON = {
    "sensitivity": lambda counts: (counts.tp, counts.tp + counts.fn),
    "specificity": lambda counts: (counts.tn, counts.tn + counts.fp),
    "ppv": lambda counts: (counts.tp, counts.tp + counts.fp),
    "npv": lambda counts: (counts.tn, counts.tn + counts.fn),
    "accuracy": lambda counts: (counts.tp + counts.tn, counts.tp + counts.fp + counts.fn + counts.tn),
}
"""Proportions, as successes and total."""


def _is_exact(metric: str) -> bool:
    """True where independent cases need no resampling."""
    return metric == "auroc" or metric in _WILSON


def _exact_interval(cases: LabelCases, metric: str, point: str, sampling: Sampling) -> Interval:
    values = cases.values(metric, point)
    assert not isinstance(values, str), "undefined metrics have no interval"
    if metric == "auroc":
        return delong_interval(cases.targets, values, level=sampling.level)
    counts = weighted.confusion(cases.targets, values, np.ones((1, cases.targets.size)))
    successes, total = _WILSON[metric](counts)
    return wilson_interval(round(float(successes[0])), round(float(total[0])), level=sampling.level)


def _none(reason: str, sampling: Sampling) -> Interval:
    return Interval(None, None, "", sampling.level, reason)


def _join(key: tuple[str, str]) -> str:
    return "@".join(key)
