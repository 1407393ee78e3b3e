"""The answers of the last weeks against the plugin's training statistics, as far as its card records them.

Each comparison is of two shares: of studies here, and of cases there. An alarm is a difference that chance alone gives
less than once in a thousand looks (Fisher's exact test); looked at often, or over many labels, some will be false.
"""

from __future__ import annotations

import sqlite3
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from scipy.stats import fisher_exact

from anymc3d.evaluate.ood import QUANTILE
from anymc3d.evaluate.outputs import OOD_SCORE
from anymc3d.serve.history import Span

WINDOW_DAYS = 28.0
WEEK_S = 7 * 86400.0
ALARM_P = 0.001
FEWEST = 20
"""Answers below which nothing is called an alarm."""
MEASURES = {"p005": "0.5 % percentile", "p50": "median", "p995": "99.5 % percentile"}
"""Of a scan's intensities; the card has their 1 % and 99 % quantiles over the training scans."""
OUTSIDE = 0.02
"""The share of training scans outside these two quantiles."""
UNLIKE = 1 - QUANTILE
"""The share of training cases that the limits of ``ood_score`` let be an alarm."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """``count`` of ``of`` studies here, against ``reference_count`` of ``reference_of`` cases of training."""

    measure: str
    name: str
    """A label, or an image column with its percentile."""
    count: int
    of: int
    reference_count: int
    reference_of: int

    @property
    def p_value(self) -> float:
        """That two samples of one kind differ as much (two-sided)."""
        if not self.of or not self.reference_of:
            return 1.0
        rest = (self.of - self.count, self.reference_of - self.reference_count)
        return float(fisher_exact([[self.count, self.reference_count], rest]).pvalue)

    @property
    def is_alarm(self) -> bool:
        """Whether there are enough answers, and too many or too few of them differ."""
        return self.of >= FEWEST and self.p_value < ALARM_P

    def record(self) -> dict[str, Any]:
        """JSON-ready, with shares."""
        shares = {
            "share": self.count / self.of if self.of else None,
            "reference_share": self.reference_count / self.reference_of if self.reference_of else None,
        }
        return asdict(self) | shares | {"p_value": self.p_value, "is_alarm": self.is_alarm}


def drift(sql: sqlite3.Connection, plugins: Sequence[Mapping[str, Any]], now: float | None = None) -> dict[str, Any]:
    """The whole comparison, JSON-ready.

    Args:
        sql: of the queue's file.
        plugins: what the worker says of each, with its ``training``.
        now: the end of the :data:`WINDOW_DAYS` in seconds since 1970.
    """
    end = time.time() if now is None else now
    by_plugin = []
    for plugin in plugins:
        span = Span(sql, plugin["name"], end - WINDOW_DAYS * 86400, end)
        by_plugin.append(
            {
                "plugin": plugin["name"],
                **_counts(span),
                "comparisons": [comparison.record() for comparison in compared(span, plugin)],
                "weeks": list(_weeks(span)),
            }
        )
    return {"window_days": WINDOW_DAYS, "plugins": by_plugin}


def compared(span: Span, plugin: Mapping[str, Any]) -> Iterator[Comparison]:
    """Every comparison that the card of a plugin allows."""
    training = plugin.get("training", {})
    decided = span.decided
    for label, (count, of) in training.get("positive", {}).items():
        here = decided.get(label, (0, 0))
        yield Comparison(
            measure="positive", name=label, count=here[0], of=here[1], reference_count=count, reference_of=of
        )
    if training.get("scan_statistics"):
        scores = span.ood_scores
        yield Comparison(
            measure="unlike the training scans",
            name=f"{OOD_SCORE} above 1",
            count=sum(score > 1 for score in scores),
            of=len(scores),
            reference_count=round(UNLIKE * training["scan_statistics"]),
            reference_of=training["scan_statistics"],
        )
    for column, summary in training.get("intensities", {}).items():
        ranges = {measure: (summary[measure]["low"], summary[measure]["high"]) for measure in MEASURES}
        for measure, (count, of) in span.outside(column, ranges).items():
            yield Comparison(
                measure="outside the training range",
                name=f"{column}, {MEASURES[measure]}",
                count=count,
                of=of,
                reference_count=round(OUTSIDE * summary["num_scans"]),
                reference_of=summary["num_scans"],
            )


def _counts(span: Span) -> dict[str, int]:
    states = span.states
    return {"answers": sum(states.values()), "warnings": states.get("warn", 0), "errors": states.get("error", 0)}


def _weeks(span: Span) -> Iterator[dict[str, Any]]:
    """Newest last: counts, mean probability of each label, the median of the scans' medians, and of ``ood_score``."""
    for index in range(int(WINDOW_DAYS // 7), 0, -1):
        start = span.until - index * WEEK_S
        week = replace(span, since=start, until=start + WEEK_S)
        scores = week.ood_scores
        yield {
            "from": start,
            **_counts(week),
            f"median_{OOD_SCORE}": statistics.median(scores) if scores else None,
            "mean_probability": week.mean_probabilities,
            "median_intensity": week.median_intensities,
        }
