"""A limit to the time that one case may take, so that a night's run does not wait for one scan without end."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

from anymc3d.data.memory_limit import memory_limit
from anymc3d.errors import ScanError, UsageError


class TooSlowError(ScanError):
    """A case took longer than it was given."""

    code = "E-timeout"


T = TypeVar("T")


def within(seconds: float | None, work: Callable[[], T], memory_bytes: int | None = None) -> T:
    """What ``work`` gives, if it takes no longer than that, and no more memory.

    Raises:
        TooSlowError, TooLargeError, UsageError: as :func:`time_limit` and :func:`memory_limit`.
    """
    with time_limit(seconds), memory_limit(memory_bytes):
        return work()


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """End what is done in the block after so many seconds; None = never.

    By an alarm of the operating system: it reaches a read that does not come back, as of a lost network folder, and
    what Python does; a library that computes without a return to Python is not interrupted before it does return.

    Raises:
        TooSlowError: the time is over.
        UsageError: this is not the main thread, which alone has alarms.
    """
    if seconds is None:
        yield
        return

    def give_up(number: int, frame: FrameType | None) -> None:
        raise TooSlowError(f"no answer within {seconds:g} s (--timeout); give it more time, or look at the scan")

    try:
        before = signal.signal(signal.SIGALRM, give_up)
    except ValueError:
        raise UsageError("a time limit needs the main thread; leave it out here") from None
    others = (0.0, 0.0)  # somebody else's alarm, which goes on afterwards
    try:
        others = signal.setitimer(signal.ITIMER_REAL, seconds)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *others)
