"""The manifest: the table of cases, read with every fault of it in one report.

A CSV (docs/manifest.md): reserved columns ``case``, ``patient``, ``image`` or ``image.<view>``, ``mask`` or
``mask.<view>``, ``mask_classes``, ``series.<view>``, ``center_x``/``center_y``/``center_z``, ``spacing``, ``split``,
``fold``; label columns by any name; everything else is metadata. A MedMNIST ``.npz`` stands for a whole manifest.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from anymc3d.data.case import PER_VIEW, RESERVED, Case, is_family, is_metadata
from anymc3d.data.manifest_rows import RowReader
from anymc3d.data.medmnist import inspect_npz
from anymc3d.data.patients import patient_columns, patients_in_two_splits
from anymc3d.errors import ManifestError, did_you_mean
from anymc3d.files.spelling import bare
from anymc3d.files.tables import parse_table, write_table

_LIKE_IMAGE = (
    "path paths filepath file files filename imagepath imagefile imagefilename images img scan scans scanpath scanfile"
    " volume volumepath nifti niftipath niifile ct mr mri dicom dicompath dicomfolder folder series seriespath"
)
"""Headers, without separators, under which tables name the scans."""
_SHOWN = 20
_VIEW_NAME = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Manifest:
    """The cases of one CSV or ``.npz``, in file order."""

    path: Path
    columns: tuple[str, ...]
    cases: tuple[Case, ...]

    @property
    def image_columns(self) -> tuple[str, ...]:
        """The columns that hold scans, in file order."""
        return tuple(column for column in self.columns if is_family(column, "image"))

    @property
    def has_splits(self) -> bool:
        """Whether every case says which split it is in."""
        return bool(self.cases) and all(case.split is not None for case in self.cases)


def read_manifest(path: Path | str, *, labels: Sequence[str] = (), check_scans: bool = True) -> Manifest:
    """Read a manifest; see :func:`inspect_manifest` for what is checked.

    ``check_scans=False``: a scan or mask that is not there is no fault here, but of its case when it is read.

    Raises:
        ManifestError: with every fault of the file, each with its row number.
    """
    manifest, problems = inspect_manifest(path, labels=labels, check_scans=check_scans)
    if problems:
        raise ManifestError(str(path), problems)
    return manifest


def inspect_manifest(
    path: Path | str, *, labels: Sequence[str] = (), check_scans: bool = True
) -> tuple[Manifest, list[str]]:
    """Read what can be read of a manifest and list every fault, so that a caller can add its own and report all.

    Checked: table form, column names, ids (present, unique, usable as a name), scans and masks exist, numbers of
    ``spacing`` and ``center_*``, split names, one split per patient, and that the ``labels`` columns are there.
    No scan is opened.
    """
    path = Path(path)
    if path.suffix == ".npz":
        columns, cases, problems = inspect_npz(path)
        problems += label_column_problems(columns, labels) if columns else []
        return Manifest(path.absolute(), columns, cases), problems
    table = parse_table(path)
    problems = [*table.problems, *(_column_problems(table.columns, labels) if table.columns else ())]
    reader = RowReader(base=str(path.absolute().parent), columns=table.columns, check_scans=check_scans)
    cases = tuple(reader.read(number, cells) for number, cells in table.rows)
    problems += reader.problems + reader.missing_splits()
    if table.columns and not table.rows and not table.problems:
        problems.append("no cases: the table has a header and nothing else")
    problems += _duplicate_ids(cases) + patients_in_two_splits(cases)
    return Manifest(path.absolute(), table.columns, cases), sorted(dict.fromkeys(problems), key=_row_order)


def write_manifest(
    path: Path,
    manifest: Manifest,
    extra: Mapping[str, Sequence[object]] | None = None,
    *,
    cases: Sequence[Case] | None = None,
) -> None:
    """Write ``cases`` (default: all) as a CSV whose relative paths are right for the folder it is written to.

    Args:
        path: the new CSV.
        manifest: where the columns come from.
        extra: columns to add or replace, one value per written case, for instance ``{"split": [...]}``.
        cases: the rows to write.

    Raises:
        ValueError: an extra column has another number of values than there are cases.
    """
    cases = manifest.cases if cases is None else tuple(cases)
    extra = extra or {}
    for column, values in extra.items():
        if len(values) != len(cases):
            raise ValueError(f"column {column!r}: expected {len(cases)} values, one per case, got {len(values)}")
    columns = list(dict.fromkeys(["case", "patient", *manifest.columns, *extra]))
    base = path.absolute().parent.resolve()
    rows = []
    for index, case in enumerate(cases):
        row = _row_of(case, base)
        row.update({column: values[index] for column, values in extra.items()})
        rows.append({column: row.get(column) for column in columns})
    write_table(path, columns, rows)


def _row_order(problem: str) -> tuple[int, str]:
    found = re.match(r"row (\d+)", problem)
    return (int(found.group(1)) if found else 0, problem)


def _column_problems(columns: Sequence[str], labels: Sequence[str]) -> list[str]:
    problems = []
    images = [column for column in columns if is_family(column, "image")]
    if not images:
        problems.append(f"row 1: no column 'image' (or 'image.<view>') with the scans; {_near_image(columns)}")
    if not _is_a_manifest(columns):
        # A task file may name any file as its manifest: nothing of one that is none is repeated.
        return [*problems, *(f"row 1: no label column {label!r}" for label in labels)]
    for column in columns:
        family, dot, view = column.partition(".")
        reserved = PER_VIEW if dot else (*RESERVED, *PER_VIEW)
        if family.lower() in reserved and family != family.lower():
            problems.append(f"row 1: column {column!r}: reserved columns are lower case, write {column.lower()!r}")
        elif dot and family in PER_VIEW and not _VIEW_NAME.fullmatch(view):
            problems.append(f"row 1: column {column!r}: a view's name is letters, digits, - and _ only")
    return problems + _unnamed_patients(columns) + label_column_problems(columns, labels)


def _is_a_manifest(columns: Sequence[str]) -> bool:
    """Whether one column is of a manifest, or could be if it were renamed."""
    families = {column.partition(".")[0].lower() for column in columns}
    return bool(families & {*RESERVED, *PER_VIEW}) or any(bare(column) in _LIKE_IMAGE.split() for column in columns)


def _near_image(columns: Sequence[str]) -> str:
    likely = [column for column in columns if bare(column) in _LIKE_IMAGE.split()]
    if likely:
        return f"if {likely[0]!r} names them, rename it 'image'"
    if not _is_a_manifest(columns):
        return f"none of its {len(columns)} columns is one of a manifest's (case, image …): is it one?"
    more = f" and {len(columns) - _SHOWN} more" if len(columns) > _SHOWN else ""
    return f"columns are {list(columns[:_SHOWN])}{more}"


def _unnamed_patients(columns: Sequence[str]) -> list[str]:
    """Left as metadata such a column would let one patient stand in two splits."""
    if "patient" in columns:
        return []
    return [
        f"row 1: column {column!r} seems to name the patient: rename it 'patient', so that no patient is in two splits"
        " (or add a 'patient' column)"
        for column in patient_columns(columns)
        if column.lower() != "patient"
    ]


def label_column_problems(columns: Sequence[str], labels: Sequence[str]) -> list[str]:
    """One line per label column that is absent or reserved; ``columns`` are those of the manifest."""
    usable = [column for column in columns if is_metadata(column)]
    return [
        f"row 1: no label column {label!r}{did_you_mean(label, usable)}"
        if label not in columns
        else f"row 1: column {label!r} is reserved and cannot be a label{did_you_mean(label, usable)}"
        for label in labels
        if label not in usable
    ]


def _duplicate_ids(cases: Iterable[Case]) -> list[str]:
    first_rows: dict[str, int] = {}
    problems = []
    for case in cases:
        first = first_rows.setdefault(case.id, case.row)
        if case.id and first != case.row:
            problems.append(
                f"row {case.row}: case {case.id!r} is also row {first}; give each its own id in a 'case' column"
            )
    return problems


def _row_of(case: Case, base: Path) -> dict[str, object]:
    row: dict[str, object] = {"case": case.id, "patient": case.patient, "split": case.split, "fold": case.fold}
    row.update(case.cells)
    for column, reference in (*case.images.items(), *case.masks.items()):
        row[column] = os.path.relpath(reference, base)
    if case.mask_classes:
        row["mask_classes"] = case.mask_classes
    if case.spacing is not None:
        row["spacing"] = " ".join(repr(value) for value in case.spacing)
    if case.center is not None:
        row.update(zip(("center_x", "center_y", "center_z"), case.center, strict=True))
    return row
