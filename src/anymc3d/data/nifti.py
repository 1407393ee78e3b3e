"""Reading NIfTI files (.nii and .nii.gz, NIfTI-1 and -2) so that a damaged file never becomes a volume.

The usual readers accept damaged files: nibabel does not reach the gzip checksum, ITK fills what is missing with
zeros. Here the header is checked first, then exactly the bytes it promises are read, then the rest of the stream to
its checksum; no more is decoded than the header's size and 1 MB.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from anymc3d.data.nifti_header import NiftiHeader, header_size, parse_header
from anymc3d.data.raw_voxels import to_float32
from anymc3d.data.scan_file import GZIP_MAGIC, ByteSource, GzipSource, PlainSource, open_regular, scan_error
from anymc3d.data.volume import ScanHeader, Volume

_SLACK = 1_000_000
_DEFLATE_RATIO = 1040
"""No deflate stream expands more than 1032-fold; a header that promises more promises what is not there."""
_LARGE = 1 << 30
_LARGE_RATIO = 200
"""A gigabyte of real voxels does not shrink 200-fold; what does is empty or made to fill the memory."""


def read_nifti(path: Path) -> Volume:
    """Read one 3D scan; integer and float types of either byte order, slope and intercept applied.

    Raises:
        ScanError: the file is damaged, is not one 3D scan, or holds NaN, infinity or a single value.
    """
    with _opened(path) as (source, header):
        buffer = np.empty(header.num_bytes, dtype=np.uint8)
        filled = source.fill(memoryview(buffer))
        if filled < header.num_bytes:
            what = f"the header promises {header.num_bytes} bytes of voxels, the file holds {filled}: truncated"
            raise scan_error(path, f"{what}; get it again from its source")
        extra = source.drain(_SLACK)
    warnings = header.warnings
    if extra > _SLACK:
        raise scan_error(path, f"more than {_SLACK} bytes follow the {header.num_bytes} the header promises: damaged")
    if extra:
        warnings = (*warnings, f"{extra} bytes follow the voxels that the header describes: they are ignored")
    raw = buffer.view(header.dtype).reshape(header.shape, order="F")
    voxels, voxel_warnings = to_float32(raw, path, slope=header.slope, intercept=header.intercept)
    return Volume(voxels=voxels, affine=header.affine, warnings=(*warnings, *voxel_warnings))


def read_nifti_header(path: Path) -> ScanHeader:
    """Read and check the header alone; of a .nii.gz only the first bytes are decoded.

    Raises:
        ScanError: the header is damaged, or promises more than the file can hold.
    """
    with _opened(path) as (_, header):
        return ScanHeader(header.shape, header.affine, header.dtype.newbyteorder("=").name, header.warnings)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[ByteSource, NiftiHeader]]:
    """The file's bytes from its first voxel on, and its header, which fits the file's size."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        compressed = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        file.seek(0)
        source = _source(file, path, compressed)
        first = _take(source, 4, path)
        length, order = header_size(first, path)
        header = parse_header(first + _take(source, length - 4, path), order, path)
        _check_size(header, size, compressed, path)
        _take(source, header.offset - length, path)
        yield source, header


def _source(file: BinaryIO, path: Path, compressed: bool) -> ByteSource:
    return GzipSource(file, path) if compressed else PlainSource(file)


def _take(source: ByteSource, count: int, path: Path) -> bytes:
    block = bytearray(count)
    filled = source.fill(memoryview(block))
    if filled < count:
        raise scan_error(path, "the file ends inside its header: empty or truncated; get it again from its source")
    return bytes(block)


def _check_size(header: NiftiHeader, size: int, compressed: bool, path: Path) -> None:
    """The header's arithmetic against the file's size, before anything is allocated."""
    expected = header.offset + header.num_bytes
    most = size * _DEFLATE_RATIO if compressed else size
    if expected > most:
        kind = "compressed file" if compressed else "file"
        what = f"the header promises {expected} bytes, the {kind} has {size} and cannot hold them: truncated or damaged"
        raise scan_error(path, f"{what}; get it again from its source")
    if compressed and expected > _LARGE and expected > size * _LARGE_RATIO:
        what = f"{size} compressed bytes would become {expected}: empty or a decompression bomb"
        raise scan_error(path, f"{what}; save it uncompressed as .nii if it is right")
