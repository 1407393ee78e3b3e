"""A sign of life: where there is no terminal, a line when a command has said nothing for half a minute.

Bars write a line when something is finished (:mod:`anymc3d.cost.progress`). One large scan, or a stage without a bar,
can take longer than a reader of a log file should wait.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)

SILENCE_S = 25.0
"""Together with one look a second, lines are less than 30 s apart."""
LOOK_EVERY_S = 1.0

_at_work: list[Callable[[], str]] = []


def begin_work(words: Callable[[], str]) -> None:
    """``words`` say what is being done, and how far it is, until :func:`end_work`; called in another thread."""
    _at_work.append(words)


def end_work(words: Callable[[], str]) -> None:
    """The work of ``words`` has ended, or was ended before."""
    if words in _at_work:
        _at_work.remove(words)


class _LastWord(logging.Handler):
    """When a line was last written."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.when = time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        self.when = time.monotonic()


@contextmanager
def heard(*, silence_s: float = SILENCE_S, look_every_s: float = LOOK_EVERY_S) -> Iterator[None]:
    """In the block a line is logged whenever nothing was for ``silence_s`` seconds."""
    last, stop, started = _LastWord(), threading.Event(), time.monotonic()

    def watch() -> None:
        while not stop.wait(look_every_s):
            now = time.monotonic()
            if now - last.when >= silence_s:
                logger.info(_words(now - started))

    thread = threading.Thread(target=watch, name="heartbeat", daemon=True)
    logging.getLogger().addHandler(last)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        logging.getLogger().removeHandler(last)


def _words(seconds: float) -> str:
    """The words of the innermost work that is known; otherwise that the command is still at work."""
    try:
        return _at_work[-1]()
    except IndexError:
        return f"still at work, {seconds:.0f} s so far"
