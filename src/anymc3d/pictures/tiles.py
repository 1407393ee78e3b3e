"""One plane of a scan as a small picture in millimetre proportions, alone, under a heatmap or with an outline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anymc3d.data.volume import Volume
from anymc3d.pictures.colours import Colour, Floats, blend
from anymc3d.pictures.planes import Plane

OUTLINE = (255, 140, 0)


@dataclass(frozen=True, eq=False)
class Tile:
    """A plane's picture (rows, columns, 3) and what is written around it."""

    pixels: Colour
    plane: Plane
    title: str = ""
    marks: tuple[tuple[float, float], ...] = ()
    """Places that get a cross, as shares of width from the left and of height from above."""
    framed: bool = False


def scale_for(extents_mm: Sequence[tuple[float, float]], longest: int) -> float:
    """Millimetres per pixel with which the longest side of all pictures takes ``longest`` pixels."""
    return max(max(extent) for extent in extents_mm) / longest


def draw_plane(
    scan: Volume,
    plane: Plane,
    index: int,
    *,
    grey: tuple[float, float],
    mm_per_pixel: float,
    heat: Floats | None = None,
    outline: NDArray[np.bool_] | None = None,
) -> Colour:
    """The plane through ``index`` of a RAS scan, (rows, columns, 3).

    Args:
        grey: what is black and what is white, in the scan's units.
        mm_per_pixel: of the picture, in both directions.
        heat: values in [0, 1] on the scan's grid, or on another grid over the same extent.
        outline: a mask on the scan's grid, drawn as a line.
    """
    width_mm, height_mm = plane.size_mm(scan.extent_mm)
    size = (max(1, round(width_mm / mm_per_pixel)), max(1, round(height_mm / mm_per_pixel)))
    low, high = grey
    values = (np.nan_to_num(plane.cut(scan.voxels, index)) - low) / max(high - low, 1e-9)
    overlay = None
    if heat is not None:
        depth = heat.shape[plane.across]
        depth_index = min(int((index + 0.5) * depth / scan.shape[plane.across]), depth - 1)
        overlay = resized(plane.cut(heat, depth_index), size)
    picture = blend(resized(np.clip(values, 0, 1), size), overlay)
    if outline is not None:
        picture[_edge(resized(plane.cut(outline, index).astype(np.float32), size) >= 0.5)] = OUTLINE
    return picture


def resized(values: Floats, size: tuple[int, int]) -> NDArray[np.float32]:
    """(rows, columns) resampled to ``size`` = (width, height) pixels, linearly, with antialiasing where it shrinks."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(values, dtype=np.float32), mode="F")
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR))


def _edge(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask's pixels that touch its outside."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner
