"""The header of a MetaImage (``.mha``, or ``.mhd`` beside its voxels). Source: the MetaIO format description."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from anymc3d.data.formats.scan_file import detached_file
from anymc3d.data.formats.text_header import (
    Layout,
    dtype_of,
    expect,
    keep,
    next_line,
    refuse_not_positive,
    refuse_odd_numbers,
    sizes_of,
)
from anymc3d.errors import HeaderError

_ORIENTATION = ("TransformMatrix", "Rotation", "Orientation")
_ORIGIN = ("Offset", "Origin", "Position")
_GEOMETRY = {"ElementSpacing": 3, **dict.fromkeys(_ORIGIN, 3)} | dict.fromkeys(_ORIENTATION, 9)
"""Keyword -> how many numbers it has."""
_COUNTED = {*_GEOMETRY, "DimSize", "ElementSize", "CenterOfRotation"}
"""What has as many numbers as there are dimensions, or their square."""
_ORDER = ("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
_YES, _NO = ("True", "true", "1"), ("False", "false", "0")
_TYPES = {
    "MET_CHAR": "int8",
    "MET_UCHAR": "uint8",
    "MET_SHORT": "int16",
    "MET_USHORT": "uint16",
    "MET_INT": "int32",
    "MET_UINT": "uint32",
    "MET_LONG_LONG": "int64",
    "MET_ULONG_LONG": "uint64",
    "MET_FLOAT": "float32",
    "MET_DOUBLE": "float64",
}


def mha_layout(file: BinaryIO, path: Path) -> Layout:
    """Parse the header that an open file begins with.

    Raises:
        ScanError: it is damaged, contradicts itself, or describes what is not one 3D scan of plain numbers.
    """
    fields = _read_fields(file, path)
    expect(fields, "NDims", ("3",), path)
    _refuse_late_count(list(fields), path)
    expect(fields, "BinaryData", _YES, path)
    expect(fields, "ElementNumberOfChannels", ("1",), path, default="1")
    expect(fields, "HeaderSize", ("0",), path, default="0")
    expect(fields, "CompressedData", (*_YES, *_NO), path, default="False")
    _check_geometry(fields, path)
    is_big_endian = _is_big_endian(fields, path)
    lacking = not set(_ORIENTATION) & set(fields)
    detached = _detached(fields["ElementDataFile"], path)
    return Layout(
        shape=sizes_of(fields.get("DimSize", ""), path),
        dtype=dtype_of(fields.get("ElementType", ""), _TYPES, path),
        order=">" if is_big_endian else "<",
        offset=file.tell() if detached is None else 0,
        packing="zlib" if fields.get("CompressedData", "False") in _YES else "raw",
        warnings=("the header gives no orientation: taken as stored in LPS",) if lacking else (),
        detached=detached,
    )


def _read_fields(file: BinaryIO, path: Path) -> dict[str, str]:
    """Keyword -> value, in the order of the header, whose last line is ``ElementDataFile``."""
    fields: dict[str, str] = {}
    while "ElementDataFile" not in fields:
        name, separator, value = next_line(file, path).partition("=")
        if not separator:
            raise HeaderError.of(path, "expected a MetaImage header of 'name = value' lines; the file is damaged")
        keep(fields, name.strip(), value.strip(), path)
    return fields


def _check_geometry(fields: Mapping[str, str], path: Path) -> None:
    """Refuse spacing, origin and orientation that are absent, no numbers, or said twice in two ways."""
    if "ElementSpacing" not in fields:
        raise HeaderError.of(path, "the header gives no spacing (ElementSpacing); repair the header")
    for name, count in _GEOMETRY.items():
        if name in fields:
            refuse_odd_numbers(name, fields[name], path, count=count)
    for synonyms in (_ORIGIN, _ORIENTATION):
        values = {tuple(float(part) for part in fields[name].split()) for name in synonyms if name in fields}
        if len(values) > 1:
            raise HeaderError.of(
                path, f"{', '.join(synonyms)} mean the same and contradict each other; repair the header"
            )
    refuse_not_positive("ElementSpacing", fields["ElementSpacing"], path)


def _is_big_endian(fields: Mapping[str, str], path: Path) -> bool:
    for name in _ORDER:
        expect(fields, name, (*_YES, *_NO), path, default="False")
    orders = {fields[name] in _YES for name in _ORDER if name in fields}
    if len(orders) > 1:
        raise HeaderError.of(path, f"{' and '.join(_ORDER)} contradict each other; repair the header")
    return orders == {True}


def _refuse_late_count(names: list[str], path: Path) -> None:
    """MetaIO cannot read such a header either, and would say so on the terminal in words of its own."""
    if any(name in _COUNTED for name in names[: names.index("NDims")]):
        raise HeaderError.of(path, "NDims stands behind fields that it counts the numbers of; save the scan again")


def _detached(name: str, path: Path) -> Path | None:
    """The file of the voxels; None where they follow the header."""
    if name == "LOCAL":
        return None
    if name == "LIST" or name.lower() == "local":
        raise HeaderError.of(path, "ElementDataFile: expected LOCAL or one file of voxels; save it as one .mha file")
    return detached_file(path, "ElementDataFile", name)
