"""What is finished, one JSON line each, so that a killed command can resume.

A line bears a checksum: one that is damaged counts as not written. What a kill left half written is cut off.
"""

from __future__ import annotations

import json
import logging
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from anymc3d.files import regular
from anymc3d.files.private import make_private, output_error

logger = logging.getLogger(__name__)

CHECK = "crc32"
"""The key of a line's checksum, over the rest of the line."""


class Journal:
    """An open journal, see :func:`opened`."""

    def __init__(self, path: Path, handle: int) -> None:
        self._path, self._handle = path, handle

    def append(self, entry: dict[str, Any]) -> None:
        """Add a line; where it cannot be written whole, nothing of it stays.

        Raises:
            OutputError: the disk is full, or the journal was removed meanwhile.
        """
        text = line(entry)
        try:
            before = os.fstat(self._handle).st_size
            if os.stat(self._path).st_ino != os.fstat(self._handle).st_ino:
                raise FileNotFoundError(2, "it is not the file that this command began to write")
            try:
                _write(self._handle, text)
            except OSError:
                os.ftruncate(self._handle, before)
                raise
        except OSError as error:
            raise output_error(self._path, error, needed=len(text)) from error


def line(entry: dict[str, Any]) -> bytes:
    """The line of an entry, with its checksum."""
    return (json.dumps(entry | {CHECK: _checksum(entry)}, allow_nan=False) + "\n").encode()


@contextmanager
def opened(path: Path) -> Iterator[Journal]:
    """Open a journal for more lines; it is made where there is none, for this user alone.

    Raises:
        OutputError: it cannot be written.
    """
    make_private(path.parent)
    try:
        handle = regular.open_in_place(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    except OSError as error:
        raise output_error(path, error) from error
    try:
        yield Journal(path, handle)
    finally:
        os.close(handle)


def read(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a journal, in their order; none where there is no journal.

    Damaged lines are left out with a warning that counts them. A last line that was not written whole is cut off.

    Raises:
        OutputError: it is not a regular file, or cannot be read.
    """
    try:
        handle = regular.open_in_place(path, os.O_RDWR)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise output_error(path, error, what="cannot be read and written") from error
    with os.fdopen(handle, "r+b") as file:
        return _whole_lines(path, file)


def _whole_lines(path: Path, file: BinaryIO) -> list[dict[str, Any]]:
    content = file.read()
    lines, damaged = content.split(b"\n"), 0
    torn = lines.pop()
    entries = []
    for text in lines:
        entry = _entry(text)
        if entry is None:
            damaged += 1
        else:
            entries.append(entry)
    if damaged:
        logger.warning("%s: %d damaged lines are left out", path, damaged)
    if torn:
        logger.warning("%s: a line that was not written whole is dropped", path)
        file.truncate(len(content) - len(torn))
    return entries


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
        return entry if isinstance(entry, dict) and entry.pop(CHECK) == _checksum(entry) else None
    except (ValueError, KeyError, RecursionError):
        return None


def _checksum(entry: dict[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(entry, sort_keys=True).encode()):08x}"


def _write(handle: int, content: bytes) -> None:
    while content:
        content = content[os.write(handle, content) :]
