"""The parts of a plugin's card that are records of something: one line per key, with its bounds.

They stay plain data in the card; these classes say what a file may hold. To record more, add a line with a default, so
that plugins written before stay readable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from anymc3d.errors import UsageError
from anymc3d.settings.limits import Between, Count, Entry, Label, Length

Note = Annotated[str, Length(2000)]
"""A sentence for people, which every place that shows it makes printable."""
Number = Annotated[float, Between(-1e15, 1e15)]


@dataclass(frozen=True, kw_only=True)
class Quantiles:
    """Of one measure over the training scans, in raw units: 1 % quantile, median, 99 % quantile."""

    low: Number
    median: Number
    high: Number

    def __post_init__(self) -> None:
        if not self.low <= self.median <= self.high:
            raise UsageError(f"expected low, median, high in this order, got {self.low}, {self.median}, {self.high}")


@dataclass(frozen=True, kw_only=True)
class IntensitySummary:
    """What :func:`anymc3d.data.intensity.summarise` says of the training scans of one image column."""

    num_scans: Count
    minimum: Quantiles
    p005: Quantiles
    p05: Quantiles
    p25: Quantiles
    p50: Quantiles
    p75: Quantiles
    p95: Quantiles
    p995: Quantiles
    maximum: Quantiles
    distinct: Quantiles


@dataclass(frozen=True, kw_only=True)
class MetricRow:
    """One row of ``metrics.csv``."""

    metric: Entry
    label: Annotated[str, Length(500)]
    group: Annotated[str, Length(500)]
    split: Label
    plugin: Label
    operating_point: Label
    value: Number | None
    ci_low: Number | None
    ci_high: Number | None
    ci_method: Entry
    n: Count
    n_positive: Count | None
    reason: Note


@dataclass(frozen=True, kw_only=True)
class SplitCounts:
    """How much one split holds."""

    cases: Count
    patients: Count


@dataclass(frozen=True, kw_only=True)
class SplitRecord:
    """How the cases were split, without one id."""

    unit: Literal["patient"] = "patient"
    train: SplitCounts | None = None
    val: SplitCounts | None = None
    test: SplitCounts | None = None
    train_hash: Label = ""
    """Salted, over the ids of the training cases."""
