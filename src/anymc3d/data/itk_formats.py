"""Reading MetaImage (.mha) and NRRD (.nrrd) files: the text header by SimpleITK, after the checks that it lacks.

The header is parsed here first: one 3D image of plain numbers whose size fits the file, nothing detached, nothing
skipped, nothing said twice. The voxels are decoded here, to their checksum and never beyond what the header promises;
what the geometry means is SimpleITK's to say. Sources: the MetaIO and NRRD format descriptions.
"""

from __future__ import annotations

import math
import os
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from anymc3d.data.nifti_header import PLAUSIBLE_SPACING_MM, VOXEL_CEILING, warn_of_shear
from anymc3d.data.raw_voxels import to_float32
from anymc3d.data.scan_file import BLOCK, ByteSource, GzipSource, PlainSource, fill_from, open_regular, scan_error
from anymc3d.data.volume import Affine, ScanHeader, Volume, spacing_of

_MAX_HEADER = 64 * 1024
_DEFLATE_RATIO = 1040
_LARGE = 1 << 30
_LARGE_RATIO = 200
"""As for NIfTI: no stream expands 1040-fold, and no gigabyte of real voxels shrinks 200-fold."""
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_MHA_ORIENTATION = ("TransformMatrix", "Rotation", "Orientation")
_MHA_ORIGIN = ("Offset", "Origin", "Position")
_MHA_GEOMETRY = {"ElementSpacing": 3, **dict.fromkeys(_MHA_ORIGIN, 3)} | dict.fromkeys(_MHA_ORIENTATION, 9)
"""Keyword -> how many numbers it has."""
_MHA_ORDER = ("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
_YES, _NO = ("True", "true", "1"), ("False", "false", "0")
_NRRD_GEOMETRY = {"spacings", "space origin", "space directions"}
_NRRD_ANATOMICAL = (
    "lps",
    "ras",
    "las",
    *(f"{side}-superior" for side in ("left-posterior", "right-anterior", "left-anterior")),
)
"""The spaces whose axes are the patient's; others are of a scanner or of nothing."""
_WITHOUT_BRACKETS = str.maketrans("(),", "   ")
_NUMBER = re.compile(r"[+-]?[0-9.]{1,20}")
_REFUSED_TYPES = ("MET_ASCII_CHAR", "MET_OTHER", "MET_STRING", "MET_LONG", "MET_ULONG", "block", "complex")
_MHA_TYPES = {
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
_NRRD_TYPES = {
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


@dataclass(frozen=True)
class _Layout:
    """What a text header promises; ``packing``: raw, zlib or gzip, from byte ``offset`` on."""

    shape: tuple[int, int, int]
    dtype: str
    order: str
    """Of the bytes: ``<`` or ``>``."""
    offset: int
    packing: str
    warnings: tuple[str, ...]

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


def read_mha(path: Path) -> Volume:
    """Read one 3D MetaImage with its data in the same file.

    Raises:
        ScanError: the file is damaged, is not one 3D scan, or holds NaN, infinity or a single value.
    """
    return _read(path, _mha_layout)


def read_mha_header(path: Path) -> ScanHeader:
    """Shape, geometry and type of a MetaImage, without its voxels."""
    return _read_header(path, _mha_layout)


def read_nrrd(path: Path) -> Volume:
    """Read one 3D NRRD with its data in the same file, raw or gzip.

    Raises:
        ScanError: as :func:`read_mha`.
    """
    return _read(path, _nrrd_layout)


def read_nrrd_header(path: Path) -> ScanHeader:
    """Shape, geometry and type of a NRRD, without its voxels."""
    return _read_header(path, _nrrd_layout)


_Parser = Callable[[BinaryIO, Path], _Layout]


def _read(path: Path, parse: _Parser) -> Volume:
    with open_regular(path) as file:
        layout = _checked(file, path, parse)
        affine, warnings = _geometry(path, layout)
        buffer = np.empty(layout.num_bytes, dtype=np.uint8)
        file.seek(layout.offset)
        source = _SOURCES[layout.packing](file, path)
        filled, extra = source.fill(memoryview(buffer)), source.drain(1)
    if filled < layout.num_bytes or extra:
        which = "less" if filled < layout.num_bytes else "more"
        what = f"the header promises {layout.num_bytes} bytes of voxels, the file holds {which}"
        raise scan_error(path, f"{what}: damaged; get it again")
    raw = buffer.view(np.dtype(layout.dtype).newbyteorder(layout.order)).reshape(layout.shape, order="F")
    voxels, voxel_warnings = to_float32(raw, path)
    return Volume(voxels=voxels, affine=affine, warnings=(*warnings, *voxel_warnings))


def _read_header(path: Path, parse: _Parser) -> ScanHeader:
    with open_regular(path) as file:
        layout = _checked(file, path, parse)
    affine, warnings = _geometry(path, layout)
    return ScanHeader(layout.shape, affine, layout.dtype, warnings)


def _geometry(path: Path, layout: _Layout) -> tuple[Affine, tuple[str, ...]]:
    reader = _reader(path)
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise scan_error(path, "SimpleITK cannot read its header; save the scan again, or as .nii.gz") from error
    if tuple(reader.GetSize()) != layout.shape:
        what = f"the header says {layout.shape}, SimpleITK reads {tuple(reader.GetSize())}"
        raise scan_error(path, f"{what}; save the scan again")
    affine, warnings = _affine(reader, path), list(layout.warnings)
    warn_of_shear(affine, warnings)
    return affine, tuple(warnings)


def _reader(path: Path):  # type: ignore[no-untyped-def]  # SimpleITK is imported only when such a file is read
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO("MetaImageIO" if path.name.lower().endswith(".mha") else "NrrdImageIO")
    return reader


def _affine(image, path: Path) -> Affine:  # type: ignore[no-untyped-def]
    """RAS affine of an ITK reader, whose own world is LPS."""
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.asarray(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    low, high = PLAUSIBLE_SPACING_MM
    if not np.isfinite(affine).all() or not all(low <= step <= high for step in spacing_of(affine)):
        raise scan_error(path, f"expected a spacing of {low:g} to {high:g} mm, got {list(image.GetSpacing())}")
    if abs(np.linalg.det(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0))) < 0.1:
        raise scan_error(path, "its directions are no usable geometry; repair the header")
    return _LPS_TO_RAS @ affine


def _checked(file: BinaryIO, path: Path, parse: _Parser) -> _Layout:
    """The layout, whose arithmetic fits the file."""
    layout = parse(file, path)
    held = os.fstat(file.fileno()).st_size - layout.offset
    shown = " x ".join(map(str, layout.shape))
    if min(layout.shape) < 1 or math.prod(layout.shape) > VOXEL_CEILING:
        raise scan_error(path, f"the header claims {shown} voxels, expected 1 to {VOXEL_CEILING} in all")
    promised = f"the header promises {layout.num_bytes} bytes of voxels"
    if layout.packing == "raw" and held != layout.num_bytes:
        raise scan_error(path, f"{promised}, the file holds {held}: truncated or damaged; get it again")
    if layout.packing != "raw":
        bomb = layout.num_bytes > _LARGE and layout.num_bytes > held * _LARGE_RATIO
        if bomb or layout.num_bytes > held * _DEFLATE_RATIO:
            raise scan_error(path, f"{promised}, {held} compressed bytes cannot hold them: damaged, or empty")
    return layout


class _ZlibSource:
    """The decoded bytes of a zlib stream up to its checksum; see :class:`~anymc3d.data.scan_file.ByteSource`."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self._path, self._decoder = file, path, zlib.decompressobj()

    def fill(self, target: memoryview) -> int:
        return fill_from(self._next, target)

    def drain(self, limit: int) -> int:
        """At most ``limit`` bytes more; foreign bytes behind the stream count as well."""
        more = len(self._next(limit)) + len(self._decoder.unused_data)
        return more or len(self._file.read(1))

    def _next(self, most: int) -> bytes:
        while not self._decoder.eof:
            pending = self._decoder.unconsumed_tail or self._file.read(BLOCK)
            try:
                block = self._decoder.decompress(pending, most)
            except zlib.error as error:
                what = "the compressed data are damaged; get the file again from its source"
                raise scan_error(self._path, what) from error
            if block:
                return block
            if not pending:
                raise scan_error(self._path, "the compressed data end early: the file is truncated; get it again")
        return b""


_SOURCES: dict[str, Callable[[BinaryIO, Path], ByteSource]] = {
    "raw": lambda file, _: PlainSource(file),
    "gzip": GzipSource,
    "zlib": _ZlibSource,
}


def _mha_layout(file: BinaryIO, path: Path) -> _Layout:
    fields: dict[str, str] = {}
    while "ElementDataFile" not in fields:
        name, separator, value = _line(file, path).partition("=")
        if not separator:
            raise scan_error(path, "expected a MetaImage header of 'name = value' lines; the file is damaged")
        _keep(fields, name.strip(), value.strip(), path)
    _expect(fields, "NDims", ("3",), path)
    _expect(fields, "ElementDataFile", ("LOCAL",), path)
    _expect(fields, "BinaryData", _YES, path)
    _expect(fields, "ElementNumberOfChannels", ("1",), path, default="1")
    _expect(fields, "HeaderSize", ("0",), path, default="0")
    _expect(fields, "CompressedData", (*_YES, *_NO), path, default="False")
    if "ElementSpacing" not in fields:
        raise scan_error(path, "the header gives no spacing (ElementSpacing); repair the header")
    for name, count in _MHA_GEOMETRY.items():
        if name in fields:
            _refuse_odd_numbers(name, fields[name], path, count=count)
    for synonyms in (_MHA_ORIGIN, _MHA_ORIENTATION):
        said = {tuple(float(part) for part in fields[name].split()) for name in synonyms if name in fields}
        if len(said) > 1:
            raise scan_error(path, f"{', '.join(synonyms)} mean the same and contradict each other; repair the header")
    _refuse_not_positive("ElementSpacing", fields["ElementSpacing"], path)
    for name in _MHA_ORDER:
        _expect(fields, name, (*_YES, *_NO), path, default="False")
    orders = {fields[name] in _YES for name in _MHA_ORDER if name in fields}
    if len(orders) > 1:
        raise scan_error(path, f"{' and '.join(_MHA_ORDER)} contradict each other; repair the header")
    lacking = not set(_MHA_ORIENTATION) & set(fields)
    return _Layout(
        shape=_sizes(fields.get("DimSize", ""), path),
        dtype=_dtype(fields.get("ElementType", ""), _MHA_TYPES, path),
        order=">" if orders == {True} else "<",
        offset=file.tell(),
        packing="zlib" if fields.get("CompressedData", "False") in _YES else "raw",
        warnings=("the header gives no orientation: taken as stored in LPS",) if lacking else (),
    )


def _nrrd_layout(file: BinaryIO, path: Path) -> _Layout:
    if not _line(file, path).startswith("NRRD000"):
        raise scan_error(path, "expected a NRRD file, it does not begin like one; the file is damaged")
    fields: dict[str, str] = {}
    while line := _line(file, path):
        name, separator, value = line.partition(":")
        if separator and not line.startswith("#") and not value.startswith("="):
            _keep(fields, name.strip().lower(), value.strip(), path)
    _expect(fields, "dimension", ("3",), path)
    for detached in ("data file", "datafile", "byte skip", "byteskip", "line skip", "lineskip"):
        _expect(fields, detached, ("0",), path, default="0")
    _expect(fields, "encoding", ("raw", "gzip", "gz"), path)
    for name in _NRRD_GEOMETRY & set(fields):
        _refuse_odd_numbers(name, fields[name].translate(_WITHOUT_BRACKETS), path)
    if not {"spacings", "space directions"} & set(fields):
        raise scan_error(path, "the header gives no spacing (spacings or space directions); repair the header")
    if not set(fields.get("space units", "").replace('"', " ").split()) <= {"mm", "millimeter", "millimeters"}:
        raise scan_error(path, "space units: expected millimetres, the header says otherwise; save it in millimetres")
    dtype = _dtype(fields.get("type", ""), _NRRD_TYPES, path)
    _expect(fields, "endian", ("little", "big"), path, default="little" if np.dtype(dtype).itemsize == 1 else None)
    lacking = "space directions" not in fields or fields.get("space", "").lower() not in _NRRD_ANATOMICAL
    return _Layout(
        shape=_sizes(fields.get("sizes", ""), path),
        dtype=dtype,
        order=">" if fields.get("endian") == "big" else "<",
        offset=file.tell(),
        packing="raw" if fields["encoding"] == "raw" else "gzip",
        warnings=("the header gives no orientation: taken as stored in LPS",) if lacking else (),
    )


def _keep(fields: dict[str, str], name: str, value: str, path: Path) -> None:
    if name in fields:
        raise scan_error(path, "the header says something twice, and readers take one or the other; repair the header")
    fields[name] = value


def _line(file: BinaryIO, path: Path) -> str:
    line = file.readline(_MAX_HEADER)
    if not line.endswith(b"\n") or file.tell() > _MAX_HEADER:
        raise scan_error(path, "the file ends inside its header, or has none: empty, truncated or damaged")
    return line.decode("latin-1").rstrip("\r\n")


def _expect(
    fields: Mapping[str, str], name: str, allowed: tuple[str, ...], path: Path, *, default: str | None = None
) -> None:
    value = fields.get(name, default)
    if value not in allowed:
        # The text itself stays away: it may be the name of a file, or of a patient.
        shown = "nothing" if value is None else value if _NUMBER.fullmatch(value) else "another text"
        what = f"{name}: expected {' or '.join(allowed)}, the header says {shown}"
        raise scan_error(path, f"{what}; save it as one 3D scan in one file")


def _sizes(text: str, path: Path) -> tuple[int, int, int]:
    parts = text.split()
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() and len(part) < 12 for part in parts):
        shown = text if all(_NUMBER.fullmatch(part) for part in parts) and parts else "something else"
        raise scan_error(path, f"expected three sizes, the header says {shown}; the file is damaged")
    x, y, z = (int(part) for part in parts)
    return x, y, z


def _refuse_odd_numbers(name: str, text: str, path: Path, *, count: int | None = None) -> None:
    """SimpleITK takes what is no number for 0."""
    parts = text.split()
    try:
        fine = all(math.isfinite(float(part)) for part in parts) and count in (None, len(parts))
    except ValueError:
        fine = False
    if not fine:
        raise scan_error(path, f"{name}: expected finite numbers, as the geometry needs them; repair the header")


def _refuse_not_positive(name: str, text: str, path: Path) -> None:
    if min(float(part) for part in text.split()) <= 0:
        raise scan_error(path, f"expected a spacing above 0 in {name}; repair the header")


def _dtype(text: str, types: Mapping[str, str], path: Path) -> str:
    if text not in types:
        shown = text if text in _REFUSED_TYPES else "another type"
        raise scan_error(path, f"expected integer or float voxels, the header says {shown}; save as int16")
    return types[text]
