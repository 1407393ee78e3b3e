"""The queue: one SQLite file in the store. Every accepted study ends in exactly one recorded state.

A job is ``queued``, ``running``, ``done`` or ``error``. What was running when the service ended, however it ended, is
queued again at the next start. The file is in write-ahead mode; its log is brought to the disk before a client hears
of a job, so that it is there after a power cut. That is done outside of the lock: clients wait for the disk together,
and the worker for none of them.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anymc3d.errors import ServiceError, UsageError
from anymc3d.serve import history
from anymc3d.serve.schema import FORMAT, SCHEMA

QUEUED, RUNNING, DONE, ERROR = "queued", "running", "done", "error"
STATES = (QUEUED, RUNNING, DONE, ERROR)
_LONGEST_WAIT_S = 2 * 3600.0
_AUDITED = ("at", "who", "what", "job", "plugin", "hash")


class QueueFullError(UsageError):
    """As many studies wait as may."""

    code = "E-queue-full"


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


class JobStore:
    """Jobs and the audit log; safe from several threads.

    Raises:
        UsageError: the file is of another version or is no queue.
    """

    def __init__(self, path: Path, *, max_queued: int = 1000) -> None:
        self._lock = threading.RLock()
        self.changed = threading.Condition(self._lock)
        self._max_queued = max_queued
        self.listeners: dict[Callable[[], None], str] = {}
        """Called, from whichever thread, when the job of this id has ended or is gone."""
        self._is_behind = False
        self.on_end: Callable[[Job], None] = lambda _: None
        """Called with every job that has ended."""
        try:
            self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._connection.execute("PRAGMA journal_mode=WAL")
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()
            if version not in (0, FORMAT):
                raise ServiceError(f"{path}: a queue of format {version}, expected {FORMAT}; choose another --store")
            self._connection.executescript(SCHEMA)
            self._connection.execute(f"PRAGMA user_version={FORMAT}")
            self._connection.execute("PRAGMA synchronous=NORMAL")
            # Closing a second descriptor of this file drops no lock: SQLite's are on the other two.
            self._log = os.open(f"{path}-wal", os.O_RDONLY)
        except sqlite3.DatabaseError as error:
            raise ServiceError(f"{path}: expected the queue of a service, but it is damaged ({error})") from None
        path.chmod(0o600)

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._connection.close()
            os.close(self._log)

    @contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """All of what is done in it, or nothing.

        ``durable``: it is on the disk afterwards. Without, a power cut (not a kill) may undo it, until the next durable
        one: right for what a start makes good again.
        """
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")
            self.changed.notify_all()
            self._is_behind |= not durable
        if durable:
            os.fsync(self._log)

    def sync(self) -> None:
        """Bring to the disk what was done so far; for one thread, which takes jobs and ends them."""
        if self._is_behind:
            self._is_behind = False
            os.fsync(self._log)

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
    ) -> str:
        """Accept a study and return its id: 128 random bits.

        Args:
            source: the way in.
            case: its id in the answer.
            request: what the worker is handed.
            job_id: an id that :func:`new_id` gave.
            key: what it is recognised by, see :meth:`seen`.
            once: what was accepted under the key is not accepted again; its id is returned.

        Raises:
            QueueFullError: too many wait.
        """
        job_id = job_id or new_id()
        with self.transaction() as sql:
            known = sql.execute("SELECT job FROM seen WHERE key=?", (key,)).fetchone() if once else None
            if known is not None:
                return str(known[0])
            (waiting,) = sql.execute("SELECT COUNT(*) FROM jobs WHERE state=?", (QUEUED,)).fetchone()
            if waiting >= self._max_queued:
                raise QueueFullError(f"{waiting} studies are waiting; try again later")
            sql.execute(
                'INSERT INTO jobs (id, state, source, "case", request, received) VALUES (?, ?, ?, ?, ?, ?)',
                (job_id, QUEUED, source, case, json.dumps(request), time.time()),
            )
            if key is not None:
                sql.execute("INSERT OR REPLACE INTO seen (key, job) VALUES (?, ?)", (key, job_id))
        return job_id

    def seen(self, key: str) -> str | None:
        """The job of the same study, unless it failed or is no longer known."""
        with self._lock:
            row = self._connection.execute(
                "SELECT job FROM seen JOIN jobs ON jobs.id = seen.job WHERE key=? AND state != ?", (key, ERROR)
            ).fetchone()
            return None if row is None else str(row[0])

    @property
    def is_full(self) -> bool:
        """Whether as many studies wait as may."""
        return self.counts()[QUEUED] >= self._max_queued

    def take(self, wait_s: float = 0.0) -> Job | None:
        """The job that waits longest, now running; None where none waits, and none has come in so many seconds."""
        with self._lock:
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
        row = self._connection.execute(asked, (QUEUED,)).fetchone()
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
                _note(sql, "service", "answered" if state == DONE else "gave no answer", job_id, name, hash_)
            sql.executemany(
                "INSERT OR IGNORE INTO deliveries (job, peer, file) VALUES (?, ?, ?)",
                [(job_id, peer, file) for peer, file in send],
            )
        self._notify(job_id)
        job = self.get(job_id)
        if job is not None:
            self.on_end(job)
        return True

    def due_delivery(self, peer: str, now: float) -> dict[str, Any] | None:
        """The first that may be sent now to a peer; one that would have to wait longer than any does is of a clock that
        was wrong."""
        with self._lock:
            cursor = self._connection.execute(
                "SELECT number, job, file, state, attempts FROM deliveries WHERE state IN ('waiting', 'sending') "
                "AND (next_at <= ? OR next_at > ?) AND peer=? ORDER BY number LIMIT 1",
                (now, now + _LONGEST_WAIT_S, peer),
            )
            row = cursor.fetchone()
            return None if row is None else dict(zip([column[0] for column in cursor.description], row, strict=True))

    def note_delivery(
        self, number: int, state: str, *, message: str = "", next_at: float = 0.0, attempts: int | None = None
    ) -> None:
        """What became of a delivery."""
        with self.transaction() as sql:
            sql.execute(
                "UPDATE deliveries SET state=?, message=?, next_at=?, attempts=COALESCE(?, attempts) WHERE number=?",
                (state, message, next_at, attempts, number),
            )

    def deliveries(self, job_id: str) -> list[dict[str, Any]]:
        """What is, or was, to be sent of a job."""
        keys = ("peer", "file", "state", "attempts", "message")
        with self._lock:
            rows = self._connection.execute(
                f"SELECT {', '.join(keys)} FROM deliveries WHERE job=? ORDER BY number", (job_id,)
            ).fetchall()
            return [dict(zip(keys, row, strict=True)) for row in rows]

    def again(self, job_id: str) -> None:
        """Put a running job back into the queue, at its old place."""
        with self.transaction(durable=False) as sql:
            sql.execute("UPDATE jobs SET state=?, started=NULL WHERE id=? AND state=?", (QUEUED, job_id, RUNNING))

    def remove(self, job_id: str) -> bool:
        """Forget a job; False where there is none."""
        with self.transaction() as sql:
            sql.execute("DELETE FROM deliveries WHERE job=?", (job_id,))
            sql.execute("DELETE FROM seen WHERE job=? AND key NOT LIKE 'watch:%'", (job_id,))
            was_there = sql.execute("DELETE FROM jobs WHERE id=?", (job_id,)).rowcount == 1
        self._notify(job_id)
        return was_there

    def job_of(self, key: str) -> str | None:
        """The id of what was accepted under a key, however it ended."""
        with self._lock:
            row = self._connection.execute("SELECT job FROM seen WHERE key=?", (key,)).fetchone()
            return None if row is None else str(row[0])

    def get(self, job_id: str) -> Job | None:
        """One job by its id."""
        with self._lock:
            cursor = self._connection.execute("SELECT * FROM jobs WHERE id=?", (job_id,))
            row = cursor.fetchone()
            return None if row is None else _job(cursor, row)

    def latest(self, count: int = 100, *, before: int | None = None) -> list[Job]:
        """The newest jobs, newest first; ``before``: only those with a lower number."""
        with self._lock:
            cursor = self._connection.execute(
                "SELECT * FROM jobs WHERE number < ? ORDER BY number DESC LIMIT ?",
                (2**62 if before is None else before, count),
            )
            return [_job(cursor, row) for row in cursor.fetchall()]

    def counts(self) -> dict[str, int]:
        """How many jobs are in each state."""
        with self._lock:
            rows = self._connection.execute("SELECT state, COUNT(*) FROM jobs GROUP BY state").fetchall()
            return dict.fromkeys(STATES, 0) | dict(rows)

    def ended_before(self, moment: float) -> list[str]:
        """Ids of jobs that ended before a time in seconds since 1970."""
        with self._lock:
            rows = self._connection.execute("SELECT id FROM jobs WHERE finished < ?", (moment,)).fetchall()
            return [job_id for (job_id,) in rows]

    def oldest_waiting(self) -> float | None:
        """When the study that waits longest came, in seconds since 1970; None where none waits."""
        with self._lock:
            (moment,) = self._connection.execute("SELECT MIN(received) FROM jobs WHERE state=?", (QUEUED,)).fetchone()
            return None if moment is None else float(moment)

    def answers_since(self, moment: float) -> list[history.Answer]:
        """What remains of the answers since a time in seconds since 1970."""
        with self._lock:
            return history.since(self._connection, moment)

    def forget_old(self) -> None:
        """Remove audit lines and remains of answers that are older than either is kept."""
        with self.transaction() as sql:
            history.forget(sql)
            sql.execute("DELETE FROM audit WHERE at < ?", (time.time() - history.KEEP_DAYS * 86400,))

    def note(self, who: str, what: str, job: str = "") -> None:
        """A line of the audit log: who did what to which job. Never an identifier of a patient."""
        with self.transaction(durable=False) as sql:
            _note(sql, who, what, job)

    def audit(self, count: int = 1000) -> list[dict[str, Any]]:
        """The newest lines of the audit log, newest first."""
        with self._lock:
            rows = self._connection.execute(
                f"SELECT {', '.join(_AUDITED)} FROM audit ORDER BY number DESC LIMIT ?", (count,)
            ).fetchall()
            return [dict(zip(_AUDITED, row, strict=True)) for row in rows]


def new_id() -> str:
    """An id that nobody can guess."""
    return uuid.uuid4().hex


def _note(sql: sqlite3.Connection, who: str, what: str, job: str, plugin: str = "", hash_: str = "") -> None:
    cells = (time.time(), who, what, job, plugin, hash_)
    sql.execute(f"INSERT INTO audit ({', '.join(_AUDITED)}) VALUES (?, ?, ?, ?, ?, ?)", cells)


def _job(cursor: sqlite3.Cursor, row: Sequence[Any]) -> Job:
    cells = dict(zip([column[0] for column in cursor.description], row, strict=True))
    plain = {name: json.loads(cells.pop(name)) for name in ("request", "rows", "record")}
    return Job(**cells, **plain)
