"""The queue: one SQLite file in the store. Every accepted study ends in exactly one recorded state.

A job is ``queued``, ``running``, ``done`` or ``error``. What was running when the service ended, however it ended, is
queued again at the next start.
"""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anymc3d.serve import audit, delivery_table, history
from anymc3d.serve.audit import AuditLog
from anymc3d.serve.delivery_table import DeliveryTable
from anymc3d.serve.queue_file import QueueFile, QueueFullError

QUEUED, RUNNING, DONE, ERROR = "queued", "running", "done", "error"
STATES = (QUEUED, RUNNING, DONE, ERROR)
LATEST = 2**53
"""Above every number that a job ever has."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One accepted study. ``request``: what the worker is handed; ``rows``: as in ``predictions.csv``, numbers as
    numbers; ``record``: hashes, versions, decisions of rules."""

    number: int
    id: str
    state: str
    source: str
    case: str
    request: Mapping[str, Any]
    attempts: int
    message: str
    rows: Sequence[Mapping[str, Any]]
    record: Mapping[str, Any]
    received: float
    started: float | None
    finished: float | None


class JobStore(QueueFile):
    """Jobs, and beside them ``deliveries`` and the ``audit`` log; safe from several threads."""

    def __init__(self, path: Path, *, max_queued: int = 1000) -> None:
        super().__init__(path)
        self._max_queued = max_queued
        self.audit, self.deliveries = AuditLog(self), DeliveryTable(self)
        self.listeners: dict[Callable[[], None], str] = {}
        """Called, from whichever thread, when the job of this id has ended or is gone."""
        self.on_end: Callable[[Job], None] = lambda _: None
        """Called with every job that has ended."""

    def _notify(self, job_id: str) -> None:
        for listener, awaited in tuple(self.listeners.items()):
            if awaited == job_id:
                listener()

    def recover(self) -> int:
        """Queue again what was running when the service ended; returns how many."""
        with self.transaction() as sql:
            return sql.execute("UPDATE jobs SET state=?, started=NULL WHERE state=?", (QUEUED, RUNNING)).rowcount

    def add(
        self,
        *,
        source: str,
        case: str,
        request: Mapping[str, Any],
        job_id: str | None = None,
        key: str | None = None,
        once: bool = False,
        by: str = "",
    ) -> str:
        """Accept a study and return its id: 128 random bits.

        Args:
            request: what the worker is handed.
            job_id: an id that :func:`new_id` gave.
            key: what it is recognised by, see :meth:`seen`.
            once: what was accepted under the key is not accepted again; its id is returned.
            by: who sent it, for the audit log; by default the way in, ``source``.

        Raises:
            QueueFullError: too many wait.
        """
        job_id = job_id or new_id()
        with self.transaction() as sql:
            known = sql.execute("SELECT job FROM seen WHERE key=?", (key,)).fetchone() if once else None
            if known is not None:
                audit.write(sql, by or source, "sent a study again", known[0])
                return str(known[0])
            (waiting,) = sql.execute("SELECT COUNT(*) FROM jobs WHERE state=?", (QUEUED,)).fetchone()
            if waiting >= self._max_queued:
                raise QueueFullError(f"{waiting} studies are waiting; try again later")
            sql.execute(
                'INSERT INTO jobs (id, state, source, "case", request, received) VALUES (?, ?, ?, ?, ?, ?)',
                (job_id, QUEUED, source, case, json.dumps(request), time.time()),
            )
            audit.write(sql, by or source, "sent a study", job_id)
            if key is not None:
                sql.execute("INSERT OR REPLACE INTO seen (key, job) VALUES (?, ?)", (key, job_id))
        return job_id

    def seen(self, key: str) -> str | None:
        """The job of the same study, unless it failed or is no longer known."""
        with self.lock:
            row = self.sql.execute(
                "SELECT job FROM seen JOIN jobs ON jobs.id = seen.job WHERE key=? AND state != ?", (key, ERROR)
            ).fetchone()
            return None if row is None else str(row[0])

    def job_of(self, key: str) -> str | None:
        """The id of what was accepted under a key, however it ended."""
        with self.lock:
            row = self.sql.execute("SELECT job FROM seen WHERE key=?", (key,)).fetchone()
            return None if row is None else str(row[0])

    @property
    def is_full(self) -> bool:
        """Whether as many studies wait as may."""
        return self.counts()[QUEUED] >= self._max_queued

    def take(self, wait_s: float = 0.0) -> Job | None:
        """The job that waits longest, now running; None where none waits, and none has come in so many seconds."""
        with self.lock:
            job_id = self._first()
            if job_id is None and wait_s > 0:
                self.changed.wait(wait_s)  # the lock is held until it waits: nothing that comes is missed
                job_id = self._first()
            if job_id is None:
                return None
            with self.transaction(durable=False) as sql:
                change = "UPDATE jobs SET state=?, attempts=attempts+1, started=? WHERE id=?"
                sql.execute(change, (RUNNING, time.time(), job_id))
            return self.get(job_id)

    def _first(self) -> str | None:
        asked = "SELECT id FROM jobs WHERE state=? ORDER BY number LIMIT 1"
        row = self.sql.execute(asked, (QUEUED,)).fetchone()
        return None if row is None else str(row[0])

    def finish(
        self,
        job_id: str,
        state: str,
        *,
        message: str = "",
        rows: Sequence[Mapping[str, Any]] = (),
        record: Mapping[str, Any] | None = None,
        send: Sequence[tuple[str, str]] = (),
    ) -> bool:
        """End a running job, once; False where it is not running (deleted, or already ended).

        It is on the disk after the next :meth:`sync`: a power cut before that has the study answered anew. Nothing is
        sent before (what a delivery writes first is durable, and so is all that came before it).

        ``send``: peer and file of what is then to be sent; it is known when the end is known, or neither.
        """
        with self.transaction(durable=False) as sql:
            update = sql.execute(
                "UPDATE jobs SET state=?, message=?, rows=?, record=?, finished=? WHERE id=? AND state=?",
                (state, message, json.dumps(list(rows)), json.dumps(record or {}), time.time(), job_id, RUNNING),
            )
            if update.rowcount != 1:
                return False
            history.remember(sql, rows, record or {})
            for name, hash_ in (record or {}).get("plugins", {}).items():
                audit.write(sql, "service", "answered" if state == DONE else "gave no answer", job_id, name, hash_)
            delivery_table.add(sql, job_id, send)
        self._notify(job_id)
        job = self.get(job_id)
        if job is not None:
            self.on_end(job)
        return True

    def again(self, job_id: str) -> None:
        """Put a running job back into the queue, at its old place."""
        with self.transaction(durable=False) as sql:
            sql.execute("UPDATE jobs SET state=?, started=NULL WHERE id=? AND state=?", (QUEUED, job_id, RUNNING))

    def remove(self, job_id: str) -> bool:
        """Forget a job; False where there is none."""
        with self.transaction() as sql:
            delivery_table.forget(sql, job_id)
            sql.execute("DELETE FROM seen WHERE job=? AND key NOT LIKE 'watch:%'", (job_id,))
            was_there = sql.execute("DELETE FROM jobs WHERE id=?", (job_id,)).rowcount == 1
        self._notify(job_id)
        return was_there

    def get(self, job_id: str) -> Job | None:
        """One job by its id."""
        with self.lock:
            cursor = self.sql.execute("SELECT * FROM jobs WHERE id=?", (job_id,))
            row = cursor.fetchone()
            return None if row is None else _job(cursor, row)

    def latest(self, count: int = 100, *, before: int | None = None) -> list[Job]:
        """The newest jobs, newest first; ``before``: only those with a lower number."""
        with self.lock:
            cursor = self.sql.execute(
                "SELECT * FROM jobs WHERE number < ? ORDER BY number DESC LIMIT ?",
                (LATEST if before is None else before, count),
            )
            return [_job(cursor, row) for row in cursor.fetchall()]

    def counts(self) -> dict[str, int]:
        """How many jobs are in each state."""
        with self.lock:
            rows = self.sql.execute("SELECT state, COUNT(*) FROM jobs GROUP BY state").fetchall()
            return dict.fromkeys(STATES, 0) | dict(rows)

    def ended_before(self, moment: float) -> list[str]:
        """Ids of jobs that ended before a time in seconds since 1970."""
        with self.lock:
            rows = self.sql.execute("SELECT id FROM jobs WHERE finished < ?", (moment,)).fetchall()
            return [job_id for (job_id,) in rows]

    def oldest_waiting(self) -> float | None:
        """When the study that waits longest came, in seconds since 1970; None where none waits."""
        with self.lock:
            (moment,) = self.sql.execute("SELECT MIN(received) FROM jobs WHERE state=?", (QUEUED,)).fetchone()
            return None if moment is None else float(moment)

    def forget_old(self) -> None:
        """Remove audit lines and remains of answers that are older than either is kept."""
        with self.transaction() as sql:
            history.forget(sql)
            audit.forget(sql)


def new_id() -> str:
    """An id that nobody can guess."""
    return uuid.uuid4().hex


def _job(cursor: sqlite3.Cursor, row: Sequence[Any]) -> Job:
    cells = dict(zip([column[0] for column in cursor.description], row, strict=True))
    plain = {name: json.loads(cells.pop(name)) for name in ("request", "rows", "record")}
    return Job(**cells, **plain)
