"""What a client sent, put into a folder of the store: one file, of a kind that its first bytes show.

The name that a client gives a file is never used as a path; of it only the ending is looked at.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from anymc3d.errors import UploadError, UsageError

_MAGIC: dict[str, tuple[int, bytes]] = {
    ".zip": (0, b"PK\x03\x04"),
    ".nii.gz": (0, b"\x1f\x8b"),
    ".dcm": (128, b"DICM"),
}
_NIFTI = {(344, b"n+1\x00"), (4, b"n+2\x00")}
EXPECTED = "expected one .nii.gz or .nii, one multi-frame .dcm, or a .zip of one DICOM study"
_CASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
FREE_SHARE = 0.02
"""Of the disk that must stay free."""
FULL = "the disk of this service is nearly full; remove results, or give --store another disk"
_PIECE = 16 * 1024**2


class DiskFullError(UsageError):
    """There is no room for what was sent."""

    code = "E-disk-full"


def ending_of(head: bytes) -> str:
    """The ending under which the readers know the file that begins with these bytes (400 or more are enough).

    Raises:
        UsageError: it is of no kind that is taken.
    """
    for ending, (place, magic) in _MAGIC.items():
        if head[place : place + len(magic)] == magic:
            return ending
    if any(head[place : place + len(magic)] == magic for place, magic in _NIFTI):
        return ".nii"
    raise UploadError(f"file: {EXPECTED}; this is something else")


def checked_case(text: str) -> str:
    """A case id that a client may choose.

    Raises:
        UsageError: it could be a path, or more than an id.
    """
    if _CASE.fullmatch(text) is None:
        raise UploadError("case: expected 1 to 64 of the letters A-Z a-z 0-9 . _ + -, the first a letter or digit")
    return text


def store_file(source: BinaryIO, folder: Path) -> Path:
    """Copy an upload into a new folder, named by what it is.

    Raises:
        UsageError: it is empty or of no kind that is taken.
        DiskFullError: the disk is nearly full.
    """
    head = source.read(400)
    if not head:
        raise UploadError(f"file: {EXPECTED}; it is empty")
    ending = ending_of(head)
    folder.parent.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_room(folder.parent.parent, _length(source))
    try:
        folder.mkdir(mode=0o700, parents=True)
        path = folder / f"scan{ending}"
        source.seek(0)
        with open(path, "xb", opener=_private) as file:
            while piece := source.read(_PIECE):
                check_room(folder, len(piece))
                file.write(piece)
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):
            folder.parent.rmdir()
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(FULL) from None
        raise
    return path


def check_room(folder: Path, needed: int) -> None:
    """Refuse what would fill the disk.

    Raises:
        DiskFullError: less than a share of it would stay free.
    """
    if not has_room(folder, needed):
        raise DiskFullError(FULL)


def has_room(folder: Path, needed: int) -> bool:
    """Whether :data:`FREE_SHARE` of the disk stays free."""
    disk = shutil.disk_usage(folder)
    return disk.free - needed >= FREE_SHARE * disk.total


def _length(source: BinaryIO) -> int:
    place = source.tell()
    length = source.seek(0, 2)
    source.seek(place)
    return length


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
