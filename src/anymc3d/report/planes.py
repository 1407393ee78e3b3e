"""Planes of a scan as still pictures, for paper, for browsers without scripts and for tables of cases."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anymc3d.data.volume import Volume, to_ras
from anymc3d.explain.grey import grey_of
from anymc3d.explain.heatmaps import Heatmap
from anymc3d.pictures.colours import Colour, Floats, blend, grey_window
from anymc3d.pictures.planes import Plane
from anymc3d.pictures.scan import heat_sheet, scan_sheet
from anymc3d.pictures.tiles import resized
from anymc3d.plugins.card import PluginCard
from anymc3d.report.volumes import Grey, ReducedVolume, jpeg

PICTURE_PIXELS = 224


@dataclass(frozen=True)
class Peak:
    """The highest voxel of a map, as indices of the scan in RAS order."""

    index: tuple[int, int, int]
    is_flat: bool


def still(
    plane: Plane, scan: ReducedVolume, place: float, heat: Grey | None, *, table: Floats, mm_per_pixel: float
) -> Colour:
    """One plane of the reduced scan at ``place``, a share of the way through it, (rows, columns, 3).

    Args:
        heat: (I, J, K) on any grid over the same extent, or None.
        table: level -> grey value in [0, 1].
        mm_per_pixel: of the picture, the same for all planes of a page.
    """
    width, height = (max(1, round(length / mm_per_pixel)) for length in plane.size_mm(scan.extent_mm))
    heat_values = None if heat is None else resized(_cut(heat, plane, place) / 255.0, (width, height))
    return blend(resized(table[_cut(scan.grey, plane, place)], (width, height)), heat_values)


def _cut(values: Grey, plane: Plane, place: float) -> Grey:
    depth = values.shape[plane.across]
    return plane.cut(values, min(int(place * depth), depth - 1))


def peak_of(heat: Volume, scan: Volume) -> Peak:
    """Where the page starts: the highest voxel of a map over the scan's extent, or the middle where it is flat."""
    values, shape = to_ras(heat).voxels, to_ras(scan).shape
    if float(values.max()) <= float(values.min()):
        x, y, z = (size // 2 for size in shape)
        return Peak((x, y, z), True)
    index = np.unravel_index(int(values.argmax()), values.shape)
    x, y, z = (
        min(int((i + 0.5) * now / before), now - 1) for i, now, before in zip(index, shape, values.shape, strict=True)
    )
    return Peak((x, y, z), False)


def middle_planes(scan: Volume) -> bytes:
    """The three planes through the middle of a scan as one JPEG."""
    low, high, _ = grey_window(scan)
    return jpeg(scan_sheet(scan, grey=(low, high), longest=PICTURE_PIXELS))


def over_scan(scan: Volume, heat: Heatmap, card: PluginCard | None) -> bytes:
    """The three planes through the highest voxel of a heatmap as one JPEG: above the scan alone, below under the map.

    ``card``: of the plugin, for its window.
    """
    low, high, _ = grey_of(card, heat.column, scan)
    return jpeg(heat_sheet(scan, (heat.values, heat.affine), grey=(low, high), longest=PICTURE_PIXELS))
