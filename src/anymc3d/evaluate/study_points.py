"""The thresholds of a study: chosen on the source rows alone, then applied to the evaluated rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from anymc3d.errors import UsageError
from anymc3d.evaluate.measures import LabelCases
from anymc3d.evaluate.operating_points import FIXED, OperatingPoint, choose, criterion_name, parse_criterion
from anymc3d.evaluate.predictions import PluginPredictions
from anymc3d.evaluate.weighted import Floats

DEFAULT_POINTS = ("youden",)
PLUGIN_POINT = "plugin"
"""The operating point of the ``decision`` columns: what the plugin itself decided."""

Points = Mapping[str, Mapping[str, OperatingPoint | str]]
"""Label -> criterion -> the point, or why there is none."""


def choose_points(
    one: PluginPredictions, targets: Floats, source: NDArray[np.intp], wanted: Sequence[str] | None
) -> dict[str, dict[str, OperatingPoint | str]]:
    """Choose each label's thresholds on the ``source`` rows; nothing else is looked at."""
    criteria = [criterion_name(text) for text in (DEFAULT_POINTS if wanted is None else wanted)]
    scores, probabilities = one.scores(), one.probabilities
    predicted = source[np.isfinite(scores[source]).all(axis=1)] if one.labels else source
    if predicted.size == 0:
        needs_data = [name for name in criteria if parse_criterion(name)[0] != FIXED]
        if wanted is not None and needs_data:
            msg = f"operating point {needs_data[0]!r}: thresholds come from val rows only, and there is no prediction"
            raise UsageError(f"{msg} of a val row beside test rows; predict the val rows of the manifest too")
        criteria = [name for name in criteria if name not in needs_data]
    points: dict[str, dict[str, OperatingPoint | str]] = {}
    for j, label in enumerate(one.labels):
        known = predicted[~np.isnan(targets[predicted, j])]
        points[label] = {}
        for name in criteria:
            fixed = parse_criterion(name)[0] == FIXED
            values = _log_odds(probabilities[known, j]) if fixed else scores[known, j]
            points[label][name] = _choose_one(name, targets[known, j], values)
    return points


def _choose_one(name: str, targets: Floats, values: Floats) -> OperatingPoint | str:
    num_positive = int(targets.sum())
    if parse_criterion(name)[0] != FIXED and num_positive in (0, targets.size):
        return f"no threshold: the val rows have {num_positive} positive of {targets.size} cases"
    return choose(name, targets, np.clip(values, -1e300, 1e300))


def _log_odds(probabilities: Floats) -> Floats:
    with np.errstate(divide="ignore"):
        return np.log(probabilities / (1 - probabilities))


def label_cases(one: PluginPredictions, targets: Floats, members: NDArray[np.intp], points: Points) -> list[LabelCases]:
    scores = one.scores()
    found = []
    for j, label in enumerate(one.labels):
        rows = np.flatnonzero(~np.isnan(targets[members, j]) & ~np.isnan(scores[members, j]))
        cases = members[rows]
        decisions: dict[str, Floats | str] = {PLUGIN_POINT: one.decisions[cases, j]}
        for name, point in points[label].items():
            if isinstance(point, str):
                decisions[name] = point
            else:
                fixed = parse_criterion(name)[0] == FIXED
                values = _log_odds(one.probabilities[cases, j]) if fixed else scores[cases, j]
                decisions[name] = point.decide(values).astype(np.float64)
        found.append(
            LabelCases(label, rows, targets[cases, j], scores[cases, j], one.probabilities[cases, j], decisions)
        )
    return found
