"""Metrics of one label: arrays in, a value or the reason why there is none out.

``targets`` are 0/1, ``scores`` any real numbers where higher means more positive, ``decisions`` 0/1, ``probabilities``
in [0, 1]; all (n,). ``weights`` (n,) are non-negative, by default 1. Definitions as docs/metrics.md;
equal to scikit-learn wherever it has the metric and the metric is defined.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from anymc3d.errors import UsageError, did_you_mean
from anymc3d.evaluate import weighted
from anymc3d.evaluate.weighted import Confusion, Floats


@dataclass(frozen=True)
class Metric:
    """A metric's value; ``None`` with a ``reason`` when it is undefined. Never 0 or 1 in place of "unknown"."""

    value: float | None
    reason: str = ""

    @property
    def is_defined(self) -> bool:
        """True when there is a value."""
        return self.value is not None


ScoreKernel = Callable[[Floats, Floats, Floats], Floats]
CountKernel = Callable[[Confusion], Floats]

RANKING_METRICS: Mapping[str, ScoreKernel] = {
    "auroc": weighted.auroc,
    "average_precision": weighted.average_precision,
}
"""Metrics of targets and scores, which need no threshold."""

DECISION_METRICS: Mapping[str, CountKernel] = {
    "sensitivity": weighted.sensitivity,
    "specificity": weighted.specificity,
    "ppv": weighted.ppv,
    "npv": weighted.npv,
    "accuracy": weighted.accuracy,
    "balanced_accuracy": weighted.balanced_accuracy,
    "f1": weighted.f1,
    "crg": weighted.crg,
}
"""Metrics of targets and decisions, through the four counts."""

PROBABILITY_METRICS: Mapping[str, ScoreKernel] = {
    "brier": weighted.brier,
    "expected_calibration_error": weighted.expected_calibration_error,
}
"""Metrics of targets and probabilities."""


def compute(name: str, targets: ArrayLike, values: ArrayLike, weights: ArrayLike | None = None) -> Metric:
    """Return the metric ``name``; ``values`` are scores, decisions or probabilities, whichever its table asks for.

    Raises:
        UsageError: an unknown name, or arrays that do not fit.
    """
    if name in DECISION_METRICS:
        return _of_decisions(name, targets, values, weights)
    if name in RANKING_METRICS or name in PROBABILITY_METRICS:
        return _of_scores(name, targets, values, weights)
    known = [*RANKING_METRICS, *DECISION_METRICS, *PROBABILITY_METRICS]
    raise UsageError(f"unknown metric {name!r}{did_you_mean(name, known)}")


def check_pair(targets: ArrayLike, values: ArrayLike, *, what: str = "scores") -> tuple[Floats, Floats]:
    """Return both as float64 (n,).

    Raises:
        UsageError: other shapes, targets that are not 0/1, or values that are not finite numbers.
    """
    target_array, value_array = np.asarray(targets, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if target_array.ndim != 1 or target_array.shape != value_array.shape:
        msg = f"expected targets and {what} of one length, got shapes {target_array.shape} and {value_array.shape}"
        raise UsageError(msg)
    if not np.isin(target_array, (0.0, 1.0)).all():
        raise UsageError(f"expected targets of 0 and 1 only, got {_first_other(target_array)!r}")
    if not np.isfinite(value_array).all():
        num_bad = int((~np.isfinite(value_array)).sum())
        raise UsageError(f"expected finite {what}, got {num_bad} of {value_array.size} that are not")
    return target_array, value_array


def auroc(targets: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> Metric:
    """Return the area under the ROC curve as the rank statistic, ties one half; undefined with one outcome only."""
    return _of_scores("auroc", targets, scores, weights)


def crg(targets: ArrayLike, decisions: ArrayLike, weights: ArrayLike | None = None) -> Metric:
    """Return the CRG score; for several labels pass all (case, label) cells flattened."""
    return _of_decisions("crg", targets, decisions, weights)


def macro(metrics: Mapping[str, Metric]) -> Metric:
    """Return the plain mean over labels; undefined labels are left out and named in the reason."""
    values = [metric.value for metric in metrics.values() if metric.value is not None]
    skipped = [label for label, metric in metrics.items() if not metric.is_defined]
    if not values:
        return Metric(None, "undefined for every label")
    note = f"mean of {len(values)} of {len(metrics)} labels; undefined for {', '.join(skipped)}" if skipped else ""
    return Metric(math.fsum(values) / len(values), note)


def macro_auroc(targets: ArrayLike, scores: ArrayLike, names: Sequence[str]) -> Metric:
    """Return the mean AUROC over the columns of ``targets`` and ``scores``, both (n, L).

    Multi-label: 0/1 with NaN for a missing label, which leaves the case out of that label. Multi-class: one-hot
    targets with :func:`one_vs_rest` scores. A label of one outcome is left out and named.
    """
    target_array, score_array = np.asarray(targets, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    if target_array.ndim != 2 or target_array.shape != score_array.shape or target_array.shape[1] != len(names):
        msg = f"expected targets and scores of shape (n, {len(names)}), got {target_array.shape}, {score_array.shape}"
        raise UsageError(msg)
    known = ~np.isnan(target_array)
    pairs = zip(names, known.T, target_array.T, score_array.T, strict=True)
    return macro({name: auroc(target[rows], score[rows]) for name, rows, target, score in pairs})


def one_vs_rest(logits: ArrayLike) -> Floats:
    """Return each class's log-odds against all others under softmax, (n, K) -> (n, K).

    A softmax logit alone ranks nothing (a constant may be added to all logits of a case); the log-odds rank as the
    probability does and, unlike it, never saturate.
    """
    values = np.asarray(logits, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] < 2:
        raise UsageError(f"expected logits of shape (n, classes) with at least 2 classes, got {values.shape}")
    columns = []
    for index in range(values.shape[1]):
        others = np.delete(values, index, axis=1)
        columns.append(values[:, index] - np.logaddexp.reduce(others, axis=1))
    return np.stack(columns, axis=1)


def why_undefined(name: str, targets: Floats, decisions: Floats | None = None) -> str:
    """Say why the metric ``name`` has no value for these cases; "" when its conditions are met."""
    num_cases, num_positive = targets.size, int(targets.sum())
    if num_cases == 0:
        return "no case"
    if name in ("auroc", "average_precision", "balanced_accuracy") and num_positive in (0, num_cases):
        return f"needs both outcomes, got {num_cases} {_cases(num_cases)}, {num_positive} of them positive"
    if name in ("sensitivity", "f1", "crg") and num_positive == 0:
        return f"no positive among {num_cases} {_cases(num_cases)}"
    if name == "specificity" and num_positive == num_cases:
        return f"no negative among {num_cases} {_cases(num_cases)}"
    if name == "ppv" and decisions is not None and not decisions.any():
        return f"none of {num_cases} {_cases(num_cases)} was called positive"
    if name == "npv" and decisions is not None and decisions.all():
        return f"none of {num_cases} {_cases(num_cases)} was called negative"
    return ""


def _of_scores(name: str, targets: ArrayLike, scores: ArrayLike, weights: ArrayLike | None) -> Metric:
    is_ranking = name in RANKING_METRICS
    kernel = RANKING_METRICS[name] if is_ranking else PROBABILITY_METRICS[name]
    target_array, score_array = check_pair(targets, scores, what="scores" if is_ranking else "probabilities")
    if not is_ranking and score_array.size and (score_array.min() < 0 or score_array.max() > 1):
        msg = f"{name}: expected probabilities from 0 to 1, got {score_array.min():g} to {score_array.max():g}"
        raise UsageError(msg)
    target_array, score_array, weight_row = _weighted_cases(target_array, score_array, weights)
    reason = why_undefined(name, target_array)
    return Metric(None, reason) if reason else Metric(float(kernel(target_array, score_array, weight_row)[0]))


def _of_decisions(name: str, targets: ArrayLike, decisions: ArrayLike, weights: ArrayLike | None) -> Metric:
    target_array, decision_array = check_pair(targets, decisions, what="decisions")
    if not np.isin(decision_array, (0.0, 1.0)).all():
        raise UsageError(f"{name}: expected decisions of 0 and 1 only, got {_first_other(decision_array)!r}")
    target_array, decision_array, weight_row = _weighted_cases(target_array, decision_array, weights)
    reason = why_undefined(name, target_array, decision_array)
    if reason:
        return Metric(None, reason)
    value = DECISION_METRICS[name](weighted.confusion(target_array, decision_array, weight_row))
    note = "every case is positive: 0 by the official rule" if name == "crg" and target_array.all() else ""
    return Metric(float(value[0]), note)


def _weighted_cases(targets: Floats, values: Floats, weights: ArrayLike | None) -> tuple[Floats, Floats, Floats]:
    """Drop cases of weight 0 and return the weights as one row (1, n)."""
    row = np.ones(targets.size) if weights is None else np.asarray(weights, dtype=np.float64)
    if row.shape != targets.shape or not np.isfinite(row).all() or (row < 0).any():
        raise UsageError(f"expected {targets.size} weights of 0 or more, got shape {row.shape}")
    used = row > 0
    return targets[used], values[used], row[None, used]


def _first_other(values: Floats) -> float:
    return float(values[~np.isin(values, (0.0, 1.0))][0])


def _cases(number: int) -> str:
    return "case" if number == 1 else "cases"
