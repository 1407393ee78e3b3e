"""The size of a view: the median scan at its own resolution, as whole patches and slices, within limits."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anymc3d.data.preprocess import AXES
from anymc3d.plan.rules import Grids
from anymc3d.types import Plane

MIN_PATCHES = 7
"""Fewer patches along an in-plane axis leave a frozen 2D network little to see (98 pixels with patch 14)."""
MAX_PATCHES = 1024
"""Patches of one slice: 448 x 448 pixels with patch 14, about the largest size in the paper's Table 3."""
MAX_SLICES = 128
"""All but one task of the paper's Table 3 have at most 126."""
EXACT_SLICES = 64
SLICE_STEP = 10
"""Above 64 slices whole tens, as in five of the six such sizes of Table 3."""


class SizeChoice(NamedTuple):
    """A view's size and why."""

    value: tuple[int, int, int]
    reason: str


def choose_size(
    grids: Grids, plane: Plane, patch_size: int, field_of_view: tuple[float, float, float] | None
) -> SizeChoice:
    """In-plane pixels as multiples of the patch, and slices.

    Args:
        grids: of the training scans, cropped to their region where there is one.
        plane: of the view.
        patch_size: pixels; in-plane sizes are its multiples, rounded up so that the median loses no resolution.
        field_of_view: millimetres along x, y, z that count in place of the median extent.
    """
    extent = np.median(grids.extents_mm, axis=0) if field_of_view is None else np.asarray(field_of_view)
    spacing = np.median(grids.spacings, axis=0)
    first, second, across = AXES[plane]
    pixel_mm = min(spacing[first], spacing[second])
    native = np.array([extent[first], extent[second]]) / pixel_mm
    (height, width), why = _in_plane(native, patch_size)
    num_slices = max(1, round(float(extent[across] / spacing[across])))
    of = "median scan" if field_of_view is None else "field of view"
    reason = f"{of} {native[0]:.0f} x {native[1]:.0f} px of {pixel_mm:.2g} mm, {num_slices} slices"
    limited = f"; at most {MAX_SLICES} slices" if num_slices > MAX_SLICES else ""
    return SizeChoice((height, width, slice_count(num_slices)), f"{reason}{why}{limited}; patch {patch_size}")


def slice_count(number: int) -> int:
    """As many as there are up to 64, above that the nearest ten (halves up), at most 128."""
    if number <= EXACT_SLICES:
        return number
    return min(MAX_SLICES, int(number / SLICE_STEP + 0.5) * SLICE_STEP)


def _in_plane(native: NDArray[np.float64], patch_size: int) -> tuple[tuple[int, int], str]:
    """Pixels along both axes, and why they are not the scan's own."""
    least, why = MIN_PATCHES * patch_size, ""
    if native.min() < least:
        scale = least / native.min()
        native, why = native * scale, f"; enlarged {scale:.2g} times to {MIN_PATCHES} patches"
        # Enlarged pixels are interpolated anyway: the nearest patch will do.
        counts = np.maximum(1, np.round(native / patch_size))
    else:
        counts = _counts(native, patch_size)
    if counts.prod() > MAX_PATCHES:
        scale = _largest_scale(native, patch_size)
        counts, why = _counts(native * scale, patch_size), f"; scaled by {scale:.2g} to {MAX_PATCHES} patches a slice"
    height, width = (int(count) * patch_size for count in counts)
    return (height, width), why


def _counts(pixels: NDArray[np.float64], patch_size: int) -> NDArray[np.float64]:
    """Patches that hold so many pixels."""
    return np.maximum(1, np.ceil(pixels / patch_size - 1e-6))


def _largest_scale(native: NDArray[np.float64], patch_size: int) -> float:
    """The largest scale at which the slice has at most 1,024 patches: where the sides are whole numbers of patches."""
    wholes = np.arange(1, MAX_PATCHES + 1) * patch_size
    scales = np.sort(np.concatenate([wholes / side for side in native]))[::-1]
    fits = (np.ceil(np.outer(scales, native) / patch_size - 1e-6).prod(axis=1) <= MAX_PATCHES) & (scales <= 1)
    return float(scales[fits][0]) if fits.any() else math.sqrt(MAX_PATCHES * patch_size**2 / float(native.prod()))
