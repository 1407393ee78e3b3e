"""The hashes of files whose bytes are read anyway: a scan's content hash and its voxels come from one pass.

Within :func:`remembering`, a file that is opened is hashed while it is read, in whatever order; what the reader leaves
out is read at the end. A file of which only the head was looked at is not hashed.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_BLOCK = 1 << 18
_Identity = tuple[int, int, int, int]
_seen: ContextVar[dict[_Identity, str] | None] = ContextVar("hashes", default=None)


@contextmanager
def remembering() -> Iterator[None]:
    """Hash files while they are read in the block, and know their hashes until its end."""
    before = _seen.set({})
    try:
        yield
    finally:
        _seen.reset(before)


def known(state: os.stat_result) -> str | None:
    """Sha256 (hex) of a file that was read in the block and is still the same by its place, size and time."""
    seen = _seen.get()
    return None if seen is None else seen.get(_identity(state))


def begun(handle: int, state: os.stat_result) -> HashedFile | None:
    """An open file that is hashed while it is read; None where nobody remembers, or it is known."""
    remembered = _seen.get()
    if remembered is None or _identity(state) in remembered:
        return None
    return HashedFile(_Hashing(handle), remembered, state)


def _identity(state: os.stat_result) -> _Identity:
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns


class _Hashing(io.FileIO):
    """A file whose bytes are hashed in their order, each once, when they are first read or passed."""

    def __init__(self, handle: int) -> None:
        super().__init__(handle, "rb")
        self.digest, self.upto = hashlib.sha256(), 0

    def readinto(self, target: Any) -> int | None:
        """See :class:`io.RawIOBase`."""
        start = self.tell()
        count = super().readinto(target)
        if count and start + count > self.upto:
            if start > self.upto:
                self.hash_to(start)
            self.digest.update(memoryview(target).cast("B")[self.upto - start : count])
            self.upto = start + count
        return count

    def readall(self) -> bytes:
        """See :class:`io.RawIOBase`."""
        blocks, buffer = [], bytearray(_BLOCK)
        while count := self.readinto(buffer):
            blocks.append(bytes(buffer[:count]))
        return b"".join(blocks)

    def hash_to(self, end: int) -> None:
        """Hash what was not read before ``end``; the file stands where it stood."""
        while self.upto < end and (block := os.pread(self.fileno(), min(_BLOCK, end - self.upto), self.upto)):
            self.digest.update(block)
            self.upto += len(block)


class HashedFile(io.BufferedReader):
    """A file as :func:`open` gives it, hashed while it is read."""

    def __init__(self, raw: _Hashing, seen: dict[_Identity, str], state: os.stat_result) -> None:
        super().__init__(raw)
        self._hashing, self._seen, self._state = raw, seen, state

    def finish(self) -> None:
        """Remember the hash, if most of the file was read and it is still the same."""
        if self._hashing.upto * 2 < self._state.st_size:
            return
        self._hashing.hash_to(self._state.st_size)
        after = os.fstat(self._hashing.fileno())
        if self._hashing.upto == self._state.st_size and _identity(after) == _identity(self._state):
            self._seen[_identity(after)] = self._hashing.digest.hexdigest()
