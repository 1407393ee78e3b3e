"""How well a heatmap points at a mask: pointing game, distance of the peak, mass in the mask, area under a curve.

All take a heatmap and a mask on one grid. A mask of nothing has no truth to point at: the result is NaN, and the
caller says why.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.stats import spearmanr


@dataclass(frozen=True)
class Localisation:
    """``peak_in_mask``: 1 or 0 (pointing game). ``peak_distance_mm``: from the peak to the nearest voxel centre of the
    mask, 0 inside. ``mass_in_mask``: share of the map's sum; by chance ``mask_share``, the share of the voxels."""

    peak_in_mask: float
    peak_distance_mm: float
    mass_in_mask: float
    mask_share: float


def localise(heat: NDArray[np.float32], mask: NDArray[np.bool_], affine: NDArray[np.float64]) -> Localisation:
    """Score one heatmap (I, J, K), at least 0, against a mask of the same shape; ``affine`` leads to millimetres.

    A heatmap of nothing points nowhere: all but ``mask_share`` is NaN. So does an empty mask.
    """
    if heat.shape != mask.shape:
        raise ValueError(f"expected a mask of the heatmap's shape {heat.shape}, got {mask.shape}")
    share = float(mask.mean())
    total = float(heat.sum(dtype=np.float64))
    if not mask.any() or total <= 0:
        return Localisation(math.nan, math.nan, math.nan, share)
    peak = np.array(np.unravel_index(int(heat.argmax()), heat.shape))
    to_mm = affine[:3, :3]
    distance, _ = cKDTree(np.argwhere(mask) @ to_mm.T).query(to_mm @ peak)
    mass = float(heat[mask].sum(dtype=np.float64)) / total
    return Localisation(float(mask[tuple(peak)]), float(distance), mass, share)


def area_under(values: Sequence[float]) -> float:
    """The area under values at equal steps from 0 to 1 (trapezoids), such as a deletion or insertion curve."""
    if len(values) < 2:
        raise ValueError(f"expected at least two points, got {len(values)}")
    return float(np.trapezoid(np.asarray(values, dtype=np.float64), dx=1.0 / (len(values) - 1)))


def rank_correlation(map_a: NDArray[np.float32], map_b: NDArray[np.float32]) -> float:
    """Spearman's correlation of two maps of one shape; NaN where one of them is flat."""
    first, second = map_a.ravel(), map_b.ravel()
    if first.min() == first.max() or second.min() == second.max():
        return math.nan
    return float(spearmanr(first, second).statistic)
