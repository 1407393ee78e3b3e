"""A segmentation network over a whole scan: conform to its grid, run, and bring its labels back to the scan."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from anymc3d.data.percentiles import percentiles
from anymc3d.data.scan_grid import resample
from anymc3d.data.volume import Affine, Volume
from anymc3d.errors import ScanError
from anymc3d.settings.views import NetworkSettings

NETWORK_VERSION = 1
"""Part of every identity. Raise it whenever labels can change."""

Run = Callable[[NDArray[np.float32]], NDArray]
"""(1, 1, X, Y, Z) float32 to what the network gives."""
_AXIS = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
_MOST_VOXELS = 1 << 29
_OUTERMOST = (0.1, 99.9)


@dataclass(frozen=True)
class NetworkSegmenter:
    """A :class:`anymc3d.data.segmentation.Segmenter`. ``model_hash``: of the weights."""

    run: Run
    settings: NetworkSettings
    model_hash: str

    @property
    def identity(self) -> str:
        """Sha256 (hex) over weights, settings and version."""
        facts = {"model": self.model_hash, "network": asdict(self.settings), "version": NETWORK_VERSION}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def labels(self, scan: Volume, scan_hash: str) -> NDArray[np.int32]:
        """Labels (X, Y, Z) on the voxels of a scan in RAS order.

        Raises:
            ScanError: the scan is too large for the network's grid, or what comes out is no segmentation.
        """
        shape, affine = network_grid(scan, self.settings)
        if np.prod(shape, dtype=np.int64) > _MOST_VOXELS:
            what = f"the segmentation network would see {' x '.join(map(str, shape))} voxels, too many"
            raise ScanError(f"{what}; set roi.network.spacing_mm and grid")
        conformed = resample(scan.voxels, scan.affine, shape, affine, fill=float(scan.voxels.min()))
        scores = self.run(normalise(conformed, self.settings)[None, None])
        labels = to_labels(np.asarray(scores), shape, self.settings.threshold)
        return resample(labels, affine, scan.shape, scan.affine, order="nearest").astype(np.int32)


def network_grid(scan: Volume, settings: NetworkSettings) -> tuple[tuple[int, int, int], Affine]:
    """Shape and affine of the grid a network sees: about the scan's centre, along the scan's own axes.

    A scan that is turned against the world stays turned: its axes are taken for the nearest anatomical ones.
    """
    spacing = np.asarray(scan.spacing)
    axes, signs = zip(*(_AXIS[letter] for letter in settings.orientation), strict=True)
    axes = list(axes)
    steps = np.asarray(settings.spacing_mm or spacing[axes])
    extent = (np.asarray(scan.shape) * spacing)[axes]
    counts = np.asarray(settings.grid or np.maximum(1, np.round(extent / steps)), dtype=int)
    counts = -(-counts // settings.multiple_of) * settings.multiple_of
    affine = np.eye(4)
    affine[:3, :3] = (scan.affine[:3, :3] / np.linalg.norm(scan.affine[:3, :3], axis=0))[:, axes] * signs * steps
    centre = scan.affine @ [*((np.asarray(scan.shape) - 1) / 2), 1.0]
    affine[:3, 3] = centre[:3] - affine[:3, :3] @ ((counts - 1) / 2)
    x, y, z = (int(count) for count in counts)
    return (x, y, z), affine


def normalise(voxels: NDArray[np.float32], settings: NetworkSettings) -> NDArray[np.float32]:
    """What the network expects of intensities; statistics are of the whole conformed grid."""
    if settings.normalise == "none":
        return voxels
    if settings.normalise == "zscore":
        spread = float(voxels.std(dtype=np.float64)) or 1.0
        return ((voxels - np.float32(voxels.mean(dtype=np.float64))) / np.float32(spread)).astype(np.float32)
    if settings.normalise == "percentile":
        low, high = (float(value) for value in percentiles(voxels, _OUTERMOST))
    else:
        low, high = settings.window or (float(voxels.min()), float(voxels.max()))
    scaled = (np.clip(voxels, low, high) - np.float32(low)) / np.float32(max(high - low, np.finfo(np.float32).tiny))
    return scaled.astype(np.float32)


def to_labels(scores: NDArray, shape: tuple[int, int, int], threshold: float | None) -> NDArray[np.int32]:
    """Labels (X, Y, Z) from scores (1, K, X, Y, Z), or from labels with or without the leading ones.

    Raises:
        ScanError: another shape, numbers that are not finite, or one score without a threshold.
    """
    if scores.shape[-3:] != shape or scores.ndim not in (3, 4, 5) or (scores.ndim > 3 and scores.shape[0] != 1):
        what = f"expected scores (1, K, {', '.join(map(str, shape))}) or labels from the segmentation network"
        raise ScanError(f"{what}, got {scores.shape}; check roi.network.grid and multiple_of")
    if scores.dtype.kind in "iub":
        return scores.reshape(shape).astype(np.int32) if scores.size == np.prod(shape) else _argmax(scores, shape)
    if not np.isfinite(scores).all():
        raise ScanError("the segmentation network gave numbers that are not finite; check roi.network.normalise")
    if scores.size > np.prod(shape):
        return _argmax(scores, shape)
    if threshold is None:
        raise ScanError("the segmentation network gives one score per voxel; set roi.network.threshold")
    return (scores.reshape(shape) >= threshold).astype(np.int32)


def _argmax(found: NDArray, shape: tuple[int, int, int]) -> NDArray[np.int32]:
    return found.reshape(-1, *shape).argmax(axis=0).astype(np.int32)
