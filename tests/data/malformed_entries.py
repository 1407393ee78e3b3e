"""What an entry of the tables of malformed files is, and the builders that all of them share.

``ok``: a volume and no warning; ``warn``: a volume and a warning; ``error``: one line and no volume. The promise is an
id of docs/reliability.md. Each builder gets an empty folder and returns the reference to read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from scan_makers import anatomy, gz, nifti_bytes

VOXELS = anatomy()
PLAIN = nifti_bytes(VOXELS)
PACKED = gz(PLAIN)

Builder = Callable[[Path], str]


@dataclass(frozen=True)
class Entry:
    """One line of the table."""

    make: Builder
    verdict: str
    """One of ok, warn, error."""
    promise: str
    spacing: tuple[float, float, float] | None = None
    series: str | None = None
    reader: str = "scan"
    """``scan``: :func:`~anymc3d.data.readers.read_volume`; ``manifest``: ``inspect_manifest``."""


def of_bytes(name: str, content: bytes) -> Builder:
    def make(folder: Path) -> str:
        (folder / name).write_bytes(content)
        return str(folder / name)

    return make


def sparse(name: str, start: bytes, size: int) -> Builder:
    """A file with holes: gigabytes by its size, a few blocks on the disk."""

    def make(folder: Path) -> str:
        with open(folder / name, "wb") as file:
            file.write(start)
            file.truncate(size)
        return str(folder / name)

    return make
