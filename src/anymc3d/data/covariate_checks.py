"""What is wrong with a choice of covariates, found in the manifest before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from anymc3d.data.case import is_metadata
from anymc3d.data.covariate_cells import wanted_of
from anymc3d.data.covariates import CATEGORY, MAX_NUMBERS, MEASURE, column_of, fit_covariates, known, number
from anymc3d.data.labels import canonical
from anymc3d.data.manifest import Manifest
from anymc3d.data.patients import names_patient
from anymc3d.errors import CovariatesError, did_you_mean
from anymc3d.files.spelling import bare
from anymc3d.settings.config import LabelSettings

_LEAST = 8
"""Cases before a column that goes with the label without a fault is no chance."""
_LEAST_OF_EACH = 4
_CASES_A_VALUE = 3
_SAME = 0.9999
"""Correlation of a number with a target that is the same number in another unit."""


def check_covariates(
    names: Sequence[str], manifest: Manifest, targets: NDArray[np.float64], labels: LabelSettings
) -> None:
    """Check the covariates of a task against its manifest; ``targets`` (n, L) of its cases, NaN where missing. Rows of
    the test split are not looked at.

    Raises:
        UsageError: one is no column, never differs, names the patient or the label, or says what the label says.
    """
    _check_width(names, manifest)
    for name in names:
        column = column_of(name)
        if name.startswith(MEASURE):
            _check_measure(name, manifest)
            continue
        if bare(column) in {bare(label) for label in labels.columns}:
            raise CovariatesError(f"covariates: {column} is the label itself; leave it out")
        if column not in manifest.columns or not is_metadata(column):
            known_columns = [name for name in manifest.columns if is_metadata(name) and name not in labels.columns]
            raise CovariatesError(
                f"covariates: the manifest has no column {column!r}{did_you_mean(column, known_columns)}"
            )
        if names_patient(column):
            raise CovariatesError(f"covariates: {column} names the patient; leave it out")
        learned = [index for index, case in enumerate(manifest.cases) if case.split != "test"]
        cells = [known(manifest.cases[index].cells[column]) for index in learned]
        if len({canonical(cell) for cell in cells if cell}) < 2:
            raise CovariatesError(f"covariates: {column} is the same in every case, or empty; leave it out")
        if not name.startswith(CATEGORY):
            _check_one_kind(column, cells, [manifest.cases[index].row for index in learned])
        for label, target in zip(labels.columns, targets[learned].T, strict=True):
            label_cells = [known(manifest.cases[index].cells.get(label, "")) for index in learned]
            if _repeats(cells, target, label_cells, as_names=name.startswith(CATEGORY)):
                raise CovariatesError(
                    f"covariates: {column} repeats the label {label}: who knows one knows the other; leave it out"
                )


def _check_width(names: Sequence[str], manifest: Manifest) -> None:
    """What training would find at its end: too many values of a category, or too many numbers in all."""
    of_manifest = [name for name in names if not name.startswith(MEASURE) and column_of(name) in manifest.columns]
    columns = fit_covariates(of_manifest, [case.cells for case in manifest.cases if case.split != "test"])
    width = sum(column.width for column in columns) + 2 * (len(names) - len(of_manifest))
    if width > MAX_NUMBERS:
        raise CovariatesError(f"covariates: they become {width} numbers, at most {MAX_NUMBERS}; name fewer")


def _check_one_kind(column: str, cells: Sequence[str], rows: Sequence[int]) -> None:
    """Numbers and other texts in one column are a slip, or names that happen to be numbers: only its maker knows."""
    other_texts = [(cell, row) for cell, row in zip(cells, rows, strict=True) if cell and number(cell) is None]
    if other_texts and any(cell and number(cell) is not None for cell in cells):
        cell, row = other_texts[0]
        raise CovariatesError(
            f"covariates: {column} holds numbers and {cell[:40]!r} (row {row}); empty such cells, or name it "
            f"{CATEGORY}{column} if its numbers are names"
        )


def _check_measure(name: str, manifest: Manifest) -> None:
    wanted = wanted_of([name.removeprefix(MEASURE)], "other")
    absent = [column for column in wanted.columns if column not in manifest.image_columns]
    if absent:
        known = ", ".join(manifest.image_columns)
        raise CovariatesError(f"covariates: {name}: the manifest has no image column {absent[0]!r}, it has {known}")


def _repeats(cells: Sequence[str], target: NDArray[np.float64], label: Sequence[str], *, as_names: bool) -> bool:
    both = [i for i, cell in enumerate(cells) if cell and not np.isnan(target[i])]
    texts, truth = [canonical(cells[i]) for i in both], target[both]
    if len(np.unique(truth)) < 2:
        return False
    if texts == [canonical(label[i]) for i in both]:
        return True
    if len(both) < _LEAST:
        return False
    numbers = [number(cell) for cell in texts]
    if None not in numbers and not as_names:
        return _parts(np.array(numbers, dtype=np.float64), truth)
    return _tells(texts, truth)


def _parts(numbers: NDArray[np.float64], truth: NDArray[np.float64]) -> bool:
    """Whether thresholds on the numbers part the values of the label without a fault, or both are one number."""
    values, counts = np.unique(truth, return_counts=True)
    if len(values) > _LEAST:
        varies = np.ptp(numbers) > 0
        return bool(varies and abs(np.corrcoef(numbers, truth)[0, 1]) > _SAME)
    if counts.min() < _LEAST_OF_EACH:
        return False
    spans = sorted((numbers[truth == value].min(), numbers[truth == value].max()) for value in values)
    return all(before[1] < after[0] for before, after in pairwise(spans))


def _tells(texts: Sequence[str], truth: NDArray[np.float64]) -> bool:
    """Whether each of few values of a category has one value of the label alone."""
    by_value: dict[str, set[float]] = {}
    for cell, value in zip(texts, truth, strict=True):
        by_value.setdefault(cell, set()).add(float(value))
    pure = all(len(values) == 1 for values in by_value.values())
    return pure and len(texts) >= _CASES_A_VALUE * len(by_value)
