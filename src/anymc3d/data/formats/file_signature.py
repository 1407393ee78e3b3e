"""What a file is by its first bytes, where its name does not say it."""

from __future__ import annotations

import zlib
from pathlib import Path

from anymc3d.data.dicom.header import is_dicom
from anymc3d.data.formats.nifti_header import HEADER_SIZES, is_single_file
from anymc3d.data.formats.scan_file import GZIP_MAGIC, open_regular

_START = 4096
_MARKS = {
    b"NRRD000": ".nrrd",
    b"ObjectType": ".mha",
    b"\x93NUMPY": ".npy",
    b"PK\x03\x04": ".zip",
}
"""First bytes -> the ending that such a file needs."""


def kind_of(path: Path) -> str:
    """``nifti``, ``dicom``, the ending that the file should have (``.nrrd``…), or nothing where it is unknown.

    Raises:
        ScanError: it cannot be opened.
    """
    with open_regular(path) as file:
        start = file.read(_START)
    if is_dicom(start):
        return "dicom"
    if start.startswith(GZIP_MAGIC):
        try:
            start = zlib.decompressobj(31).decompress(start, max(HEADER_SIZES))
        except zlib.error:
            return ""
    if is_single_file(start):
        return "nifti"
    return next((ending for mark, ending in _MARKS.items() if start.startswith(mark)), "")
