"""From the bytes of a file to its stored voxels, for every format: no more than its header promises, and all of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from anymc3d.data.formats.scan_file import GZIP_MAGIC, ByteSource, GzipSource, PlainSource
from anymc3d.errors import DamagedScanError

SLACK = 1_000_000
"""So many bytes may follow the voxels: extensions, and what some programs append."""
_DEFLATE_RATIO = 1040
"""No deflate stream expands more than 1032-fold; a header that promises more promises what is not there."""
_LARGE = 1 << 30
_LARGE_RATIO = 200
"""A gigabyte of real voxels does not shrink 200-fold; what does is empty or made to fill the memory."""


def size_of(file: BinaryIO) -> int:
    """Bytes of an open file."""
    return os.fstat(file.fileno()).st_size


def source_of(file: BinaryIO, path: Path) -> tuple[ByteSource, bool]:
    """The decoded bytes of a file from its beginning, and whether it is compressed with gzip, whatever its name."""
    compressed = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
    file.seek(0)
    return GzipSource(file, path) if compressed else PlainSource(file), compressed


def take(source: ByteSource, count: int, path: Path) -> bytes:
    """The next ``count`` bytes, which belong to the header.

    Raises:
        ScanError: there are fewer.
    """
    block = bytearray(count)
    filled = source.fill(memoryview(block))
    if filled < count:
        raise DamagedScanError.of(
            path, "the file ends inside its header: empty or truncated; get it again from its source"
        )
    return bytes(block)


def check_size(expected: int, size: int, compressed: bool, path: Path) -> None:
    """The header's arithmetic against the file's size, before anything is allocated.

    Raises:
        ScanError: a file of ``size`` bytes cannot hold ``expected`` bytes, or holds them only if they are made up.
    """
    if expected > (size * _DEFLATE_RATIO if compressed else size):
        kind = "compressed file" if compressed else "file"
        what = f"the header promises {expected} bytes, the {kind} has {size} and cannot hold them: truncated or damaged"
        raise DamagedScanError.of(path, f"{what}; get it again from its source")
    if compressed and expected > _LARGE and expected > size * _LARGE_RATIO:
        what = f"{size} compressed bytes would become {expected}: empty or a decompression bomb"
        raise DamagedScanError.of(path, f"{what}; save it uncompressed if it is right")


def voxel_bytes(source: ByteSource, count: int, path: Path, *, slack: int = SLACK) -> tuple[NDArray[np.uint8], int]:
    """Exactly ``count`` bytes of voxels, and how many more there are up to the end, whose checksum is checked.

    Raises:
        ScanError: there are fewer, or more than ``slack`` more.
    """
    buffer = np.empty(count, dtype=np.uint8)
    filled = source.fill(memoryview(buffer))
    if filled < count:
        what = f"the header promises {count} bytes of voxels, the file holds {filled}: truncated"
        raise DamagedScanError.of(path, f"{what}; get it again from its source")
    extra = source.drain(max(slack, 1))  # of 0 bytes at most, a decoder gives all
    if extra > slack:
        what = f"the header promises {count} bytes of voxels, the file holds more" + f" than {slack} beyond" * bool(
            slack
        )
        raise DamagedScanError.of(path, f"{what}: damaged; get it again from its source")
    return buffer, extra


def extra_warning(extra: int) -> tuple[str, ...]:
    """The warning about bytes behind the voxels."""
    return (f"{extra} bytes follow the voxels that the header describes: they are ignored",) if extra else ()
