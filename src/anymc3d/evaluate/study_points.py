"""The thresholds of a study: chosen on the source rows alone, then applied to the evaluated rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from anymc3d.errors import CalibrationError
from anymc3d.evaluate.measures import LabelCases
from anymc3d.evaluate.operating_points import FIXED, OperatingPoint, choose, criterion_name, pooled_odds
from anymc3d.evaluate.predictions import PluginPredictions
from anymc3d.evaluate.weighted import Floats

DEFAULT_POINTS = ("youden",)
PLUGIN_POINT = "plugin"
"""The operating point of the ``decision`` columns: what the plugin itself decided."""

ON_EVALUATED = "@test"
"""``youden@test``: chosen on the rows that are evaluated, as the paper's Table 8 may be; optimistic, and named so."""

Points = Mapping[str, Mapping[str, OperatingPoint | str]]
"""Label -> criterion -> the point, or why there is none."""


def choose_points(
    predictions: PluginPredictions,
    targets: Floats,
    source: NDArray[np.intp],
    wanted: Sequence[str] | None,
    *,
    evaluated: NDArray[np.intp] | None = None,
    split: str = "test",
    with_evaluated: bool = False,
) -> dict[str, dict[str, OperatingPoint | str]]:
    """Choose each label's thresholds on the ``source`` rows; nothing else is looked at.

    Only a criterion that says so, ``youden@test``, is chosen on the ``evaluated`` rows, of ``split``, and bears that
    in its name; ``with_evaluated`` adds that version of every criterion.
    """
    point_names = DEFAULT_POINTS if wanted is None else wanted
    criteria = [criterion_name(text) for text in point_names if not text.endswith(ON_EVALUATED)]
    marked = [criterion_name(text.removesuffix(ON_EVALUATED)) for text in point_names if text.endswith(ON_EVALUATED)]
    if with_evaluated:
        marked = list(dict.fromkeys([*marked, *(name for name in criteria if not _is_fixed(name))]))
    if any(map(_is_fixed, marked)):
        raise CalibrationError(f"operating point {marked[0]}{ON_EVALUATED}: a fixed probability is chosen on nothing")
    criteria = _choosable(criteria, _predicted(predictions, source), by_user=wanted is not None)
    points: dict[str, dict[str, OperatingPoint | str]] = {label: {} for label in predictions.labels}
    for j, label in enumerate(predictions.labels):
        for name in criteria:
            points[label][name] = _choose_on(predictions, targets, _predicted(predictions, source), j, name, "val")
        for name in marked:
            rows = _predicted(predictions, np.arange(0) if evaluated is None else evaluated)
            points[label][f"{name} (chosen on {split})"] = _choose_on(predictions, targets, rows, j, name, split)
    return points


def _is_fixed(name: str) -> bool:
    return name.partition("=")[0] == FIXED


def _predicted(one: PluginPredictions, rows: NDArray[np.intp]) -> NDArray[np.intp]:
    return rows[np.isfinite(one.scores()[rows]).all(axis=1)] if one.labels else rows


def _choosable(criteria: Sequence[str], predicted: NDArray[np.intp], *, by_user: bool) -> list[str]:
    """Without predicted val rows only what needs no data; to ask for more is an error."""
    needs_data = [name for name in criteria if not _is_fixed(name)]
    if predicted.size or not needs_data:
        return list(criteria)
    if by_user:
        msg = f"operating point {needs_data[0]!r}: thresholds come from val rows only, and there is no prediction"
        raise CalibrationError(f"{msg} of a val row beside test rows; predict the val rows of the manifest too")
    return [name for name in criteria if _is_fixed(name)]


def _choose_on(
    predictions: PluginPredictions, targets: Floats, rows: NDArray[np.intp], column: int, name: str, split: str
) -> OperatingPoint | str:
    known = rows[~np.isnan(targets[rows, column])]
    if _is_fixed(name):
        return choose(name, targets[known, column], _bounded(_log_odds(predictions.probabilities[known, column])))
    num_positive = int(targets[known, column].sum())
    if num_positive in (0, known.size):
        return f"no threshold: the {split} rows have {num_positive} positive of {known.size} cases"
    several = predictions.settings is not None and not predictions.settings.one_of_classes
    odds = pooled_odds(targets[rows]) if several else None
    return choose(
        name, targets[known, column], _bounded(predictions.scores()[known, column]), source_split=split, odds=odds
    )


def _bounded(values: Floats) -> Floats:
    return np.clip(values, -1e300, 1e300)


def _log_odds(probabilities: Floats) -> Floats:
    with np.errstate(divide="ignore"):
        return np.log(probabilities / (1 - probabilities))


def label_cases(
    predictions: PluginPredictions, targets: Floats, members: NDArray[np.intp], points: Points
) -> list[LabelCases]:
    scores = predictions.scores()
    labels = []
    for j, label in enumerate(predictions.labels):
        rows = np.flatnonzero(~np.isnan(targets[members, j]) & ~np.isnan(scores[members, j]))
        cases = members[rows]
        decisions: dict[str, Floats | str] = {PLUGIN_POINT: predictions.decisions[cases, j]}
        for name, point in points[label].items():
            if isinstance(point, str):
                decisions[name] = point
            else:
                values = _log_odds(predictions.probabilities[cases, j]) if _is_fixed(name) else scores[cases, j]
                decisions[name] = point.decide(values).astype(np.float64)
        labels.append(
            LabelCases(label, rows, targets[cases, j], scores[cases, j], predictions.probabilities[cases, j], decisions)
        )
    return labels
