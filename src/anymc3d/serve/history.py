"""What remains of every answer for the comparison with the training data: numbers, and nothing that names a study.

It is kept longer than the studies (:data:`KEEP_DAYS`), in the same file as the queue, and written in the same
transaction as the answer. A hospital has a hundred thousand answers in four weeks: SQLite adds them up, by a connection
that only reads, so that the queue waits for none of it.
"""

from __future__ import annotations

import json
import math
import sqlite3
import statistics
import time
from collections import defaultdict
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
CREATE INDEX IF NOT EXISTS answers_by_plugin ON answers (plugin, at);
"""
_SPAN = "plugin = ? AND at >= ? AND at < ?"
_ANSWERED = f"{_SPAN} AND status != 'error'"


def remember(sql: sqlite3.Connection, rows: Sequence[Mapping[str, Any]], record: Mapping[str, Any]) -> None:
    """Write one line per row of an answered study; within the transaction that ends its job."""
    for row in rows:
        facts = {
            "decisions": _cells(row, "decision."),
            "probabilities": _cells(row, "probability."),
            "intensities": {
                column: _finite(summary)
                for column, summary in record.get("intensities", {}).get(row["plugin"], {}).items()
            },
        }
        facts |= _finite({OOD_SCORE: row.get(OOD_SCORE)})
        sql.execute(
            "INSERT INTO answers (at, plugin, status, facts) VALUES (?, ?, ?, ?)",
            (time.time(), row["plugin"], row["status"], json.dumps(facts)),
        )


def forget(sql: sqlite3.Connection) -> None:
    """Remove what is older than :data:`KEEP_DAYS`."""
    sql.execute("DELETE FROM answers WHERE at < ?", (time.time() - KEEP_DAYS * 86400,))


@dataclass(frozen=True)
class Span:
    """The answers of one plugin from ``since`` to before ``until`` (seconds since 1970). Answers that are errors count
    in :attr:`states` alone."""

    sql: sqlite3.Connection
    plugin: str
    since: float
    until: float

    @property
    def states(self) -> dict[str, int]:
        """Status (ok, warn, error) -> how many answers."""
        return dict(self._all(f"SELECT status, COUNT(*) FROM answers WHERE {_SPAN} GROUP BY status"))

    @property
    def decided(self) -> dict[str, tuple[int, int]]:
        """Label -> how many were decided positive, of how many."""
        found = self._all(
            "SELECT d.key, SUM(d.value), COUNT(*) FROM answers, json_each(answers.facts, '$.decisions') AS d "
            f"WHERE {_ANSWERED} GROUP BY d.key"
        )
        return {label: (count, of) for label, count, of in found}

    @property
    def mean_probabilities(self) -> dict[str, float]:
        """Label -> mean probability."""
        return dict(
            self._all(
                "SELECT p.key, AVG(p.value) FROM answers, json_each(answers.facts, '$.probabilities') AS p "
                f"WHERE {_ANSWERED} GROUP BY p.key"
            )
        )

    @property
    def median_intensities(self) -> dict[str, float]:
        """Image column -> the median of the scans' own medians, in raw units."""
        by_column = defaultdict(list)
        for column, value in self._all(
            "SELECT i.key, json_extract(i.value, '$.p50') AS median FROM answers, "
            f"json_each(answers.facts, '$.intensities') AS i WHERE {_ANSWERED} AND median IS NOT NULL"
        ):
            by_column[column].append(value)
        return {column: statistics.median(values) for column, values in by_column.items()}

    @property
    def ood_scores(self) -> list[float]:
        """Where they are known: how far from the training scans, above 1 an alarm."""
        scores = f"SELECT json_extract(facts, '$.{OOD_SCORE}') AS score FROM answers WHERE {_ANSWERED}"
        return [score for (score,) in self._all(f"{scores} AND score IS NOT NULL")]

    def outside(self, column: str, ranges: Mapping[str, tuple[float, float]]) -> dict[str, tuple[int, int]]:
        """Intensity measure -> how many scans have it below its low or above its high end, of how many."""
        words, values = [], []
        for measure, (low, high) in ranges.items():
            value = "json_extract(i.value, ?)"
            words.append(f"COALESCE(SUM({value} < ? OR {value} > ?), 0), COUNT({value})")
            values += [f"$.{measure}", low, f"$.{measure}", high, f"$.{measure}"]
        (found,) = self._all(
            f"SELECT {', '.join(words)} FROM answers, json_each(answers.facts, '$.intensities') AS i "
            f"WHERE i.key = ? AND {_ANSWERED}",
            (*values, column),
        )
        return {measure: (found[2 * i], found[2 * i + 1]) for i, measure in enumerate(ranges)}

    def _all(self, question: str, before: Sequence[Any] = ()) -> list[Any]:
        return self.sql.execute(question, (*before, self.plugin, self.since, self.until)).fetchall()


def _cells(row: Mapping[str, Any], start: str) -> dict[str, Any]:
    return _finite({key.removeprefix(start): value for key, value in row.items() if key.startswith(start)})


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """What JSON has a word for: SQLite reads no line with another."""
    return {name: value for name, value in values.items() if value is not None and math.isfinite(value)}
