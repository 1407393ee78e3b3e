"""Reading MetaImage and NRRD files: the text header by SimpleITK, after the checks that it lacks.

The header is parsed here first: one 3D image of plain numbers whose size fits the file that holds them (the same, or
one beside it), nothing skipped, nothing said twice. The voxels are decoded here, to their checksum and never beyond
what the header promises; what the geometry means is SimpleITK's to say.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from anymc3d.data.formats.metaimage import mha_layout
from anymc3d.data.formats.nifti_header import VOXEL_CEILING, is_geometry, spacing_fault, warn_of_shear
from anymc3d.data.formats.nrrd import nrrd_layout
from anymc3d.data.formats.raw_voxels import to_float32
from anymc3d.data.formats.scan_file import BLOCK, ByteSource, GzipSource, PlainSource, fill_from, open_regular
from anymc3d.data.formats.stored_voxels import check_size, size_of, voxel_bytes
from anymc3d.data.formats.text_header import Layout
from anymc3d.data.volume import Affine, ScanHeader, Volume
from anymc3d.errors import HeaderError

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_mha(path: Path) -> Volume:
    """Read one 3D MetaImage with its data in the same file, or in one beside it.

    Raises:
        ScanError: the file is damaged, is not one 3D scan, or holds NaN, infinity or a single value.
    """
    return _read(path, mha_layout, "MetaImageIO")


def read_mha_header(path: Path) -> ScanHeader:
    """Shape, geometry and type of a MetaImage, without its voxels."""
    return _read_header(path, mha_layout, "MetaImageIO")


def mha_files(path: Path) -> tuple[Path, ...]:
    """The files that a MetaImage consists of: its header, and its voxels where they lie beside it."""
    return _files(path, mha_layout)


def read_nrrd(path: Path) -> Volume:
    """Read one 3D NRRD, raw or gzip, with its data in the same file, or in one beside it.

    Raises:
        ScanError: as :func:`read_mha`.
    """
    return _read(path, nrrd_layout, "NrrdImageIO")


def read_nrrd_header(path: Path) -> ScanHeader:
    """Shape, geometry and type of a NRRD, without its voxels."""
    return _read_header(path, nrrd_layout, "NrrdImageIO")


def nrrd_files(path: Path) -> tuple[Path, ...]:
    """The files that a NRRD consists of, as :func:`mha_files`."""
    return _files(path, nrrd_layout)


_Parser = Callable[[BinaryIO, Path], Layout]


def _read(path: Path, parse: _Parser, kind: str) -> Volume:
    layout = _layout(path, parse)
    affine, warnings = _geometry(path, layout, kind)
    body = layout.detached or path
    with open_regular(body) as file:
        file.seek(layout.offset)
        buffer, _ = voxel_bytes(_SOURCES[layout.packing](file, body), layout.num_bytes, body, slack=0)
    raw = buffer.view(np.dtype(layout.dtype).newbyteorder(layout.order)).reshape(layout.shape, order="F")
    voxels, voxel_warnings = to_float32(raw, path)
    return Volume(voxels=voxels, affine=affine, warnings=(*warnings, *voxel_warnings))


def _read_header(path: Path, parse: _Parser, kind: str) -> ScanHeader:
    layout = _layout(path, parse)
    affine, warnings = _geometry(path, layout, kind)
    return ScanHeader(layout.shape, affine, layout.dtype, warnings)


def _files(path: Path, parse: _Parser) -> tuple[Path, ...]:
    detached = _layout(path, parse).detached
    return (path,) if detached is None else (path, detached)


def _layout(path: Path, parse: _Parser) -> Layout:
    with open_regular(path) as file:
        layout = parse(file, path)
        if layout.detached is None:
            _check_held(layout, file, path)
    # Before SimpleITK, which opens it for the geometry already: of a pipe it would wait for ever.
    if layout.detached is not None:
        with open_regular(layout.detached) as file:
            _check_held(layout, file, path)
    return layout


def _check_held(layout: Layout, file: BinaryIO, path: Path) -> None:
    """The header's arithmetic against the file that holds the voxels, before anything is allocated."""
    num_bytes = size_of(file) - layout.offset
    shape_text = " x ".join(map(str, layout.shape))
    if min(layout.shape) < 1 or math.prod(layout.shape) > VOXEL_CEILING:
        raise HeaderError.of(path, f"the header claims {shape_text} voxels, expected 1 to {VOXEL_CEILING} in all")
    if layout.packing == "raw" and num_bytes != layout.num_bytes:
        promised = f"the header promises {layout.num_bytes} bytes of voxels"
        raise HeaderError.of(path, f"{promised}, the file holds {num_bytes}: truncated or damaged; get it again")
    check_size(layout.num_bytes, num_bytes, layout.packing != "raw", path)


def _geometry(path: Path, layout: Layout, kind: str) -> tuple[Affine, tuple[str, ...]]:
    reader = _reader(path, kind)
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise HeaderError.of(path, "SimpleITK cannot read its header; save the scan again, or as .nii.gz") from error
    if tuple(reader.GetSize()) != layout.shape:
        what = f"the header says {layout.shape}, SimpleITK reads {tuple(reader.GetSize())}"
        raise HeaderError.of(path, f"{what}; save the scan again")
    affine, warnings = _affine(reader, path), list(layout.warnings)
    warn_of_shear(affine, warnings)
    return affine, tuple(warnings)


def _reader(path: Path, kind: str) -> Any:  # SimpleITK is imported only when such a file is read
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO(kind)
    return reader


def _affine(image: Any, path: Path) -> Affine:
    affine = affine_of(image)
    if not np.isfinite(affine).all() or (fault := spacing_fault(affine)):
        what = fault if np.isfinite(affine).all() else "its spacing, origin or directions are not finite numbers"
        raise HeaderError.of(path, f"{what}; repair the header")
    if not is_geometry(affine):
        raise HeaderError.of(path, "its directions are not a usable geometry; repair the header")
    return affine


def affine_of(image: Any) -> Affine:
    """RAS affine of an ITK reader, whose own world is LPS."""
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.asarray(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return _LPS_TO_RAS @ affine


class _ZlibSource:
    """The decoded bytes of a zlib stream up to its checksum, as a ``ByteSource`` of :mod:`.scan_file`."""

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
                raise HeaderError.of(self._path, what) from error
            if block:
                return block
            if not pending:
                raise HeaderError.of(self._path, "the compressed data end early: the file is truncated; get it again")
        return b""


_SOURCES: dict[str, Callable[[BinaryIO, Path], ByteSource]] = {
    "raw": lambda file, _: PlainSource(file),
    "gzip": GzipSource,
    "zlib": _ZlibSource,
}
