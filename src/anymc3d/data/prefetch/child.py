"""What a reading process does: jobs in, answers out, one after the other, until its input ends.

It has one thread for computing, is not reached by Ctrl-C (its parent ends it), and is the first that the system ends
where memory is short.
"""

from __future__ import annotations

import logging
import os
import queue
import resource
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from anymc3d.data import remote
from anymc3d.data.cache import Cache
from anymc3d.data.case import Case
from anymc3d.data.case_faults import CaseFault
from anymc3d.data.case_scans import CaseScans, PreparedCase
from anymc3d.data.dataset import prepared_or_fault
from anymc3d.data.prefetch.needs import Needs
from anymc3d.data.prefetch.wire import READY, BrokenMessageError, LogLine, receive, send
from anymc3d.data.time_limit import within
from anymc3d.errors import TRACEBACKS
from anymc3d.settings.views import ViewSettings


@lru_cache(maxsize=1)
def _cache(folder: str) -> Cache:
    return Cache(Path(folder))


def prepare_case(case: Case, views: dict[str, ViewSettings], folder: str, with_masks: bool) -> PreparedCase | CaseFault:
    """One case as :func:`anymc3d.data.dataset.prepared_or_fault` has it, its slices in the cache in ``folder``."""
    return prepared_or_fault(case, views, _cache(folder), None, with_masks)


def read_case(case: Case, needs: Needs, timeout_s: float | None, memory_bytes: int | None = None) -> dict[str, Any]:
    """What ``needs`` names of a case, see :meth:`anymc3d.data.case_scans.CaseScans.answers`."""
    return CaseScans(case).answers(needs, lambda make: within(timeout_s, make, memory_bytes))


JOBS: Mapping[str, Callable[..., Any]] = {"read": read_case, "prepare": prepare_case}
"""THE table of what a reading process can be asked."""


def serve(requests: BinaryIO, replies: BinaryIO, logs: Lines) -> None:
    """Answer jobs: (value or exception, seconds, lines of the log)."""
    waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests, waiting), daemon=True).start()
    send(replies, READY)
    if not logging.getLogger("anymc3d").isEnabledFor(TRACEBACKS):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what libraries say of a scan may hold its tags
    while True:
        name, arguments = waiting.get()
        begun = time.monotonic()
        try:
            result = JOBS[name](**arguments)
        except Exception as error:  # noqa: BLE001 (who asked raises it again)
            result = error
        send(replies, (result, time.monotonic() - begun, logs.take()))


def _listen(requests: BinaryIO, waiting: queue.SimpleQueue[Any]) -> None:
    """Once the parent process is gone, however it ended, nobody waits for the work."""
    with suppress(BrokenMessageError, OSError):
        while True:
            waiting.put(receive(requests))
    os._exit(0)


class Lines(logging.Handler):
    """Keeps the lines of the log until an answer takes them along."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[LogLine] = []

    def emit(self, record: logging.LogRecord) -> None:
        """See :class:`logging.Handler`."""
        self._lines.append((record.name, record.levelno, record.getMessage()))

    def take(self) -> list[LogLine]:
        """The lines since the last time."""
        lines, self._lines = self._lines, []
        return lines


def _begin(level: int, prefixes: Sequence[str]) -> Lines:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # no scan is left behind in a core dump
    os.umask(0o077)
    with suppress(OSError):  # not every system has it
        Path("/proc/self/oom_score_adj").write_text("700")
    lines = Lines()
    logger = logging.getLogger("anymc3d")
    logger.addHandler(lines)
    logger.setLevel(level)
    logger.propagate = False
    remote.allow(prefixes)
    return lines


if __name__ == "__main__":
    # What libraries print must not stand between the answers.
    _replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with suppress(BrokenPipeError):
        serve(sys.stdin.buffer, _replies, _begin(*receive(sys.stdin.buffer)))
