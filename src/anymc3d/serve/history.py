"""What remains of every answer for the comparison with the training data: numbers, and nothing that names a study.

It is kept longer than the studies (:data:`KEEP_DAYS`), in the same file as the queue, and written in the same
transaction as the answer.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from anymc3d.evaluate.outputs import OOD_SCORE

KEEP_DAYS = 400.0
SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    at REAL NOT NULL,
    plugin TEXT NOT NULL,
    status TEXT NOT NULL,
    facts TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS answers_by_time ON answers (at);
"""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One plugin's answer, without its study. ``at``: seconds since 1970; ``status``: ok, warn or error."""

    at: float
    plugin: str
    status: str
    decisions: Mapping[str, int]
    probabilities: Mapping[str, float]
    intensities: Mapping[str, Mapping[str, float]]
    """Image column -> measure -> value, in raw units."""
    ood_score: float | None = None
    """How far from the training scans, above 1 an alarm; None: not known, as of answers of earlier versions."""


def remember(sql: sqlite3.Connection, rows: Sequence[Mapping[str, Any]], record: Mapping[str, Any]) -> None:
    """Write one line per row of an answered study; within the transaction that ends its job."""
    for row in rows:
        facts = {
            "decisions": _cells(row, "decision."),
            "probabilities": _cells(row, "probability."),
            "intensities": record.get("intensities", {}).get(row["plugin"], {}),
            OOD_SCORE: row.get(OOD_SCORE),
        }
        sql.execute(
            "INSERT INTO answers (at, plugin, status, facts) VALUES (?, ?, ?, ?)",
            (time.time(), row["plugin"], row["status"], json.dumps(facts)),
        )


def since(sql: sqlite3.Connection, moment: float) -> list[Answer]:
    """All answers from a moment on, oldest first."""
    found = sql.execute("SELECT at, plugin, status, facts FROM answers WHERE at >= ? ORDER BY number", (moment,))
    return [Answer(at=at, plugin=plugin, status=status, **json.loads(facts)) for at, plugin, status, facts in found]


def forget(sql: sqlite3.Connection) -> None:
    """Remove what is older than :data:`KEEP_DAYS`."""
    sql.execute("DELETE FROM answers WHERE at < ?", (time.time() - KEEP_DAYS * 86400,))


def _cells(row: Mapping[str, Any], start: str) -> dict[str, Any]:
    return {key.removeprefix(start): value for key, value in row.items() if key.startswith(start)}
