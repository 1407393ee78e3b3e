"""What ``anymc3d plan`` saw and a person should look at before training, on the terminal and in the task file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from anymc3d.data.labels import encode, guesses
from anymc3d.data.outcome_counts import few_patients, few_to_choose, lacking_outcomes
from anymc3d.data.patients import patients_of
from anymc3d.data.thick_planes import mixed_planes
from anymc3d.plan.measure import DataSet, MeasuredColumn
from anymc3d.plan.rules import fitting

_SHOWN = 5


def doubts(data: DataSet, splits: Sequence[str], measured: Sequence[MeasuredColumn]) -> list[str]:
    """Guessed classes, splits without an outcome, few validation cases, odd scans and mixed planes."""
    return [
        *guesses(data.labels),
        *outcome_doubts(data, splits),
        *(line for column in measured for line in _odd_scans(data, column)),
        *(line for column in measured for line in _planes(data, column)),
    ]


def outcome_doubts(data: DataSet, splits: Sequence[str]) -> list[str]:
    """Doubts about the outcomes in the splits that training will use."""
    cases = data.manifest.cases
    targets = encode(cases, data.labels)
    patients = patients_of(cases)
    few = few_to_choose(splits, targets, data.labels)
    fewer = few_patients([case.split for case in cases], patients, targets, data.labels)
    return lacking_outcomes(splits, patients, targets, data.labels) + [text for text in (few, fewer) if text]


def _odd_scans(data: DataSet, column: MeasuredColumn) -> Iterator[str]:
    """Scans far larger than all others; they do not set the field of view."""
    extents = column.grids.extents_mm
    odd_rows = np.flatnonzero(~fitting(extents).all(axis=1))
    if not odd_rows.size:
        return
    inside = extents[fitting(extents).all(axis=1)].max(axis=0)
    lines = []
    for place in odd_rows[:_SHOWN]:
        axis = int(np.argmax(extents[place] / inside))
        name = data.manifest.cases[column.rows[place]].id
        lines.append(
            f"{name}: {extents[place][axis]:.0f} mm along {'xyz'[axis]}, the others at most {inside[axis]:.0f}"
        )
    more = f" and {odd_rows.size - _SHOWN} more" if odd_rows.size > _SHOWN else ""
    what = f"{odd_rows.size} of {len(extents)} training scans far larger ({'; '.join(lines)}{more})"
    yield f"{column.name}: {what}: look at them"


def _planes(data: DataSet, column: MeasuredColumn) -> Iterator[str]:
    names = [data.manifest.cases[row].id for row in column.rows]
    mixed = mixed_planes(column.grids.spacings, names)
    if mixed is not None:
        yield f"{column.name}: {mixed.counts} ({mixed.names}): give each plane a column (view) of its own"
