"""Atomic writes: a reader sees the old file or the new one, never half of either.

Temporary file in the same folder, flush, fsync, rename, fsync of the folder. Files are private to the user (0600).
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from anymc3d.files import regular
from anymc3d.files.private import make_private, output_error

_SAID_BY_SYSTEM = re.compile(r"\(os error (\d+)\)")


@contextmanager
def replacing(path: Path, *, needed: int | None = None, what: str = "cannot be written") -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it becomes ``path``, on failure it is removed.

    ``needed``: bytes that will be written, where known; ``what``: what to say where they cannot be.

    Raises:
        OutputError: the folder cannot be written or is full; the previous ``path``, if any, is untouched.
    """
    make_private(path.parent)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            _sync(temporary)
            os.replace(temporary, path)
            _sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise output_error(path, error, needed=needed, what=what) from error
    except Exception as error:
        number_in_text = _SAID_BY_SYSTEM.search(
            str(error)
        )  # safetensors has exceptions of its own, with the system's number
        if number_in_text is None:
            raise
        number = int(number_in_text.group(1))
        raise output_error(path, OSError(number, os.strerror(number)), needed=needed, what=what) from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` atomically; a file that already holds it is left as it is, its time included.

    Raises:
        OutputError: it cannot be written.
    """
    if _holds(path, content):
        return
    with replacing(path, needed=len(content)) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` atomically, as UTF-8 with the line ends it has."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically; NaN and infinity are refused, because JSON has neither.

    Raises:
        ValueError: ``value`` holds NaN or infinity.
    """
    write_text(path, json.dumps(value, indent=2, sort_keys=False, allow_nan=False) + "\n")


def is_leftover(path: Path, target: str = "*") -> bool:
    """Whether this is the temporary file of a write to ``target`` (a pattern of names) that never ended."""
    return fnmatch.fnmatchcase(path.name, f".{target}.*.part")


def clear_leftovers(folder: Path) -> None:
    """Remove what killed processes left half written in ``folder``; only for the one process that writes there."""
    for path in folder.iterdir():
        if is_leftover(path):
            path.unlink(missing_ok=True)


def _holds(path: Path, content: bytes) -> bool:
    """Whether ``path`` is a file with this content; another process may remove or replace it at any moment."""
    try:
        return path.stat().st_size == len(content) and regular.read_bytes(path) == content
    except OSError:
        return False


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
