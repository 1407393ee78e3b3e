"""The one SQLite file of a service, which jobs, deliveries, the audit log and the answers' remains share.

It is in write-ahead mode; its log is brought to the disk before a client hears of a job, so that it is there after a
power cut. That is done outside of the lock: clients wait for the disk together, and the worker for none of them.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from anymc3d.errors import ServiceError, UsageError
from anymc3d.serve.schema import FORMAT, SCHEMA

DAMAGED = "it is damaged ({}); put it back from a backup, or choose another --store"


class QueueFullError(UsageError):
    """As many studies wait as may."""

    code = "E-queue-full"


class QueueFile:
    """A connection for this program's own threads; safe from several of them.

    Raises:
        ServiceError: the file is of another version, damaged, or is no queue.
    """

    def __init__(self, path: Path) -> None:
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        """Notified after every change."""
        self._path, self._is_behind = path, False
        try:
            self.sql = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self.sql.execute("PRAGMA journal_mode=WAL")
            (version,) = self.sql.execute("PRAGMA user_version").fetchone()
            if version not in (0, FORMAT):
                raise ServiceError(f"{path}: a queue of format {version}, expected {FORMAT}; choose another --store")
            (found,) = self.sql.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise sqlite3.DatabaseError(" ".join(found.split()))
            self.sql.executescript(SCHEMA)
            self.sql.execute(f"PRAGMA user_version={FORMAT}")
            self.sql.execute("PRAGMA synchronous=NORMAL")
            # Closing a second descriptor of this file drops no lock: SQLite's are on the other two.
            self._log = os.open(f"{path}-wal", os.O_RDONLY)
        except sqlite3.OperationalError as error:
            raise ServiceError(f"{path}: the queue of the service cannot be opened ({error})") from None
        except sqlite3.DatabaseError as error:
            raise ServiceError(f"{path}: expected the queue of a service, but {DAMAGED.format(error)}") from None
        path.chmod(0o600)

    def close(self) -> None:
        """Let go of the file."""
        with self.lock:
            self.sql.close()
            os.close(self._log)

    @contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """All of what is done in it, or nothing.

        ``durable``: it is on the disk afterwards. Without, a power cut (not a kill) may undo it, until the next durable
        one: right for what a start makes good again.
        """
        with self.lock:
            self.sql.execute("BEGIN IMMEDIATE")
            try:
                yield self.sql
                self.sql.execute("COMMIT")
            except BaseException:
                if self.sql.in_transaction:
                    self.sql.execute("ROLLBACK")
                raise
            self.changed.notify_all()
            self._is_behind |= not durable
        if durable:
            os.fsync(self._log)

    def sync(self) -> None:
        """Bring to the disk what was done so far; for one thread, which takes jobs and ends them."""
        if self._is_behind:
            self._is_behind = False
            os.fsync(self._log)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection that only reads, for long questions: neither clients nor the worker wait for them."""
        with closing(sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True)) as sql:
            yield sql
