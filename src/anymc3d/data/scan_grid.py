"""Back from the slices of a view to the scan's own grid, and a segmentation cut like the slices: affines alone.

All steps of :func:`anymc3d.data.preprocess.prepare_view` (orient, choose the plane, crop, pad, resize) are moves
along the voxel axes, and the affine stays true through each. So the two grids differ by an order of axes, flips,
steps and shifts, whatever the way between them was, and one resampling axis by axis leads from either to the other.
Source of the need: supplement G, heatmaps in the scan's geometry; the rule at the borders is ours.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation, ornt_transform
from numpy.typing import NDArray

from anymc3d.data.preprocess import PreparedView
from anymc3d.data.volume import Affine, weigh_axis
from anymc3d.errors import ScanError

Order = Literal["linear", "nearest"]

_RAS = np.array([[0, 1], [1, 1], [2, 1]])
_TURNED = 0.01
"""Voxels by which two grids may drift apart across a scan before they count as turned against each other."""
_DECIMALS = 6
"""Of a voxel index: grids that share their voxels share them exactly, whatever the rounding of their affines."""


def to_scan_grid(
    values: NDArray[Any],
    prepared_affine: Affine,
    source_shape: tuple[int, int, int],
    source_affine: Affine,
    *,
    order: Order = "linear",
    fill: float = 0.0,
) -> NDArray[Any]:
    """Bring values on the slices of one view back to the scan they were cut from.

    Args:
        values: (S, H, W), one number per prepared pixel, such as a heatmap.
        prepared_affine: (4, 4), ``PreparedView.affine``: index (h, w, s) to RAS millimetres.
        source_shape: (I, J, K) of the scan as it is stored.
        source_affine: (4, 4) of the scan as it is stored, whatever its orientation.
        order: ``linear`` gives float32, smoothed where the scan is coarser than the slices, as a resize is;
            ``nearest`` keeps the values and their type.
        fill: of the voxels whose centre lies outside the slices' extent, such as all that was cropped away.

    Returns:
        (I, J, K) in the scan's own storage order; the scan's affine is its affine.

    Raises:
        ScanError: the slices are not of this scan: their grid is turned against it.
    """
    if values.ndim != 3:
        raise ValueError(f"values: expected (S, H, W), got shape {values.shape}")
    # In RAS order first, so that ties are broken by anatomy and not by the way the scan is stored.
    orientation = io_orientation(source_affine)
    shape = tuple(source_shape[int(axis)] for axis in np.argsort(orientation[:, 0]))
    ras_affine = source_affine @ inv_ornt_aff(orientation, source_shape)
    on_ras = resample(values.transpose(1, 2, 0), prepared_affine, shape, ras_affine, order=order, fill=fill)
    return np.ascontiguousarray(apply_orientation(on_ras, ornt_transform(_RAS, orientation)))


def prepare_mask(segmentation: NDArray[Any], affine: Affine, like: PreparedView) -> NDArray[Any]:
    """Cut a segmentation exactly as the slices of a view were cut: nearest label, type kept, no label mixed.

    Args:
        segmentation: (I, J, K) labels on the scan's grid, in its storage order.
        affine: (4, 4) of the scan.
        like: the view of that scan, prepared.

    Returns:
        (S, H, W): the label of each prepared pixel, 0 where it was padded.

    Raises:
        ScanError: the view is of another scan: its grid is turned against this one.
    """
    orientation = io_orientation(affine)
    ras = apply_orientation(segmentation, orientation)
    ras_affine = affine @ inv_ornt_aff(orientation, segmentation.shape)
    num_slices, _, height, width = like.slices.shape
    cut = resample(ras, ras_affine, (height, width, num_slices), like.affine, order="nearest", fill=0)
    return np.ascontiguousarray(cut.transpose(2, 0, 1))


def resample(
    values: NDArray[Any],
    affine: Affine,
    shape: tuple[int, ...],
    to_affine: Affine,
    *,
    order: Order = "linear",
    fill: float = 0.0,
) -> NDArray[Any]:
    """Values (X, Y, Z) of one grid at the voxel centres of another of ``shape`` whose axes run along the same lines.

    Inside the first grid's extent, half a voxel beyond its outermost centres, the outermost values hold; outside of
    it is ``fill``. ``linear`` widens its triangle where the second grid is coarser, as :func:`resize` does.

    Raises:
        ScanError: the axes of the grids are turned against each other.
    """
    axes, steps, firsts = _along_axes(np.linalg.inv(affine) @ to_affine, shape)
    moved = values.transpose(axes)
    inside = np.ones((1, 1, 1), dtype=bool)
    indices = []
    for axis, (step, first, count) in enumerate(zip(steps, firsts, shape, strict=True)):
        index = np.round(first + step * np.arange(count), _DECIMALS)
        near = (index >= -0.5) & (index <= moved.shape[axis] - 0.5)
        inside = inside & near.reshape([-1 if axis == other else 1 for other in range(3)])
        indices.append(index)
    if order == "nearest":
        picked = [_nearest(index, size) for index, size in zip(indices, moved.shape, strict=True)]
        result = moved[np.ix_(*picked)]
    else:
        result = np.asarray(moved, dtype=np.float32)
        # What shrinks goes first: the other axes then have less to do.
        for axis in sorted(range(3), key=lambda axis: shape[axis] / moved.shape[axis]):
            weights = _triangles(indices[axis], moved.shape[axis], abs(steps[axis]))
            result = weigh_axis(result, axis, weights)
    return np.where(inside, result, np.asarray(fill, dtype=result.dtype))


def _along_axes(matrix: Affine, shape: tuple[int, ...]) -> tuple[list[int], list[float], list[float]]:
    """Of the matrix from an index of the second grid to one of the first: for each axis of the second, which axis of
    the first it runs along, its step there, and where it begins."""
    turn = matrix[:3, :3]
    axes = [int(axis) for axis in np.abs(turn).argmax(axis=0)]
    rest = turn.copy()
    rest[axes, range(3)] = 0.0
    drift = np.abs(rest * np.asarray(shape)).max()
    if sorted(axes) != [0, 1, 2] or not drift <= _TURNED:
        raise ScanError(
            f"expected slices that were cut from this scan, got a grid turned against it (by {drift:.3g} voxels "
            "across the scan); give the scan from which they were made"
        )
    return axes, [float(turn[axis, i]) for i, axis in enumerate(axes)], [float(matrix[axis, 3]) for axis in axes]


def _nearest(index: NDArray[np.float64], size: int) -> NDArray[np.int64]:
    """Whole indices from 0 to size - 1; halves go up."""
    return np.clip(np.floor(index + 0.5), 0, size - 1).astype(np.int64)


def _triangles(index: NDArray[np.float64], size: int, step: float) -> NDArray[np.float32]:
    """(len(index), size): a triangle about each index, as wide as the coarser of the two steps; rows add up to 1."""
    centres = np.clip(index, -0.5, size - 0.5)
    weights = np.maximum(0.0, 1.0 - np.abs(np.arange(size)[None, :] - centres[:, None]) / max(step, 1.0))
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
