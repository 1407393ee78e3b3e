"""Arrays on disk that can be made again: one safetensors file per key, private to the user, checked on every read.

A damaged entry is none, with one line in the log. Several processes may share a folder: entries appear whole or not at
all. The folder is kept within a limit: what was used longest ago goes first, and nothing that a running process has
used since it began. What does not fit then is not kept, which is said once.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from anymc3d.data.cache_size import cache_state, entry_path, hold, trim_cache
from anymc3d.errors import RunFolderError
from anymc3d.files.atomic import write_bytes

logger = logging.getLogger(__name__)

FREE_BYTES = 2 * 10**9
"""Of the disk, left to others: a run must be able to save its state."""

RECOUNT_SHARE = 0.02
"""After so much of the limit was written here, what other processes wrote meanwhile is counted too."""

Arrays = Mapping[str, np.ndarray]


class ArrayStore:
    """Entries ``<key>.safetensors`` below one folder (0700), together at most ``limit_bytes``.

    ``what``: what they are, for messages; ``setting``: what a user changes to keep more.
    """

    def __init__(self, folder: Path, *, limit_bytes: int, what: str, setting: str) -> None:
        """Make the folder if need be.

        Raises:
            RunFolderError: the folder cannot be made.
        """
        self.folder, self.limit_bytes, self.what, self.setting = Path(folder), limit_bytes, what, setting
        self._is_full, self._lock = False, threading.Lock()
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.folder.chmod(0o700)
            hold(self, self.folder)
        except OSError as error:
            raise self._unusable(error) from error
        self._bytes, self._since = cache_state(self.folder).num_bytes, 0

    def get(self, key: str) -> dict[str, np.ndarray] | None:
        """One entry, or None where there is none or a damaged one; the arrays may be written to.

        Raises:
            RunFolderError: it cannot be read (rights).
        """
        path = self._path(key)
        try:
            content = path.read_bytes()
            os.utime(path)  # what was used longest ago is the first to go
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unusable(error) from error
        try:
            return _decode(content, key)
        except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
            logger.warning("%s %s: damaged (%s), computed again", self.what, path.name, error)
            return None

    def put(self, key: str, arrays: Arrays) -> None:
        """Keep one entry, if there is room for it.

        Raises:
            RunFolderError: it cannot be written (rights).
        """
        content = save(dict(arrays), metadata={"key": key, "crc32": _checksum(arrays, key)})
        with self._lock:
            if self._is_full or not self._has_room(len(content)):
                return
            self._bytes, self._since = self._bytes + len(content), self._since + len(content)
        try:
            write_bytes(self._path(key), content)
        except OSError as error:
            raise self._unusable(error) from error

    def _has_room(self, size: int) -> bool:
        """Whether ``size`` more bytes fit, after others have gone where need be."""
        if self._since > self.limit_bytes * RECOUNT_SHARE:
            self._bytes, self._since = cache_state(self.folder).num_bytes, 0
        if self._bytes + size > self.limit_bytes:
            self._bytes = trim_cache(self.folder, limit_bytes=max(0, self.limit_bytes - size)).left.num_bytes
        if self._bytes + size > self.limit_bytes:
            reason = f"{self.limit_bytes / 1e9:g} GB are used ({self.setting})"
        elif shutil.disk_usage(self.folder).free < size + FREE_BYTES:
            reason = f"less than {FREE_BYTES / 1e9:g} GB are free on its disk"
        else:
            return True
        self._is_full = True
        text = "%s: %s is full, %s; what does not fit is computed again each time it is needed"
        logger.warning(text, self.what, self.folder, reason)
        return False

    def _path(self, key: str) -> Path:
        return entry_path(self.folder, f"{key}.safetensors")

    def _unusable(self, error: OSError) -> RunFolderError:
        what = f"{self.what}: the folder {self.folder} cannot be used ({error.strerror or error})"
        return RunFolderError(f"{what}; free space, repair its rights, or choose another with ANYMC3D_HOME")


def _decode(content: bytes, key: str) -> dict[str, np.ndarray]:
    arrays = {name: array.copy() for name, array in load(content).items()}
    facts = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    if facts["key"] != key:
        raise ValueError("it belongs to another key")
    if facts["crc32"] != _checksum(arrays, key):
        raise ValueError("its checksum is wrong")
    return arrays


def _checksum(arrays: Arrays, key: str) -> str:
    """CRC-32 over the key, and over name, type, shape and bytes of every array: against damage, not against malice."""
    total = zlib.crc32(key.encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        total = zlib.crc32(f"{name} {array.dtype} {array.shape}\n".encode(), total)
        total = zlib.crc32(array.data.cast("B") if array.size else b"", total)
    return f"{total:08x}"
