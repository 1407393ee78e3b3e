"""Rows of ``metrics.csv``, in the columns of docs/metrics.md.

Beside the metrics proper: ``threshold`` (of an operating point, on raw scores, with the cases it was chosen on),
``failed_cases``, and for two plugins ``auroc_difference`` with ``auroc_difference_p`` and its Holm-adjusted form.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from anymc3d.evaluate.intervals import Interval
from anymc3d.evaluate.measures import Measure
from anymc3d.evaluate.metrics import Metric
from anymc3d.evaluate.study_points import Points

COLUMNS = (
    *("metric", "label", "group", "split", "plugin", "operating_point", "value"),
    *("ci_low", "ci_high", "ci_method", "n", "n_positive", "reason"),
)
ALL = "all"

Row = dict[str, object]

NO_INTERVAL = Interval(None, None, "")


class HasStates(Protocol):
    """Predictions of one plugin: ``states`` per case of the manifest, ``ok``, ``warn``, ``error`` or ``absent``."""

    @property
    def states(self) -> tuple[str, ...]:
        """Per case."""


def threshold_rows(points: Points, plugin: str, group: str = ALL) -> Iterator[Row]:
    """The chosen thresholds, as rows of the split they were chosen on."""
    for label, of_label in points.items():
        for name, point in of_label.items():
            if isinstance(point, str):
                split = "val"
                measure = Measure("threshold", name, Metric(None, point), NO_INTERVAL, 0, None)
            else:
                split = point.source_split
                value = Metric(point.threshold)
                measure = Measure("threshold", name, value, NO_INTERVAL, point.n, point.n_positive)
            yield row_of(measure, {"label": label, "group": group, "split": split, "plugin": plugin})


def failed_row(predictions: HasStates, members: NDArray[np.intp], group: str, frame: Mapping[str, str]) -> Row:
    """How many of the cases ``members`` have no prediction, of how many; a row also when there are none."""
    num_error, num_absent = failures(predictions, members)
    text = f"{num_error} with status error, {num_absent} without a row" if num_error + num_absent else ""
    measure = Measure("failed_cases", "", Metric(num_error + num_absent, text), NO_INTERVAL, members.size, None)
    return row_of(measure, {**frame, "label": "", "group": group})


def failures(predictions: HasStates, members: NDArray[np.intp]) -> tuple[int, int]:
    """Return how many of ``members`` have the status error, and how many have no row."""
    states = [predictions.states[row] for row in members]
    return states.count("error"), states.count("absent")


def row_of(measure: Measure, frame: Mapping[str, str]) -> Row:
    """One row of ``metrics.csv``; numbers to 12 digits, so that the table is the same on every machine."""
    value, interval = measure.value, measure.interval
    has_interval = interval.low is not None and value.is_defined
    return {
        "metric": measure.metric,
        "label": frame["label"],
        "group": frame["group"],
        "split": frame["split"],
        "plugin": frame["plugin"],
        "operating_point": measure.point,
        "value": _rounded(value.value),
        "ci_low": _rounded(interval.low) if has_interval else None,
        "ci_high": _rounded(interval.high) if has_interval else None,
        "ci_method": interval.method if has_interval else "",
        "n": measure.n,
        "n_positive": measure.n_positive,
        "reason": value.reason or interval.reason,
    }


def _rounded(value: float | None) -> float | int | None:
    return value if value is None or isinstance(value, int) else float(f"{value:.12g}")
