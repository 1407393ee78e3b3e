"""Folders for this user alone, and what to say where one cannot be written."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from anymc3d.errors import OutputError
from anymc3d.files.regular import NotRegularError

_ADVICE = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room, or have the quota raised",
    errno.EFBIG: "raise the limit on the size of a file (ulimit -f)",
    errno.EACCES: "repair its rights, or choose another folder",
    errno.EPERM: "repair its rights, or choose another folder",
    errno.EROFS: "choose a folder that can be written",
    errno.ENOENT: "its folder is not there, or was removed while this command was at work",
    errno.ENOTDIR: "a file stands where a folder should be",
    errno.EISDIR: "a folder stands where a file should be: remove it",
}
_LACKS_ROOM = (errno.ENOSPC, errno.EDQUOT)


def make_private(folder: Path, *, mode: int = 0o700) -> None:
    """Make a folder and whatever is missing above it, each for this user alone, whatever the umask.

    Folders that are there keep their rights. ``mode``: where others are meant to read what will be in it.

    Raises:
        OutputError: one cannot be made.
    """
    missing = []
    for place in (folder, *folder.parents):
        if place.is_dir():
            break
        missing.append(place)
    try:
        for place in reversed(missing):
            try:
                place.mkdir(mode=0o700)
                if mode != 0o700:
                    place.chmod(mode)
            except FileExistsError:
                if not place.is_dir():  # otherwise another process was quicker
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from None
    except OSError as error:
        raise output_error(folder, error, what="cannot be made") from error


def output_error(
    path: Path, error: OSError, *, needed: int | None = None, what: str = "cannot be written"
) -> OutputError:
    """The error that ends a command because ``path`` cannot be written: why, how much is missing, what to do.

    ``needed``: bytes to be written, where known; ``what``: of the path, or of what was to stand there.
    """
    if isinstance(error, OutputError):
        return error
    number = error.errno or 0
    known = [] if needed is None else [f"it needs {needed} bytes"]
    free = _free(path) if number in _LACKS_ROOM else None
    known += [] if free is None else [f"{free} bytes are free there"]
    room = f"; {', '.join(known)}" if known else ""
    advice = "remove what is there" if isinstance(error, NotRegularError) else _ADVICE.get(number, "see to it")
    why = error.strerror or " ".join(str(error).split()) or type(error).__name__
    return OutputError(f"{path}: {what} ({why}){room}; {advice}, then run the same command again")


def _free(path: Path) -> int | None:
    for folder in path.parents:
        try:
            return shutil.disk_usage(folder).free
        except OSError:
            continue
    return None
