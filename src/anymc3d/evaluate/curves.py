"""Curves as arrays: ROC, precision-recall and reliability, each with a band: bootstrap by patient, Wilson per bin.

A band never leaves its curve: at every point it is the interval about the curve there, as for a single metric.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from anymc3d.evaluate import weighted
from anymc3d.evaluate.measures import Sampling, share_interval
from anymc3d.evaluate.metrics import check_pair
from anymc3d.evaluate.resampling import Draws, bounds, resample_weights, stratified
from anymc3d.evaluate.weighted import Floats

GRID = np.linspace(0, 1, 101)
MAX_RESAMPLES = 1000
"""A band is read by eye; more resamples do not move it visibly."""


@dataclass(frozen=True)
class Band:
    """Pointwise interval of a curve, (points,) each; NaN where too few resamples reach."""

    x: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class Curve:
    """``x`` and ``y`` (points,) of one curve; ``sizes`` are the cases per point of a reliability curve."""

    kind: str
    x: Floats
    y: Floats
    band: Band
    sizes: Floats | None = None


def roc_curve(targets: Floats, scores: Floats, patients: Sequence[str], sampling: Sampling) -> Curve:
    """Sensitivity (y) over 1 - specificity (x), from (0, 0) to (1, 1); needs both outcomes."""
    targets, scores = check_pair(targets, scores)

    def trace(weights: Floats) -> tuple[Floats, Floats]:
        true_positive, false_positive = _cumulative(targets, scores, weights)
        x = weighted.ratio(false_positive, false_positive[:, -1:])
        y = weighted.ratio(true_positive, true_positive[:, -1:])
        start = np.zeros((len(weights), 1))
        return np.hstack([start, x]), np.hstack([start, y])

    def on_grid(x: Floats, y: Floats) -> Floats:
        return np.interp(GRID, x, y)

    x, y = (part[0] for part in trace(np.ones((1, targets.size))))
    return Curve("roc", x, y, _band(trace, on_grid, patients, targets, sampling))


def precision_recall_curve(targets: Floats, scores: Floats, patients: Sequence[str], sampling: Sampling) -> Curve:
    """Precision (y) over recall (x), one point per distinct score, recall rising; needs both outcomes."""
    targets, scores = check_pair(targets, scores)

    def trace(weights: Floats) -> tuple[Floats, Floats]:
        true_positive, false_positive = _cumulative(targets, scores, weights)
        return (
            weighted.ratio(true_positive, true_positive[:, -1:]),
            weighted.ratio(true_positive, true_positive + false_positive),
        )

    def on_grid(x: Floats, y: Floats) -> Floats:
        # Step-wise, as average precision sums it: the precision at the first threshold that reaches the recall.
        return y[np.minimum(np.searchsorted(x, GRID - 1e-12), x.size - 1)]

    x, y = (part[0] for part in trace(np.ones((1, targets.size))))
    return Curve("pr", x, y, _band(trace, on_grid, patients, targets, sampling))


def reliability_curve(targets: Floats, probabilities: Floats, patients: Sequence[str], sampling: Sampling) -> Curve:
    """Share of positives (y) over mean probability (x) in the bins of the calibration error; empty bins left out.

    The band is Wilson's interval per bin, by patient where patients have several rows.
    """
    names = np.asarray(patients, dtype=object)
    targets, probabilities = check_pair(targets, probabilities, what="probabilities")
    bins = weighted.calibration_bin(probabilities)
    once = np.ones((1, targets.size))
    sizes = weighted.bin_sums(np.ones(targets.size), bins, once)[0]
    used = sizes > 0
    x = weighted.bin_sums(probabilities, bins, once)[0][used] / sizes[used]
    y = weighted.bin_sums(targets, bins, once)[0][used] / sizes[used]
    bounds = [
        share_interval(targets[bins == number], names[bins == number], sampling) for number in np.flatnonzero(used)
    ]
    low, high = (_ends([getattr(bound, side) for bound in bounds]) for side in ("low", "high"))
    return Curve("reliability", x, y, Band(x, low, high), sizes[used])


def risk_curve(
    targets: Floats, wrong: Floats, confidence: Floats, patients: Sequence[str], sampling: Sampling
) -> Curve:
    """Share of wrong decisions (y) when the surest share of the cases (x) is answered, one point per distinct
    confidence; ``targets`` are the strata of the band."""
    order = np.argsort(-confidence, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(confidence[order])), confidence.size - 1)

    def trace(weights: Floats) -> tuple[Floats, Floats]:
        answered = np.cumsum(weights[:, order], axis=1)[:, ends]
        mistakes = np.cumsum((weights * wrong)[:, order], axis=1)[:, ends]
        return weighted.ratio(answered, answered[:, -1:]), weighted.ratio(mistakes, answered)

    def on_grid(x: Floats, y: Floats) -> Floats:
        is_defined = ~np.isnan(y)
        return np.interp(GRID, x[is_defined], y[is_defined])

    x, y = (part[0] for part in trace(np.ones((1, targets.size))))
    return Curve("risk", x, y, _band(trace, on_grid, patients, targets, sampling))


def _ends(values: Sequence[float | None]) -> Floats:
    return np.array([np.nan if value is None else value for value in values])


def _cumulative(targets: Floats, scores: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """True and false positives at each distinct score, from the highest down, (R, groups)."""
    positive, negative = weighted.tie_groups(targets, scores, weights)
    return np.cumsum(positive[:, ::-1], axis=1), np.cumsum(negative[:, ::-1], axis=1)


def _band(
    trace: Callable[[Floats], tuple[Floats, Floats]],
    on_grid: Callable[[Floats, Floats], Floats],
    patients: Sequence[str],
    targets: Floats,
    sampling: Sampling,
) -> Band:
    (whole,) = (on_grid(x, y) for x, y in zip(*trace(np.ones((1, targets.size))), strict=True))
    drawn = []
    for weights in _weights(patients, targets, sampling):
        drawn += [on_grid(x, y) for x, y in zip(*trace(weights), strict=True)]
    values = np.array(drawn)
    enough = 2 * (~np.isnan(values)).sum(axis=0) >= len(values)
    _, members = stratified(patients, targets)
    sizes = [group.size for group in members]
    low, high = np.full(GRID.size, np.nan), np.full(GRID.size, np.nan)
    if min(sizes) > 1 and enough.any():
        spread = Draws(values, min(sizes) - 1, sum(sizes))
        low[enough], high[enough] = bounds(whole[enough], values[:, enough], spread, level=sampling.level)
    return Band(GRID, low, high)


def _weights(patients: Sequence[str], targets: Floats, sampling: Sampling) -> Iterator[Floats]:
    return resample_weights(
        patients, targets, num_resamples=min(sampling.num_resamples, MAX_RESAMPLES), seed=sampling.seed
    )
