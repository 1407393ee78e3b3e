"""What is known of one scan or mask: the only thing that leaves the process that reads it, as one line of JSON."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymc3d.data.intensity import IntensityProfile
from anymc3d.data.volume import Affine, Millimetres, orientation_of

SIGNATURE_SIDE = 16
SIGNATURE_STEPS = 1024
"""Per standard deviation; the scans of a registered set differ by little more than a thousandth of it."""
HISTOGRAM_LOW, HISTOGRAM_STEP, HISTOGRAM_BINS = -3100.0, 25.0, 248
"""Bins of the HU histogram: 25 units each, from -3100 to 3100; what lies outside is counted in the end bins."""


@dataclass(frozen=True)
class Job:
    """One scan or mask to look at."""

    reference: str
    spacing: Millimetres | None = None
    series: str | None = None
    kind: str = "scan"
    """``scan`` or ``mask``."""
    headers_only: bool = False


@dataclass(frozen=True)
class Grid:
    """Shape and place of a scan: axes as stored, affine to RAS millimetres."""

    shape: tuple[int, int, int]
    affine: tuple[tuple[float, ...], ...]
    dtype: str

    @property
    def matrix(self) -> Affine:
        """The affine as a (4, 4) array."""
        return np.array(self.affine, dtype=np.float64)

    @property
    def orientation(self) -> str:
        """Where each stored axis points, such as ``LPS``."""
        return orientation_of(self.matrix)


@dataclass(frozen=True)
class VoxelFacts:
    """What the voxels of a scan say."""

    profile: IntensityProfile
    histogram: tuple[int, ...]
    """HU histogram, see :data:`HISTOGRAM_BINS`."""
    is_integer: bool
    lowest_share: float
    """Share of voxels that hold the smallest value: large where it is padding."""
    constant_slices: int
    """Slices of one value between others that show something, along the slice axis."""
    duplicate_slices: int
    """Slices that equal an earlier one and are not of one value."""
    num_slices: int
    hashes: tuple[str, ...]
    """Sha256 of the voxels as float32 in RAS order, and in stored order where that is another."""
    signature: str
    """Base64 of the volume in RAS order, resized to 16 x 16 x 16, standardised, in steps of 1/1024 (int16)."""

    def vector(self) -> NDArray[np.float32]:
        """The signature as (4096,) with mean 0 and length 1."""
        values = np.frombuffer(base64.b64decode(self.signature), dtype="<i2").astype(np.float32)
        values -= values.mean()
        return values / max(float(np.linalg.norm(values)), 1e-6)


@dataclass(frozen=True)
class MaskFacts:
    """What the voxels of a mask say."""

    values: Mapping[str, int]
    """Value (as text) -> number of voxels; at most 300 values."""
    is_integer: bool
    cut_sides: tuple[str, ...]
    """Sides of the grid (``left``, ``superior``…) where the segmented region ends abruptly."""

    @property
    def share(self) -> float:
        """Share of voxels that are not 0."""
        total = sum(self.values.values())
        return 1 - self.values.get("0", 0) / total if total else 0.0


@dataclass(frozen=True)
class ScanFacts:
    """All that is known of one scan or mask; with ``error`` the rest may be missing."""

    error: str | None = None
    """Why it cannot be read, without its path."""
    grid: Grid | None = None
    modality: str | None = None
    warnings: tuple[str, ...] = ()
    voxels: VoxelFacts | None = None
    mask: MaskFacts | None = None


def from_plain(plain: Mapping[str, Any]) -> ScanFacts:
    """The inverse of ``asdict``, after a journey through JSON."""
    grid, voxels, mask = plain["grid"], plain["voxels"], plain["mask"]
    return ScanFacts(
        error=plain["error"],
        grid=grid and Grid(_triple(grid["shape"]), tuple(tuple(row) for row in grid["affine"]), grid["dtype"]),
        modality=plain["modality"],
        warnings=tuple(plain["warnings"]),
        voxels=voxels
        and VoxelFacts(
            **{**voxels, "histogram": tuple(voxels["histogram"]), "hashes": tuple(voxels["hashes"])}
            | {"profile": IntensityProfile(**voxels["profile"])}
        ),
        mask=mask and MaskFacts(mask["values"], mask["is_integer"], tuple(mask["cut_sides"])),
    )


def _triple(values: Any) -> tuple[int, int, int]:
    x, y, z = (int(value) for value in values)
    return x, y, z
