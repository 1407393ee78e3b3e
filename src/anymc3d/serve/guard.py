"""What every request passes before a route sees it: host, origin, token, size and pace of its body."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request

from anymc3d.serve.sessions import Sessions, cookie_of
from anymc3d.serve.settings import LOOPBACK, ServeSettings
from anymc3d.serve.uploads import has_room

logger = logging.getLogger(__name__)

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Count = Callable[[int], None]
"""Called with the status of every request that was refused or failed."""

OPEN_PATHS = ("/healthz", "/readyz", "/", "/v1/session")
OPEN_FOLDER = "/static/"
"""Without a token: health, the page's own files, which hold nothing of a study, and the place to sign in."""
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
"""That the log names: any other word in their place is a client's own text."""
IDLE_S = 10.0
"""Between two pieces of a body."""
BODY_S, BYTES_PER_S = 60.0, 1024**2
"""A body may take this long, and as much longer as its bytes need at this pace."""
LINGER_S, LINGER_IDLE_S = 10.0, 1.0
"""After an answer that ends the connection, what a client still sends is read and dropped: in all for the first, after
its last piece for the second. A connection that is closed with unread bytes is reset, and the answer may be lost."""
CHECK_EVERY = 16 * 1024**2
"""Bytes of a body between two looks at the disk."""
CARRIERS = ("/v1/jobs", "/dicom-web/studies")
"""What takes files; below the last, each study."""
SMALL_BODY = 65536
"""Of requests that carry no file."""
HEADERS: Mapping[str, str] = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "cross-origin-resource-policy": "same-origin",
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
        "frame-src 'self'; frame-ancestors 'self'; base-uri 'none'; form-action 'none'"
    ),
}


_CLOSE = (b"connection", b"close")
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:]+))(?::[0-9]{0,5})?")


class RefusedError(HTTPException):
    """A request that no route sees, or whose body is given up while a route reads it; then the connection ends, too."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(status, detail, {"connection": "close"} if status in (408, 413, 503) else None)


class Guard:
    """An ASGI application around another."""

    def __init__(self, inner: Any, settings: ServeSettings, sessions: Sessions, count: Count | None = None) -> None:
        self._inner, self._settings, self._sessions = inner, settings, sessions
        self._count = count or (lambda _: None)
        self._hosts = {name.lower() for name in (*settings.allowed_hosts, settings.host)}
        if settings.is_local:
            self._hosts |= set(LOOPBACK)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or hand on with a bounded body and the headers of safety."""
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        begun, ends, came = False, False, time.monotonic()
        bounded = _Body(receive, headers, self._limit(scope), self._settings.store)

        async def answered(message: dict[str, Any]) -> None:
            nonlocal begun, ends
            begun = True
            if message["type"] == "http.response.start":
                have = {name.lower() for name, _ in message["headers"]}
                extra = [(k.encode(), v.encode()) for k, v in HEADERS.items() if k.encode() not in have]
                message = message | {"headers": [*message["headers"], *extra]}
                ends = _CLOSE in message["headers"]
                self._say(scope, message["status"], time.monotonic() - came)
            elif ends and not message.get("more_body", False):  # all is sent, and the end held back
                await send(message | {"more_body": True})
                await bounded.drop_rest()
                message = {"type": "http.response.body", "body": b""}
            await send(message)

        try:
            self._check(scope, headers)
            bounded.check_declared()
            await self._inner(scope, bounded.receive, answered)
        except RefusedError as refused:
            if not begun:
                await _send_problem(answered, refused)

    def _say(self, scope: Scope, status: int, seconds: float) -> None:
        """A line of the log: the route's pattern, never what a client wrote into an address."""
        if status >= 400:
            self._count(status)
        route = getattr(scope.get("route"), "path", "")
        level = logging.DEBUG if route in ("/healthz", "/readyz", "/metrics") else logging.INFO
        method = scope["method"] if scope["method"] in METHODS else "other"
        facts = {"method": method, "route": route, "status": status, "seconds": round(seconds, 4)}
        logger.log(level, "request", extra=facts)

    def _check(self, scope: Scope, headers: Mapping[str, str]) -> None:
        host = _without_port(headers.get("host", ""))
        if host not in self._hosts:
            raise RefusedError(421, "this service is not known by that name; see --allow-host")
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != headers.get("host", ""):
            raise RefusedError(403, "requests of other sites are refused")
        if headers.get("content-encoding", "identity") != "identity":
            raise RefusedError(415, "compressed bodies are refused")
        is_open = scope["path"] in OPEN_PATHS or scope["path"].startswith(OPEN_FOLDER)
        if self._settings.token is not None and not is_open and not self._may(scope, headers):
            raise RefusedError(401, "give the token of this service: Authorization: Bearer TOKEN")

    def _may(self, scope: Scope, headers: Mapping[str, str]) -> bool:
        """Whether the request bears the token, or comes from a page of this service in a browser that gave it."""
        kind, _, presented = headers.get("authorization", "").partition(" ")
        if presented:
            return kind.lower() == "bearer" and self._sessions.is_token(presented)
        is_same_site = (
            scope["method"] in ("GET", "HEAD") or "origin" in headers
        )  # a browser names it; another was refused above
        return is_same_site and self._sessions.is_open(cookie_of(headers.get("cookie", "")))

    def _limit(self, scope: Scope) -> int:
        path = scope["path"]
        carries = scope["method"] == "POST" and (path in CARRIERS or path.startswith(CARRIERS[-1] + "/"))
        return self._settings.max_upload_bytes + SMALL_BODY if carries else SMALL_BODY


class _Body:
    """A body that is cut at its limit, and given up when it comes too slowly or would fill the disk."""

    def __init__(self, receive: Receive, headers: Mapping[str, str], limit: int, store: Path) -> None:
        self._receive, self._limit, self._store = receive, limit, store
        self._checked = 0
        self._declared = headers.get("content-length", "0")
        self._seen, self._begun = 0, time.monotonic()
        self._is_over = False

    def check_declared(self) -> None:
        """Refuse by the declared length, before anything is read."""
        if not self._declared.isdecimal():
            raise RefusedError(400, "Content-Length is not a number")
        if int(self._declared) > self._limit:
            raise RefusedError(413, f"expected at most {self._limit} bytes, {self._declared} were announced")
        self._check_room(2 * int(self._declared))  # as it comes, and its copy in the job's folder

    def _check_room(self, needed: int) -> None:
        if needed > SMALL_BODY and not has_room(self._store, needed):
            raise RefusedError(503, "the disk of this service is nearly full; try again later")

    async def drop_rest(self) -> None:
        """Read what still comes and keep none of it, until it ends or has taken too long."""
        begun = time.monotonic()
        while not self._is_over and time.monotonic() - begun < LINGER_S:
            try:
                message = await asyncio.wait_for(self._receive(), LINGER_IDLE_S)
            except TimeoutError:
                return
            self._is_over = not message.get("more_body", False)

    async def receive(self) -> dict[str, Any]:
        """The next piece."""
        if self._is_over:  # what comes now is the end of the connection, for which a route may wait as long as it likes
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), IDLE_S)
        except TimeoutError:
            raise RefusedError(408, f"nothing came for {IDLE_S:g} s") from None
        if message["type"] == "http.request":
            self._seen += len(message.get("body", b""))
            self._is_over = not message.get("more_body", False)
            if self._seen > self._limit:
                raise RefusedError(413, f"expected at most {self._limit} bytes, more came")
            if self._seen - self._checked > CHECK_EVERY:
                self._checked = self._seen
                self._check_room(CHECK_EVERY)
            if time.monotonic() - self._begun > BODY_S + self._seen / BYTES_PER_S:
                raise RefusedError(408, "the body came too slowly")
        return message


def problem(status: int, detail: str, code: str | None = None) -> dict[str, Any]:
    """Problem details (RFC 9457); ``code``: the stable one of an error, by default that of a refused request."""
    from http import HTTPStatus

    code = code or ("E-disk-full" if status == HTTPStatus.SERVICE_UNAVAILABLE else "E-request")
    title = HTTPStatus(status).phrase
    return {"type": "about:blank", "title": title, "status": status, "detail": detail, "code": code}


async def _send_problem(send: Send, refused: RefusedError) -> None:
    status = refused.status_code
    content = json.dumps(problem(status, refused.detail)).encode()
    headers = [(b"content-type", b"application/problem+json"), (b"content-length", str(len(content)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    headers += [(name.encode(), value.encode()) for name, value in (refused.headers or {}).items()]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def address_of(request: Request) -> str:
    """The client's address; behind a proxy on this machine what that says of it, where it is an address at all."""
    try:
        return str(ipaddress.ip_address(request.client.host if request.client else ""))
    except ValueError:
        return "unknown"


def _without_port(host: str) -> str:
    """The name in a Host header, in lower case; empty where it is none."""
    found = _HOST.fullmatch(host)
    return "" if found is None else (found[1] or found[2]).lower()
