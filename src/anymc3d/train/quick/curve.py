"""The learning curve: AUROC at parts of the training cases, and what doubling the cases would add. No torch.

The same held-out cases are scored at every size, so the bootstrap over patients is paired. What it does not see, that
other training cases would have given another fit, is added from the spread between different draws of a part.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from anymc3d.evaluate import outputs, weighted
from anymc3d.evaluate.intervals import LEVEL
from anymc3d.evaluate.regression.metrics import r2
from anymc3d.evaluate.resampling import Draws, Scale, bootstrap, bootstrap_interval
from anymc3d.train.quick.crossval import Pool

Floats = NDArray[np.float64]

EXPONENTS = (0.5, 0.25, 1.0)
"""Of the number of cases in the fitted curve, a - b n^-c: the first is the one reported, the others show how much
depends on it. Three sizes cannot distinguish them."""


@dataclass(frozen=True)
class Estimate:
    """A value with its interval; bounds None where there is none, value None where undefined."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class CurvePoint:
    """AUROC with ``fraction`` of the training cases, the mean of several draws of them."""

    fraction: float
    num_train: float
    """Training cases of a fit, the mean over folds."""
    auroc: Estimate
    draws: tuple[float, ...]
    """AUROC of each draw of the training cases."""
    reason: str = ""
    """Why there is no number."""

    @property
    def spread(self) -> float | None:
        """Standard deviation between the draws; None of fewer than two."""
        return float(np.std(self.draws, ddof=1)) if len(self.draws) > 1 else None


@dataclass(frozen=True)
class Gain:
    """What more cases would add to the AUROC."""

    doubling: Estimate
    """Twice the cases there are now, by the fitted curve."""
    last: Estimate
    """What the step from half of the cases to all of them has added."""
    by_exponent: Mapping[str, float]
    """Exponent of the curve -> gain by doubling."""


@dataclass(frozen=True)
class Curve:
    """Points from small to large, and the gain; None where a size is missing."""

    points: tuple[CurvePoint, ...]
    gain: Gain | None


def make_curve(
    pool: Pool,
    fits: Mapping[float, Sequence[Floats] | str],
    num_train: Mapping[float, float],
    *,
    resamples: int,
    seed: int,
) -> Curve:
    """Points and gain.

    Args:
        pool: the cases with their outcomes.
        fits: fraction -> out-of-fold logits (n, K) of each draw, or why there are none. 1.0 has one.
        num_train: fraction -> training cases of a fit.
        resamples: of the bootstrap over patients.
        seed: of the bootstrap.
    """
    fitted = [logits for fit in fits.values() if not isinstance(fit, str) for logits in fit]
    boot = iter(macro_draws(pool, fitted, resamples=resamples, seed=seed))
    points, means = [], {}
    for fraction, fit in fits.items():
        if isinstance(fit, str):
            points.append(CurvePoint(fraction, num_train[fraction], Estimate(None, None, None), (), fit))
            continue
        draws = [next(boot) for _ in fit]
        means[fraction] = draws[0].map(*draws[1:], change=lambda *values: np.mean(values, axis=0))
        values = tuple(value for logits in fit if (value := pool.auroc(logits).value) is not None)
        middle = estimate(float(np.mean(values)), means[fraction], scale=pool.scale)
        points.append(CurvePoint(fraction, num_train[fraction], middle, values))
    points.sort(key=lambda point: point.fraction)
    return Curve(tuple(points), _gain(points, means, seed))


def macro_draws(pool: Pool, logits_of_each: Sequence[Floats], *, resamples: int, seed: int) -> list[Draws]:
    """Bootstrap draws of the (mean) AUROC, or R², of each of several logits (n, K), all on equal resamples."""
    if pool.labels.is_number:
        return _number_draws(pool, logits_of_each, resamples=resamples, seed=seed)
    names, kind = pool.labels.output_names, pool.labels.kind
    truth = outputs.label_targets(pool.targets, kind, len(names))
    known = [np.flatnonzero(~np.isnan(column)) for column in truth.T]

    def statistic(logits: Floats):
        scores = outputs.ranking_scores(outputs.raw_logits(logits, kind), kind)

        def mean(weights: Floats) -> Floats:
            values = np.stack(
                [weighted.auroc(truth[rows, j], scores[rows, j], weights[:, rows]) for j, rows in enumerate(known)]
            )
            is_defined = ~np.isnan(values)
            return weighted.ratio(
                np.where(is_defined, values, 0).sum(axis=0), is_defined.sum(axis=0).astype(np.float64)
            )

        return mean

    strata = np.zeros(len(pool)) if kind == "multilabel" else pool.targets[:, 0]
    statistics = {str(number): statistic(logits) for number, logits in enumerate(logits_of_each)}
    drawn = bootstrap(statistics, pool.patients, strata, num_resamples=resamples, seed=seed)
    return [drawn[str(number)] for number in range(len(logits_of_each))]


def _number_draws(pool: Pool, logits_of_each: Sequence[Floats], *, resamples: int, seed: int) -> list[Draws]:
    known = np.flatnonzero(~np.isnan(pool.targets[:, 0]))
    truth = pool.targets[known, 0]

    def statistic(logits: Floats):
        return lambda weights: r2(truth, logits[known, 0], weights[:, known])

    statistics = {str(number): statistic(logits) for number, logits in enumerate(logits_of_each)}
    drawn = bootstrap(statistics, pool.patients, np.zeros(len(pool)), num_resamples=resamples, seed=seed)
    return [drawn[str(number)] for number in range(len(logits_of_each))]


def estimate(value: float | None, draws: Draws, *, scale: Scale = "share") -> Estimate:
    """A value with the interval of its bootstrap draws; ``real``: of a difference."""
    interval = bootstrap_interval(value, draws, scale=scale, level=LEVEL)
    return Estimate(value, interval.low, interval.high)


def _gain(points: Sequence[CurvePoint], means: Mapping[float, Draws], seed: int) -> Gain | None:
    used = [point for point in points if point.fraction in means]
    if len(used) < 2 or used[-1].fraction != 1 or used[-2].spread is None:
        return None
    noisy = _with_noise(used, means, seed)
    values = np.array([point.auroc.value for point in used])
    sizes = np.array([point.num_train for point in used])
    fitted = {c: _slope(sizes, c) for c in EXPONENTS}
    main = fitted[EXPONENTS[0]]
    return Gain(
        estimate(float(main @ values), _combined(noisy, lambda *rows: main @ np.stack(rows)), scale="real"),
        estimate(float(values[-1] - values[-2]), _combined(noisy[-2:], lambda half, whole: whole - half), scale="real"),
        {f"{c:g}": float(row @ values) for c, row in fitted.items()},
    )


def _combined(draws: Sequence[Draws], change: Callable[..., Floats]) -> Draws:
    return draws[0].map(*draws[1:], change=change)


def _with_noise(points: Sequence[CurvePoint], means: Mapping[float, Draws], seed: int) -> list[Draws]:
    """Bootstrap draws of every point, each with the noise of the draws of training cases added.

    Of all cases there is one draw only; its noise is taken to be that of one draw of the size before, which is larger.
    """
    generator = np.random.default_rng([seed, 1])
    rows = []
    for index, point in enumerate(points):
        whole = point.spread is None
        spread = points[index - 1].spread if whole else point.spread
        draws = means[point.fraction]
        error = (spread or 0.0) / math.sqrt(1 if whole else len(point.draws))
        noise = generator.normal(0.0, 1.0, draws.values.shape) * error
        rows.append(replace(draws, values=draws.values + noise))
    return rows


def _slope(sizes: Floats, exponent: float) -> Floats:
    """Weights (points,) whose product with the AUROCs is the gain by doubling of the least-squares fit a - b n^-c."""
    x = sizes**-exponent
    centred = x - x.mean()
    minus_b = centred / (centred**2).sum()
    return -minus_b * sizes[-1] ** -exponent * (1 - 2**-exponent)
