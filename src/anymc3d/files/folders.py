"""Output folders: one process at a time, and never the output of two different runs in one folder."""

from __future__ import annotations

import datetime
import errno
import fcntl
import json
import os
import socket
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from anymc3d.errors import OutputError, RunFolderError
from anymc3d.files import atomic, regular
from anymc3d.files.private import make_private, output_error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder for this process; the lock goes with the process, however it ends.

    Raises:
        RunFolderError: another process holds it (host, process id and start time are named).
        OutputError: it cannot be made or written.
    """
    try:
        make_private(folder)
        handle = regular.open_in_place(folder / ".lock", os.O_RDWR | os.O_CREAT)
    except regular.NotRegularError as error:
        raise output_error(folder / ".lock", error) from error
    except OSError as error:
        why = error.__cause__ if isinstance(error.__cause__, OSError) else error
        raise OutputError(
            f"{folder}: expected a folder to write in ({why.strerror or why}); choose another output folder, or see to "
            "this one and run the same command again"
        ) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            holder = os.read(handle, 200).decode(errors="replace").strip() or "another process"
            raise RunFolderError(
                f"{folder}: in use by {holder}; wait for it to end, or choose another output folder",
                code="E-folder-busy",
            ) from None
        started = datetime.datetime.now().isoformat(timespec="seconds")
        holder = f"process {os.getpid()} on {socket.gethostname()}, started {started}".encode()
        try:
            os.ftruncate(handle, 0)
            os.write(handle, holder)
        except OSError as error:
            raise output_error(folder / ".lock", error, needed=len(holder)) from error
        yield
    finally:
        os.close(handle)


def check_there(record_path: Path) -> None:
    """Check, before more is written, that the folder of a run is still the one that was claimed.

    Raises:
        OutputError: it was removed meanwhile; writing would make a new one that holds a part of the run.
    """
    if not record_path.exists():
        raise output_error(record_path, FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)))


def recorded(record_path: Path, key: str) -> Any | None:
    """One value of the record of a run that began earlier; None where there is none, or none such.

    Raises:
        RunFolderError: the record is damaged.
    """
    return _record(record_path, "a run").get(key) if record_path.exists() else None


def claim(record_path: Path, identity: Mapping[str, Any], what: str, *, later: Collection[str] = ()) -> None:
    """Write the identity of a run into its folder, or check that the folder already belongs to the same run.

    ``later``: keys that records of earlier versions lack; they are added to such a record.

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
    recorded = _record(record_path, what)
    added = {key: wanted[key] for key in later if key in wanted and key not in recorded}
    if added:
        recorded |= added
        if recorded == wanted:
            atomic.write_json(record_path, recorded)
    differences = list(differing(recorded, wanted))
    if differences:
        raise RunFolderError(
            f"{record_path.parent}: was made by {what} with other settings: {'; '.join(differences[:6])}; "
            "choose another output folder, or go back to those settings"
        )
    atomic.clear_leftovers(record_path.parent)


def _record(record_path: Path, what: str) -> dict[str, Any]:
    try:
        record = json.loads(regular.read_text(record_path))
        if isinstance(record, dict):
            return record
        fault = f"expected an object, got {type(record).__name__}"
    except (ValueError, OSError, RecursionError) as error:
        fault = str(error)
    raise RunFolderError(f"{record_path}: expected the JSON record of {what}, but it is damaged: {fault}")


def differing(recorded: Any, wanted: Any, place: str = "") -> Iterator[str]:
    """Yield one line for every leaf that differs between two JSON values."""
    if isinstance(recorded, dict) and isinstance(wanted, dict):
        for key in sorted({*recorded, *wanted}):
            yield from differing(recorded.get(key), wanted.get(key), f"{place}.{key}" if place else key)
    elif recorded != wanted:
        yield f"{place} was {recorded!r}, now {wanted!r}"
