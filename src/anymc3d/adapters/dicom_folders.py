"""A look into a folder of DICOM files without reading the series: is anything there, and of which modality."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from anymc3d.data.dicom.header import is_dicom, read_header
from anymc3d.data.dicom.places import OnDisk
from anymc3d.data.dicom.tags import foreign_errors
from anymc3d.data.formats.scan_file import open_regular
from anymc3d.errors import ScanError

_START_BYTES = 132


def has_files(folder: Path) -> bool:
    """Whether there is any file in the folder or below it."""
    return next(_files(folder), None) is not None


def is_dicom_folder(folder: Path) -> bool:
    """Whether the first file in or below the folder, in order of name, is DICOM by its name or its mark."""
    first = next(_files(folder), None)
    return first is not None and (first.suffix.lower() in (".dcm", ".ima", ".dicom") or _has_mark(first))


def modality_of(folder: Path) -> str | None:
    """The Modality of the first file of a folder in order of name, or None where that is no readable DICOM file."""
    first = next(_files(folder), None)
    if first is None:
        return None
    try:
        with foreign_errors(folder, "the first file cannot be read"):
            header = read_header(OnDisk(first), 1)
    except ScanError:
        return None
    return header.modality or None if header is not None else None


def _files(folder: Path) -> Iterator[Path]:
    """Regular files below a folder, hidden ones left out, in order of name; links to folders are not followed."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent, name) for name in sorted(names) if not name.startswith(".") and name != "DICOMDIR")


def _has_mark(path: Path) -> bool:
    try:
        with open_regular(path) as file:
            return is_dicom(file.read(_START_BYTES))
    except ScanError:
        return False
