"""The scan made coarse for the first network, and the region of the second one about what the first has drawn.

All grids keep the order in which the scan is stored: nnU-Net computes in it. Millimetres are of the anatomical axis
(right, anterior, superior) that is nearest to a stored one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from nibabel.orientations import io_orientation
from numpy.typing import NDArray

from anymc3d.data.volume import Affine, Box, Millimetres, Volume

COARSE_MM: Millimetres = (4.5, 4.5, 9.0)
MARGIN_MM: Millimetres = (100.0, 50.0, 15.0)
PANCREAS = 1
"""Label of the first network."""


def coarse(scan: Volume, spacing_mm: Millimetres = COARSE_MM) -> Volume:
    """The scan at another spacing by cubic B-splines; the first voxel stays where it is."""
    from scipy.ndimage import affine_transform

    steps = _of_stored_axes(spacing_mm, scan.affine) / np.asarray(scan.spacing)
    x, y, z = (max(1, round(count / step)) for count, step in zip(scan.shape, steps, strict=True))
    voxels = affine_transform(scan.voxels, steps, output_shape=(x, y, z), order=3, mode="nearest", output=np.float32)
    return Volume(voxels, scan.affine @ np.diag([*steps, 1.0]))


def region_about(
    labels: NDArray[Any], affine: Affine, scan: Volume, margin_mm: Millimetres = MARGIN_MM
) -> tuple[Box, bool]:
    """The box of all voxels of label 1 and a margin, in whole voxels of the scan, cut at its edge.

    Args:
        labels: (I, J, K) of the first network, on a grid of its own.
        affine: (4, 4) of that grid.
        scan: the whole scan.
        margin_mm: on both sides, along right, anterior and superior.

    Returns:
        The box, and whether anything was drawn: without, it is the whole scan.
    """
    places = np.argwhere(labels == PANCREAS)
    if len(places) == 0:
        return Box((0, 0, 0), scan.shape), False
    ends = np.stack([places.min(axis=0), places.max(axis=0)])
    corners = np.array([[*(ends[pick, range(3)]), 1] for pick in np.ndindex(2, 2, 2)], dtype=float)
    inside = (corners @ (np.linalg.inv(scan.affine) @ affine).T)[:, :3]
    margin = (_of_stored_axes(margin_mm, scan.affine) / np.asarray(scan.spacing)).astype(int)
    # Outwards, but for a thousandth of a voxel: places that are meant to fall on one fall beside it by rounding errors.
    low = np.floor(inside.min(axis=0) + 1e-3).astype(int) - margin
    high = np.ceil(inside.max(axis=0) - 1e-3).astype(int) + margin
    first = np.clip(low, 0, np.asarray(scan.shape) - 1)
    last = np.clip(high, 0, np.asarray(scan.shape) - 1)
    x, y, z = (int(value) for value in first)
    a, b, c = (int(value) for value in last - first + 1)
    return Box((x, y, z), (a, b, c)), True


def _of_stored_axes(of_anatomy: Millimetres, affine: Affine) -> NDArray[np.float64]:
    """Three numbers for right, anterior, superior -> for the stored axes."""
    return np.asarray(of_anatomy)[io_orientation(affine)[:, 0].astype(int)]
