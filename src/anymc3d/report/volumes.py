"""A scan and its heatmaps as small 8-bit pictures: every slice of one axis side by side on one sheet.

One sheet is enough for all three planes: the page cuts the other two out of it.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anymc3d.data.volume import Volume, resize, to_ras
from anymc3d.page.document import data_url
from anymc3d.report.levels import Levels

MAX_PIXELS = 256
"""Pixels along a scan's longest axis in a report."""
MAX_HEAT = 80
"""Points along a heatmap's longest axis: a patch of the backbone is wider than a voxel of that."""
SCAN_BYTES = 3_000_000
HEAT_BYTES = 900_000
"""All maps of one report together."""
_LOSSLESS_BYTES = 1_500_000
_JPEG_QUALITY = 80
_SHRINK = 0.85

Grey = NDArray[np.uint8]
HEAT_LEVELS: Levels = np.linspace(0.0, 1.0, 256)


@dataclass(frozen=True)
class Sheet:
    """Slices along the last axis of a RAS volume, ``across`` to a row, every tile ``tile`` (width, height) pixels.

    Pixel (x, y) of tile k is voxel (x, y, k).
    """

    url: str
    shape: tuple[int, int, int]
    tile: tuple[int, int]
    across: int
    lossless: bool

    def record(self) -> dict[str, object]:
        """For the page's script."""
        return {"url": self.url, "shape": self.shape, "tile": self.tile, "across": self.across}


@dataclass(frozen=True)
class ReducedVolume:
    """A volume as 8-bit grey values, (I, J, K) in RAS order, with the extents that it covers, in mm."""

    grey: Grey
    extent_mm: tuple[float, float, float]
    shape_before: tuple[int, int, int]


def capped(shape: Sequence[int], most: float) -> tuple[int, int, int]:
    """Return the shape with no axis above ``most``; each axis is taken for itself."""
    x, y, z = (max(1, min(size, int(most))) for size in shape)
    return x, y, z


def grey_values(volume: Volume, levels: Levels, most: float = MAX_PIXELS) -> ReducedVolume:
    """Reduce a volume of any orientation: to RAS, no axis above ``most``, every voxel to the nearest of 256 levels."""
    ras = to_ras(volume)
    small = resize(ras, capped(ras.shape, most))
    nearest = np.interp(np.nan_to_num(small.voxels), levels, np.arange(256)).round()
    x, y, z = ras.shape
    return ReducedVolume(nearest.astype(np.uint8), ras.extent_mm, (x, y, z))


def scan_sheet(volume: Volume, levels: Levels, budget: int = SCAN_BYTES) -> tuple[Sheet, ReducedVolume]:
    """Return a scan's sheet, lossless where that is small, otherwise JPEG, and smaller still until it fits."""
    most = float(MAX_PIXELS)
    while True:
        reduced = grey_values(volume, levels, most)
        if reduced.grey.size <= 4 * _LOSSLESS_BYTES:
            content, sheet = encode(reduced.grey, lossless=True)
            if len(content) <= min(_LOSSLESS_BYTES, budget):
                return sheet, reduced
        content, sheet = encode(reduced.grey, lossless=False)
        if len(content) <= budget:
            return sheet, reduced
        most = max(reduced.grey.shape) * _SHRINK


def heat_sheets(maps: Sequence[Volume], budget: int = HEAT_BYTES) -> list[Sheet]:
    """Return a lossless sheet of every map (values in [0, 1]), all of one fineness, together within the budget."""
    most = float(MAX_HEAT)
    while True:
        encoded = [encode(grey_values(heatmap, HEAT_LEVELS, most).grey, lossless=True) for heatmap in maps]
        if sum(len(content) for content, _ in encoded) <= budget or most < 8:
            return [sheet for _, sheet in encoded]
        most *= _SHRINK


def encode(grey: Grey, *, lossless: bool) -> tuple[bytes, Sheet]:
    """Put the slices (I, J, K) on one sheet: PNG, or JPEG with tiles a whole number of its blocks wide."""
    width, height, num_slices = grey.shape
    tile = (width, height) if lossless else (-(-width // 8) * 8, -(-height // 8) * 8)
    across = max(1, min(num_slices, round(math.sqrt(num_slices * tile[1] / tile[0]))))
    rows = -(-num_slices // across)
    padded = np.pad(grey, ((0, tile[0] - width), (0, tile[1] - height), (0, rows * across - num_slices)), mode="edge")
    # (x, y, row, column) -> (row, y, column, x)
    tiled = padded.reshape(*tile, rows, across).transpose(2, 1, 3, 0).reshape(rows * tile[1], across * tile[0])
    content = png(tiled) if lossless else jpeg(tiled)
    x, y, z = grey.shape
    sheet = Sheet(data_url(content, "png" if lossless else "jpeg"), (x, y, z), tile, across, lossless)
    return content, sheet


def png(pixels: Grey) -> bytes:
    """(rows, columns) grey or (rows, columns, 3) colour -> PNG."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(stream, format="PNG", optimize=pixels.size < 2_000_000)
    return stream.getvalue()


def jpeg(pixels: Grey) -> bytes:
    """(rows, columns) grey or (rows, columns, 3) colour -> JPEG."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(stream, format="JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return stream.getvalue()
