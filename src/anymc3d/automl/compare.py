"""AUROC of out-of-fold logits with its interval, and the paired difference of two: of several labels or classes their
mean, with the standard error by what each patient adds to it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anymc3d.evaluate import outputs
from anymc3d.evaluate.delong import delong_interval, delong_paired_test
from anymc3d.evaluate.intervals import LEVEL, normal_quantile
from anymc3d.evaluate.measures import Sampling
from anymc3d.evaluate.regression.metrics import NumberCases, number_measures
from anymc3d.evaluate.regression.scale import NumberScale
from anymc3d.train.quick.crossval import Pool

Floats = NDArray[np.float64]

NUMBERS = ("mae", "pearson", "spearman")
"""What is reported of a number besides R²."""
RESAMPLES = 300
"""Of the patients, for each row of the leaderboard."""


@dataclass(frozen=True)
class Value:
    """A value with its 95 % interval, None where there is none; ``p``: of no difference."""

    value: float | None
    low: float | None = None
    high: float | None = None
    p: float | None = None


def auroc_of(pool: Pool, logits: Floats) -> Value:
    """AUROC of head logits (n, K); of a number R², its interval by the squared errors of the patients."""
    if pool.labels.kind == "binary":
        truth, score, patients = _binary(pool, logits)
        interval = delong_interval(truth, score, patients=patients)
        return Value(pool.auroc(logits).value, interval.low, interval.high)
    influence = pool.influence(logits)
    error = influence.standard_error(pool.patients)
    if influence.value is None or error == 0:
        return Value(influence.value)
    if pool.labels.is_number:
        half = normal_quantile(LEVEL) * error
        return Value(influence.value, influence.value - half, influence.value + half)
    if not 0 < influence.value < 1:
        return Value(influence.value)
    half = normal_quantile(LEVEL) * error / (influence.value * (1 - influence.value))
    middle = math.log(influence.value / (1 - influence.value))
    return Value(influence.value, _expit(middle - half), _expit(middle + half))


def difference_of(pool: Pool, first: Floats, second: Floats) -> Value:
    """AUROC (of a number R²) of ``first`` minus that of ``second``."""
    if pool.labels.kind == "binary":
        truth, score, patients = _binary(pool, first)
        test = delong_paired_test(truth, score, _binary(pool, second)[1], patients=patients)
        return Value(test.difference, test.interval.low, test.interval.high, test.p_value)
    influence = pool.influence(first) - pool.influence(second)
    error = influence.standard_error(pool.patients)
    if influence.value is None or error == 0:
        return Value(influence.value)
    half = normal_quantile(LEVEL) * error
    return Value(
        influence.value,
        influence.value - half,
        influence.value + half,
        math.erfc(abs(influence.value) / error / math.sqrt(2)),
    )


def numbers_of(pool: Pool, answers: Floats, scale: NumberScale) -> dict[str, Value]:
    """Errors and correlations of a number, by the names of :data:`NUMBERS`, in the units of the manifest.

    Args:
        pool: whose targets are in standard units.
        answers: (n, 1) in the same.
        scale: of these units.
    """
    known = np.flatnonzero(~np.isnan(pool.targets[:, 0]) & ~np.isnan(answers[:, 0]))
    truth, predicted = (scale.in_units(values[known, 0]) for values in (pool.targets, answers))
    cases = NumberCases("", known, truth, predicted)
    sampling = Sampling(num_resamples=RESAMPLES)
    measures = number_measures(cases, np.array(pool.of(known), dtype=object), sampling)
    return {
        measure.metric: Value(measure.value.value, measure.interval.low, measure.interval.high)
        for measure in measures
        if measure.metric in NUMBERS
    }


def _binary(pool: Pool, logits: Floats) -> tuple[Floats, Floats, list[str] | None]:
    known = np.flatnonzero(~np.isnan(pool.targets[:, 0]))
    score = outputs.raw_logits(logits, pool.labels.kind)[known, 0]
    patients = pool.of(known)
    return pool.targets[known, 0], score, patients if len(set(patients)) < len(patients) else None


def _expit(value: float) -> float:
    return 1 / (1 + math.exp(-value))
