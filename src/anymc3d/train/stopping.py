"""A wish to stop, remembered until the state of a run is saved."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType

logger = logging.getLogger(__name__)

OUT_OF_TIME = -1
"""In place of the number of a signal, when the time that was given is over."""
_is_over: ContextVar[Callable[[], bool]] = ContextVar("is_over", default=lambda: False)


class StopRequest:
    """Remembers SIGTERM, SIGUSR1, SIGUSR2, SIGHUP and the first Ctrl-C, so that the state is saved before the end."""

    def __init__(self) -> None:
        self.asked: int | None = None
        """The signal that came."""

    @property
    def signal(self) -> int | None:
        """``asked``; :data:`OUT_OF_TIME` inside :func:`ending_when`, once that is so."""
        return OUT_OF_TIME if self.asked is None and _is_over.get()() else self.asked

    @signal.setter
    def signal(self, number: int | None) -> None:
        self.asked = number

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.asked is not None:
            raise KeyboardInterrupt
        self.asked = number


@contextmanager
def ending_when(is_over: Callable[[], bool]) -> Iterator[None]:
    """Let every run inside the block stop as if a signal had come, once ``is_over`` says so."""
    before = _is_over.set(is_over)
    try:
        yield
    finally:
        _is_over.reset(before)


@contextmanager
def listening() -> Iterator[StopRequest]:
    """Catch the stop signals while the block runs (only the main thread can)."""
    request = StopRequest()
    before = {}
    try:
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGINT):
            if signal.getsignal(number) == signal.SIG_IGN:
                continue  # as nohup asks for
            before[number] = signal.signal(number, request)
    except ValueError:
        logger.debug("not the main thread: stop signals keep their usual effect")
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
