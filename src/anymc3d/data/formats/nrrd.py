"""The header of a NRRD (``.nrrd``, or ``.nhdr`` beside its voxels). Source: the NRRD format description."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np

from anymc3d.data.formats.scan_file import detached_file
from anymc3d.data.formats.text_header import Layout, dtype_of, expect, keep, next_line, refuse_odd_numbers, sizes_of
from anymc3d.errors import HeaderError

_GEOMETRY = {"spacings", "space origin", "space directions"}
_ANATOMICAL = (
    "lps",
    "ras",
    "las",
    *(f"{side}-superior" for side in ("left-posterior", "right-anterior", "left-anterior")),
)
"""The spaces whose axes are the patient's; others are of a scanner or of nothing."""
_WITHOUT_BRACKETS = str.maketrans("(),", "   ")
_DETACHED, _SKIPS = ("data file", "datafile"), ("byte skip", "byteskip", "line skip", "lineskip")
_TYPES = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), "int8"),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "uint8"),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), "int16"),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), "uint16"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "int32"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "uint32"),
    **dict.fromkeys(("longlong", "long long", "long long int", "int64", "int64_t"), "int64"),
    **dict.fromkeys(("ulonglong", "unsigned long long", "uint64", "uint64_t"), "uint64"),
    "float": "float32",
    "double": "float64",
}


def nrrd_layout(file: BinaryIO, path: Path) -> Layout:
    """Parse the header that an open file begins with.

    Raises:
        ScanError: it is damaged, contradicts itself, or describes what is not one 3D scan of plain numbers.
    """
    if not next_line(file, path).startswith("NRRD000"):
        raise HeaderError.of(path, "expected a NRRD file, it does not begin like one; the file is damaged")
    fields: dict[str, str] = {}
    while line := _header_line(file, path, fields):
        name, separator, value = line.partition(":")
        if separator and not line.startswith("#") and not value.startswith("="):
            keep(fields, name.strip().lower(), value.strip(), path)
    expect(fields, "dimension", ("3",), path)
    for skip in _SKIPS:
        expect(fields, skip, ("0",), path, default="0")
    names = [fields[name] for name in _DETACHED if name in fields]
    detached = _detached(names, path) if names else None
    expect(fields, "encoding", ("raw", "gzip", "gz"), path)
    for name in _GEOMETRY & set(fields):
        refuse_odd_numbers(name, fields[name].translate(_WITHOUT_BRACKETS), path)
    if not {"spacings", "space directions"} & set(fields):
        raise HeaderError.of(path, "the header gives no spacing (spacings or space directions); repair the header")
    if not set(fields.get("space units", "").replace('"', " ").split()) <= {"mm", "millimeter", "millimeters"}:
        raise HeaderError.of(
            path, "space units: expected millimetres, the header says otherwise; save it in millimetres"
        )
    dtype = dtype_of(fields.get("type", ""), _TYPES, path)
    expect(fields, "endian", ("little", "big"), path, default="little" if np.dtype(dtype).itemsize == 1 else None)
    lacking = "space directions" not in fields or fields.get("space", "").lower() not in _ANATOMICAL
    return Layout(
        shape=sizes_of(fields.get("sizes", ""), path),
        dtype=dtype,
        order=">" if fields.get("endian") == "big" else "<",
        offset=file.tell() if detached is None else 0,
        packing="raw" if fields["encoding"] == "raw" else "gzip",
        warnings=("the header gives no orientation: taken as stored in LPS",) if lacking else (),
        detached=detached,
    )


def _header_line(file: BinaryIO, path: Path, fields: dict[str, str]) -> str:
    """The next line; empty at the end of the header, which is the end of the file where the voxels are elsewhere."""
    if set(_DETACHED) & set(fields) and not file.peek(1):  # type: ignore[attr-defined]
        return ""
    return next_line(file, path)


def _detached(names: list[str], path: Path) -> Path:
    if len(names) > 1 or names[0].split()[:1] == ["LIST"]:
        raise HeaderError.of(path, "data file: expected one file of voxels; save it as one .nrrd file")
    return detached_file(path, "data file", names[0])
