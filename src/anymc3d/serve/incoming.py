"""DICOM files that come one by one, gathered by study; a study becomes a job when nothing more of it comes.

All that is known of a study lies in its folder, so that a kill loses nothing: what a sender heard is stored is read
after the next start. A study of which a file was refused, or whose last sender broke off, is never read as if it were
whole: it becomes an error record.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anymc3d.data.dicom.header import read_dataset
from anymc3d.data.dicom.tags import Tags, foreign_errors
from anymc3d.errors import ScanError
from anymc3d.files import atomic
from anymc3d.serve.jobs import QueueFullError, new_id
from anymc3d.serve.uploads import DiskFullError, check_room

if TYPE_CHECKING:
    from anymc3d.serve.service import Service

logger = logging.getLogger(__name__)

MAKER = "anymc3d"
"""Manufacturer of this program's own objects, which come back when an archive sends a whole study again."""
MAX_FILES, MAX_STUDIES = 20_000, 200
BROKEN_WAIT_S = 60.0
"""So long, at least, a sender that broke off may come again."""
_FACTS, _INPUT = "study.json", "input"
_TAGS = ("StudyInstanceUID", "SOPInstanceUID", "SOPClassUID", "Manufacturer")
_SWEEP_S = 0.2
_UID = re.compile(r"[0-9.]{1,64}")


class RefusedFileError(Exception):
    """A file that is not taken. ``no_room``: it may be sent again later; otherwise it is no use as it is."""

    def __init__(self, reason: str, *, no_room: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.no_room = reason, no_room


@dataclass(frozen=True)
class Kept:
    """A file that was taken. ``is_own``: this program made it itself, so it was let go."""

    sop_class: str
    sop_uid: str
    is_own: bool = False


@dataclass(eq=False)
class Line:
    """One association or request, by which files of one or several studies come."""

    source: str
    only: str | None = None
    """The one study that may come by it, where the sender named one."""
    studies: set[str] = field(default_factory=set)
    fault: str = ""
    """Why something that came by it was refused: of which study it was is not always known."""


@dataclass(eq=False)
class _Study:
    source: str
    last: float
    lines: set[Line] = field(default_factory=set)
    bytes: int = 0
    files: int = 0
    broken: bool = False
    fault: str = ""

    def facts(self) -> dict[str, Any]:
        return {"source": self.source, "open": bool(self.lines) or self.broken, "fault": self.fault}


class Incoming:
    """Studies that are arriving; safe from several threads."""

    def __init__(self, service: Service, *, quiet_s: float, max_study_bytes: int) -> None:
        self._service, self._quiet_s, self._max_bytes = service, quiet_s, max_study_bytes
        self.root = service.settings.store / "incoming"
        self._lock = threading.RLock()
        self._studies: dict[str, _Study] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._sweep, name="incoming", daemon=True)

    def recover(self) -> None:
        """Find what an earlier service had received; before anything else looks at the folders of jobs."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for facts in (self._service.settings.store / "jobs").glob(f"??/*/{_FACTS}"):
            if self._service.jobs.get(facts.parent.name) is None:  # a kill came before it became a job
                os.rename(facts.parent, self.root / facts.parent.name)
            else:
                facts.unlink()
        for folder in self.root.iterdir():
            self._find(folder)

    def start(self) -> None:
        """Begin to look for studies that are quiet."""
        self._thread.start()

    def stop(self) -> None:
        """Look no longer; what is there stays for the next start."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(10)

    def opened(self, source: str, only: str | None = None) -> Line:
        """A sender has come; ``only``: the UID of the one study that it says it sends."""
        return Line(source, only)

    def closed(self, line: Line, *, whole: bool) -> None:
        """A sender has gone; ``whole``: as it should, and did not break off."""
        with self._lock:
            for key in line.studies:
                study = self._studies.get(key)
                if study is not None:
                    study.lines.discard(line)
                    study.fault = study.fault or line.fault
                    study.broken, study.last = not whole, time.monotonic()
                    self._write(key, study)

    def temporary(self) -> Path:
        """A name for a file that is being received; it lies in no study yet."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self.root / f".{new_id()}"

    def check_room(self, size: int) -> None:
        """Refuse what there is no room for.

        Raises:
            RefusedFileError: the disk is nearly full.
        """
        try:
            check_room(self._service.settings.store, size)
        except DiskFullError as error:
            raise RefusedFileError(str(error), no_room=True) from None

    def _check_new(self, size: int) -> None:
        """What has begun to come may end; only a study more is refused.

        Raises:
            RefusedFileError: the disk is nearly full, or too many studies wait.
        """
        self.check_room(size)
        if self._service.jobs.is_full or len(self._studies) >= MAX_STUDIES:
            raise RefusedFileError("too many studies are waiting", no_room=True)

    def take(self, line: Line, temporary: Path, *, sop_uid: str | None = None) -> Kept:
        """Take a received file (a DICOM file with its meta group) into its study; it is on the disk when this returns.

        ``sop_uid``: what the sender calls it.

        Raises:
            RefusedFileError: it is no DICOM, belongs to no study, is another than its sender says, or there is no room.
        """
        try:
            instance, study_uid = _facts_of(temporary)
            if sop_uid not in (None, instance.sop_uid):
                raise RefusedFileError("its SOPInstanceUID is not the one that its sender named")
            if line.only not in (None, study_uid):
                raise RefusedFileError("it is of another study than the one that the request names")
            if instance.is_own:
                return instance
            key = hashlib.sha256(f"{line.source}\n{study_uid}".encode()).hexdigest()[:32]
            self._keep(key, line, temporary, instance)
            return instance
        finally:
            temporary.unlink(missing_ok=True)

    def refuse(self, line: Line, reason: str) -> None:
        """Something that came by a line was refused: none of its studies is read as if it were whole."""
        line.fault = line.fault or _not_whole(reason)

    def _keep(self, key: str, line: Line, temporary: Path, instance: Kept) -> None:
        size, name = temporary.stat().st_size, _name_of(temporary, instance)
        folder = self.root / key / _INPUT
        with self._lock:
            study = self._studies.get(key)
            if study is None:
                self._check_new(size)
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                study = self._studies[key] = _Study(line.source, time.monotonic())
            is_new = line not in study.lines
            study.lines.add(line)
            line.studies.add(key)
            if is_new:
                self._write(key, study)
            try:
                self._check_study(study, size)
            except RefusedFileError as error:
                study.fault = study.fault or _not_whole(error.reason)
                self._write(key, study)
                raise
            place = folder / name
            is_first = not place.exists()
            study.bytes += size * is_first
            study.files += is_first
            study.last = time.monotonic()
            _to_disk(temporary)
            os.replace(temporary, place)

    def _check_study(self, study: _Study, size: int) -> None:
        if study.bytes + size > self._max_bytes or study.files >= MAX_FILES:
            raise RefusedFileError("the study is larger than this service takes")
        self.check_room(size)

    def _write(self, key: str, study: _Study) -> None:
        atomic.write_json(self.root / key / _FACTS, study.facts())

    def _find(self, folder: Path) -> None:
        """A study, or a file that was being received, of an earlier service."""
        if not folder.is_dir():
            folder.unlink()
            return
        try:
            facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
            sizes = [path.stat().st_size for path in (folder / _INPUT).iterdir()]
        except (OSError, ValueError) as error:
            logger.warning("a study that was arriving is damaged (%s) and is removed", type(error).__name__)
            shutil.rmtree(folder, ignore_errors=True)
            return
        study = _Study(facts["source"], time.monotonic(), bytes=sum(sizes), files=len(sizes), fault=facts["fault"])
        study.broken = facts["open"]
        self._studies[folder.name] = study

    def _sweep(self) -> None:
        while not self._stopping.wait(_SWEEP_S):
            try:
                self.sweep()
            except Exception:
                logger.exception("a study that arrived could not be queued; it is tried again")

    def sweep(self) -> None:
        """Make jobs of the studies that are quiet."""
        now = time.monotonic()
        with self._lock:
            for key, study in list(self._studies.items()):
                wait = max(self._quiet_s, BROKEN_WAIT_S if study.broken else 0)
                if study.lines or now - study.last < wait or (study.files == 0 and not study.fault):
                    continue
                self._to_job(key, study)

    def _to_job(self, key: str, study: _Study) -> None:
        """Hand a study on; where too many wait it stays here."""
        jobs, job_id = self._service.jobs, new_id()
        name = self._seen_key(key, study)
        earlier = jobs.seen(name)
        if earlier is not None and not study.fault and not study.broken:
            jobs.audit.note(study.source, "sent a study again that is known; it is not read twice", earlier)
            shutil.rmtree(self.root / key)
            del self._studies[key]
            return
        fault = study.fault or ("the sender broke off, so the study may not be whole" if study.broken else "")
        if jobs.is_full:
            return
        target = self._service.folder(job_id)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.rename(self.root / key, target)
        try:
            self._service.submit(
                job_id=job_id, source=study.source, case=job_id, scan=target / _INPUT, fault=fault, key=name
            )
        except BaseException as error:
            os.rename(target, self.root / key)
            if not isinstance(error, QueueFullError):  # it is tried again at the next sweep
                raise
            return
        (target / _FACTS).unlink()
        del self._studies[key]

    def _seen_key(self, key: str, study: _Study) -> str:
        """Equal for the same files, to the byte, of one sender, read by the same plugins by the same rules."""
        names = sorted(path.name for path in (self.root / key / _INPUT).iterdir())
        return seen_key([study.source, *names, *self._service.identity])


def _not_whole(reason: str) -> str:
    return f"a file of this study was refused, so it is not whole: {reason}"


def seen_key(parts: list[str]) -> str:
    """What a study is recognised by when it comes again."""
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()


def _facts_of(path: Path) -> tuple[Kept, str]:
    """What a received file is, and the UID of its study.

    Raises:
        RefusedFileError: it cannot be read, or lacks what it is filed by.
    """
    try:
        with foreign_errors(path, "it cannot be read"), path.open("rb") as file:
            tags = Tags(read_dataset(file, _TAGS), [])
            study, sop, kind, maker = (tags.text(name) for name in _TAGS)
    except ScanError:
        raise RefusedFileError("it is damaged, or no DICOM") from None
    if _UID.fullmatch(study) is None or _UID.fullmatch(sop) is None:
        raise RefusedFileError("it has no StudyInstanceUID or SOPInstanceUID")
    return Kept(kind, sop, is_own=maker == MAKER and sop.startswith("2.25.")), study


def _name_of(path: Path, kept_file: Kept) -> str:
    """By instance and content: a copy is one file, and two contents under one UID are for the reader to judge."""
    instance = hashlib.sha256(kept_file.sop_uid.encode()).hexdigest()[:32]
    with path.open("rb") as file:
        return f"{instance}-{hashlib.file_digest(file, 'sha256').hexdigest()[:32]}.dcm"


def _to_disk(path: Path) -> None:
    """A sender that got this answer relies on it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
