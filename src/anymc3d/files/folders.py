"""Output folders: one process at a time, and never the output of two different runs in one folder."""

from __future__ import annotations

import datetime
import errno
import fcntl
import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from anymc3d.errors import RunFolderError
from anymc3d.files import atomic


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder for this process; the lock goes with the process, however it ends.

    Raises:
        RunFolderError: another process holds it (host, process id and start time are named), or it cannot be written.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise RunFolderError(
            f"{folder}: expected a folder to write in ({error.strerror or error}); choose another output folder"
        ) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            holder = os.read(handle, 200).decode(errors="replace").strip() or "another process"
            raise RunFolderError(
                f"{folder}: in use by {holder}; wait for it to end, or choose another output folder"
            ) from None
        os.ftruncate(handle, 0)
        started = datetime.datetime.now().isoformat(timespec="seconds")
        os.write(handle, f"process {os.getpid()} on {socket.gethostname()}, started {started}".encode())
        yield
    finally:
        os.close(handle)


def claim(record_path: Path, identity: Mapping[str, Any], what: str) -> None:
    """Write the identity of a run into its folder, or check that the folder already belongs to the same run.

    What killed processes of the run left half written there is removed, so the caller holds the folder's lock.

    Raises:
        RunFolderError: the folder was made with other settings; every difference is named.
    """
    wanted = json.loads(json.dumps(identity))
    if not record_path.exists():
        others = [
            path.name
            for path in record_path.parent.iterdir()
            if path.name != ".lock" and not atomic.is_leftover(path, record_path.name)
        ]
        if others:
            raise RunFolderError(
                f"{record_path.parent}: expected a new or empty folder or one made by {what}, "
                f"but it holds {', '.join(sorted(others)[:5])}; choose another output folder"
            )
        atomic.write_json(record_path, wanted)
        atomic.clear_leftovers(record_path.parent)
        return
    try:
        found = json.loads(record_path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunFolderError(f"{record_path}: expected the JSON record of {what}, but it is damaged: {error}") from None
    differences = list(differing(found, wanted))
    if differences:
        raise RunFolderError(
            f"{record_path.parent}: was made by {what} with other settings: {'; '.join(differences[:6])}; "
            "choose another output folder, or go back to those settings"
        )
    atomic.clear_leftovers(record_path.parent)


def differing(found: Any, wanted: Any, place: str = "") -> Iterator[str]:
    """Yield one line for every leaf that differs between two JSON values."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in sorted({*found, *wanted}):
            yield from differing(found.get(key), wanted.get(key), f"{place}.{key}" if place else key)
    elif found != wanted:
        yield f"{place} was {found!r}, now {wanted!r}"
