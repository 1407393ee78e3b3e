"""What a service is started with."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from anymc3d.errors import ServiceError
from anymc3d.serve.node_settings import NodeSettings

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """Settings of a service; they are checked when they are made.

    Raises:
        UsageError: settings that would not be safe, or do not fit each other.
    """

    plugins: tuple[str, ...]
    """Plugin files."""
    store: Path
    """The folder of the queue, of what was received, and of the results."""
    host: str = "127.0.0.1"
    port: int = 8080
    token: str | None = None
    """Every request but ``/healthz`` and ``/readyz`` must bear it; needed where other machines can reach the port."""
    allowed_hosts: tuple[str, ...] = ()
    """Names under which clients may call this service, beside its own address: against DNS rebinding."""
    backbone: str | None = None
    device: str = "auto"
    precision: str = "fp32"
    chunk_size: int = 64
    segmenters: tuple[str, ...] = ()
    heatmaps: bool = True
    """Whether a heatmap and a report are made of every answer; without them a study costs less than half."""
    strict: bool = False
    """An answer with a warning is an error."""
    max_upload_bytes: int = 4 * 1024**3
    max_queued: int = 1000
    """Studies that wait; what comes beyond them is refused with 503."""
    case_timeout_s: float = 600.0
    max_attempts: int = 3
    """A study that ended the worker process this often is given up."""
    keep_days: float = 30.0
    """Results and inputs older than this are removed; 0: never."""
    node: NodeSettings = field(default_factory=NodeSettings)
    """What is done with DICOM."""

    def __post_init__(self) -> None:
        if not self.plugins:
            raise ServiceError("expected at least one plugin, got none")
        if not 0 <= self.port <= 65535:
            raise ServiceError(f"--port: expected 0 to 65535, got {self.port}")
        if not self.is_local and self.token is None:
            raise ServiceError(
                f"--host {self.host}: other machines could reach the service without a password; give --token-file FILE"
                " (and put a proxy with TLS in front), or stay with 127.0.0.1"
            )
        for name in ("max_upload_bytes", "max_queued", "case_timeout_s", "max_attempts", "chunk_size"):
            if getattr(self, name) <= 0:
                raise ServiceError(f"{name}: expected a number above 0, got {getattr(self, name)}")

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the port."""
        if self.host in LOOPBACK:
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def read_token(path: Path) -> str:
    """The token in a file: its first line, at least 16 letters.

    Raises:
        UsageError: the file cannot be read, or the token is short enough to be guessed.
    """
    try:
        text = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ServiceError(f"--token-file {path}: cannot be read ({type(error).__name__})") from None
    token = text[0].strip() if text else ""
    if len(token) < 16 or not token.isascii() or not token.isprintable() or " " in token:
        raise ServiceError(f"--token-file {path}: expected one line of 16 or more letters and digits, without blanks")
    return token
