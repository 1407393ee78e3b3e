"""Stored numbers to float32 voxels, with the checks that every format shares."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymc3d.data.formats.scan_file import ConstantScanError
from anymc3d.data.volume import Voxels
from anymc3d.errors import ScanError

ABSURD = 1e8
"""Far beyond any scanner's numbers; larger values are read, with a warning."""
TINY = 1e-30
"""Far below: numbers in the other byte order look like this."""


COLOURS = (3, 4)
"""Red, green, blue, and how opaque."""
_LEAST_PICTURE = 8


def is_colour_picture(shape: Sequence[int], dtype: np.dtype[Any]) -> bool:
    """Whether an array (x, y, z) without a geometry is a picture: its last axis, or of bytes its first, is colours.

    Red, green and blue would become three axial slices.
    """
    if len(shape) != 3:
        return False
    last = shape[2] in COLOURS and min(shape[0], shape[1]) >= _LEAST_PICTURE
    first = shape[0] in COLOURS and min(shape[1], shape[2]) >= _LEAST_PICTURE
    return last or (first and dtype == np.uint8)


def to_float32(
    raw: NDArray[Any], reference: str | Path, *, slope: float = 1.0, intercept: float = 0.0
) -> tuple[Voxels, tuple[str, ...]]:
    """Stored (X, Y, Z) numbers times ``slope`` plus ``intercept``, in Fortran order, and warnings about them.

    Slab by slab, so that the memory in use beside the result stays small.

    Raises:
        ScanError: a stored number is NaN or infinite, a result exceeds float32, or all are equal.
    """
    result = np.empty(raw.shape, dtype=np.float32, order="F")
    scaled = slope != 1.0 or intercept != 0.0
    for k in range(raw.shape[2]):
        slab = raw[:, :, k]
        if raw.dtype.kind == "f" and not np.isfinite(slab).all():
            i, j = np.argwhere(~np.isfinite(slab))[0]
            what = f"voxel ({i}, {j}, {k}) is {slab[i, j]}, expected finite numbers only"
            raise ScanError.of(reference, f"{what}; find out where they come from, or replace them by the background")
        with np.errstate(over="ignore", invalid="ignore"):
            result[:, :, k] = slab * np.float64(slope) + np.float64(intercept) if scaled else slab
    return result, range_warnings(result, reference)


def range_warnings(voxels: Voxels, reference: str | Path) -> tuple[str, ...]:
    """A warning where voxel values are beyond any scanner's.

    Raises:
        ScanError: some are not finite, or all are equal.
    """
    low, high = float(voxels.min()), float(voxels.max())
    if not np.isfinite([low, high]).all():
        raise ScanError.of(reference, "voxel values exceed the range of float32; save the scan in its usual units")
    if low == high:
        raise ConstantScanError(
            ScanError.of(reference, f"all voxels are {low:g}: an empty scan; check the export"), low
        )
    if max(-low, high) > ABSURD:
        return (f"voxel values from {low:.3g} to {high:.3g} are beyond any scanner's: check slope and units",)
    if max(-low, high) < TINY:
        return (
            f"no voxel value is beyond {max(-low, high):.3g}: numbers in the wrong byte order? save the scan again",
        )
    return ()
