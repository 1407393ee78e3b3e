"""How far a long job is: a bar on a terminal, and in a log file or notebook a line now and then with what is left."""

from __future__ import annotations

import io
import logging
import sys
import weakref
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from tqdm import tqdm

from anymc3d.cost.heartbeat import begin_work, end_work

logger = logging.getLogger(__name__)

LINE_EVERY_S = 30.0
FIRST_LINE_S = 4.0
"""The first line of a job comes after so much; two short jobs in a row stay silent for less than ten seconds."""
PACE = 0.03
"""Later ones after so much of the time so far, and never further apart than ``LINE_EVERY_S``."""


LEAST_UNITS, SURE_S = 3, 20.0
"""Since a mark, from which on a pace is worth something: so many units, or one where so many seconds went by."""
Mark = tuple[float, float]
"""Units done after so many seconds."""


class Progress(tqdm):  # type: ignore[type-arg]
    """A tqdm bar that writes whole lines to the log where there is no terminal; ``quiet``: nothing at all.

    Args:
        what: such as ``reading scans``.
        unit: such as ``scan``.
    """

    last_line: ClassVar[float | None] = None
    """When a bar of this process last wrote a line."""

    def __init__(
        self,
        iterable: Iterable[Any] | None = None,
        *,
        what: str,
        unit: str,
        quiet: bool,
        total: int | None = None,
        initial: int = 0,
        **other: Any,
    ) -> None:
        self.is_drawn = sys.stderr.isatty()
        self.next_line_s = 0.0
        self.seen: list[Mark] = []
        self._words = partial(_words_of, weakref.ref(self))
        # tqdm writes signs of its own to its file, also where nothing is drawn.
        pace = {} if self.is_drawn else {"mininterval": wait_s(0), "miniters": 1, "file": io.StringIO()}
        super().__init__(
            iterable, desc=what, unit=unit, total=total, initial=initial, disable=quiet, leave=False, **pace, **other
        )
        if (
            not self.is_drawn
            and not quiet
            and self.last_line is not None
            and self.start_t - self.last_line < LINE_EVERY_S
        ):
            self.last_print_t = self.last_line  # the next job of one command: its reader has waited since then
        if not self.is_drawn and not quiet:
            begin_work(self._words)

    def close(self) -> None:
        """The job has ended."""
        end_work(self._words)
        super().close()

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Draw the bar, or log a line; nothing before there is anything to say."""
        if self.is_drawn:
            return bool(super().display(msg, pos))
        if msg != "" and self.n > self.initial:
            self._log(self.format_dict)
        return True

    def _log(self, state: dict[str, Any]) -> None:
        """A line, unless the last one was just now. tqdm's own interval must not change in an iteration."""
        if state["elapsed"] >= self.next_line_s:
            logger.info(line(state, pace_from(self.seen, state["elapsed"])))
            self.seen.append((state["n"], state["elapsed"]))
            Progress.last_line = self._time()
            self.next_line_s = state["elapsed"] + 0.9 * wait_s(state["elapsed"])

    def set_postfix(self, *what: Any, refresh: bool | None = None, **values: Any) -> None:
        """As tqdm; where lines are logged, the next one in its turn shows it, and not one for every step."""
        super().set_postfix(*what, refresh=self.is_drawn if refresh is None else refresh, **values)


def _words_of(bar: weakref.ref[Progress]) -> str:
    """The line of a bar as it stands, which is kept by nothing but its job."""
    progress = bar()
    if progress is None:
        return ""
    state = progress.format_dict
    return line(state, pace_from(progress.seen, state["elapsed"]))


def wait_s(elapsed: float) -> float:
    """Seconds from one line of a job to the next, ``elapsed`` seconds after it began."""
    return min(LINE_EVERY_S, max(FIRST_LINE_S, PACE * elapsed))


def pace_from(seen: Sequence[Mark], elapsed: float) -> Mark | None:
    """The mark since which the pace is measured: of the later half of the job, and never its start, where things are
    loaded, compiled and found in caches. None before there is one."""
    return next((mark for mark in seen if mark[1] >= elapsed / 2), seen[-1] if seen else None)


def line(state: Mapping[str, Any], since: Mark | None = None) -> str:
    """``reading scans: 40 of 80 scans, 31 s so far, about 30 s left``; what is left by the pace ``since`` a mark, and
    not at all while that is of too little to be worth something."""
    count, total, seconds = state["n"], state["total"], state["elapsed"]
    text = f"{state['prefix']}: {count}{f' of {total}' if total else ''} {state['unit']}s, {duration(seconds)} so far"
    if not total or count >= total or since is None:
        return text
    units, took = count - since[0], seconds - since[1]
    if units < (1 if took >= SURE_S else LEAST_UNITS):
        return text
    return f"{text}, about {duration(took * (total - count) / units)} left"


def duration(seconds: float) -> str:
    """Seconds in the unit that people would use."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
