"""Reading plain arrays: ``.npy`` files, and single volumes of MedMNIST ``.npz`` files. Pickle is never read.

An array has no geometry: its axes are taken as right, anterior, superior, its spacing from the manifest.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import zipfile
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tokenize import TokenError
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from anymc3d.data.formats.nifti_header import PLAUSIBLE_SPACING_MM, VOXEL_CEILING
from anymc3d.data.formats.raw_voxels import is_colour_picture, to_float32
from anymc3d.data.formats.scan_file import open_regular
from anymc3d.data.volume import Millimetres, ScanHeader, Volume
from anymc3d.errors import FormatError, ScanError

_NO_PICTURES = "a real stack of so few slices is read from a NIfTI file, which says what its axes are"
_SPLIT_BYTES_CEILING = 1 << 30
"""Of one decoded MedMNIST split; the largest published one (64 voxels a side) has a third of it."""
_MAX_NPY_HEADER = 10_000
_NPY_HEADER_READERS = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}
"""By format version; version 3 is only for names of structured arrays, which are not read."""
_NPZ_REFERENCE = re.compile(r"(?P<path>.+\.npz)#(?P<split>train|val|test)/(?P<index>\d{1,9})", re.DOTALL)


@dataclass(frozen=True)
class NpzReference:
    """One volume of a MedMNIST file, written ``path.npz#train/12``."""

    path: Path
    split: str
    index: int


def parse_npz_reference(reference: str | Path) -> NpzReference:
    """Split ``path.npz#train/12`` into its parts.

    Raises:
        ScanError: the reference has another form.
    """
    match = _NPZ_REFERENCE.fullmatch(str(reference))
    if match is None:
        what = "expected a volume of the file written as path.npz#train/12 (train, val or test, counted from 0)"
        raise FormatError.of(reference, what)
    return NpzReference(Path(match["path"]), match["split"], int(match["index"]))


def read_npy(path: Path, spacing: Millimetres | None) -> Volume:
    """Read a 3D array; ``spacing`` in millimetres along its axes is required.

    Raises:
        ScanError: the file is damaged, is not one 3D numeric array, or ``spacing`` is missing.
    """
    affine = _affine(path, spacing)
    with open_regular(path) as file:
        shape, fortran, dtype = _checked_npy(file, path)
        raw = np.frombuffer(file.read(), dtype=dtype).reshape(shape, order="F" if fortran else "C")
    voxels, warnings = to_float32(raw, path)
    return Volume(voxels=voxels, affine=affine, warnings=warnings)


def read_npy_header(path: Path, spacing: Millimetres | None) -> ScanHeader:
    """Shape and type of a ``.npy`` file, without its voxels."""
    affine = _affine(path, spacing)
    with open_regular(path) as file:
        shape, _, dtype = _checked_npy(file, path)
    return ScanHeader(shape, affine, dtype.newbyteorder("=").name)


def read_npz(reference: str | Path, spacing: Millimetres | None = None) -> Volume:
    """Read one volume of a MedMNIST file; without ``spacing`` its voxels count as 1 mm.

    Raises:
        ScanError: the file is damaged or ambiguous, or has no such split or volume.
    """
    voxels, warnings = to_float32(_npz_volume(reference), reference)
    return Volume(voxels=voxels, affine=_affine(reference, spacing or (1.0, 1.0, 1.0)), warnings=warnings)


def read_npz_header(reference: str | Path, spacing: Millimetres | None = None) -> ScanHeader:
    """Shape and type of one volume of a MedMNIST file."""
    raw = _npz_volume(reference)
    x, y, z = raw.shape
    return ScanHeader((x, y, z), _affine(reference, spacing or (1.0, 1.0, 1.0)), raw.dtype.name)


def npz_content_hash(reference: str | Path) -> str:
    """Sha256 (hex) of one volume's type, shape and bytes."""
    raw = _npz_volume(reference)
    digest = hashlib.sha256(f"{raw.dtype.str} {raw.shape}\n".encode())
    digest.update(np.ascontiguousarray(raw).tobytes())
    return digest.hexdigest()


def _affine(reference: str | Path, spacing: Millimetres | None) -> NDArray[np.float64]:
    low, high = PLAUSIBLE_SPACING_MM
    if spacing is None:
        what = "an array has no spacing of its own: give it in the manifest's column 'spacing', such as '0.8 0.8 2.5'"
        raise FormatError.of(reference, what)
    if len(spacing) != 3 or not all(low <= step <= high for step in spacing):
        raise FormatError.of(reference, f"spacing: expected three numbers from {low:g} to {high:g} mm, got {spacing}")
    return np.diag([*(float(step) for step in spacing), 1.0])


def _checked_npy(file: BinaryIO, path: Path) -> tuple[tuple[int, int, int], bool, np.dtype[Any]]:
    """Header of an open ``.npy`` file, which fits the file's size; the file stands at the first number after it."""
    shape, fortran, dtype = _npy_header(file, path)
    if len(shape) != 3:
        raise FormatError.of(
            path, f"expected an array of three axes (x, y, z), got shape {shape}; save one volume a file"
        )
    if is_colour_picture(shape, dtype):
        raise FormatError.of(path, f"expected a scan (x, y, z), got shape {shape}: a colour picture; {_NO_PICTURES}")
    expected = math.prod(shape) * dtype.itemsize
    num_bytes = os.fstat(file.fileno()).st_size - file.tell()
    if expected != num_bytes:
        what = f"the header promises {shape} {dtype} = {expected} bytes, the file holds {num_bytes}: damaged"
        raise FormatError.of(path, f"{what}; save it again")
    return (shape[0], shape[1], shape[2]), fortran, dtype


def _npy_header(file: BinaryIO, reference: str | Path) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    try:
        header_reader = _NPY_HEADER_READERS[npy_format.read_magic(file)]
        shape, fortran, dtype = header_reader(file, max_header_size=_MAX_NPY_HEADER)
    except (ValueError, KeyError, OverflowError, MemoryError, RecursionError, TokenError) as error:
        what = f"its beginning is not that of a NumPy array file ({type(error).__name__}): damaged"
        raise FormatError.of(reference, f"{what}; save it again with numpy.save") from error
    if dtype.kind not in "iufb" or dtype.itemsize > 8:
        kind = dtype.name if dtype.names is None else "a structured type"  # whose names of fields may say anything
        raise FormatError.of(reference, f"expected integers or floats, got {kind}; save a numeric array (no objects)")
    if min(shape, default=1) < 1 or math.prod(shape) > VOXEL_CEILING:
        what = f"the header claims shape {shape}, expected sizes of at least 1 and at most {VOXEL_CEILING} numbers"
        raise FormatError.of(reference, what)
    return shape, fortran, dtype


def _npz_volume(reference: str | Path) -> NDArray[Any]:
    parsed = parse_npz_reference(reference)
    with open_regular(parsed.path) as file:
        state = os.fstat(file.fileno())
    volumes = _npz_split(parsed.path, parsed.split, (state.st_ino, state.st_size, state.st_mtime_ns))
    if parsed.index >= len(volumes):
        raise FormatError.of(reference, f"the split has {len(volumes)} volumes, counted from 0; there is no such index")
    return volumes[parsed.index]


@lru_cache(maxsize=2)
def _npz_split(path: Path, split: str, file_state: tuple[int, int, int]) -> NDArray[Any]:
    """All volumes (N, X, Y, Z) of one split, decoded once; ``file_state`` makes a changed file another entry."""
    with open_regular(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                return _read_member(archive, f"{split}_images.npy", path)
        except ScanError:
            raise
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
            what = f"expected an intact .npz file ({type(error).__name__}); get it again from its source"
            raise FormatError.of(path, what) from error


def _read_member(archive: zipfile.ZipFile, name: str, path: Path) -> NDArray[Any]:
    names = archive.namelist()
    keys = ", ".join(sorted(entry.removesuffix(".npy") for entry in names)) or "none"
    if len(set(names)) < len(names):
        raise FormatError.of(path, f"a key appears twice in the file (keys: {keys}); save it again with one of each")
    if name not in names:
        raise FormatError.of(path, f"expected the MedMNIST key '{name.removesuffix('.npy')}', found: {keys}")
    num_bytes = archive.getinfo(name).file_size
    with archive.open(name) as member:
        shape, fortran, dtype = _npy_header(member, path)  # type: ignore[arg-type]
        expected = math.prod(shape) * dtype.itemsize
        if len(shape) == 4 and is_colour_picture(shape[1:], dtype):
            raise FormatError.of(
                path, f"{name}: expected (N, X, Y, Z), got {shape}: colour pictures; 2D sets are not scans"
            )
        if len(shape) != 4 or expected != num_bytes - member.tell() or expected > _SPLIT_BYTES_CEILING:
            what = f"{name}: expected (N, X, Y, Z) of at most {_SPLIT_BYTES_CEILING} bytes and as many in the file"
            raise FormatError.of(path, f"{what}, got shape {shape} {dtype} = {expected} bytes, of {num_bytes} held")
        # One byte more than expected: only a read that reaches the end checks the CRC.
        content = member.read(expected + 1)
    if len(content) != expected:
        raise FormatError.of(path, f"{name}: expected {expected} bytes, got {len(content)}; get the file again")
    return np.frombuffer(content, dtype=dtype).reshape(shape, order="F" if fortran else "C")
