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
from anymc3d.train.quick.crossval import Pool

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Value:
    """A value with its 95 % interval, None where there is none; ``p``: of no difference."""

    value: float | None
    low: float | None = None
    high: float | None = None
    p: float | None = None


def auroc_of(pool: Pool, logits: Floats) -> Value:
    """AUROC of head logits (n, K)."""
    if pool.labels.kind == "binary":
        truth, score, patients = _binary(pool, logits)
        interval = delong_interval(truth, score, patients=patients)
        return Value(pool.auroc(logits).value, interval.low, interval.high)
    found = pool.influence(logits)
    error = found.standard_error(pool.patients)
    if found.value is None or not 0 < found.value < 1 or error == 0:
        return Value(found.value)
    half = normal_quantile(LEVEL) * error / (found.value * (1 - found.value))
    middle = math.log(found.value / (1 - found.value))
    return Value(found.value, _expit(middle - half), _expit(middle + half))


def difference_of(pool: Pool, first: Floats, second: Floats) -> Value:
    """AUROC of ``first`` minus that of ``second``."""
    if pool.labels.kind == "binary":
        truth, score, patients = _binary(pool, first)
        test = delong_paired_test(truth, score, _binary(pool, second)[1], patients=patients)
        return Value(test.difference, test.interval.low, test.interval.high, test.p_value)
    found = pool.influence(first) - pool.influence(second)
    error = found.standard_error(pool.patients)
    if found.value is None or error == 0:
        return Value(found.value)
    half = normal_quantile(LEVEL) * error
    return Value(
        found.value, found.value - half, found.value + half, math.erfc(abs(found.value) / error / math.sqrt(2))
    )


def _binary(pool: Pool, logits: Floats) -> tuple[Floats, Floats, list[str] | None]:
    known = np.flatnonzero(~np.isnan(pool.targets[:, 0]))
    score = outputs.raw_logits(logits, pool.labels.kind)[known, 0]
    patients = pool.of(known)
    return pool.targets[known, 0], score, patients if len(set(patients)) < len(patients) else None


def _expit(value: float) -> float:
    return 1 / (1 + math.exp(-value))
