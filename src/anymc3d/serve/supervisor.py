"""The thread that takes jobs from the queue to the worker process, and starts another process when one ends.

A worker that ends, is killed or takes longer than a study may is replaced; its study is tried again, up to
``max_attempts`` times, and then has its error. Nothing else is affected.
"""

from __future__ import annotations

import logging
import multiprocessing
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from anymc3d.errors import PluginError
from anymc3d.serve import worker
from anymc3d.serve.deliveries import to_send
from anymc3d.serve.jobs import DONE, ERROR, Job, JobStore
from anymc3d.serve.settings import ServeSettings

logger = logging.getLogger(__name__)

START_TIMEOUT_S = 600.0
STOP_TIMEOUT_S = 25.0
RETRY_S = 5.0
"""After a queue that could not be written."""
_POLL_S = 0.5


class Supervisor:
    """Runs jobs, one at a time, until it is stopped."""

    def __init__(self, store: JobStore, settings: ServeSettings) -> None:
        self._store, self._settings = store, settings
        self._stopping, self._stop_by = threading.Event(), 0.0
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None
        self.plugins: list[dict[str, Any]] = []
        self.restarts = 0
        self.is_ready = False
        self.fault: BaseException | None = None
        self.on_fault: Callable[[], None] = lambda: None
        """Called when no study can be taken any longer."""

    def start(self) -> None:
        """Load the plugins and begin.

        Raises:
            PluginError: the worker process cannot load the plugins; says why.
        """
        self._start_worker()
        self._thread.start()

    def begin_stop(self) -> None:
        """Take no further study."""
        if not self._stopping.is_set():
            self._stop_by = time.monotonic() + STOP_TIMEOUT_S
            self._stopping.set()
        with self._store.changed:
            self._store.changed.notify_all()

    def stop(self) -> None:
        """Let the running study end, within half a minute; otherwise it is queued again at the next start."""
        self.begin_stop()
        if self._thread.ident is not None:
            self._thread.join(max(self._stop_by - time.monotonic(), 0.1))
        self.is_ready = False
        self._end_worker()
        if self._thread.ident is not None:
            self._thread.join(2.0)  # it puts the study that was cut off back into the queue

    @property
    def worker_pid(self) -> int | None:
        """The process id of the worker, for those who watch it."""
        return None if self._process is None else self._process.pid

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                try:
                    self._next()
                except sqlite3.OperationalError:
                    # No room on its disk, mostly. Its study is running there, and is queued again as after a kill.
                    logger.exception("the queue cannot be written; it is tried again")
                    self._stopping.wait(RETRY_S)
                    with suppress(sqlite3.OperationalError):
                        self._store.recover()
        except BaseException as error:
            self.fault, self.is_ready = error, False
            logger.exception("no study can be taken any longer")
            self.on_fault()

    def _next(self) -> None:
        job = self._store.take()
        if job is None:
            self._store.sync()
            job = self._store.take(_POLL_S)
        if job is not None:
            self._work(job)
            if self._store.get(job.id) is None:  # it was removed meanwhile, and the worker had gone on writing
                shutil.rmtree(Path(job.request["results"]).parent, ignore_errors=True)

    def _work(self, job: Job) -> None:
        """Have one job done, or failed, or queued again."""
        fault = str(job.request.get("fault") or "")
        if fault:
            self._store.finish(job.id, ERROR, message=fault)
            return
        reply = self._ask(job.request)
        if reply is not None:
            rows, record = reply["rows"], reply["record"] | {"files": reply["files"], "notes": reply["notes"]}
            failed = bool(rows) and all(row["status"] == "error" for row in rows)
            message = "; ".join(dict.fromkeys(row["message"] for row in rows if row["message"])) or reply["message"]
            send = to_send(self._settings.node.send_to, record)
            self._store.finish(job.id, ERROR if failed else DONE, message=message, rows=rows, record=record, send=send)
            return
        if self._stopping.is_set():
            self._store.again(job.id)
            return
        self.restarts += 1
        code = None if self._process is None else self._process.exitcode
        logger.warning("the worker process ended or was too slow", extra={"job": job.id, "signal": -(code or 0)})
        if job.attempts >= self._settings.max_attempts:
            text = f"ended the process that reads scans {job.attempts} times, so it was given up"
            self._store.finish(job.id, ERROR, message=text)
        else:
            self._store.again(job.id)
        self._restart()

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any] | None:
        """The worker's answer; None where it ended or took too long."""
        assert self._connection is not None
        try:
            self._connection.send(dict(request))
            self._store.sync()  # the end of the one before, while the worker has this one
            deadline = time.monotonic() + self._settings.case_timeout_s
            while not self._connection.poll(_POLL_S):
                if time.monotonic() > deadline:
                    logger.warning("a study took longer than %g s; its process is ended", self._settings.case_timeout_s)
                    return None
                if self._process is None or not self._process.is_alive():
                    return None
            _, reply = self._connection.recv()
        except (EOFError, OSError):
            return None
        return dict(reply)

    def _restart(self) -> None:
        self.is_ready = False
        self._end_worker()
        while not self._stopping.is_set():
            try:
                self._start_worker()
                return
            except PluginError as error:
                # A plugin file that was replaced by a broken one, or no memory: said, and tried again.
                logger.error("the worker cannot start: %s", error)
                self._stopping.wait(5.0)

    def _start_worker(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=worker.main, args=(theirs, self._settings), daemon=True, name="worker")
        self._process.start()
        theirs.close()
        try:
            if not self._connection.poll(START_TIMEOUT_S):
                raise PluginError("the worker process was not ready in time")
            kind, payload = self._connection.recv()
        except EOFError:
            raise PluginError("the worker process ended while it loaded the plugins") from None
        if kind == worker.FAILED:
            raise PluginError(str(payload))
        self.plugins, self.is_ready = payload, True

    def _end_worker(self) -> None:
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            self._process.join(1.0)
            if self._process.is_alive():
                self._process.kill()
                self._process.join(10.0)
