"""The service as one object: queue, worker and folders; what HTTP, DICOM and a watched folder hand studies to."""

from __future__ import annotations

import asyncio
import logging
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from anymc3d.errors import UsageError, did_you_mean
from anymc3d.files.folders import locked
from anymc3d.serve import retention
from anymc3d.serve.dicom_listener import DicomListener
from anymc3d.serve.drift_watch import DriftWatch
from anymc3d.serve.incoming import Incoming
from anymc3d.serve.jobs import DONE, ERROR, Job, JobStore, new_id
from anymc3d.serve.metrics import Metrics
from anymc3d.serve.node import Node
from anymc3d.serve.settings import ServeSettings
from anymc3d.serve.supervisor import Supervisor

logger = logging.getLogger(__name__)

_CLEAN_EVERY_S = 600.0


class Service:
    """Start it, hand it studies, stop it; a context manager.

    Raises:
        PluginError, BackboneError: a plugin cannot be used.
        RunFolderError: another service works in the store.
    """

    def __init__(self, settings: ServeSettings) -> None:
        self.settings = settings
        settings.store.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = locked(settings.store)
        self._lock.__enter__()
        try:
            self.node = Node(self)
            retention.check_not_lost(settings.store)
            self.jobs = JobStore(settings.store / "queue.sqlite3", max_queued=settings.max_queued)
        except BaseException:
            self._lock.__exit__(None, None, None)
            raise
        self.supervisor = Supervisor(self.jobs, settings)
        self.started = time.monotonic()
        self.metrics = Metrics(self)
        self.jobs.on_end = self._ended
        self.drift = DriftWatch(self.jobs, lambda: self.plugins)
        self._stopping = threading.Event()
        self._clock = retention.Clock()
        self._cleaner = threading.Thread(target=self._clean, name="cleaner", daemon=True)

    def __enter__(self) -> Service:
        again = self.jobs.recover()
        if again:
            logger.info("what an earlier end interrupted is queued again", extra={"studies": again})
        try:
            self.incoming.recover()
            self._remove_leftovers()
            self.supervisor.start()
            self.node.start()
        except BaseException:
            self._stop()
            raise
        self._cleaner.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.begin_stop()
        self._stop()

    def _stop(self) -> None:
        self.node.stop_taking()
        self.supervisor.stop()
        self.node.stop_sending()
        self._close()

    def begin_stop(self) -> None:
        """Take no further study from the queue, and let those who wait for one go; :meth:`__exit__` waits."""
        self._stopping.set()
        self.node.begin_stop()
        self.supervisor.begin_stop()

    def _ended(self, job: Job) -> None:
        self.metrics.ended(job)
        logger.info("a study has ended", extra={"job": job.id, "status": job.state})

    def _close(self) -> None:
        self.jobs.close()
        self._lock.__exit__(None, None, None)

    @property
    def incoming(self) -> Incoming:
        """Studies that arrive file by file."""
        return self.node.incoming

    @property
    def listener(self) -> DicomListener | None:
        """The DICOM node, where there is one."""
        return self.node.listener

    @property
    def plugins(self) -> Sequence[Mapping[str, Any]]:
        """What is resident."""
        return self.supervisor.plugins

    def folder(self, job_id: str) -> Path:
        """Where a job's input and results are."""
        return self.settings.store / "jobs" / job_id[:2] / job_id

    def results(self, job_id: str) -> Path:
        """Where the worker puts what it makes of a job."""
        return self.folder(job_id) / "results"

    def checked_plugins(self, names: Sequence[str]) -> list[str]:
        """The names of resident plugins; empty = all.

        Raises:
            UsageError: a name that none has.
        """
        known = [str(plugin["name"]) for plugin in self.plugins]
        for name in names:
            if name not in known:
                raise UsageError(f"plugins: no plugin is called {name[:64]!r}{did_you_mean(name[:64], known)}")
        return list(names)

    def submit(
        self,
        *,
        job_id: str,
        source: str,
        case: str,
        scan: Path | None = None,
        views: Mapping[str, Path] | None = None,
        series: str | None = None,
        plugins: Sequence[str] = (),
        fault: str = "",
        key: str | None = None,
        once: bool = False,
        by: str = "",
    ) -> str:
        """Queue a study whose files lie in the job's folder; its id.

        ``fault``: why it is not read, but recorded as an error. ``key``: what it is recognised by when it comes again;
        ``once``: then the id of the first is returned, and the caller removes the folder. ``by``: who sent it.

        Raises:
            QueueFullError: too many wait; the caller removes the folder, or keeps it for later.
        """
        request = {
            "scan": None if scan is None else str(scan),
            "views": None if views is None else {name: str(path) for name, path in views.items()},
            "series": series,
            "case": case,
            "plugins": list(plugins),
            "results": str(self.results(job_id)),
            "fault": fault,
        }
        return self.jobs.add(source=source, case=case, request=request, job_id=job_id, key=key, once=once, by=by)

    @property
    def identity(self) -> list[str]:
        """What answers depend on beside the scans: a study that comes again is read again where it changed."""
        return [*(str(plugin["hash"]) for plugin in self.plugins), repr(self.settings.node.rules)]

    def remove(self, job_id: str) -> bool:
        """Forget a job and its files; a study that is being read ends first, its answer is dropped."""
        self.remove_files(job_id)  # first: on a full disk the queue has no room to forget a job
        return self.jobs.remove(job_id)

    def remove_files(self, job_id: str) -> None:
        """Remove what came in and what was made of it."""
        shutil.rmtree(self.folder(job_id), ignore_errors=True)

    def file_of(self, job: Job, name: str) -> Path | None:
        """A result of a job by its name; only names that the job's own record lists are known."""
        if name not in job.record.get("files", ()):
            return None
        path = self.results(job.id) / name
        return path if path.is_file() else None

    def wait(self, job_id: str, timeout_s: float) -> Job | None:
        """The job once it has ended, or as it is when the time is over."""
        deadline = time.monotonic() + timeout_s
        with self.jobs.changed:
            while True:
                job = self.jobs.get(job_id)
                left = deadline - time.monotonic()
                if job is None or job.state in (DONE, ERROR) or left <= 0 or self._stopping.is_set():
                    return job
                self.jobs.changed.wait(min(left, 1.0))

    async def ended(self, job_id: str, timeout_s: float) -> Job | None:
        """As :meth:`wait`, without a thread for each that waits."""
        loop, changed = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            loop.call_soon_threadsafe(changed.set)

        deadline = loop.time() + timeout_s
        self.jobs.listeners[wake] = job_id
        try:
            while True:
                changed.clear()
                job = await asyncio.to_thread(self.jobs.get, job_id)
                left = deadline - loop.time()
                if job is None or job.state in (DONE, ERROR) or left <= 0 or self._stopping.is_set():
                    return job
                with suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), min(left, 1.0))
        finally:
            self.jobs.listeners.pop(wake, None)

    def _clean(self) -> None:
        """Remove what is older than it may be kept."""
        while not self._stopping.wait(_CLEAN_EVERY_S):
            self.clean()

    def clean(self) -> None:
        """Remove what is older than it may be kept, unless the clock cannot be trusted."""
        if not self._clock.was_moved():
            self.remove_old()
            self.jobs.forget_old()

    def remove_old(self) -> int:
        """Remove the jobs that ended longer ago than ``keep_days``; returns how many."""
        if self.settings.keep_days <= 0:
            return 0
        old = self.jobs.ended_before(time.time() - self.settings.keep_days * 86400)
        for job_id in old:
            self.remove(job_id)
        return len(old)

    def _remove_leftovers(self) -> None:
        """Folders of uploads that a kill interrupted before they became jobs."""
        root = self.settings.store / "jobs"
        for folder in root.glob("??/*"):
            if self.jobs.get(folder.name) is None:
                shutil.rmtree(folder, ignore_errors=True)


def new_job() -> str:
    """An id for a job whose files come first."""
    return new_id()
