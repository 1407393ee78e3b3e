"""The rows of a manifest in the making, what the options of an adapter are, and how the CSV is written."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from anymc3d.adapters.findings import Findings
from anymc3d.data.case import PER_VIEW, RESERVED, Case, is_family, is_metadata
from anymc3d.data.labels import MAX_NUMERIC_CLASSES
from anymc3d.data.manifest import inspect_manifest
from anymc3d.data.patients import names_patient, patients_of
from anymc3d.data.splits import check_no_leak
from anymc3d.errors import ManifestError
from anymc3d.files import atomic
from anymc3d.files.tables import write_table

Row = dict[str, str]
"""Manifest column to cell; scans and masks are absolute paths until they are written."""


def no_progress(_count: int) -> None:
    """For callers that show no bar."""


@dataclass(frozen=True, kw_only=True)
class AdaptOptions:
    """Every option of every adapter; an adapter's entry names those it uses."""

    partial: bool = False
    """Scans that a table names and that are not here are left out with a warning instead of being errors."""
    labels: Path | None = None
    """A CSV with label columns, for layouts that have none of their own."""
    id: str | None = None
    """The column of that CSV which names the scan."""
    series: str | None = None
    """Which DICOM series are taken, as ``predict --series``."""
    patient: str | None = None
    """Regular expression on a scan's name; its first group (or the whole match) is the patient."""
    match: str | None = None
    """Regular expression; scans whose path it does not find are left out."""
    suffixes: tuple[str, ...] = ("T1w",)
    """BIDS suffixes, one view each."""
    release: str = "auto"
    """CT-RATE: which release the voxels are of: auto, first or v2."""
    convert: Path | None = None
    """CT-RATE: the folder for corrected copies of first-release volumes."""
    num_checked: int = 8
    """How many volumes are opened to see what their voxels are."""
    num_validation: int | None = None
    """CT-RATE: volumes of the official training part that become validation (None: 2,000, or a tenth of few)."""
    seed: int = 0
    progress: Callable[[int], object] = no_progress


@dataclass
class Adapted:
    """What an adapter makes of a folder: rows, what the columns are, and what it found."""

    rows: list[Row] = field(default_factory=list)
    labels: tuple[str, ...] = ()
    """The columns that are labels, in the order in which a person would look at them."""
    findings: Findings = field(default_factory=Findings)

    @property
    def columns(self) -> tuple[str, ...]:
        """Reserved columns first, then labels, then the rest in the order of their first appearance."""
        seen = list(dict.fromkeys(column for row in self.rows for column in row))
        first = [c for c in seen if not is_metadata(c)]
        order = {name: place for place, name in enumerate((*RESERVED[:2], "image", "series", "mask", "split", "fold"))}
        first.sort(key=lambda column: order.get(column.partition(".")[0], len(order)))
        labels = [c for c in self.labels if c in seen]
        return (*first, *labels, *(c for c in seen if c not in first and c not in labels))


def write_adapted(adapted: Adapted, out: Path, what: str) -> None:
    """Check the rows as any manifest is checked, then write them; paths are relative to the CSV.

    Raises:
        ManifestError: the adapter met errors, or the rows are no right manifest; nothing is written then.
    """
    if adapted.findings.has_errors:
        raise ManifestError(what, adapted.findings.problems())
    if not adapted.rows:
        raise ManifestError(what, ["no case is left to write"])
    base = out.absolute().parent.resolve()
    not_utf8 = [f"row {number}: {cell!r} is not text in UTF-8; rename it" for number, cell in _not_utf8(adapted.rows)]
    if not_utf8:
        raise ManifestError(what, not_utf8)
    rows = [_relative(row, base) for row in adapted.rows]
    with atomic.replacing(out.absolute()) as temporary:
        write_table(temporary, adapted.columns, rows)
        manifest, problems = inspect_manifest(temporary, labels=adapted.labels)
        problems += _fold_leaks([case for case in manifest.cases if case.fold])
        if problems:
            raise ManifestError(what, problems)


def counts(rows: Sequence[Mapping[str, str]], labels: Sequence[str]) -> list[str]:
    """What was found, in numbers: cases and patients, per split, per value of each label."""
    patients = {row.get("patient") or row["case"] for row in rows}
    lines = [f"{len(rows)} cases of {len(patients)} patients"]
    for column in ("split", "fold"):
        numbers = Counter(row[column] for row in rows if row.get(column))
        if numbers:
            lines.append(f"{column}: " + ", ".join(f"{count} {name}" for name, count in sorted(numbers.items())))
    for label in labels:
        values = Counter(row.get(label, "") for row in rows)
        missing = values.pop("", 0)
        if len(values) > MAX_NUMERIC_CLASSES:
            lines.append(f"column {label}: {len(values)} different values, so no label as it is")
            continue
        values_text = ", ".join(f"{count} of {name!r}" for name, count in sorted(values.items()))
        lines.append(f"label {label}: {values_text}" + (f", {missing} missing" if missing else ""))
    return lines


def free_column(name: str) -> str:
    """``name``, or ``name_`` where the manifest keeps that name for itself."""
    taken = names_patient(name) or name.lower().partition(".")[0] in (*RESERVED, *PER_VIEW)
    return f"{name}_" if taken else name


def patient_of(pattern: str | None, text: str, default: str) -> str | None:
    """The patient in a scan's name, ``default`` without a pattern, None where the pattern is not found."""
    if pattern is None:
        return default
    match = re.search(pattern, text)
    if match is None:
        return None
    return (match.group(1) if match.re.groups else match.group(0)) or None


def _not_utf8(rows: Sequence[Row]) -> Iterator[tuple[int, str]]:
    """Cells that a table cannot hold: names of files in another encoding, halves of characters."""
    for number, row in enumerate(rows, start=2):
        for cell in row.values():
            try:
                cell.encode()
            except UnicodeEncodeError:
                yield number, cell


def _relative(row: Row, base: Path) -> Row:
    paths = {
        column: os.path.relpath(_resolved(cell), base)
        for column, cell in row.items()
        if cell and (is_family(column, "image") or is_family(column, "mask"))
    }
    return {**row, **paths}


def _resolved(reference: str) -> str:
    """The folder without links, the name as it is (it may be a link, or have ``#train/0`` behind it)."""
    folder, name = os.path.split(os.path.abspath(reference))
    inside = ".npz#" in reference
    if inside:
        path, _, member = reference.rpartition("#")
        folder, name = os.path.split(os.path.abspath(path))
        name = f"{name}#{member}"
    return os.path.join(os.path.realpath(folder), name)


def _fold_leaks(cases: Sequence[Case]) -> list[str]:
    try:
        check_no_leak(patients_of(cases), [case.fold or "" for case in cases])
    except ManifestError as error:
        return [problem.replace("splits", "folds") for problem in error.problems]
    return []
