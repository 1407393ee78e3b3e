"""The audit log: who did what to which job, when, and which plugin with which hash answered. Never an identifier of a
patient."""

from __future__ import annotations

import sqlite3
import time
from typing import Any

from anymc3d.serve import history
from anymc3d.serve.queue_file import QueueFile

_COLUMNS = ("at", "who", "what", "job", "plugin", "hash")


class AuditLog:
    """The lines of the log in the queue's file."""

    def __init__(self, file: QueueFile) -> None:
        self._file = file

    def note(self, who: str, what: str, job: str = "") -> None:
        """Add a line."""
        with self._file.transaction(durable=False) as sql:
            write(sql, who, what, job)

    def lines(self, count: int = 1000) -> list[dict[str, Any]]:
        """The newest lines, newest first."""
        with self._file.lock:
            rows = self._file.sql.execute(
                f"SELECT {', '.join(_COLUMNS)} FROM audit ORDER BY number DESC LIMIT ?", (count,)
            ).fetchall()
            return [dict(zip(_COLUMNS, row, strict=True)) for row in rows]


def write(sql: sqlite3.Connection, who: str, what: str, job: str, plugin: str = "", hash_: str = "") -> None:
    """Add a line within the transaction of what it is about."""
    cells = (time.time(), who, what, job, plugin, hash_)
    sql.execute(f"INSERT INTO audit ({', '.join(_COLUMNS)}) VALUES (?, ?, ?, ?, ?, ?)", cells)


def forget(sql: sqlite3.Connection) -> None:
    """Remove what is older than the remains of answers are kept."""
    sql.execute("DELETE FROM audit WHERE at < ?", (time.time() - history.KEEP_DAYS * 86400,))
