"""What the reader of a study must know of it: missing predictions, one outcome only, rows that flatter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from anymc3d.evaluate.predictions import PluginPredictions, shown_few
from anymc3d.evaluate.regression.study import NumberPredictions
from anymc3d.evaluate.study_points import Points
from anymc3d.evaluate.study_rows import ALL, failures
from anymc3d.evaluate.weighted import Floats

_SEEN = {"train": "which the weights were fitted on", "val": "which the epoch was chosen on"}
"""Splits of which results flatter, and why."""


def one_outcome(predictions: PluginPredictions, targets: Floats, split: str) -> list[str]:
    """A line for every label of which the evaluated rows, (n, L), have no positive, no negative, or no value."""
    lines = []
    rows = "rows" if split == ALL else f"{split} rows"
    for label, column in zip(predictions.labels, targets.T, strict=True):
        known = column[~np.isnan(column)]
        if not known.size:
            lines.append(f"{label}: no label in any of the {rows}: all its results are undefined")
        elif known.min() == known.max():
            counts = f"{int(known.sum())} positive of {known.size}"
            lines.append(f"{label}: the {rows} have one outcome only ({counts}): AUROC and others are undefined")
    return lines


def plugin_warnings(
    predictions: PluginPredictions, split: str, evaluated: NDArray[np.intp], source: NDArray[np.intp], points: Points
) -> list[str]:
    """Lines on cases without a prediction, on rows that flatter, and on operating points that could not be chosen."""
    name = _name(predictions.plugin)
    lines = []
    for what, members in ((split, evaluated), ("val", source)):
        num_absent = failures(predictions, members)[1]
        if what == "val" and num_absent == members.size:
            if num_absent:
                lines.append(f"{name}no prediction of a val row: only the plugin's own decisions are evaluated")
        else:
            lines += _missing(predictions, members, what)
    lines += _flattering(split)
    unchosen = [f"{label}: {point}" for label, of in points.items() for point in of.values() if isinstance(point, str)]
    return lines + ([f"{name}{shown_few(list(dict.fromkeys(unchosen)))}"] if unchosen else [])


def number_warnings(predicted: Sequence[NumberPredictions], split: str, evaluated: NDArray[np.intp]) -> list[str]:
    """Lines on cases without a number, and on rows that flatter."""
    return [line for one in predicted for line in _missing(one, evaluated, split)] + _flattering(split)


def _missing(predictions: PluginPredictions | NumberPredictions, members: NDArray[np.intp], split: str) -> list[str]:
    """How many of the cases have no prediction, one line; nothing where all have one."""
    num_error, num_absent = failures(predictions, members)
    if not num_error + num_absent:
        return []
    which = "" if split == ALL else f"{split} "
    count = f"{num_error + num_absent} of {members.size} {which}cases have no prediction and are not in the results"
    return [f"{_name(predictions.plugin)}{count} ({num_error} failed, {num_absent} not in the table)"]


def _flattering(split: str) -> list[str]:
    if split not in _SEEN:
        return []
    return [f"the manifest has no test rows: the results are of its {split} rows, {_SEEN[split]}"]


def _name(plugin: str) -> str:
    return f"plugin {plugin!r}: " if plugin else ""
