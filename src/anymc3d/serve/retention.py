"""When nothing may be removed: a clock that was moved, and a store whose queue is gone.

What is kept too long can be removed later; what is removed is lost.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

from anymc3d.errors import RunFolderError

logger = logging.getLogger(__name__)

TRUSTED_S = 6 * 3600.0
"""By so much the clock may be set while the service runs: a correction, or another time zone by mistake."""


class Clock:
    """Compares the system's clock with the monotonic one, from when it is made."""

    def __init__(self) -> None:
        self._begun, self._steady, self._is_said = time.time(), _steady(), False

    def was_moved(self) -> bool:
        """Whether the clock was moved by more than :data:`TRUSTED_S`; the log says so, once."""
        moved = time.time() - self._begun - (_steady() - self._steady)
        is_moved = abs(moved) > TRUSTED_S
        if is_moved and not self._is_said:
            logger.error(
                "the clock was moved by %+.1f days while the service ran: nothing is removed for its age until the "
                "service is started again with the right time",
                moved / 86400,
            )
        self._is_said = is_moved
        return is_moved


def check_not_lost(store: Path) -> None:
    """Check that a store with studies has its queue: a new queue would know none of them, and they would be removed.

    Raises:
        RunFolderError: the queue is gone.
    """
    queue = store / "queue.sqlite3"
    has_queue = queue.exists() and queue.stat().st_size > 0
    count = 0 if has_queue else sum(1 for _ in (store / "jobs").glob("??/*"))
    if count:
        studies = "1 study" if count == 1 else f"{count} studies"
        raise RunFolderError(
            f"{store}: its jobs folder has the files of {studies}, and {queue.name}, which knows them, is gone; put it "
            "back from a backup, move the jobs folder away, or choose another --store"
        )


def _steady() -> float:
    """Seconds of a monotonic clock; on Linux it goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()
