"""A file of pins: one line a source, ``sha256:<64 digits>  <source>``."""

from __future__ import annotations

import re
from pathlib import Path

from anymc3d.errors import UsageError
from anymc3d.files import atomic, regular

_DIGEST = re.compile(r"[0-9a-f]{64}")
_LINE = re.compile(r"sha256:([0-9a-f]{64})  (\S.*)")
MAX_BYTES = 1 << 20


def is_digest(text: str) -> bool:
    """Whether this is a SHA-256 in hexadecimal digits."""
    return _DIGEST.fullmatch(text) is not None


def locked_hash(path: Path, source: str) -> str | None:
    """What a source is pinned to; None where the file, or a line of it, is not there.

    Raises:
        UsageError: a line is something else, or pins one source twice.
    """
    return _read(path).get(source)


def write_lock(path: Path, source: str, sha256: str) -> None:
    """Add the pin of a source, in the order of sources.

    Raises:
        UsageError: as :func:`locked_hash`. OutputError: it cannot be written.
    """
    pins = _read(path) | {source: sha256}
    atomic.write_text(path, "".join(f"sha256:{pins[source]}  {source}\n" for source in sorted(pins)))


def _read(path: Path) -> dict[str, str]:
    try:
        with regular.opened(path) as file:
            text = file.read(MAX_BYTES).decode("utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UsageError(f"--lock: {path} cannot be read as text ({type(error).__name__})") from None
    pins: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        pin = _LINE.fullmatch(line)
        if pin is None or pin[2] in pins:
            raise UsageError(f"--lock: {path}, line {number}: expected 'sha256:<digits>  <source>', each source once")
        pins[pin[2]] = pin[1]
    return pins
