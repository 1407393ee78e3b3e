"""Label cells of manifest rows -> 0, 1 or missing, one column per label of ``predictions.csv``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from anymc3d.errors import LabelsError, ManifestError, did_you_mean
from anymc3d.evaluate.weighted import Floats
from anymc3d.settings.config import LabelSettings

YES_NO = ("0", "1")
_SHOWN = 8


def settings_of(labels: Sequence[str], known: Sequence[LabelSettings] = ()) -> LabelSettings:
    """Return what the labels of a plugin mean: one of ``known`` if it has exactly these, otherwise by their form.

    ``<column>=<class>`` is multi-class, one other name is binary, several are multi-label, both with cells of 0 and 1.
    """
    for settings in known:
        if set(settings.output_names) == set(labels):
            return settings
    parts = [label.partition("=") for label in labels]
    if len(labels) > 1 and all(sign for _, sign, _ in parts) and len({column for column, _, _ in parts}) == 1:
        return LabelSettings(columns=(parts[0][0],), kind="multiclass", classes=tuple(name for _, _, name in parts))
    if len(labels) == 1:
        return LabelSettings(columns=tuple(labels), kind="binary", classes=YES_NO)
    return LabelSettings(columns=tuple(labels), kind="multilabel")


def encode_targets(rows: Sequence[Mapping[str, str]], settings: LabelSettings) -> Floats:
    """Return (n, labels) of 0, 1 and NaN (empty cell), the columns as ``settings.output_names``.

    Raises:
        UsageError: a label column is absent, no row has any label, or the cells need a task file to be understood.
        ManifestError: cells that are none of the classes.
    """
    classes = settings.classes or YES_NO
    index = {_one_spelling(name): position for position, name in enumerate(classes)}
    coded = np.full((len(rows), len(settings.columns)), np.nan)
    problems: list[str] = []
    for j, column in enumerate(settings.columns):
        if rows and column not in rows[0]:
            raise LabelsError(f"the manifest has no label column {column!r}{did_you_mean(column, rows[0])}")
        cells = [row[column] for row in rows]
        _check_understood(column, cells, index)
        for i, cell in enumerate(cells):
            if cell and _one_spelling(cell) not in index:
                problems.append(f"case {rows[i]['case']!r}: {column} is {cell!r}, expected {' or '.join(classes)}")
            elif cell:
                coded[i, j] = index[_one_spelling(cell)]
    if rows and not problems and np.isnan(coded).all():
        raise LabelsError(f"no labels: {', '.join(settings.columns)} empty in all {len(rows)} rows of the manifest")
    if problems:
        raise ManifestError("label cells", problems, most=_SHOWN)
    if not settings.one_of_classes:
        return coded
    return np.where(np.isnan(coded), np.nan, (coded == np.arange(len(classes))).astype(np.float64))


def _check_understood(column: str, cells: Sequence[str], index: Mapping[str, int]) -> None:
    """Distinguish a column of other classes (a task file is needed) from single wrong cells."""
    values = {_one_spelling(cell) for cell in cells if cell}
    if values and not values & set(index):
        named = ", ".join(repr(value) for value in sorted(values)[:4])
        msg = f"label column {column!r} holds {named}, expected {' or '.join(index)}"
        raise LabelsError(f"{msg}; give the task file (--task), which says what is positive")


def _one_spelling(cell: str) -> str:
    """``1``, ``1.0`` and ``+1`` are one value; other text is itself."""
    try:
        value = float(cell)
    except ValueError:
        return cell
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else cell
