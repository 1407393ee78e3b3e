"""Splits and folds for a manifest that has none: by patient, stratified on labels, or one site left out at a time.

What a manifest already says is honoured: its test rows stay test rows and are in no fold, and a fold column is never
dealt anew. A patient in two parts is an error.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anymc3d.data.case import Case, is_metadata
from anymc3d.data.labels import MAX_CLASSES, is_measurement
from anymc3d.data.labels import strata as fifths
from anymc3d.data.manifest import Manifest, label_column_problems, write_manifest
from anymc3d.data.outcome_counts import lacking_text
from anymc3d.data.patients import patients_of
from anymc3d.data.splits import check_no_leak, make_folds, make_splits
from anymc3d.errors import ManifestError, UsageError
from anymc3d.settings.config import LabelSettings


@dataclass(frozen=True)
class NewColumn:
    """A split or fold for every case of a manifest, and what a person should know of it."""

    name: str
    values: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def split_column(
    manifest: Manifest, labels: Sequence[str], *, fractions: tuple[float, float, float], seed: int, keep_test: bool
) -> NewColumn:
    """Deal the patients out to train, val and test; with ``keep_test`` the given test rows stay, and the rest is dealt.

    Raises:
        UsageError: the manifest has splits and ``keep_test`` is off, or the fractions are none.
        ManifestError: a label column cannot be stratified on, or a given split has a leak.
    """
    _check_fractions(fractions)
    cases = manifest.cases
    is_test = [keep_test and case.split == "test" for case in cases]
    if any(case.split for case in cases) and not keep_test:
        raise UsageError(
            "the manifest has a split column: use it as it is, take it out, or keep its test rows with --keep-test"
        )
    if keep_test and not any(is_test):
        raise UsageError("--keep-test: the manifest has no test rows")
    if keep_test and fractions[2]:
        raise UsageError("--keep-test: the test part is given, so the third fraction must be 0, such as 0.9,0.1,0")
    pool = [case for case, is_held in zip(cases, is_test, strict=True) if not is_held]
    dealt = iter(make_splits(patients_of(pool), strata(manifest, pool, labels), fractions=fractions, seed=seed))
    values = tuple("test" if is_held else next(dealt) for is_held in is_test)
    check_no_leak(patients_of(cases), values)
    return NewColumn("split", values, tuple(_poor_parts(cases, values, labels)))


def fold_column(manifest: Manifest, labels: Sequence[str], *, folds: int, seed: int) -> NewColumn:
    """Deal the patients outside the test split out to ``folds`` folds, named 0, 1, …; test rows are in none.

    Raises:
        UsageError: the manifest has a fold column, or there are fewer patients than folds.
        ManifestError: a label column cannot be stratified on.
    """
    pool = _pool_without_folds(manifest)
    numbers = make_folds(patients_of(pool), strata(manifest, pool, labels), folds=folds, seed=seed)
    names = [str(number) for number in numbers]
    return _folds(manifest, pool, names, _poor_parts(pool, [f"fold {name}" for name in names], labels))


def site_column(manifest: Manifest, labels: Sequence[str], *, column: str) -> NewColumn:
    """One fold per value of ``column``: each site is predicted by a model that saw only the others.

    Raises:
        UsageError: the manifest has a fold column.
        ManifestError: the column is absent, has empty cells or one value, or a patient is of two sites.
    """
    pool = _pool_without_folds(manifest)
    problems = label_column_problems(manifest.columns, [column])
    if not problems:
        problems = [
            f"row {case.row}: {column} is empty: of which site is this case?" for case in pool if not case.cells[column]
        ]
    if problems:
        raise ManifestError(str(manifest.path), problems)
    sites = [case.cells[column] for case in pool]
    if len(set(sites)) < 2:
        raise ManifestError(str(manifest.path), [f"column {column!r} has one value {sites[0]!r}; nothing to leave out"])
    check_no_leak(patients_of(pool), sites)
    return _folds(manifest, pool, sites, _poor_sites(pool, sites, labels))


def write_with_column(manifest: Manifest, column: NewColumn, out: Path) -> None:
    """Write the manifest with the column added or replaced; relative paths are right for the new place."""
    write_manifest(out, manifest, {column.name: column.values})


def strata(manifest: Manifest, cases: Sequence[Case], labels: Sequence[str]) -> NDArray[np.float64]:
    """(n, L) numbers, equal where cells are equal, NaN where they are empty; one column of ones without labels. Of more
    than twenty different numbers those are equal that lie in one fifth of the range.

    Raises:
        ManifestError: a column is absent, or looks like an identifier.
    """
    problems = label_column_problems(manifest.columns, labels)
    values = {label: sorted({case.cells.get(label, "") for case in cases} - {""}) for label in labels}
    problems += [
        f"column {label!r} has {len(kinds)} different values and cannot be stratified on; name a label of few classes"
        for label, kinds in values.items()
        if len(kinds) > MAX_CLASSES and not is_measurement(kinds)
    ]
    if problems:
        raise ManifestError(str(manifest.path), problems)
    if not labels:
        return np.ones((len(cases), 1))
    columns = []
    for label, kinds in values.items():
        kind = {value: float(index) for index, value in enumerate(kinds)}
        cells = [case.cells[label] for case in cases]
        if is_measurement(kinds):
            numbers = np.array([[float(cell) if cell else np.nan] for cell in cells])
            columns.append(fifths(numbers, LabelSettings(columns=(label,), kind="regression"))[:, 0])
        else:
            columns.append(np.array([kind.get(cell, np.nan) for cell in cells]))
    return np.stack(columns, axis=1)


def _pool_without_folds(manifest: Manifest) -> list[Case]:
    if any(case.fold for case in manifest.cases):
        raise UsageError(
            "the manifest has a fold column: use it as it is ('anymc3d train --folds N' does), or take it out"
        )
    pool = [case for case in manifest.cases if case.split != "test"]
    if not pool:
        raise UsageError("every row of the manifest is a test row: there is nothing to make folds of")
    return pool


def _folds(manifest: Manifest, pool: Sequence[Case], names: Sequence[str], warnings: Sequence[str] = ()) -> NewColumn:
    of_row = {case.row: name for case, name in zip(pool, names, strict=True)}
    return NewColumn("fold", tuple(of_row.get(case.row, "") for case in manifest.cases), tuple(warnings))


def _poor_parts(cases: Sequence[Case], parts: Sequence[str], labels: Sequence[str]) -> list[str]:
    """One line per value of a label that some part has no case of."""
    lines = []
    patients = patients_of(cases)
    for label in labels:
        values = sorted({case.cells[label] for case in cases} - {""})
        for value in [] if is_measurement(values) else values:
            has = [case.cells[label] == value for case in cases]
            holders = {patient for patient, has_value in zip(patients, has, strict=True) if has_value}
            having = {part for part, has_value in zip(parts, has, strict=True) if has_value}
            text = lacking_text(f"{label} = {value}", len(holders), parts, having)
            lines += [text] if text else []
    return lines


def _poor_sites(pool: Sequence[Case], sites: Sequence[str], labels: Sequence[str]) -> list[str]:
    """One line per site and label of which the site has only one value: no AUROC can be computed there."""
    values_of: dict[tuple[str, str], set[str]] = defaultdict(set)
    for case, site in zip(pool, sites, strict=True):
        for label in labels:
            if is_metadata(label) and case.cells.get(label):
                values_of[site, label].add(case.cells[label])
    return [
        f"site {site!r}: {label} is {next(iter(values))!r} in every case: its AUROC will be undefined"
        for (site, label), values in values_of.items()
        if len(values) == 1
    ]


def _check_fractions(fractions: tuple[float, float, float]) -> None:
    """The train part may be empty where val and test are not: a second site that fits an operating point on some."""
    is_three = len(fractions) == 3 and min(fractions) >= 0 and abs(sum(fractions) - 1) <= 1e-6
    if not is_three or (fractions[0] <= 0 and min(fractions[1:]) <= 0):
        raise UsageError(f"expected three fractions for train, val and test that add up to 1, got {fractions}")
