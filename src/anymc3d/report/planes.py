"""Planes of a scan as still pictures, for paper, for browsers without scripts and for tables of cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anymc3d.data.volume import Volume, to_ras
from anymc3d.explain.heat import Heat
from anymc3d.explain.picture import HEAT_COLOURS, OPACITY, PLANES, grey_window, plane_of
from anymc3d.plugins.card import PluginCard
from anymc3d.report.volumes import Grey, Reduced, grey_values, jpeg

PICTURE_PIXELS, HEAT_PIXELS = 224, 128

SIDES: Mapping[str, tuple[str, str, str, str]] = {
    "axial": ("R", "L", "A", "P"),
    "coronal": ("R", "L", "S", "I"),
    "sagittal": ("P", "A", "S", "I"),
}
"""Plane -> the patient's side at the left, right, top and bottom edge of its picture."""
_AXES = {"axial": (0, 1), "coronal": (0, 2), "sagittal": (1, 2)}
"""Plane -> the volume axes that run along the picture's width and height."""


@dataclass(frozen=True)
class Peak:
    """The hottest voxel of a map, as indices of the reduced scan."""

    index: tuple[int, int, int]
    is_flat: bool


def palette() -> NDArray[np.uint8]:
    """The heat colours, (256, 3)."""
    from matplotlib import colormaps

    return (colormaps[HEAT_COLOURS](np.arange(256))[:, :3] * 255).round().astype(np.uint8)


def size_mm(plane: str, extent_mm: tuple[float, float, float]) -> tuple[float, float]:
    """Width and height of a plane's picture."""
    first, second = _AXES[plane]
    return extent_mm[first], extent_mm[second]


def still(plane: str, scan: Reduced, index: int, heat: Grey | None, longest: int) -> Grey:
    """One plane through ``index`` of the reduced scan, upright, in millimetre proportions, (rows, columns, 3).

    Args:
        heat: (I, J, K) on any grid over the same extent, or None.
        longest: pixels of the longer side.
    """
    width_mm, height_mm = size_mm(plane, scan.extent_mm)
    scale = longest / max(width_mm, height_mm)
    size = (max(1, round(width_mm * scale)), max(1, round(height_mm * scale)))
    grey = _enlarged(_upright(scan.grey, plane, index), size).astype(np.float64)
    colour = np.repeat(grey[:, :, None], 3, axis=2)
    if heat is not None:
        across = PLANES[plane]
        own = min(int((index + 0.5) * heat.shape[across] / scan.grey.shape[across]), heat.shape[across] - 1)
        values = _enlarged(_upright(heat, plane, own), size)
        alpha = (OPACITY * np.clip(values / 255 * 1.5, 0, 1))[:, :, None]
        colour = colour * (1 - alpha) + palette()[values] * alpha
    return colour.round().astype(np.uint8)


def peak_of(heat: Volume, scan: Reduced) -> Peak:
    """Where the page starts: the highest voxel, or the middle where a map is flat."""
    values = to_ras(heat).voxels
    if float(values.max()) <= float(values.min()):
        x, y, z = (size // 2 for size in scan.grey.shape)
        return Peak((x, y, z), True)
    index = np.unravel_index(int(values.argmax()), values.shape)
    x, y, z = (
        min(int((i + 0.5) * now / before), now - 1)
        for i, now, before in zip(index, scan.grey.shape, values.shape, strict=True)
    )
    return Peak((x, y, z), False)


def _upright(values: Grey, plane: str, index: int) -> Grey:
    """(rows from above, columns), the patient's right on the left."""
    return plane_of(values, PLANES[plane], index)[::-1]


def _enlarged(pixels: Grey, size: tuple[int, int]) -> Grey:
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR))


def middle_planes(scan: Volume) -> bytes:
    """The three planes through the middle of a scan as one JPEG."""
    low, high, _ = grey_window(None, "", scan)
    reduced = grey_values(scan, low, high)
    middle = {plane: reduced.grey.shape[across] // 2 for plane, across in PLANES.items()}
    return jpeg(_side_by_side(_stills(reduced, middle, None)))


def over_scan(scan: Volume, heat: Heat, card: PluginCard | None) -> bytes:
    """The three planes through the highest voxel of a heatmap as one JPEG: above the scan alone, below under the heat.

    ``card``: of the plugin, for its window.
    """
    low, high, _ = grey_window(card, heat.column, scan)
    reduced = grey_values(scan, low, high)
    values = Volume(voxels=heat.values, affine=heat.affine)
    peak = peak_of(values, reduced).index
    through = {plane: peak[across] for plane, across in PLANES.items()}
    layer = grey_values(values, 0.0, 1.0, HEAT_PIXELS).grey
    return jpeg(np.concatenate([_side_by_side(_stills(reduced, through, own)) for own in (None, layer)]))


def _stills(scan: Reduced, through: Mapping[str, int], heat: Grey | None) -> list[Grey]:
    return [still(plane, scan, index, heat, PICTURE_PIXELS) for plane, index in through.items()]


def _side_by_side(stills: Sequence[Grey]) -> Grey:
    """On black, every one centred in its square."""
    size = max(max(one.shape[:2]) for one in stills)
    sheet = np.zeros((size, size * len(stills), 3), dtype=np.uint8)
    for index, one in enumerate(stills):
        top, left = (size - one.shape[0]) // 2, (size - one.shape[1]) // 2 + index * size
        sheet[top : top + one.shape[0], left : left + one.shape[1]] = one
    return sheet
