"""How large the cache of prepared scans is, and keeping it within bounds: what was used longest ago goes first.

An entry that a running process has used since it began is never removed. A process shows that it runs by holding a
lock on a file in ``.in-use`` of the cache's folder; the lock goes with the process, however it ends. Removing is safe
at any moment all the same: a reader sees a whole entry or none, and makes a missing one again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import tempfile
import time
import weakref
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from anymc3d.errors import UsageError
from anymc3d.files import regular

USERS = ".in-use"
ENTRY_SUFFIXES = (".safetensors", ".facts.json")
STALE_PART_S = 24 * 3600
"""A temporary file this old was left by a process that was killed while writing."""
_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_UNITS |= {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
_SHARD = re.compile(r"[0-9a-f]{2}")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)", re.IGNORECASE)


def entry_path(folder: Path, name: str) -> Path:
    """Where the entry of a name lies: in one of 256 folders, so that a million entries are 4,000 in each.

    One that an earlier version wrote, into the folder itself, is moved there.
    """
    path = folder / f"{zlib.crc32(name.encode()) & 0xFF:02x}" / name
    before = folder / name
    if before.is_file() and not path.exists():
        path.parent.mkdir(mode=0o700, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # another process has just moved or removed it
            os.replace(before, path)
    return path


@dataclass(frozen=True)
class CacheState:
    """What is in the cache. ``num_in_use``: entries that running processes have used since they began."""

    folder: Path
    num_entries: int
    num_bytes: int
    num_in_use: int
    bytes_in_use: int
    num_processes: int


@dataclass(frozen=True)
class TrimResult:
    """What was removed, and what is left."""

    num_removed: int
    bytes_removed: int
    left: CacheState


@dataclass(frozen=True)
class _Entry:
    path: Path
    size: int
    used: float
    """Seconds since 1970 of the last use."""


def hold(owner: object, folder: Path) -> None:
    """Show that this process uses the cache in ``folder``, as long as ``owner`` lives.

    Raises:
        OSError: the folder cannot be written.
    """
    users = folder / USERS
    users.mkdir(mode=0o700, exist_ok=True)
    while True:
        handle, name = tempfile.mkstemp(prefix=f"{os.getpid()}-", dir=users)
        fcntl.flock(handle, fcntl.LOCK_SH)
        if os.fstat(handle).st_nlink:
            weakref.finalize(owner, _release, handle, name, os.getpid())
            return
        os.close(handle)  # taken for a dead one between its making and its locking


def _release(handle: int, name: str, process: int) -> None:
    if os.getpid() == process:  # a forked child must not end what its parent shows
        with contextlib.suppress(OSError):
            os.unlink(name)
    os.close(handle)


def cache_state(folder: Path) -> CacheState:
    """Count what is there; a folder that is not there is empty."""
    entries = list(_entries(folder))
    started = _running_since(folder)
    since = min(started, default=float("inf"))
    busy = [entry for entry in entries if entry.used >= since]
    return CacheState(
        folder=folder,
        num_entries=len(entries),
        num_bytes=sum(entry.size for entry in entries),
        num_in_use=len(busy),
        bytes_in_use=sum(entry.size for entry in busy),
        num_processes=len(started),
    )


def trim_cache(folder: Path, *, limit_bytes: int = 0) -> TrimResult:
    """Remove entries, those used longest ago first, until at most ``limit_bytes`` are left (0: all that may go).

    Entries in use stay, even where more than the limit is then left. Files of killed processes go too.
    """
    _remove_litter(folder)
    since = min(_running_since(folder), default=float("inf"))
    entries = sorted(_entries(folder), key=lambda entry: (entry.used, entry.path.name))
    total = sum(entry.size for entry in entries)
    removed = []
    for entry in entries:
        if total <= limit_bytes:
            break
        if entry.used < since and _remove_unused(entry):
            removed.append(entry.size)
            total -= entry.size
    return TrimResult(len(removed), sum(removed), cache_state(folder))


def parse_size(text: str) -> int:
    """Bytes from ``20GB``, ``500 MB``, ``1.5GiB`` or a plain number.

    Raises:
        UsageError: it is none of these.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None or match.group(2).lower() not in _UNITS:
        raise UsageError(f"expected a size such as 20GB or 500MB, got {text!r}")
    return int(float(match.group(1)) * _UNITS[match.group(2).lower()])


def _entries(folder: Path) -> Iterator[_Entry]:
    """Every entry; other processes may remove some meanwhile."""
    if not folder.is_dir():
        return
    for place in _places(folder):
        yield from _entries_in(place)


def _places(folder: Path) -> Iterator[Path]:
    """The folders of entries, and that in which earlier versions put them."""
    yield folder
    with os.scandir(folder) as items:
        yield from sorted(Path(item.path) for item in items if _SHARD.fullmatch(item.name) and item.is_dir())


def _entries_in(place: Path) -> Iterator[_Entry]:
    with os.scandir(place) as items:
        for item in items:
            if item.name.endswith(ENTRY_SUFFIXES) and not item.name.startswith("."):
                with contextlib.suppress(FileNotFoundError):
                    status = item.stat(follow_symlinks=False)
                    yield _Entry(Path(item.path), status.st_size, status.st_mtime)


def _running_since(folder: Path) -> list[float]:
    """When each process that holds the cache began to; the files of dead ones are removed."""
    started = []
    users = folder / USERS
    for path in sorted(users.iterdir()) if users.is_dir() else ():
        try:
            handle = regular.open_in_place(path, os.O_RDWR)
        except (FileNotFoundError, regular.NotRegularError):
            continue
        except PermissionError:  # another user's process, which cannot be asked
            started.append(path.stat().st_mtime)
            continue
        try:
            # The time of a file system's clock, as that of the entries.
            begun = os.fstat(handle).st_mtime
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
        except BlockingIOError:
            started.append(begun)
        finally:
            os.close(handle)
    return started


def _remove_unused(entry: _Entry) -> bool:
    """Remove an entry, unless it was used since it was listed."""
    try:
        if entry.path.stat().st_mtime != entry.used:
            return False
        entry.path.unlink()
    except FileNotFoundError:
        return False
    return True


def _remove_litter(folder: Path) -> None:
    """Temporary files of processes that were killed while they wrote."""
    if not folder.is_dir():
        return
    oldest = time.time() - STALE_PART_S
    for path in (path for place in _places(folder) for path in place.glob(".*.part")):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < oldest:
                path.unlink()
