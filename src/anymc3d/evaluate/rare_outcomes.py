"""What too few cases of an outcome do to an interval: from one there is none, below ten it says so.

A bootstrap that draws cases within strata of outcome sees no spread in a stratum of one, and too little in one of a
few, so what it says of sensitivity-like metrics is far too narrow (``benchmarks/intervals.py`` has the coverage). Of
these metrics the ends of Wilson's intervals of sensitivity and specificity, carried through, take its place.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from anymc3d.evaluate.intervals import Interval, clustered_wilson_interval, group_index, is_grouped, wilson_interval
from anymc3d.evaluate.metrics import DECISION_METRICS
from anymc3d.evaluate.weighted import Confusion, Floats

FEW = 10
"""Patients with an outcome, or patients in all, below which an interval is called rough."""
FROM_BOTH_RATES = ("balanced_accuracy", "f1", "crg")
"""Metrics that sensitivity and specificity make, rising with both."""
METHOD = "wilson_ends"
NEEDS_TWO = "no interval: needs two cases of each outcome"


def num_rarer(targets: Floats, patients: Sequence[str] | NDArray[np.object_]) -> int:
    """Patients that have the rarer outcome among those that there are; a patient with both counts for both."""
    groups = group_index(patients)
    return min(np.unique(groups[targets == outcome]).size for outcome in np.unique(targets))


def rarity_note(number: int, patients: Sequence[str] | NDArray[np.object_], *, of: str = "the rarer outcome") -> str:
    """What the reader of an interval should know where it rests on ``number`` patients or cases; "" from ten on."""
    if number >= FEW:
        return ""
    unit = "patient" if is_grouped(patients) else "case"
    return f"rough: {number} {unit}{'' if number == 1 else 's'}{f' of {of}' if of else ''}"


def too_few(number: int, patients: Sequence[str] | NDArray[np.object_]) -> str:
    """Why there is no bootstrap interval of a metric of two outcomes; "" where there can be one."""
    if number >= 2:
        return ""
    return f"{NEEDS_TWO}, of different patients" if is_grouped(patients) else NEEDS_TWO


def interval_by_ends(
    metric: str, targets: Floats, decisions: Floats, patients: Sequence[str] | NDArray[np.object_], level: float
) -> Interval:
    """Interval of a metric of :data:`FROM_BOTH_RATES`: its values at both lower and both upper ends of Wilson's
    intervals of sensitivity and specificity, so wider than it need be. Needs both outcomes."""
    sensitivity = _rate(decisions, targets, patients, level)
    specificity = _rate(1 - decisions, 1 - targets, patients, level)
    for rate in (sensitivity, specificity):
        if rate.low is None:
            return Interval(None, None, METHOD, level, rate.reason)
    num_positive, num_negative = float(targets.sum()), float((1 - targets).sum())
    ends = [
        float(_at(metric, getattr(sensitivity, side), getattr(specificity, side), num_positive, num_negative))
        for side in ("low", "high")
    ]
    note = f"{rarity_note(num_rarer(targets, patients), patients)}; Wilson's ends of sensitivity and specificity"
    return Interval(ends[0], ends[1], METHOD, level, note)


def _rate(right: Floats, counted: Floats, patients: Sequence[str] | NDArray[np.object_], level: float) -> Interval:
    if is_grouped(patients):
        return clustered_wilson_interval(right, counted, patients, level=level)
    return wilson_interval(int((right * counted).sum()), int(counted.sum()), level=level)


def _at(metric: str, sensitivity: float, specificity: float, num_positive: float, num_negative: float) -> float:
    true_positive, true_negative = sensitivity * num_positive, specificity * num_negative
    cells = (true_positive, num_negative - true_negative, num_positive - true_positive, true_negative)
    return DECISION_METRICS[metric](Confusion(*(np.array([number]) for number in cells)))[0]
