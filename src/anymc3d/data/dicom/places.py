"""Where the files of a DICOM study lie: in a folder, in an archive, or one file alone."""

from __future__ import annotations

import hashlib
import os
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from anymc3d.data import hashes
from anymc3d.data.formats.scan_file import BLOCK, open_regular


class Place(Protocol):
    """One file, wherever it lies."""

    @property
    def name(self) -> str:
        """Its own name, without the folders before it. It may identify a person: it is compared, and never shown."""

    def open(self) -> AbstractContextManager[BinaryIO]:
        """The file, opened for reading, which can seek.

        Raises:
            ScanError: it cannot be opened.
        """


@dataclass(frozen=True)
class OnDisk:
    """A file of its own."""

    path: Path

    @property
    def name(self) -> str:
        """See :class:`Place`."""
        return self.path.name

    def open(self) -> AbstractContextManager[BinaryIO]:
        """See :class:`Place`."""
        return open_regular(self.path)


def length_of(file: BinaryIO) -> int:
    """Bytes of an open file, in memory or on disk; it stands where it stood."""
    position = file.tell()
    end = file.seek(0, os.SEEK_END)
    file.seek(position)
    return end


def sha256_at(place: Place) -> str:
    """Sha256 (hex) of a file's bytes."""
    digest = hashlib.sha256()
    with place.open() as file:
        known = hashes.known(os.fstat(file.fileno())) if isinstance(place, OnDisk) else None
        if known is not None:
            return known
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
