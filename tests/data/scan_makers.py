"""Small scans, whole and broken, for the tests of the readers."""

from __future__ import annotations

import gzip
import io
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

SHAPE = (12, 10, 8)
AFFINE = np.array([[0.9, 0, 0, -20.0], [0, 1.1, 0, 5.0], [0, 0, 2.5, 40.0], [0, 0, 0, 1.0]])

HeaderPatch = Callable[[Any], None]


def anatomy(shape: tuple[int, int, int] = SHAPE, seed: int = 0) -> np.ndarray:
    """Int16 voxels with no symmetry at all, in the range of Hounsfield units."""
    return np.random.default_rng(seed).integers(-1000, 1500, size=shape, dtype=np.int16)


def nifti_bytes(
    voxels: np.ndarray,
    affine: np.ndarray = AFFINE,
    *,
    version: int = 1,
    order: str = "<",
    patch: HeaderPatch = lambda header: None,
    codes: tuple[int, int] = (1, 1),
    offset: int | None = None,
) -> bytes:
    """A single-file NIfTI as bytes; ``codes`` are those of qform and sform, ``patch`` changes header fields last."""
    kind = {1: nibabel.Nifti1Header, 2: nibabel.Nifti2Header}[version]
    header = kind(endianness=order)
    header.set_data_shape(voxels.shape)
    header.set_data_dtype(voxels.dtype.newbyteorder(order))
    header.set_qform(affine, code=codes[0], strip_shears=True)
    header.set_sform(affine, code=codes[1])
    header.set_xyzt_units("mm")
    header["vox_offset"] = offset or len(header.binaryblock) + 4
    header["magic"] = {1: b"n+1", 2: b"n+2"}[version]
    patch(header)
    start = header.binaryblock
    room = b"\0" * ((offset or len(start) + 4) - len(start))
    return start + room + voxels.astype(voxels.dtype.newbyteorder(order)).tobytes(order="F")


def setting(**fields: Any) -> HeaderPatch:
    """A patch that sets header fields; ``dim_3=5`` sets one element of an array field."""

    def patch(header: Any) -> None:
        for name, value in fields.items():
            base, _, index = name.rpartition("_")
            if base in ("dim", "pixdim"):
                header[base][int(index)] = value
            else:
                header[name] = value

    return patch


def gz(content: bytes) -> bytes:
    """Gzip with no time stamp."""
    return gzip.compress(content, mtime=0)


def flipped(content: bytes, place: int, bit: int = 4) -> bytes:
    """``content`` with one bit changed."""
    changed = bytearray(content)
    changed[place] ^= 1 << bit
    return bytes(changed)


def write(folder: Path, name: str, content: bytes) -> Path:
    """Write a file of the test's own folder."""
    path = folder / name
    path.write_bytes(content)
    return path


def npy_bytes(array: np.ndarray, *, pickle: bool = False) -> bytes:
    """A ``.npy`` file as bytes."""
    out = io.BytesIO()
    np.save(out, array, allow_pickle=pickle)
    return out.getvalue()


def npy_with_header(text: str, payload: bytes = b"") -> bytes:
    """A version 1 ``.npy`` file whose header is ``text``."""
    body = text.encode() + b" " * ((-len(text) - 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(body).to_bytes(2, "little") + body + payload


def npz_bytes(*members: tuple[str, bytes]) -> bytes:
    """A deflated ``.npz`` with these members, in this order; a name may stand twice."""
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        warnings.simplefilter("ignore")  # the zip module warns of a name that appears twice
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content, compress_type=zipfile.ZIP_DEFLATED)
    return out.getvalue()
