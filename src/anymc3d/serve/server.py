"""The web server around the service: uvicorn, with a limit for connections that say nothing."""

from __future__ import annotations

import asyncio
import logging
import socket
import tempfile
import threading
from contextlib import suppress
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from anymc3d.errors import ServiceError
from anymc3d.serve.api import make_app
from anymc3d.serve.service import Service

HEADER_S = 10.0
"""A connection that has sent no whole request header by then is closed; the next one on it has as long, after the pause
that a kept connection may make."""
KEEP_ALIVE_S = 15
READ_S = 60.0
"""A client that takes nothing of its answer for so long is cut off."""
MAX_CONNECTIONS = 256
STOP_S = 25


class Patient(H11Protocol):
    """HTTP/1.1 that waits for a request header no longer than :data:`HEADER_S`, and for a reader :data:`READ_S`."""

    _header: asyncio.TimerHandle | None = None
    _reader: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for a header."""
        super().connection_made(transport)
        self._header = self.loop.call_later(HEADER_S, self._close_if_silent)

    def on_response_complete(self) -> None:
        """Begin to wait for the next header."""
        super().on_response_complete()
        self._cancel()
        self._header = self.loop.call_later(KEEP_ALIVE_S + HEADER_S, self._close_if_silent)

    def pause_writing(self) -> None:
        """The client takes nothing at the moment."""
        super().pause_writing()
        self._reader = self.loop.call_later(READ_S, self.transport.abort)

    def resume_writing(self) -> None:
        """It takes something again."""
        if self._reader is not None:
            self._reader.cancel()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._cancel()
        super().connection_lost(exc)

    def _cancel(self) -> None:
        for timer in (self._header, self._reader):
            if timer is not None:
                timer.cancel()

    def _close_if_silent(self) -> None:
        if (self.cycle is None or self.cycle.response_complete) and not self.transport.is_closing():
            self.transport.close()


class _Server(uvicorn.Server):
    """Begins to stop the queue together with the connections, so that both are done within half a minute."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal came."""
        threading.Thread(target=self._service.begin_stop, daemon=True).start()  # it takes a lock: not in here
        super().handle_exit(sig, frame)


def run_server(service: Service, opened: socket.socket) -> None:
    """Answer requests until SIGTERM or SIGINT, then finish what is being answered.

    Raises:
        ServiceError: no study can be taken any longer, as where the queue's file was damaged.
    """
    spool = service.settings.store / "spool"  # large bodies on their way; the disk whose room is watched
    spool.mkdir(mode=0o700, exist_ok=True)
    tempfile.tempdir = str(spool)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    server = _Server(configured(service), service)
    service.supervisor.on_fault = lambda: setattr(server, "should_exit", True)
    with suppress(KeyboardInterrupt):  # uvicorn raises the signal once more after it has stopped
        server.run(sockets=[opened])
    if service.supervisor.fault is not None:
        raise ServiceError(f"the queue cannot be used any longer ({type(service.supervisor.fault).__name__})")


def configured(service: Service) -> uvicorn.Config:
    """How the web server runs: no access log of its own, no name, limits for those who are slow or many."""
    return uvicorn.Config(
        make_app(service),
        http=Patient,
        ws="none",
        lifespan="off",
        log_config=None,  # its own would be plain text, and quote exceptions; those of the program are JSON
        access_log=False,
        server_header=False,
        date_header=True,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=STOP_S,
        h11_max_incomplete_event_size=16384,
    )


def listen(host: str, port: int) -> socket.socket:
    """Open the port before anything heavy is loaded: what is taken already is said at once.

    Raises:
        UsageError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        opened.bind((host, port))
    except OSError as error:
        opened.close()
        raise ServiceError(f"--host {host} --port {port}: cannot listen there ({error.strerror})") from None
    return opened
