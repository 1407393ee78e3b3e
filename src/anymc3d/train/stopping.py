"""A wish to stop, remembered until the state of a run is saved."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

logger = logging.getLogger(__name__)


class StopRequest:
    """Remembers SIGTERM, SIGUSR1, SIGHUP and the first Ctrl-C, so that the state is saved before the process ends."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number


@contextmanager
def listening() -> Iterator[StopRequest]:
    """Catch the stop signals while the block runs (only the main thread can)."""
    request = StopRequest()
    before = {}
    try:
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGINT):
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
