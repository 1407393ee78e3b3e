"""Browsers that have given the token: a cookie instead of a header, so that no address holds a secret.

A session lives in memory: it ends with the service, after :data:`LIFE_S`, or when the browser closes.
"""

from __future__ import annotations

import hmac
import secrets
import threading
import time

COOKIE = "anymc3d_session"
LIFE_S = 12 * 3600.0
MAX_SESSIONS = 1000
"""The oldest ends when more are opened."""


class Sessions:
    """The sessions of one service; ``token`` None: nothing is asked for."""

    def __init__(self, token: str | None) -> None:
        self._token, self._lock = token, threading.Lock()
        self._ends: dict[str, float] = {}

    def is_token(self, given: str) -> bool:
        """Whether this is the token; compared in constant time."""
        return self._token is None or hmac.compare_digest(given.encode(), self._token.encode())

    def begin(self, presented: str) -> str | None:
        """The name of a new session, 256 random bits; None where the token is wrong."""
        if not self.is_token(presented):
            return None
        name, now = secrets.token_hex(32), time.monotonic()
        with self._lock:
            self._ends = {old: end for old, end in self._ends.items() if end > now}
            while len(self._ends) >= MAX_SESSIONS:
                del self._ends[next(iter(self._ends))]
            self._ends[name] = now + LIFE_S
        return name

    def is_open(self, name: str) -> bool:
        """Whether a session of this name was begun and has not ended."""
        with self._lock:
            return self._ends.get(name, 0.0) > time.monotonic()

    def end(self, name: str) -> None:
        """Forget a session."""
        with self._lock:
            self._ends.pop(name, None)


def cookie_of(header: str) -> str:
    """The session's name in a Cookie header; empty where there is none."""
    for part in header.split(";"):
        name, _, value = part.strip().partition("=")
        if name == COOKIE:
            return value
    return ""
