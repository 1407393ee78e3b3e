"""Severity tables (the paper's Table 8): one threshold for disease of any grade, read grade by grade.

A grade column says how severe each case is, its lowest grade is health. Grade 0 against 1, 0 against 2 and 0 against
all others share their negatives and the threshold, chosen once on 0 against all others, so specificity is one number
and sensitivity says how much is found of each grade. docs/metrics.md.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from anymc3d.errors import ManifestError, UsageError, did_you_mean
from anymc3d.evaluate.predictions import PluginPredictions, shown_few
from anymc3d.evaluate.targets import YES_NO
from anymc3d.evaluate.weighted import Floats
from anymc3d.settings.config import LabelSettings

MAX_GRADES = 10
_WHOLE = re.compile(r"([0-9]+)(?:\.0*)?")


@dataclass(frozen=True)
class Comparison:
    """One line of the table: the lowest grade against some others.

    ``group``: as in ``metrics.csv``, ``<column>=0 vs 1``. ``targets`` (n,): 0 for the lowest grade, 1 for ``against``,
    NaN for every other case.
    """

    group: str
    against: tuple[str, ...]
    targets: Floats


@dataclass(frozen=True)
class Severity:
    """One label of one plugin, read as diseased or not: ``one`` has this label alone; ``comparisons`` end with the
    lowest grade against all others, on which thresholds are chosen."""

    one: PluginPredictions
    comparisons: tuple[Comparison, ...]

    @property
    def any_grade(self) -> Floats:
        """Targets (n,) of disease of any grade; NaN where the grade is missing."""
        return self.comparisons[-1].targets


def severities(
    predictions: PluginPredictions, manifest: Sequence[Mapping[str, str]], wanted: Sequence[str]
) -> Iterator[Severity]:
    """Yield what ``wanted`` (``COLUMN``, or ``LABEL=COLUMN`` with several labels) asks of one plugin.

    Raises:
        UsageError: no such column or label, or a column that holds no grades.
        ManifestError: cells that are no grade, or that contradict the label.
    """
    if predictions.settings is None:
        return
    for text in wanted:
        label, _, column = text.rpartition("=")
        if manifest and column not in manifest[0]:
            raise UsageError(f"--severity: the manifest has no column {column!r}{did_you_mean(column, manifest[0])}")
        binary = _as_binary(predictions, label, column)
        graded = (
            manifest
            if predictions.settings.one_of_classes
            else [{**row, column: _whole(row[column])} for row in manifest]
        )
        grades = _grades(column, graded, predictions.settings)
        if not predictions.settings.one_of_classes:
            _check_label(binary.labels[0], column, graded, grades[0])
        yield Severity(binary, tuple(_comparisons(column, graded, grades)))


def _whole(cell: str) -> str:
    """``1`` of ``1.0``: what a column of numbers with a gap becomes in a spreadsheet program or pandas."""
    match = _WHOLE.fullmatch(cell)
    return str(int(match[1])) if match else cell


def _as_binary(predictions: PluginPredictions, label: str, column: str) -> PluginPredictions:
    """One label of the plugin, or disease of any grade where its classes are the grades."""
    settings = predictions.settings
    assert settings is not None, "a plugin whose cases all failed has no labels"
    if settings.one_of_classes:
        if column != settings.columns[0]:
            raise UsageError(
                f"--severity: the classes of a {settings.kind} plugin are its grades; expected "
                f"{settings.columns[0]}, got {column!r}"
            )
        return _any_grade(predictions, settings)
    if not label and len(settings.columns) > 1:
        raise UsageError(f"--severity: expected LABEL={column} with one of the labels {shown_few(settings.columns)}")
    label = label or settings.columns[0]
    if label not in settings.columns:
        raise UsageError(f"--severity: no label {label!r}{did_you_mean(label, settings.columns)}")
    at = [settings.columns.index(label)]
    parts = {part: getattr(predictions, part)[:, at] for part in ("logits", "probabilities", "decisions")}
    return replace(predictions, settings=LabelSettings(columns=(label,), kind="binary", classes=YES_NO), **parts)


def _any_grade(predictions: PluginPredictions, settings: LabelSettings) -> PluginPredictions:
    """The log-odds, probability and decision of not being in the first class."""
    binary = LabelSettings(columns=settings.columns, kind="binary", classes=YES_NO)
    return replace(
        predictions,
        settings=binary,
        logits=-predictions.scores()[:, :1],
        probabilities=np.clip(1 - predictions.probabilities[:, :1], 0, 1),
        decisions=1 - predictions.decisions[:, :1],
    )


def _grades(column: str, manifest: Sequence[Mapping[str, str]], settings: LabelSettings) -> list[str]:
    """The grades there are, from the lowest up: the classes of the task, or whole numbers."""
    cells = {row[column] for row in manifest} - {""}
    if settings.one_of_classes:
        grades = [name for name in settings.classes if name in cells]
        lowest = settings.classes[0]
    else:
        bad = [row for row in manifest if row[column] and not row[column].isdecimal()]
        problems = [f"case {row['case']!r}: {column} is {row[column]!r}, expected a grade: 0, 1, 2 …" for row in bad]
        if problems:
            raise ManifestError("--severity", problems)
        grades, lowest = sorted(cells, key=int), "0"
    if len(grades) < 3 or len(grades) > MAX_GRADES or grades[0] != lowest:
        raise UsageError(
            f"--severity: expected {column} to hold {lowest} and 2 to {MAX_GRADES - 1} higher grades, "
            f"got {shown_few(grades) or 'nothing'}"
        )
    return grades


def _check_label(label: str, column: str, manifest: Sequence[Mapping[str, str]], lowest: str) -> None:
    """Where a case has both, label and grade must say the same, or the tables would be of another question."""
    problems = [
        f"case {row['case']!r}: {label} is {row[label]} and {column} is {row[column]}"
        for row in manifest
        if label in row and _contradict(row[label], row[column], lowest)
    ]
    if problems:
        raise ManifestError("--severity: label and grade contradict each other", problems)


def _contradict(label: str, grade: str, lowest: str) -> bool:
    if not label or not grade:
        return False
    try:
        value = float(label)
    except ValueError:
        return False
    return math.isfinite(value) and (value > 0) != (grade != lowest)


def _comparisons(column: str, manifest: Sequence[Mapping[str, str]], grades: Sequence[str]) -> Iterator[Comparison]:
    cells = np.array([row[column] for row in manifest], dtype=object)
    lowest, others = grades[0], tuple(grades[1:])
    for against in (*((grade,) for grade in others), others):
        yield Comparison(
            f"{column}={lowest} vs {'+'.join(against)}", against, _targets(cells, lowest, frozenset(against))
        )


def _targets(cells: NDArray[np.object_], lowest: str, against: frozenset[str]) -> Floats:
    return np.array([0.0 if cell == lowest else 1.0 if cell in against else np.nan for cell in cells])
