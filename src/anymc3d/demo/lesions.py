"""The two kinds of lesion, equal in everything that can be measured without looking at the arrangement.

* ring: a bright, irregular rim about a dark core (as an abscess or a necrotic tumour after contrast);
* solid: a bright core in a dark, irregular margin.

Both have the same shapes and sizes, and the *same multiset of values* inside: one grey-value curve, given out by rank
of depth from the edge inwards (ring) or from the centre outwards (solid). So volume, mean, spread, brightest voxel and
every other number of the histogram carry no information; where the bright part lies is all there is to learn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from anymc3d.demo.anatomy import Bool3D, Float3D
from anymc3d.demo.fields import smooth_field
from anymc3d.demo.patient import Head
from anymc3d.errors import ScanError

ZONE_MM = (30.0, 36.0, 30.0)
"""Lesion centres lie at most this far from the middle of the scan, so that the demo's slices meet each of them."""
EDGE_ROUGHNESS = 0.10
"""Standard deviation of the edge, as a part of the radius."""
LEAST_INSIDE = 0.85
"""The part of a lesion that must lie in tissue."""


@dataclass(frozen=True, kw_only=True)
class Lesion:
    """One lesion before it has a place."""

    radii_mm: tuple[float, float, float]
    bright_fraction: float
    """Part of the volume that is bright."""
    dark_value: float
    bright_value: float
    """Mean grey values of the two parts, in the anatomy's units (white matter is about 0.9)."""
    texture: float
    """How much random structure disturbs the arrangement, as a part of its range."""


def draw_lesion(rng: np.random.Generator) -> Lesion:
    """Draw a lesion of 24 to 34 mm diameter; the draw does not know its kind."""
    radius = rng.uniform(12, 17)
    stretch = rng.uniform(0.88, 1.14, 3)
    return Lesion(
        radii_mm=tuple((radius * stretch / np.cbrt(stretch.prod())).tolist()),
        bright_fraction=float(rng.uniform(0.5, 0.65)),
        dark_value=float(rng.uniform(0.25, 0.42)),
        bright_value=float(rng.uniform(1.0, 1.2)),
        texture=float(rng.uniform(0.08, 0.16)),
    )


def plant(head: Head, lesion: Lesion, rng: np.random.Generator, *, ring: bool) -> tuple[Head, Bool3D]:
    """Return ``head`` with the lesion in its tissue, and the lesion's mask (X, Y, Z).

    Raises:
        ScanError: no place in the tissue is large enough (only with an anatomy that is not a brain).
    """
    depth = _place(head, lesion, rng)
    mask = (depth > 0) & head.brain
    values = arrange(depth[mask], lesion, smooth_field(mask.shape, 16, rng)[mask], ring=ring)
    return _insert(head, mask, values), mask


def arrange(
    depth: npt.NDArray[np.floating], lesion: Lesion, disturbance: npt.NDArray[np.floating], *, ring: bool
) -> npt.NDArray[np.float32]:
    """Give the lesion's grey-value curve out to its voxels by rank.

    Args:
        depth: (n,), 0 at the edge to 1 at the centre.
        lesion: says what the curve is; it has n values whatever ``ring`` is.
        disturbance: (n,), standard normal and smooth; moves the border between the parts.
        ring: bright outside (True) or bright inside (False).

    Returns:
        (n,) grey values: for one n and one lesion always the same values, in another order.
    """
    score = (-depth if ring else depth) + lesion.texture * disturbance
    rank = np.empty(len(score), dtype=np.int64)
    rank[np.argsort(score, kind="stable")] = np.arange(len(score))
    return value_curve(lesion, len(score))[rank]


def value_curve(lesion: Lesion, count: int) -> npt.NDArray[np.float32]:
    """(count,) grey values, ascending: a dark plateau, a short slope, a bright plateau, each tilted."""
    quantile = (np.arange(count) + 0.5) / count
    step = 1 / (1 + np.exp(-(quantile - (1 - lesion.bright_fraction)) / 0.03))
    value = lesion.dark_value + (lesion.bright_value - lesion.dark_value) * step
    return (value + 0.2 * (quantile - 0.5)).astype(np.float32)


def _place(head: Head, lesion: Lesion, rng: np.random.Generator, *, attempts: int = 100) -> Float3D:
    """Find a place in the tissue; return the depth (X, Y, Z): 1 at the lesion's centre, 0 at its edge, below 0 outside.

    The first of ``attempts`` places that has ``LEAST_INSIDE`` of its volume in tissue, otherwise the best of them.
    """
    from scipy import ndimage

    middle = (np.array(head.brain.shape) - 1) / 2
    room_mm = ndimage.distance_transform_edt(head.brain, sampling=head.spacing)
    candidates = np.argwhere(head.tissue & (room_mm > 0.75 * max(lesion.radii_mm)))
    candidates = candidates[(np.abs((candidates - middle) * head.spacing) < ZONE_MM).all(1)]
    if len(candidates) == 0:
        msg = f"no place for a lesion of {2 * max(lesion.radii_mm):.0f} mm: expected a brain with that much tissue"
        raise ScanError(msg)
    roughness = EDGE_ROUGHNESS * smooth_field(head.brain.shape, 14, rng)
    best, best_inside = None, -1.0
    for centre in candidates[rng.integers(len(candidates), size=attempts)]:
        depth = _depth(centre, lesion, roughness, head.spacing)
        inside = float(head.tissue[depth > 0].mean())
        if inside > best_inside:
            best, best_inside = depth, inside
        if inside >= LEAST_INSIDE:
            break
    return best


def _depth(
    centre: npt.NDArray[np.int64], lesion: Lesion, roughness: Float3D, spacing: npt.NDArray[np.float64]
) -> Float3D:
    """1 minus the distance from ``centre`` in radii, minus the roughness; -1 far from the lesion."""
    reach = np.ceil(1.5 * np.array(lesion.radii_mm) / spacing).astype(int)
    box = tuple(slice(max(0, c - r), c + r + 1) for c, r in zip(centre, reach, strict=True))
    axes = np.ogrid[tuple(slice(b.start, min(b.stop, n)) for b, n in zip(box, roughness.shape, strict=True))]
    scales = spacing / np.array(lesion.radii_mm)
    squares = [((axis - c) * scale) ** 2 for axis, c, scale in zip(axes, centre, scales, strict=True)]
    depth = np.full(roughness.shape, -1, dtype=np.float32)
    depth[box] = 1 - np.sqrt(sum(squares)) - roughness[box]
    return depth


def _insert(head: Head, mask: Bool3D, values: npt.NDArray[np.float32]) -> Head:
    """Write ``values`` into the mask as they are, and blur only the voxels around it (partial volume)."""
    from scipy import ndimage

    voxels = head.voxels.copy()
    voxels[mask] = values
    around = ndimage.binary_dilation(mask) & ~mask & head.brain
    voxels[around] = ndimage.gaussian_filter(voxels, 0.6)[around]
    return Head(voxels=voxels, affine=head.affine, brain=head.brain, tissue=head.tissue)
