"""What is to be sent to which peer, as it is kept in the queue's file; :mod:`anymc3d.serve.deliveries` sends it."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from anymc3d.serve.queue_file import QueueFile

WAITING, SENDING, SENT, FAILED = "waiting", "sending", "sent", "failed"
_LONGEST_WAIT_S = 2 * 3600.0
_SHOWN = ("peer", "file", "state", "attempts", "message")


class DeliveryTable:
    """The deliveries of all jobs."""

    def __init__(self, file: QueueFile) -> None:
        self._file = file

    def due(self, peer: str, now: float) -> dict[str, Any] | None:
        """The first that may be sent now to a peer; one that would have to wait longer than any does is of a clock that
        was wrong."""
        with self._file.lock:
            cursor = self._file.sql.execute(
                "SELECT number, job, file, state, attempts FROM deliveries WHERE state IN (?, ?) "
                "AND (next_at <= ? OR next_at > ?) AND peer=? ORDER BY number LIMIT 1",
                (WAITING, SENDING, now, now + _LONGEST_WAIT_S, peer),
            )
            row = cursor.fetchone()
            return None if row is None else dict(zip([column[0] for column in cursor.description], row, strict=True))

    def note(
        self, number: int, state: str, *, message: str = "", next_at: float = 0.0, attempts: int | None = None
    ) -> None:
        """What became of a delivery."""
        with self._file.transaction() as sql:
            sql.execute(
                "UPDATE deliveries SET state=?, message=?, next_at=?, attempts=COALESCE(?, attempts) WHERE number=?",
                (state, message, next_at, attempts, number),
            )

    def of(self, job_id: str) -> list[dict[str, Any]]:
        """What is, or was, to be sent of a job."""
        with self._file.lock:
            rows = self._file.sql.execute(
                f"SELECT {', '.join(_SHOWN)} FROM deliveries WHERE job=? ORDER BY number", (job_id,)
            ).fetchall()
            return [dict(zip(_SHOWN, row, strict=True)) for row in rows]

    def counts(self) -> dict[tuple[str, str], int]:
        """(peer, state) -> how many files."""
        with self._file.lock:
            rows = self._file.sql.execute("SELECT peer, state, COUNT(*) FROM deliveries GROUP BY peer, state")
            return {(peer, state): count for peer, state, count in rows}


def add(sql: sqlite3.Connection, job_id: str, send: Sequence[tuple[str, str]]) -> None:
    """Peer and file of what is to be sent, within the transaction that ends the job."""
    sql.executemany(
        "INSERT OR IGNORE INTO deliveries (job, peer, file) VALUES (?, ?, ?)",
        [(job_id, peer, file) for peer, file in send],
    )


def forget(sql: sqlite3.Connection, job_id: str) -> None:
    """Send nothing more of a job."""
    sql.execute("DELETE FROM deliveries WHERE job=?", (job_id,))
