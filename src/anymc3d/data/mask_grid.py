"""Whether a segmentation lies on its scan's grid: the same voxels in the world, in whatever order either is stored."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation
from numpy.typing import NDArray

from anymc3d.data.formats.scan_file import ConstantScanError
from anymc3d.data.readers import read_header, read_volume
from anymc3d.data.volume import Affine, Millimetres, orientation_of, spacing_of
from anymc3d.errors import MaskError

TOLERANCE = 0.1
"""Of a voxel: how far the same corner may lie apart. Affines are stored in single precision, and rounded by many."""


class Grid(Protocol):
    """Anything with a shape and an affine: a ``Volume``, a ``ScanHeader``."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along the stored axes."""

    @property
    def affine(self) -> Affine:
        """(4, 4): voxel index to RAS millimetres."""


def grid_difference(scan: Grid, mask: Grid) -> str | None:
    """One line that says how a mask's grid differs from its scan's, or None where they are the same voxels.

    The order and direction in which the axes are stored does not count.
    """
    scan_shape, scan_affine = _ras_grid(scan)
    mask_shape, mask_affine = _ras_grid(mask)
    if scan_shape != mask_shape:
        return f"{_in_words(mask_shape, mask_affine)}, the scan's is {_in_words(scan_shape, scan_affine)}"
    corners = np.array([[x, y, z, 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)], dtype=np.float64)
    corners[:, :3] *= np.asarray(scan_shape) - 1
    apart_mm = np.linalg.norm((corners @ (mask_affine - scan_affine).T)[:, :3], axis=1).max()
    if apart_mm <= TOLERANCE * min(spacing_of(scan_affine)):
        return None
    if not np.allclose(spacing_of(scan_affine), spacing_of(mask_affine), rtol=1e-3):
        return f"{_in_words(mask_shape, mask_affine)}, the scan's is {_in_words(scan_shape, scan_affine)}"
    return f"{_in_words(mask_shape, mask_affine)} as the scan's, but up to {apart_mm:.3g} mm away from it"


def read_on_grid(reference: str, scan: Grid, *, spacing: Millimetres | None = None) -> NDArray[np.int32]:
    """A segmentation (X, Y, Z) in RAS order, as :func:`anymc3d.data.volume.to_ras` turns its scan.

    ``spacing``: what the manifest says, for arrays.

    Raises:
        ScanError: it cannot be read, holds something else than whole numbers, or lies on another grid.
    """
    spacing = spacing if reference.lower().endswith(".npy") else None
    header = read_header(reference, spacing=spacing)
    difference = grid_difference(scan, header)
    if difference is not None:
        what = f"the mask is not on its scan's grid: it is {difference}"
        raise MaskError.of(reference, f"{what}; resample it to the scan (nearest neighbour), or use the scan it is of")
    return apply_orientation(read_labels(reference, spacing=spacing), io_orientation(header.affine))


def read_labels(reference: str, *, spacing: Millimetres | None = None) -> NDArray[np.int32]:
    """The whole numbers (I, J, K) of a segmentation as it is stored; one without any label is all 0, and no fault.

    Raises:
        ScanError: it cannot be read, or holds fractions or negative numbers.
    """
    try:
        values = read_volume(reference, spacing=spacing).voxels
    except ConstantScanError as error:
        values = np.full(read_header(reference, spacing=spacing).shape, error.value, dtype=np.float32)
    labels = values.astype(np.int32)
    if (labels != values).any() or labels.min() < 0:
        what = (
            f"expected whole numbers from 0 on in a segmentation, got values from {values.min():g} to {values.max():g}"
        )
        raise MaskError.of(reference, f"{what}; give the segmentation, not the scan or a probability map")
    return labels


def _ras_grid(grid: Grid) -> tuple[tuple[int, ...], Affine]:
    orientation = io_orientation(grid.affine)
    shape = tuple(grid.shape[int(axis)] for axis in np.argsort(orientation[:, 0]))
    return shape, grid.affine @ inv_ornt_aff(orientation, grid.shape)


def _in_words(shape: tuple[int, ...], affine: Affine) -> str:
    size = " x ".join(str(count) for count in shape)
    steps = " x ".join(f"{step:.4g}" for step in spacing_of(affine))
    return f"{size} voxels of {steps} mm ({orientation_of(affine)})"
