"""Segmentations that a program or network draws, kept so that each scan is segmented once."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import zlib
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from anymc3d.data.cache import cache_error, clear_away
from anymc3d.data.cache_entry import safetensors_facts
from anymc3d.data.volume import Volume
from anymc3d.files import regular
from anymc3d.files.atomic import write_bytes

logger = logging.getLogger(__name__)

_MOST_LABELS = 1 << 15


class Segmenter(Protocol):
    """Draws a segmentation of a scan.

    - ``identity`` is equal for equal segmentations of every scan: weights, settings and version of the code;
    - ``labels`` takes a scan in RAS order and gives labels (X, Y, Z) on its voxels, 0 = none of the classes;
    - ``scan_hash`` is the scan's content hash; a segmenter may ignore it.
    """

    @property
    def identity(self) -> str:
        """Sha256 (hex)."""

    def labels(self, scan: Volume, scan_hash: str) -> NDArray[np.int32]:
        """Segment one scan.

        Raises:
            ScanError: it cannot be segmented.
        """


class KeptSegmenter:
    """A segmenter whose results are kept in a folder by scan and identity, whole or not at all.

    One scan at a time: networks take much memory. The entries are private to the user (0600), and safe to delete.
    """

    def __init__(self, segmenter: Segmenter, folder: Path) -> None:
        self._segmenter, self._folder, self._lock = segmenter, folder, threading.Lock()

    @property
    def identity(self) -> str:
        """The segmenter's own."""
        return self._segmenter.identity

    def labels(self, scan: Volume, scan_hash: str) -> NDArray[np.int32]:
        """See :class:`Segmenter`.

        Raises:
            ScanError: it cannot be segmented.
            OutputError: the folder cannot be written.
        """
        place = np.round(scan.affine, 6).tolist()  # an array's spacing is in the manifest, not in its content
        key = hashlib.sha256(f"{scan_hash} {place} {self.identity}".encode()).hexdigest()
        path = self._folder / f"{key}.safetensors"
        with self._lock:
            labels = _read(path, key, scan.shape)
            if labels is None:
                labels = self._segmenter.labels(scan, scan_hash)
                _write(path, key, labels)
        return labels


def _read(path: Path, key: str, shape: tuple[int, int, int]) -> NDArray[np.int32] | None:
    """A whole entry, or None; a damaged one is drawn again, with a line in the log."""
    try:
        content = regular.read_bytes(path)
        facts, packed = safetensors_facts(content), load(content)["packed"]
        raw = zlib.decompressobj().decompress(packed.tobytes(), int(np.prod(shape)) * 2 + 1)
        if facts["key"] != key or hashlib.sha256(raw).hexdigest() != facts["sha256"]:
            raise ValueError("its checksum is wrong")
        if tuple(json.loads(facts["shape"])) != shape:
            raise ValueError("its shape is not the scan's")
        return np.frombuffer(raw, dtype=np.int16).reshape(shape).astype(np.int32)
    except FileNotFoundError:
        return None
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError, zlib.error) as error:
        logger.warning("segmentation %s is damaged (%s): drawn again", path.name[:16], type(error).__name__)
        clear_away(path)
        return None


def _write(path: Path, key: str, labels: NDArray[np.int32]) -> None:
    if labels.min() < 0 or labels.max() >= _MOST_LABELS:
        raise ValueError(f"labels: expected 0 to {_MOST_LABELS - 1}, got {labels.min()} to {labels.max()}")
    raw = np.ascontiguousarray(labels, dtype=np.int16).tobytes()
    facts = {"key": key, "sha256": hashlib.sha256(raw).hexdigest(), "shape": json.dumps(labels.shape)}
    packed = np.frombuffer(zlib.compress(raw, 1), dtype=np.uint8)
    try:
        write_bytes(path, save({"packed": packed}, metadata=facts))
    except OSError as error:
        raise cache_error(path.parent, error) from error
