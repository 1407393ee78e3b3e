"""Files that this program wrote: regular files only, whatever stands in their place by now.

A pipe would be waited for without end, a device could be read without end, and what is written through a link changes
a file that is none of ours.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


class NotRegularError(OSError):
    """Something that is not a regular file stands where one is expected."""


@contextmanager
def opened(path: Path, *, buffering: int = -1) -> Iterator[BinaryIO]:
    """Open a regular file for reading, without waiting for anything.

    Raises:
        NotRegularError: it is a folder, pipe, socket or device.
        OSError: it is not there or cannot be read.
    """
    # Without O_NONBLOCK, opening a pipe waits for a writer.
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a link to itself; a socket
            raise NotRegularError(errno.EINVAL, "not a regular file", str(path)) from error
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise NotRegularError(errno.EINVAL, "not a regular file", str(path))
    with os.fdopen(handle, "rb", buffering=buffering) as file:
        yield file  # type: ignore[misc]  # unbuffered it is a FileIO


def open_in_place(path: Path, flags: int) -> int:
    """The handle of a regular file that is changed where it lies, such as a lock; for this user alone where it is new.

    Raises:
        NotRegularError: it is a link, folder, pipe, socket or device.
        OSError: it cannot be opened.
    """
    try:
        handle = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
            raise NotRegularError(errno.EINVAL, "not a regular file", str(path)) from error
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise NotRegularError(errno.EINVAL, "not a regular file", str(path))
    return handle


def read_bytes(path: Path) -> bytes:
    """What a regular file holds.

    Raises:
        NotRegularError, OSError: as :func:`opened`.
    """
    with opened(path) as file:
        return file.read()


def read_text(path: Path) -> str:
    """What a regular file holds, as UTF-8.

    Raises:
        NotRegularError, OSError: as :func:`opened`. ValueError: it is not UTF-8.
    """
    return read_bytes(path).decode("utf-8")
