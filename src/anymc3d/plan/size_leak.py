"""Whether the size of the crops alone gives the labels away.

Scans that were cut around the organ, lesion or patient carry its size in their own. Resized to one shape they show it
as magnification, and a classifier learns that instead of what it is asked for. Padding all scans to one field of view
keeps every structure at its true size relative to the others, and no scan is larger than another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anymc3d.data.preprocess import AXES, PreparedView
from anymc3d.evaluate.delong import delong_interval
from anymc3d.evaluate.metrics import auroc
from anymc3d.settings.config import LabelSettings
from anymc3d.settings.views import ViewSettings

LEAK_AUROC = 0.6
LEAK_LOWER_BOUND = 0.55
"""The interval's lower end must be above this too, at a level corrected for the number of comparisons."""
_MIN_OF_EACH = 5


@dataclass(frozen=True)
class SizeLeak:
    """The strongest way in which scan sizes separate the labels."""

    auroc: float
    """0.5 to 1; the direction does not matter."""
    lower: float
    measure: str
    """Which size: ``x``, ``y``, ``z`` (RAS axes) or ``volume``; or the name of another measure."""
    label: str
    """A label of the task, as in predictions.csv."""


def find_size_leak(
    extents_mm: NDArray[np.float64], targets: NDArray[np.float64], labels: LabelSettings
) -> SizeLeak | None:
    """Return the strongest leak above the limits, or None.

    Args:
        extents_mm: (n, 3), millimetres along the RAS axes.
        targets: (n, L) as ``encode`` returns them; NaN is left out.
        labels: what the targets mean.
    """
    measures = {axis: extents_mm[:, index] for index, axis in enumerate("xyz")} | {"volume": extents_mm.prod(axis=1)}
    return find_leak(measures, targets, labels)


def find_leak(
    measures: Mapping[str, NDArray[np.float64]], targets: NDArray[np.float64], labels: LabelSettings
) -> SizeLeak | None:
    """The same of any measures: name -> (n,)."""
    questions = {name: outcome for name, outcome in _questions(targets, labels).items() if _is_usable(outcome)}
    level = 1 - 0.05 / max(1, len(measures) * len(questions))
    leaks = [
        leak
        for label, outcome in questions.items()
        for measure, sizes in measures.items()
        if (leak := _leak(outcome, sizes, level, measure, label)) is not None
    ]
    return max(leaks, key=lambda leak: leak.auroc, default=None)


def region_leaks(
    views: Mapping[str, ViewSettings],
    prepared: Sequence[Mapping[str, PreparedView | None]],
    targets: NDArray[np.float64],
    labels: LabelSettings,
) -> list[str]:
    """One line for each view whose region's size alone gives a label away: resized to one shape, it shows.

    A region of a fixed extent cannot, and a fixed field of view about it does not.

    Args:
        views: of the task; those without a region are left out.
        prepared: (n) of the training cases, view to its slices.
        targets: (n, L) of the same cases.
        labels: what the targets mean.
    """
    lines = []
    for name, view in views.items():
        if view.roi is None or view.roi.source == "point" or view.field_of_view is not None:
            continue
        indices = [index for index, case in enumerate(prepared) if case.get(name) is not None]
        extents = np.array([_extent_mm(prepared[index][name]) for index in indices]).reshape(-1, 3)
        leak = find_size_leak(extents, targets[indices], labels)
        if leak is not None:
            lines.append(
                f"view {name}: the size of the region alone ({leak.measure}) separates {leak.label} with AUROC "
                f"{leak.auroc:.2f}: every region is resized to one shape, so a network can learn its size; set "
                f"views.{name}.field_of_view to show all at one scale, or take masks that do not know the lesion"
            )
    return lines


def _extent_mm(view: PreparedView | None) -> NDArray[np.float64]:
    """(3,), millimetres along x, y and z of what a view shows."""
    assert view is not None
    count, _, height, width = view.slices.shape
    extent = np.empty(3)
    extent[list(AXES[view.plane])] = np.linalg.norm(view.affine[:3, :3], axis=0) * (height, width, count)
    return extent


def _questions(targets: NDArray[np.float64], labels: LabelSettings) -> Mapping[str, NDArray[np.float64]]:
    """Yes/no outcomes (0, 1, NaN): the column, one class against the rest, or each column."""
    if labels.one_of_classes:
        column = targets[:, 0]
        return {
            name: np.where(np.isnan(column), np.nan, column == index) for index, name in enumerate(labels.output_names)
        }
    return dict(zip(labels.output_names, targets.T, strict=True))


def _is_usable(outcome: NDArray[np.float64]) -> bool:
    return min((outcome == 0).sum(), (outcome == 1).sum()) >= _MIN_OF_EACH


def _leak(
    outcome: NDArray[np.float64], sizes: NDArray[np.float64], level: float, measure: str, label: str
) -> SizeLeak | None:
    known = ~np.isnan(outcome)
    outcome, sizes = outcome[known], sizes[known]
    area = auroc(outcome, sizes).value
    if area is None:
        return None
    if area < 0.5:
        area, sizes = 1 - area, -sizes
    # Perfect separation has no interval, and needs none.
    lower = 1.0 if area == 1 else delong_interval(outcome, sizes, level=level).low
    if lower is None or area <= LEAK_AUROC or lower <= LEAK_LOWER_BOUND:
        return None
    return SizeLeak(auroc=area, lower=lower, measure=measure, label=label)
