"""Reading MetaImage (.mha) and NRRD (.nrrd) files through SimpleITK, after the checks that it lacks.

The text header is parsed here first: one 3D image of plain numbers whose size fits the file, nothing detached,
nothing skipped; compressed data are inflated once, to their checksum and never beyond what the header promises. Only
then SimpleITK reads. Sources: the MetaIO and NRRD format descriptions.
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

from anymc3d.data.nifti_header import PLAUSIBLE_SPACING_MM, VOXEL_CEILING
from anymc3d.data.raw_voxels import to_float32
from anymc3d.data.scan_file import BLOCK, GzipSource, open_regular, scan_error
from anymc3d.data.volume import Affine, ScanHeader, Volume, spacing_of

_MAX_HEADER = 64 * 1024
_DEFLATE_RATIO = 1040
_LARGE = 1 << 30
_LARGE_RATIO = 200
"""As for NIfTI: no stream expands 1040-fold, and no gigabyte of real voxels shrinks 200-fold."""
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_MHA_GEOMETRY = {"ElementSpacing", "Offset", "Origin", "Position", "TransformMatrix", "Rotation", "Orientation"}
_NRRD_GEOMETRY = {"spacings", "space origin", "space directions"}
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
    import SimpleITK as sitk

    layout = _checked(path, parse, whole=True)
    reader = _reader(path)
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise scan_error(path, "SimpleITK cannot read it; save the scan again, or as .nii.gz") from error
    _agree(image.GetSize(), sitk.GetArrayViewFromImage(image).dtype.name, layout, path)
    affine = _affine(image, path)
    voxels, warnings = to_float32(sitk.GetArrayViewFromImage(image).T, path)
    return Volume(voxels=voxels, affine=affine, warnings=(*layout.warnings, *warnings))


def _read_header(path: Path, parse: _Parser) -> ScanHeader:
    layout = _checked(path, parse, whole=False)
    reader = _reader(path)
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise scan_error(path, "SimpleITK cannot read its header; save the scan again, or as .nii.gz") from error
    _agree(reader.GetSize(), layout.dtype, layout, path)
    return ScanHeader(layout.shape, _affine(reader, path), layout.dtype, layout.warnings)


def _reader(path: Path):  # type: ignore[no-untyped-def]  # SimpleITK is imported only when such a file is read
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO("MetaImageIO" if path.name.lower().endswith(".mha") else "NrrdImageIO")
    return reader


def _agree(size: tuple[int, ...], dtype: str, layout: _Layout, path: Path) -> None:
    if tuple(size) != layout.shape or dtype != layout.dtype:
        what = f"the header says {layout.shape} {layout.dtype}, SimpleITK reads {tuple(size)} {dtype}"
        raise scan_error(path, f"{what}; save the scan again")


def _affine(image, path: Path) -> Affine:  # type: ignore[no-untyped-def]
    """RAS affine of an ITK image or reader, whose own world is LPS."""
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.asarray(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    low, high = PLAUSIBLE_SPACING_MM
    if not np.isfinite(affine).all() or not all(low <= step <= high for step in spacing_of(affine)):
        raise scan_error(path, f"expected a spacing of {low:g} to {high:g} mm, got {list(image.GetSpacing())}")
    if abs(np.linalg.det(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0))) < 0.1:
        raise scan_error(path, "its directions are no usable geometry; repair the header")
    return _LPS_TO_RAS @ affine


def _checked(path: Path, parse: _Parser, *, whole: bool) -> _Layout:
    """The layout, whose arithmetic fits the file; ``whole``: compressed data are inflated to their checksum."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        layout = parse(file, path)
        held = size - layout.offset
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
        if whole and layout.packing != "raw":
            file.seek(layout.offset)
            inflated = _inflated_size(file, layout, path)
            if inflated != layout.num_bytes:
                raise scan_error(path, f"{promised}, its compressed data hold others: damaged; get it again")
    return layout


def _inflated_size(file: BinaryIO, layout: _Layout, path: Path) -> int:
    """How many bytes the compressed data hold, at most one block more than promised; the checksum is checked."""
    if layout.packing == "gzip":
        return GzipSource(file, path).drain(layout.num_bytes)
    decoder, count = zlib.decompressobj(), 0
    try:
        while not decoder.eof and count <= layout.num_bytes:
            pending = decoder.unconsumed_tail or file.read(BLOCK)
            block = decoder.decompress(pending, BLOCK)
            if not pending and not block:
                raise scan_error(path, "the compressed data end early: the file is truncated; get it again")
            count += len(block)
    except zlib.error as error:
        raise scan_error(path, "the compressed data are damaged; get the file again from its source") from error
    return count


def _mha_layout(file: BinaryIO, path: Path) -> _Layout:
    fields: dict[str, str] = {}
    while "ElementDataFile" not in fields:
        name, separator, value = _line(file, path).partition("=")
        if not separator:
            raise scan_error(path, "expected a MetaImage header of 'name = value' lines; the file is damaged")
        fields[name.strip()] = value.strip()
    _expect(fields, "NDims", ("3",), path)
    _expect(fields, "ElementDataFile", ("LOCAL",), path)
    _expect(fields, "BinaryData", ("True", "true", "1"), path)
    _expect(fields, "ElementNumberOfChannels", ("1",), path, default="1")
    _expect(fields, "HeaderSize", ("0",), path, default="0")
    for name in _MHA_GEOMETRY & set(fields):
        _refuse_odd_numbers(name, fields[name], path)
    packed = fields.get("CompressedData", "False") in ("True", "true", "1")
    lacking = not {"TransformMatrix", "Rotation", "Orientation"} & set(fields)
    return _Layout(
        shape=_sizes(fields.get("DimSize", ""), path),
        dtype=_dtype(fields.get("ElementType", ""), _MHA_TYPES, path),
        offset=file.tell(),
        packing="zlib" if packed else "raw",
        warnings=("the header gives no orientation: taken as stored in LPS",) if lacking else (),
    )


def _nrrd_layout(file: BinaryIO, path: Path) -> _Layout:
    if not _line(file, path).startswith("NRRD000"):
        raise scan_error(path, "expected a NRRD file, it does not begin like one; the file is damaged")
    fields: dict[str, str] = {}
    while line := _line(file, path):
        name, separator, value = line.partition(":")
        if separator and not line.startswith("#") and not value.startswith("="):
            fields[name.strip().lower()] = value.strip()
    _expect(fields, "dimension", ("3",), path)
    for detached in ("data file", "datafile", "byte skip", "byteskip", "line skip", "lineskip"):
        _expect(fields, detached, ("0",), path, default="0")
    _expect(fields, "encoding", ("raw", "gzip", "gz"), path)
    for name in _NRRD_GEOMETRY & set(fields):
        _refuse_odd_numbers(name, fields[name].translate(_WITHOUT_BRACKETS), path)
    lacking = "space directions" not in fields or "space" not in fields
    return _Layout(
        shape=_sizes(fields.get("sizes", ""), path),
        dtype=_dtype(fields.get("type", ""), _NRRD_TYPES, path),
        offset=file.tell(),
        packing="raw" if fields["encoding"] == "raw" else "gzip",
        warnings=("the header gives no orientation: taken as stored in LPS",) if lacking else (),
    )


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


def _refuse_odd_numbers(name: str, text: str, path: Path) -> None:
    """SimpleITK takes what is no number for 0."""
    try:
        fine = all(math.isfinite(float(part)) for part in text.split())
    except ValueError:
        fine = False
    if not fine:
        raise scan_error(path, f"{name}: expected finite numbers, as the geometry needs them; repair the header")


def _dtype(text: str, types: Mapping[str, str], path: Path) -> str:
    if text not in types:
        shown = text if text in _REFUSED_TYPES else "another type"
        raise scan_error(path, f"expected integer or float voxels, the header says {shown}; save as int16")
    return types[text]
