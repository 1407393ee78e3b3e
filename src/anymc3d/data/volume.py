"""A volume: voxels and the affine that says where they are; every operation keeps the affine true.

An affine maps a voxel index (i, j, k), counted at voxel centres, to RAS world millimetres, as in NIfTI. Operations
return new volumes; the input is never changed. All arithmetic is elementwise, so results do not depend on the number
of threads or on the memory order of the voxels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from nibabel.orientations import aff2axcodes, apply_orientation, inv_ornt_aff, io_orientation
from numpy.typing import NDArray

Voxels = NDArray[np.float32]
Affine = NDArray[np.float64]
Millimetres = tuple[float, float, float]
SUV = "SUVbw"
"""Units of a PET: standardised uptake values by body weight."""


class _Oriented:
    """What an affine alone says of a grid."""

    affine: Affine

    @property
    def spacing(self) -> Millimetres:
        """Millimetres from one voxel to the next along each stored axis."""
        return spacing_of(self.affine)

    @property
    def orientation(self) -> str:
        """Where each stored axis points: ``RAS``, ``LPS``, ``PSR``…; the nearest one where the grid is oblique."""
        return orientation_of(self.affine)


_ROWS = 256


@dataclass(frozen=True, eq=False)
class Volume(_Oriented):
    """Voxels (X, Y, Z) float32 in raw units (HU for CT), their affine (4, 4) float64 and what is known beside them."""

    voxels: Voxels
    affine: Affine
    modality: str | None = None
    """What the file says of itself, such as ``CT``; NIfTI and arrays say nothing."""
    warnings: tuple[str, ...] = ()
    """One line each: what was ambiguous in the file and how it was read."""
    units: str | None = None
    """Of a PET whose header says them: ``SUVbw``, or what is stored, such as ``BQML``; otherwise None."""
    why_not_suv: str = ""
    """Of a PET in other units than SUV: why, naming the tag."""

    def __post_init__(self) -> None:
        if self.voxels.ndim != 3 or self.voxels.dtype != np.float32:
            raise ValueError(f"voxels: expected (X, Y, Z) float32, got {self.voxels.shape} {self.voxels.dtype}")
        if self.affine.shape != (4, 4) or not np.isfinite(self.affine).all():
            raise ValueError(f"affine: expected a finite (4, 4) matrix, got {self.affine!r}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along the three stored axes."""
        x, y, z = self.voxels.shape
        return x, y, z

    @property
    def extent_mm(self) -> Millimetres:
        """Size of the whole grid along each stored axis: number of voxels times spacing."""
        x, y, z = (count * step for count, step in zip(self.shape, self.spacing, strict=True))
        return x, y, z


@dataclass(frozen=True)
class Box:
    """Whole voxels of a volume: the first index and the number along each stored axis; may reach beyond the grid."""

    first: tuple[int, int, int]
    count: tuple[int, int, int]

    def permuted(self, order: tuple[int, int, int]) -> Box:
        """The same voxels after :func:`permute_axes`."""
        (a, b, c), first, count = order, self.first, self.count
        return Box((first[a], first[b], first[c]), (count[a], count[b], count[c]))

    def about_centre(self, wanted: list[int]) -> Box:
        """Cut or grown to ``wanted`` voxels about the centre; cutting and growing undo each other."""
        first = [
            start + (have - want) // 2 if want <= have else start - (want - have) // 2
            for start, have, want in zip(self.first, self.count, wanted, strict=True)
        ]
        return Box((first[0], first[1], first[2]), (wanted[0], wanted[1], wanted[2]))


@dataclass(frozen=True, eq=False)
class ScanHeader(_Oriented):
    """What a scan's header says, read without decoding its voxels."""

    shape: tuple[int, int, int]
    affine: Affine
    dtype: str
    """The stored type, such as ``int16``."""
    warnings: tuple[str, ...] = ()


def spacing_of(affine: Affine) -> Millimetres:
    """Lengths in millimetres of the affine's three columns, rounded to 1e-6 so that equal grids say equal numbers."""
    x, y, z = (round(float(length), 6) for length in np.linalg.norm(affine[:3, :3], axis=0))
    return x, y, z


def orientation_of(affine: Affine) -> str:
    """The anatomical direction nearest to each voxel axis, such as ``RAS``."""
    return "".join(aff2axcodes(affine))


def to_ras(volume: Volume) -> Volume:
    """Reorder and flip the axes so that they point right, anterior and superior; no voxel is interpolated."""
    orientation = io_orientation(volume.affine)
    affine = volume.affine @ inv_ornt_aff(orientation, volume.shape)
    return replace(volume, voxels=apply_orientation(volume.voxels, orientation), affine=affine)


def permute_axes(volume: Volume, order: tuple[int, int, int]) -> Volume:
    """Put the stored axes in another order: axis ``order[0]`` becomes the first. World positions stay."""
    return replace(volume, voxels=volume.voxels.transpose(order), affine=volume.affine[:, [*order, 3]])


def whole(volume: Volume) -> Box:
    """The box of all voxels."""
    return Box((0, 0, 0), volume.shape)


def box_of_extent(volume: Volume, extent_mm: Millimetres, within: Box | None = None) -> Box:
    """``extent_mm`` about the centre of a box (default: of the grid), in whole voxels; may reach beyond the grid, of
    which it keeps at least one voxel: the middle of a box that hangs over its border may lie outside."""
    box = (within or whole(volume)).about_centre(_voxel_counts(volume, extent_mm))
    first = [
        min(max(start, 1 - count), have - 1)
        for start, count, have in zip(box.first, box.count, volume.shape, strict=True)
    ]
    return Box((first[0], first[1], first[2]), box.count)


def crop_to(volume: Volume, box: Box) -> Volume:
    """Cut away what lies outside a box; where the box reaches beyond the grid nothing is added.

    Raises:
        ValueError: the box has no voxel of the grid.
    """
    starts = [max(0, first) for first in box.first]
    stops = [min(have, first + count) for have, first, count in zip(volume.shape, box.first, box.count, strict=True)]
    if any(stop <= start for start, stop in zip(starts, stops, strict=True)):
        raise ValueError(f"box: expected voxels of the grid {volume.shape}, got {box}")
    window = tuple(slice(start, stop) for start, stop in zip(starts, stops, strict=True))
    return replace(volume, voxels=volume.voxels[window], affine=_shifted(volume.affine, starts))


def overhang(box: Box, shape: tuple[int, int, int]) -> list[tuple[int, int]]:
    """By how many voxels a box reaches beyond a grid, before and after it along each axis."""
    return [
        (max(0, -first), max(0, first + count - have))
        for have, first, count in zip(shape, box.first, box.count, strict=True)
    ]


def pad_by(volume: Volume, widths: list[tuple[int, int]], fill: float) -> Volume:
    """Add voxels of value ``fill``, so many before and after the grid along each axis."""
    voxels = np.pad(volume.voxels, widths, constant_values=np.float32(fill)) if np.any(widths) else volume.voxels
    return replace(volume, voxels=voxels, affine=_shifted(volume.affine, [-before for before, _ in widths]))


def resize(volume: Volume, shape: tuple[int, int, int], antialias: bool = True) -> Volume:
    """Resample to ``shape`` voxels over the same extent, linearly along each axis.

    Where an axis grows this is trilinear interpolation with ``align_corners=False``. Where it shrinks, the triangle
    filter is widened by the factor (as PIL and torch do with antialias), unless ``antialias`` is off.
    """
    steps = [old / new for old, new in zip(volume.shape, shape, strict=True)]
    to_old = np.diag([*steps, 1.0])
    to_old[:3, 3] = [0.5 * step - 0.5 for step in steps]
    voxels = volume.voxels
    # The axis that shrinks most goes first: the others then have less to do.
    for axis in sorted(range(3), key=lambda axis: -steps[axis]):
        voxels = _resize_axis(voxels, axis, shape[axis], antialias)
    return replace(volume, voxels=voxels, affine=volume.affine @ to_old)


def resize_weights(old: int, new: int, antialias: bool = True) -> NDArray[np.float32]:
    """The (new, old) matrix of linear resampling along one axis; each row adds up to 1.

    Row i is a triangle about the centre of output voxel i, ``(i + 0.5) * old / new - 0.5`` in input indices.
    """
    step = old / new
    half_width = max(step, 1.0) if antialias else 1.0
    centres = (np.arange(new) + 0.5) * step - 0.5
    weights_matrix = np.empty((new, old), dtype=np.float32)
    for start in range(0, new, _ROWS):  # a few rows at a time: the float64 in between is many times the result
        rows = slice(start, start + _ROWS)
        weights = np.maximum(0.0, 1.0 - np.abs(np.arange(old)[None, :] - centres[rows, None]) / half_width)
        weights_matrix[rows] = weights / weights.sum(axis=1, keepdims=True)
    return weights_matrix


def _resize_axis(voxels: Voxels, axis: int, new: int, antialias: bool) -> Voxels:
    old = voxels.shape[axis]
    return voxels if old == new else weigh_axis(voxels, axis, resize_weights(old, new, antialias))


def weigh_axis(voxels: Voxels, axis: int, weights: NDArray[np.float32]) -> Voxels:
    """Replace one axis by weighted sums over it; ``weights`` (new, old)."""
    # Slabs of a contiguous array, added one by one: as fast as a matrix product where most weights are zero, and
    # unlike it independent of threads and of the processor.
    slabs = np.ascontiguousarray(np.moveaxis(voxels, axis, 0))
    result = np.zeros((len(weights), *slabs.shape[1:]), dtype=np.float32)
    scratch = np.empty(slabs.shape[1:], dtype=np.float32)
    for i, row in enumerate(weights):
        for j in np.flatnonzero(row):
            np.multiply(slabs[j], row[j], out=scratch)
            result[i] += scratch
    return np.moveaxis(result, 0, axis)


def _voxel_counts(volume: Volume, extent_mm: Millimetres) -> list[int]:
    # The small addend keeps a spacing of 0.7999999 from giving another count than one of 0.8.
    ratios = (extent / step for extent, step in zip(extent_mm, volume.spacing, strict=True))
    return [max(1, int(np.floor(ratio + 0.5 + 1e-4))) for ratio in ratios]


def _shifted(affine: Affine, first_voxel: list[int]) -> Affine:
    """The affine of a grid that begins at index ``first_voxel`` of the old one."""
    moved = affine.copy()
    moved[:3, 3] = affine[:3, :3] @ np.asarray(first_voxel, dtype=np.float64) + affine[:3, 3]
    return moved
