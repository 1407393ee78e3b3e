"""Reading FreeSurfer's ``.mgh``, and ``.mgz``, which is the same compressed with gzip.

Big endian throughout: 284 bytes of header, the voxels, and what the scanner said behind them, which is not used. The
affine is centred: ``c_ras`` is where the voxel ``shape / 2`` lies. Source: FreeSurfer's description of its MGH format.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anymc3d.data.formats.nifti_header import VOXEL_CEILING, is_geometry, spacing_fault, warn_of_shear
from anymc3d.data.formats.raw_voxels import to_float32
from anymc3d.data.formats.scan_file import ByteSource, open_regular
from anymc3d.data.formats.stored_voxels import check_size, size_of, source_of, take, voxel_bytes
from anymc3d.data.volume import Affine, ScanHeader, Volume
from anymc3d.errors import HeaderError

_SIZE = 284
_FIELDS = struct.Struct(">7ih15f")
"""Version, three sizes, frames, type, degrees of freedom, whether the geometry is set; spacing, directions, centre."""
_VERSION = 1
_TYPES = {0: "u1", 1: ">i4", 3: ">f4", 4: ">i2", 10: ">u2"}
_UNSET = (1.0, 1.0, 1.0, -1.0, 0.0, 0.0, 0.0, 0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0)
"""What FreeSurfer takes where the geometry is not set: coronal slices of 1 mm about the origin."""


@dataclass(frozen=True, eq=False)
class _Header:
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    affine: Affine
    warnings: tuple[str, ...]

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def read_mgh(path: Path) -> Volume:
    """Read one 3D scan.

    Raises:
        ScanError: the file is damaged, is not one 3D scan, or holds NaN, infinity or a single value.
    """
    with _opened(path) as (source, header):
        buffer, _ = voxel_bytes(source, header.num_bytes, path)
    voxels, warnings = to_float32(buffer.view(header.dtype).reshape(header.shape, order="F"), path)
    return Volume(voxels=voxels, affine=header.affine, warnings=(*header.warnings, *warnings))


def read_mgh_header(path: Path) -> ScanHeader:
    """Shape, geometry and type, without the voxels."""
    with _opened(path) as (_, header):
        return ScanHeader(header.shape, header.affine, header.dtype.newbyteorder("=").name, header.warnings)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[ByteSource, _Header]]:
    """The bytes from the first voxel on, and the header, which fits the file's size."""
    with open_regular(path) as file:
        source, compressed = source_of(file, path)
        header = _parsed(take(source, _SIZE, path), path)
        check_size(_SIZE + header.num_bytes, size_of(file), compressed, path)
        yield source, header


def _parsed(block: bytes, path: Path) -> _Header:
    version, x, y, z, frames, kind, _, is_set, *geometry = _FIELDS.unpack_from(block)
    if version != _VERSION:
        raise HeaderError.of(
            path, "expected a FreeSurfer file, it does not begin like one; get it again from its source"
        )
    shape_text = f"{x} x {y} x {z}"
    if min(x, y, z) < 1 or math.prod((x, y, z)) > VOXEL_CEILING:
        raise HeaderError.of(path, f"the header claims {shape_text} voxels, expected 1 to {VOXEL_CEILING} in all")
    if frames != 1:
        raise HeaderError.of(
            path, f"expected one 3D scan, got {frames} of {shape_text}; save the one to classify as its own file"
        )
    if kind not in _TYPES:
        raise HeaderError.of(path, f"expected integer or float voxels, got data type {kind}; save it as float32")
    affine = _affine((x, y, z), geometry if is_set > 0 else _UNSET)
    if not is_geometry(affine) or (fault := spacing_fault(affine)):
        what = fault if is_geometry(affine) else "its directions and centre are not a usable geometry"
        raise HeaderError.of(path, f"{what}; repair the header")
    warnings = (
        [] if is_set > 0 else ["the header gives no orientation: taken as FreeSurfer does, coronal slices of 1 mm"]
    )
    warn_of_shear(affine, warnings)
    return _Header((x, y, z), np.dtype(_TYPES[kind]), affine, tuple(warnings))


def _affine(shape: tuple[int, int, int], geometry: list[float] | tuple[float, ...]) -> Affine:
    """From spacing, three unit vectors and the place of the centre, RAS."""
    spacing, directions, centre = np.split(np.asarray(geometry, dtype=np.float64), [3, 12])
    affine = np.eye(4)
    with np.errstate(all="ignore"):  # what is not finite is looked for by the caller
        affine[:3, :3] = directions.reshape(3, 3).T * spacing
        affine[:3, 3] = centre - affine[:3, :3] @ (np.asarray(shape) / 2)
    return affine
