"""Every metric of a set of cases, with its interval: one label, the mean over labels, or labels pooled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from anymc3d.evaluate import metrics, weighted
from anymc3d.evaluate.delong import delong_interval
from anymc3d.evaluate.intervals import LEVEL, Interval, clustered_wilson_interval, is_grouped, wilson_interval
from anymc3d.evaluate.metrics import DECISION_METRICS, PROBABILITY_METRICS, RANKING_METRICS, Metric
from anymc3d.evaluate.rare_outcomes import FEW, FROM_BOTH_RATES, interval_by_ends, num_rarer, rarity_note, too_few
from anymc3d.evaluate.resampling import (
    METHOD,
    NUM_RESAMPLES,
    SEED,
    UNSTRATIFIED,
    Draws,
    Scale,
    Statistic,
    bootstrap,
    bootstrap_interval,
)
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
    values = {key: _value(cases, *key) for key in keys}
    rarer = num_rarer(cases.targets, patients) if cases.targets.size else 0
    resampled = [key for key in keys if values[key].is_defined and _is_resampled(key[0], rarer)]
    draws = _draw({_join(key): _statistic(cases, *key) for key in resampled}, patients, cases.targets, sampling)
    measures = []
    for key in keys:
        if values[key].is_defined:
            interval = _label_interval(cases, key, values[key], patients, draws.get(_join(key)), sampling)
        else:
            interval = _none(values[key].reason, sampling)
        measures.append(Measure(*key, values[key], interval, cases.targets.size, int(cases.targets.sum())))
    return measures


def _is_resampled(metric: str, rarer: int) -> bool:
    """Whether a metric of one label has a bootstrap interval, with this many patients of the rarer outcome."""
    if metric in NO_CI or metric == "auroc" or metric in _WILSON:
        return False
    return rarer >= (FEW if metric in FROM_BOTH_RATES else 2)


def _label_interval(
    cases: LabelCases,
    key: tuple[str, str],
    value: Metric,
    patients: NDArray[np.object_],
    draws: Draws | None,
    sampling: Sampling,
) -> Interval:
    metric, values = key[0], cases.values(*key)
    assert not isinstance(values, str), "undefined metrics have no interval"
    if metric in NO_CI:
        return _none(NO_CI[metric], sampling)
    if metric in _WILSON:
        return _proportion(metric, cases.targets, values, patients, sampling)
    rarer = num_rarer(cases.targets, patients)
    if metric == "auroc":
        return _with_note(
            delong_interval(cases.targets, values, patients=patients, level=sampling.level), rarer, patients
        )
    if draws is not None:
        return _with_note(bootstrap_interval(value.value, draws, level=sampling.level), rarer, patients)
    if too_few(rarer, patients):
        return _none(too_few(rarer, patients), sampling)
    return interval_by_ends(metric, cases.targets, values, patients, sampling.level)


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

    A label that is undefined is left out and named; in a resample, too, the mean is of the defined labels. There is no
    interval where one of the labels has an outcome of one patient alone, whose share of the spread cannot be estimated.
    """
    keys = [key for key in metric_keys(labels[0].decisions) if key[0] not in without]
    per_label = {key: {cases.label: _value(cases, *key) for cases in labels} for key in keys}
    values = {key: metrics.macro(per_label[key]) for key in keys}
    rarer = {cases.label: num_rarer(cases.targets, patients[cases.rows]) for cases in labels if cases.rows.size}
    statistics = {}
    for key in keys:
        defined = [cases for cases in labels if per_label[key][cases.label].is_defined]
        if values[key].is_defined and key[0] not in NO_CI and min(rarer[cases.label] for cases in defined) >= 2:
            statistics[_join(key)] = _mean_statistic(defined, *key)
    used = np.unique(np.concatenate([cases.rows for cases in labels]))
    draws = _draw(statistics, patients, strata, sampling)
    measures = []
    for key in keys:
        defined_rarer = {label: rarer[label] for label, metric in per_label[key].items() if metric.is_defined}
        if not values[key].is_defined:
            interval = _none(values[key].reason, sampling)
        elif _join(key) in draws:
            method = UNSTRATIFIED if strata is None else METHOD
            interval = bootstrap_interval(values[key].value, draws[_join(key)], level=sampling.level, method=method)
            interval = _with_label_note(interval, defined_rarer, patients)
        else:
            few = f"{_rarest(defined_rarer)}: {too_few(min(defined_rarer.values()), patients)}"
            interval = _none(NO_CI.get(key[0]) or few, sampling)
        measures.append(Measure(*key, values[key], interval, used.size, None))
    return measures


def _with_label_note(interval: Interval, rarer: Mapping[str, int], patients: NDArray[np.object_]) -> Interval:
    """Name the label that has the fewest cases of an outcome, where these are few."""
    text = rarity_note(min(rarer.values()), patients)
    return _with_text(interval, f"{_rarest(rarer)}: {text}" if text else "")


def _rarest(rarer: Mapping[str, int]) -> str:
    return min(rarer, key=lambda label: rarer[label])


def pooled_crg(labels: Sequence[LabelCases], patients: NDArray[np.object_], sampling: Sampling) -> list[Measure]:
    """Return the CRG score of all (case, label) cells together, per operating point.

    A label that no case has a value of adds no cell, so it needs no threshold. As the VLM3D challenge scores it.
    """
    points = labels[0].decisions
    labels = [cases for cases in labels if cases.rows.size] or list(labels)
    rows = np.concatenate([cases.rows for cases in labels])
    targets = np.concatenate([cases.targets for cases in labels])
    measures = []
    for point in points:
        parts = [cases.decisions[point] for cases in labels]
        reasons = [f"{cases.label}: {part}" for cases, part in zip(labels, parts, strict=True) if isinstance(part, str)]
        if reasons:
            metric, interval = Metric(None, reasons[0]), _none(reasons[0], sampling)
        else:
            decisions = np.concatenate([part for part in parts if not isinstance(part, str)])
            metric = metrics.crg(targets, decisions)
            interval = _pooled_interval(metric, targets, decisions, rows, patients, sampling)
        measures.append(Measure("crg", point, metric, interval, targets.size, int(targets.sum())))
    return measures


def class_accuracy(labels: Sequence[LabelCases], patients: NDArray[np.object_], sampling: Sampling) -> Measure:
    """Return the share of cases whose decided class (the largest probability) is the true one."""
    right = np.zeros(labels[0].targets.size)
    for cases in labels:
        decisions = cases.decisions["plugin"]
        right += cases.targets * decisions if not isinstance(decisions, str) else 0
    if right.size == 0:
        return Measure("accuracy", "plugin", Metric(None, "no case"), _none("no case", sampling), 0, None)
    interval = share_interval(right, patients[labels[0].rows], sampling)
    return Measure("accuracy", "plugin", Metric(float(right.mean())), interval, right.size, None)


def share_interval(right: Floats, patients: NDArray[np.object_] | Sequence[str], sampling: Sampling) -> Interval:
    """Interval of the share of ones among ``right`` (n,), of cases of these patients: Wilson's, by patient."""
    if not is_grouped(patients):
        return wilson_interval(int(right.sum()), right.size, level=sampling.level)
    interval = clustered_wilson_interval(right, np.ones(right.size), patients, level=sampling.level)
    return _with_text(interval, rarity_note(len(set(patients)), patients, of=""))


def mean_interval(
    values: Floats, patients: NDArray[np.object_] | Sequence[str], sampling: Sampling, *, scale: Scale = "share"
) -> Interval:
    """Interval of the plain mean over cases of ``values`` (n,), drawing patients."""
    mean = {"": lambda weights: weights @ values / weights.sum(axis=1)}
    num_patients = len(set(patients))
    if num_patients < 2:
        return Interval(None, None, METHOD, sampling.level, "no interval: all cases are of one patient")
    draws = _draw(mean, np.array(patients, dtype=object), None, sampling)[""]
    interval = bootstrap_interval(float(values.mean()), draws, scale=scale, level=sampling.level)
    return _with_text(interval, rarity_note(num_patients, patients, of=""))


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
) -> dict[str, Draws]:
    if not statistics:
        return {}
    strata = np.zeros(patients.size) if strata is None else strata
    return bootstrap(statistics, patients, strata, num_resamples=sampling.num_resamples, seed=sampling.seed)


def _pooled_interval(
    value: Metric,
    targets: Floats,
    decisions: Floats,
    rows: NDArray[np.intp],
    patients: NDArray[np.object_],
    sampling: Sampling,
) -> Interval:
    if value.value is None:
        return _none(value.reason, sampling)
    rarer = num_rarer(targets, patients[rows])
    if rarer < 2:
        return _none("no interval: needs cases with and without a finding of two patients each", sampling)

    def statistic(weights: Floats) -> Floats:
        return weighted.crg(weighted.confusion(targets, decisions, weights[:, rows]))

    draws = _draw({"": statistic}, patients, None, sampling)[""]
    interval = bootstrap_interval(value.value, draws, level=sampling.level, method=UNSTRATIFIED)
    return _with_note(interval, rarer, patients)


_WILSON: Mapping[str, Callable[[Floats, Floats], NDArray[np.bool_]]] = {
    "sensitivity": lambda targets, _: targets == 1,
    "specificity": lambda targets, _: targets == 0,
    "ppv": lambda _, decisions: decisions == 1,
    "npv": lambda _, decisions: decisions == 0,
    "accuracy": lambda targets, _: np.ones(targets.size, bool),
}
"""Shares of right decisions, and among which cases."""


def _proportion(
    metric: str, targets: Floats, decisions: Floats, patients: NDArray[np.object_], sampling: Sampling
) -> Interval:
    of = _WILSON[metric](targets, decisions)
    return share_interval((targets == decisions)[of].astype(np.float64), patients[of], sampling)


def _with_note(interval: Interval, rarer: int, patients: NDArray[np.object_]) -> Interval:
    return _with_text(interval, rarity_note(rarer, patients))


def _with_text(interval: Interval, text: str) -> Interval:
    return interval if interval.low is None or not text else replace(interval, reason=text)


def _none(reason: str, sampling: Sampling) -> Interval:
    return Interval(None, None, "", sampling.level, reason)


def _join(key: tuple[str, str]) -> str:
    return "@".join(key)
