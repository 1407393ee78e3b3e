"""The comparison with the training data as it was last made: requests wait for no hundred thousand answers."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from anymc3d.serve.drift import drift
from anymc3d.serve.jobs import JobStore

logger = logging.getLogger(__name__)

FRESH_S, PAUSE = 60.0, 50
"""A comparison is made anew after this long, and after so many times as long as it took."""


class DriftWatch:
    """Compares when it is asked, at most so often; only who asks first waits for it."""

    def __init__(self, jobs: JobStore, plugins: Callable[[], Sequence[Mapping[str, Any]]]) -> None:
        self._jobs, self._plugins = jobs, plugins
        self._found: dict[str, Any] | None = None
        self._fresh_until = 0.0
        self._comparing = threading.Lock()

    def current(self) -> dict[str, Any]:
        """As of :func:`anymc3d.serve.drift.drift`, a minute old or somewhat more."""
        if self._found is None:
            with self._comparing:
                return self._found or self._compare()
        if time.monotonic() > self._fresh_until and self._comparing.acquire(blocking=False):
            threading.Thread(target=self._compare_anew, name="drift", daemon=True).start()
        return self._found

    def forget(self) -> None:
        """Compare when it is asked next."""
        self._found = None

    def _compare_anew(self) -> None:
        try:
            self._compare()
        except Exception:
            logger.exception("the answers could not be compared with the training data; it is tried again")
            self._fresh_until = time.monotonic() + FRESH_S
        finally:
            self._comparing.release()

    def _compare(self) -> dict[str, Any]:
        begun = time.monotonic()
        with self._jobs.reading() as sql:
            found = self._found = drift(sql, self._plugins())
        ended = time.monotonic()
        self._fresh_until = ended + max(FRESH_S, PAUSE * (ended - begun))
        return found
