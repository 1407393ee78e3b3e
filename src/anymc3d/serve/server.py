"""The web server around the service: uvicorn, with a limit for connections that say nothing."""

from __future__ import annotations

import asyncio
import logging
import socket
from contextlib import suppress
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from anymc3d.errors import UsageError
from anymc3d.serve.api import make_app
from anymc3d.serve.service import Service

HEADER_S = 10.0
"""A connection that has sent no whole request header by then is closed."""
MAX_CONNECTIONS = 256
STOP_S = 25


class Patient(H11Protocol):
    """HTTP/1.1 that waits for a request header no longer than :data:`HEADER_S`."""

    def connection_made(self, transport: Any) -> None:
        """Begin to wait."""
        super().connection_made(transport)
        self._deadline = asyncio.get_running_loop().call_later(HEADER_S, self._close_if_silent)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._deadline.cancel()
        super().connection_lost(exc)

    def _close_if_silent(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.close()


def run_server(service: Service, opened: socket.socket) -> None:
    """Answer requests until SIGTERM or SIGINT, then finish what is being answered."""
    config = uvicorn.Config(
        make_app(service),
        http=Patient,
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=True,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=STOP_S,
        h11_max_incomplete_event_size=16384,
    )
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    with suppress(KeyboardInterrupt):  # uvicorn raises the signal once more after it has stopped
        uvicorn.Server(config).run(sockets=[opened])


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
        raise UsageError(f"--host {host} --port {port}: cannot listen there ({error.strerror})") from None
    return opened
