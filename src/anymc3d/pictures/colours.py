"""The colours of heatmaps: one palette, transparent where a map is low, and how grey values become a picture."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from anymc3d.data.volume import Volume

Colour = NDArray[np.uint8]
Floats = NDArray[np.floating]

PALETTE = "inferno"
OPACITY = 0.65
TRANSPARENT_BELOW = 0.15
"""Share of a map's highest value under which nothing is laid over the scan: its grey values stay readable there."""
FULL_FROM = 0.6
SOFT_TISSUE_HU = (-160.0, 240.0)
HEAT_NOTE = "A heatmap shows where the classifier looked, not where disease is."


@lru_cache(maxsize=1)
def palette() -> Colour:
    """The heatmap's colours, (256, 3)."""
    from matplotlib import colormaps

    return (colormaps[PALETTE](np.arange(256))[:, :3] * 255).round().astype(np.uint8)


def opacity_of(values: Floats) -> Floats:
    """How much of the scan a heatmap's values in [0, 1] hide: nothing below ``TRANSPARENT_BELOW``."""
    share = (np.asarray(values, dtype=np.float64) - TRANSPARENT_BELOW) / (FULL_FROM - TRANSPARENT_BELOW)
    return OPACITY * np.clip(share, 0.0, 1.0)


def blend(grey: Floats, heat: Floats | None) -> Colour:
    """Grey values in [0, 1] (rows, columns), under a heatmap in [0, 1] of that size, as colours (rows, columns, 3)."""
    scan = np.repeat(np.clip(grey, 0, 1)[..., None] * 255.0, 3, axis=-1)
    if heat is not None:
        values = np.clip(heat, 0, 1)
        alpha = opacity_of(values)[..., None]
        scan = scan * (1 - alpha) + palette()[(values * 255).round().astype(int)] * alpha
    return scan.round().astype(np.uint8)


def grey_window(scan: Volume, windows: Sequence[tuple[float, float]] = ()) -> tuple[float, float, str]:
    """What is black, what is white, and how that is said: the first window given (a plugin's own), of a CT without one
    the soft tissues, otherwise percentiles."""
    if windows:
        low, high = windows[0]
        return float(low), float(high), f"grey from {low:g} to {high:g}, the plugin's window"
    if scan.modality == "CT":
        low, high = SOFT_TISSUE_HU
        return low, high, f"grey from {low:g} to {high:g} HU"
    low, high = (float(v) for v in np.nanpercentile(scan.voxels, (0.5, 99.5)))
    return low, high, "grey from the 0.5th to the 99.5th percentile"
