"""A watched folder: every entry, a file or the folder of one study, is answered once when it is quiet, and then moved.

What was taken is known by name, sizes and times in the queue's own file, so that a restart takes nothing twice, also
where the folder cannot be written to and nothing can be moved.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import math
import os
import shutil
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from anymc3d.errors import OutputError, ServiceError, UsageError
from anymc3d.files import atomic
from anymc3d.serve.incoming import MAX_FILES
from anymc3d.serve.jobs import DONE, ERROR, Job, QueueFullError, new_id
from anymc3d.serve.uploads import DiskFullError, check_room, store_file

if TYPE_CHECKING:
    from anymc3d.serve.service import Service

logger = logging.getLogger(__name__)

DONE_FOLDER, FAILED_FOLDER = "done", "failed"
KEY = "watch:"
"""What the keys of taken entries begin with; they outlive their jobs."""
_FULL_PAUSE_S = 60.0
"""Until an answer is put again beside its study, where its disk was full."""
_LOOK_S = 1.0


@dataclass(frozen=True)
class _Seen:
    """An entry as it was at one look: ``print`` changes with names, sizes and times."""

    print: str
    files: int
    bytes: int
    since: float


class Watcher:
    """Looks at a folder until it is stopped.

    Raises:
        UsageError: it is no folder.
    """

    def __init__(self, service: Service, folder: Path, *, quiet_s: float) -> None:
        if not folder.is_dir():
            raise ServiceError(f"--watch {folder}: expected a folder that exists")
        self._service, self._folder, self._quiet_s = service, folder, quiet_s
        self._seen: dict[str, _Seen] = {}
        self._unmoved: dict[str, float] = {}
        """Job -> when its entry may be tried to be moved again."""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no longer."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(10)

    def _run(self) -> None:
        while not self._stopping.wait(min(_LOOK_S, self._quiet_s / 2)):
            try:
                self.look()
            except Exception:
                logger.exception("the watched folder could not be looked at; it is tried again")

    def look(self) -> None:
        """Take what is quiet, and move what has ended."""
        entries = [entry for entry in os.scandir(self._folder) if not _is_passed_over(entry)]
        self._seen = {name: entry for name, entry in self._seen.items() if name in {entry.name for entry in entries}}
        for entry in sorted(entries, key=lambda entry: entry.name):
            try:
                now = _look_at(Path(entry.path))
            except OSError:
                continue  # it is being written or moved
            before = self._seen.get(entry.name)
            if before is None or before.print != now.print:
                self._seen[entry.name] = now
                continue
            key = f"{KEY}{hashlib.sha256(f'{entry.name}/{now.print}'.encode('utf-8', 'surrogateescape')).hexdigest()}"
            known = self._service.jobs.job_of(key)
            if known is not None:
                self._put_away(Path(entry.path), known)
            elif time.monotonic() - before.since >= self._quiet_s:
                self._take(Path(entry.path), key, now)

    def _take(self, path: Path, key: str, now: _Seen) -> None:
        """Copy an entry into a job, which from then on does not depend on the folder."""
        service, job_id = self._service, new_id()
        if service.jobs.is_full:
            return
        place, fault = service.folder(job_id) / "input", ""
        try:
            if now.files > MAX_FILES or now.bytes > service.settings.max_upload_bytes:
                raise ServiceError("it is larger than this service takes")
            place.parent.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            check_room(place.parent.parent, now.bytes)
            scan = _copied(path, place)
            if _look_at(path).print != now.print:
                shutil.rmtree(place.parent, ignore_errors=True)
                return
        except DiskFullError as error:
            logger.warning("the watched folder waits: %s", error)
            shutil.rmtree(place.parent, ignore_errors=True)
            return
        except UsageError as error:
            scan, fault = place, str(error)
        try:
            service.submit(job_id=job_id, source="watch", case=job_id, scan=scan, fault=fault, key=key)
        except BaseException as error:
            shutil.rmtree(place.parent, ignore_errors=True)
            if not isinstance(error, QueueFullError):  # it is taken at a later look
                raise

    def _put_away(self, path: Path, job_id: str) -> None:
        """Move an entry whose job has ended, with what came of it beside it."""
        job = self._service.jobs.get(job_id)
        if (job is not None and job.state not in (DONE, ERROR)) or time.monotonic() < self._unmoved.get(job_id, 0.0):
            return
        folder = self._folder / (FAILED_FOLDER if job is not None and job.state == ERROR else DONE_FOLDER)
        try:
            _make_folder(folder, 0o777)
            target = folder / path.name
            if os.path.lexists(target):
                target = folder / f"{path.name}-{job_id[:8]}"
            if job is not None:
                self._write_results(job, folder, target.name)
            os.rename(path, target)
        except (OSError, OutputError) as error:
            is_full = isinstance(error, OutputError) or error.errno in (errno.ENOSPC, errno.EDQUOT)
            self._unmoved[job_id] = time.monotonic() + (_FULL_PAUSE_S if is_full else math.inf)
            why = "no room for its answer" if is_full else error.strerror
            logger.warning("an entry of the watched folder cannot be moved (%s); it is not taken again", why)

    def _write_results(self, job: Job, folder: Path, name: str) -> None:
        results, files = folder / f"{name}.results", list(job.record.get("files", ()))
        for file in files:
            _make_folder(results, 0o700)
            shutil.copyfile(self._service.results(job.id) / file, results / file)
        atomic.write_json(folder / f"{name}.json", _record_of(job))


def _record_of(job: Job) -> dict[str, Any]:
    return {
        "job": job.id,
        "status": job.state,
        "message": job.message,
        "rows": list(job.rows),
        "record": dict(job.record),
    }


def _is_passed_over(entry: os.DirEntry[str]) -> bool:
    """Hidden, of this program, or a link, which may lead anywhere."""
    return entry.name.startswith(".") or entry.name in (DONE_FOLDER, FAILED_FOLDER) or entry.is_symlink()


def _make_folder(path: Path, mode: int) -> None:
    """A folder of its own: those who may write to the watched folder could have put a link in its place.

    Raises:
        OSError: it cannot be made, or is a link.
    """
    path.mkdir(mode=mode, exist_ok=True)
    if path.is_symlink():
        raise OSError(errno.ELOOP, "a link stands in the place of a folder of this program")


def _opened(path: Path) -> BinaryIO:
    """A regular file, even where a link was put in its place since it was looked at.

    Raises:
        UsageError: it is a link, a pipe or a device.
    """
    try:
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")
    except OSError as error:
        raise UsageError(f"it cannot be read ({error.strerror})") from None
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise UsageError("it is not a regular file")
    return file


def _look_at(path: Path) -> _Seen:
    digest, files, size = hashlib.sha256(), 0, 0
    for file in _regular(path):
        facts = file.lstat()
        files, size = files + 1, size + facts.st_size
        name = str(file.relative_to(path)).encode("utf-8", "surrogateescape")
        digest.update(name + f"\0{facts.st_size} {facts.st_mtime_ns}\n".encode())
        if files > MAX_FILES:
            break
    return _Seen(digest.hexdigest(), files, size, time.monotonic())


def _regular(path: Path) -> Iterator[Path]:
    """The regular files of an entry, in one order; links, pipes and devices are none."""
    if not path.is_dir():
        if stat.S_ISREG(path.lstat().st_mode):
            yield path
        return
    for folder, inner, names in os.walk(path, followlinks=False):
        inner.sort()
        for name in sorted(names):
            file = Path(folder, name)
            if stat.S_ISREG(file.lstat().st_mode):
                yield file


def _copied(path: Path, place: Path) -> Path:
    """Copy an entry and return what the readers are given.

    Raises:
        UsageError: it is no scan.
    """
    if not path.is_dir():
        with _opened(path) as file:
            return store_file(file, place)
    place.mkdir(mode=0o700, parents=True)
    for number, source_path in enumerate(_regular(path)):
        target = place / f"{number // 1000}" / f"{number:06d}{source_path.suffix[:16]}"
        target.parent.mkdir(mode=0o700, exist_ok=True)
        with _opened(source_path) as source, target.open("xb") as copy:
            target.chmod(0o600)
            shutil.copyfileobj(source, copy)
    return place
