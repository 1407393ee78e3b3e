"""The budget: what was spent before a kill counts, what a step will cost is said before it begins."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Clock:
    """``total_s`` seconds in all, of which ``before_s`` were spent by earlier runs of the same command."""

    total_s: float
    before_s: float = 0.0
    now: Callable[[], float] = time.monotonic
    _start: float = field(init=False)

    def __post_init__(self) -> None:
        self._start = self.now()

    @property
    def spent_s(self) -> float:
        """Seconds, those of earlier runs included."""
        return self.before_s + self.now() - self._start

    @property
    def left_s(self) -> float:
        """Seconds; below 0 when the budget is spent."""
        return self.total_s - self.spent_s


@dataclass
class Pace:
    """Seconds that one unit of work takes, from what was measured; what was measured last counts most."""

    seconds: float = 0.0
    units: float = 0.0

    def measured(self, seconds: float, units: float) -> None:
        """Note that ``units`` took ``seconds``."""
        if units > 0:
            self.seconds, self.units = seconds + 0.3 * self.seconds, units + 0.3 * self.units

    def of(self, units: float) -> float:
        """Seconds that so many would take; 0 where nothing is known."""
        return units * self.seconds / self.units if self.units else 0.0


def in_words(seconds: float) -> str:
    """Such as ``40 s`` or ``3.5 min``."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"
