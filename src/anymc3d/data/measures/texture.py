"""Intensity and texture inside one structure, and the part of a scan that stands out from its background.

Intensities are measured against the scan's own: its median is 0 and the distance between its 5 % and 95 % quantiles is
1, so that scanners with other scales agree. Of CT they are in Hounsfield units besides.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anymc3d.data.measures.shape import Mask, box_of
from anymc3d.data.volume import Millimetres, Voxels

BINS = 256
GREY_LEVELS = 16
INTENSITY = ("mean", "spread", "p5", "p50", "p95", "skewness")
TEXTURE = ("edge", "contrast", "correlation", "homogeneity", "entropy")
"""Mean gradient per mm; of neighbours of 16 grey levels: mean squared difference, correlation, mean of 1 / (1 +
difference); entropy of the grey levels in bits."""
HOUNSFIELD = ("mean_hu", "p5_hu", "p50_hu", "p95_hu")


def scale_of(voxels: Voxels) -> tuple[float, float]:
    """A scan's median, and the distance between its 5 % and 95 % quantiles (its range where they are equal)."""
    low, middle, high = np.quantile(voxels, (0.05, 0.5, 0.95))
    width = float(high - low) or float(np.ptp(voxels)) or 1.0
    return float(middle), width


def inside_measures(
    voxels: Voxels, inside: Mask, spacing: Millimetres, scale: tuple[float, float], *, hounsfield: bool
) -> dict[str, float]:
    """The measures of ``INTENSITY`` and ``TEXTURE``, of CT also ``HOUNSFIELD``; all NaN where there is no voxel.

    Args:
        voxels: (X, Y, Z) of the scan.
        inside: the structure on them.
        spacing: mm along x, y, z.
        scale: :func:`scale_of` of the scan.
        hounsfield: whether ``voxels`` are Hounsfield units.
    """
    names = (*INTENSITY, *TEXTURE, *(HOUNSFIELD if hounsfield else ()))
    if not inside.any():
        return dict.fromkeys(names, float("nan"))
    box = box_of(inside)
    scan, mask = voxels[box].astype(np.float64), inside[box]
    middle, width = scale
    values = (scan[mask] - middle) / width
    measures = dict(zip(("p5", "p50", "p95"), map(float, np.quantile(values, (0.05, 0.5, 0.95))), strict=True))
    mean, spread = float(values.mean()), float(values.std())
    skewness = float(np.mean(((values - mean) / spread) ** 3)) if spread > 1e-12 else 0.0
    measures |= {"mean": mean, "spread": spread, "skewness": skewness}
    measures |= _texture((scan - middle) / width, mask, spacing)
    if hounsfield:
        measures |= {f"{name}_hu": measures[name] * width + middle for name in ("mean", "p5", "p50", "p95")}
    return {name: measures[name] for name in names}


def _texture(scan: NDArray[np.float64], mask: Mask, spacing: Millimetres) -> dict[str, float]:
    slopes = np.zeros(mask.shape)
    for axis, step in enumerate(spacing):
        if scan.shape[axis] > 1:
            slopes += np.square(np.gradient(scan, step, axis=axis))
    levels = _levels(scan, mask)
    first, second = _neighbours(levels, mask)
    difference = (first - second).astype(np.float64)
    counts = np.bincount(levels[mask], minlength=GREY_LEVELS) / mask.sum()
    shares = counts[counts > 0]
    varies = len(first) > 1 and np.ptp(first) > 0 and np.ptp(second) > 0
    return {
        "edge": float(np.sqrt(slopes[mask]).mean()),
        "contrast": float(np.square(difference).mean()) if len(first) else 0.0,
        "correlation": float(np.corrcoef(first, second)[0, 1]) if varies else 1.0,
        "homogeneity": float((1 / (1 + np.abs(difference))).mean()) if len(first) else 1.0,
        "entropy": float(-(shares * np.log2(shares)).sum()),
    }


def _levels(scan: NDArray[np.float64], mask: Mask) -> NDArray[np.int64]:
    """Grey levels 0 to 15 between the 1 % and 99 % quantiles of the structure."""
    low, high = np.quantile(scan[mask], (0.01, 0.99))
    share = (scan - low) / max(float(high - low), 1e-12)
    return np.clip((share * GREY_LEVELS).astype(np.int64), 0, GREY_LEVELS - 1)


def _neighbours(levels: NDArray[np.int64], mask: Mask) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Grey levels of every two neighbours along an axis that are both inside, in both orders."""
    pairs = []
    for axis in range(3):
        ahead = tuple(slice(1, None) if other == axis else slice(None) for other in range(3))
        back = tuple(slice(None, -1) if other == axis else slice(None) for other in range(3))
        both = mask[ahead] & mask[back]
        pairs.append((levels[ahead][both], levels[back][both]))
    first = np.concatenate([first_part for first_part, _ in pairs])
    second = np.concatenate([two for _, two in pairs])
    return np.concatenate([first, second]), np.concatenate([second, first])


def foreground(voxels: Voxels) -> Mask:
    """The voxels above Otsu's threshold (N. Otsu, 1979), between the scan's 0.5 % and 99.5 % quantiles."""
    return voxels > otsu_threshold(voxels)


def otsu_threshold(voxels: Voxels) -> float:
    """The value that parts the voxels into two classes of the smallest spread within, of 256 bins."""
    low, high = np.quantile(voxels, (0.005, 0.995))
    if low == high:
        low, high = float(voxels.min()), float(voxels.max())
    if low == high:
        return float(low)
    counts, edges = np.histogram(np.clip(voxels, low, high), bins=BINS, range=(float(low), float(high)))
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts).astype(np.float64)
    above = below[-1] - below
    sums = np.cumsum(counts * centres)
    with np.errstate(invalid="ignore", divide="ignore"):
        apart = below * above * np.square(sums / below - (sums[-1] - sums) / above)
    return float(edges[1 + int(np.nanargmax(apart[:-1]))])
