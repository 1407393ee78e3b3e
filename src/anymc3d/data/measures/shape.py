"""Size and shape of one structure, from its voxels and their spacing.

Lengths are in mm, areas in cm², volumes in ml. Everything is measured on the voxels as they are stored, so that a
structure's size does not depend on how slices are cut for a network; very large ones are thinned out first.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anymc3d.data.volume import Millimetres

MOST_VOXELS = 1_500_000
"""Of the box about a structure, before it is thinned out by whole steps along its axes."""

Mask = NDArray[np.bool_]

SIZE = (
    "volume_ml",
    "extent_x_mm",
    "extent_y_mm",
    "extent_z_mm",
    "section_x_cm2",
    "section_y_cm2",
    "section_z_cm2",
    "thickness_mm",
    "wall_mm",
    "wall_mean_mm",
)
"""Volume; box along the patient's axes; largest section across each; diameter of the largest ball inside; of the
largest disc inside any axial section, and four times the mean distance of its points to the border (of a ring or plate:
its mean thickness)."""
SHAPE = (
    "surface_cm2",
    "length_mm",
    "width_mm",
    "depth_mm",
    "sphericity",
    "elongation",
    "flatness",
    "fill",
    "parts",
    "largest_part",
)
"""Surface; axes of the ellipsoid of the same second moments, and the second and third over the first; sphericity (1 =
ball); share of the box that is filled; connected parts, and the share of the largest."""


def shape_measures(inside: Mask, spacing: Millimetres) -> dict[str, float]:
    """The measures of ``SIZE`` and ``SHAPE`` of a structure; all NaN where it has no voxel.

    Args:
        inside: (X, Y, Z) in RAS order, what is outside the array is outside the structure.
        spacing: mm along x, y, z.
    """
    if not inside.any():
        return dict.fromkeys((*SIZE, *SHAPE), float("nan"))
    boxed = inside[box_of(inside)]
    extent = np.array(boxed.shape) * spacing
    number = int(boxed.sum())
    x, y, z = spacing
    area = {"x": y * z, "y": x * z, "z": x * y}
    others = {"x": (1, 2), "y": (0, 2), "z": (0, 1)}
    sections = {f"section_{axis}_cm2": boxed.sum(axis=others[axis]).max() * area[axis] / 100 for axis in "xyz"}
    volume = number * x * y * z / 1000
    padded, steps = _thinned(boxed, spacing)
    return {
        "volume_ml": volume,
        **{f"extent_{axis}_mm": float(length) for axis, length in zip("xyz", extent, strict=True)},
        **{name: float(value) for name, value in sections.items()},
        **_thickness(padded, steps),
        **_form(padded, steps, volume),
        "fill": number / boxed.size,
        **_parts(padded),
    }


def box_of(inside: Mask) -> tuple[slice, slice, slice]:
    """The smallest box about all voxels that are True; there is one at least."""
    box = []
    for axis in range(3):
        along = np.flatnonzero(inside.any(axis=tuple(other for other in range(3) if other != axis)))
        box.append(slice(int(along[0]), int(along[-1]) + 1))
    return tuple(box)


def _thinned(boxed: Mask, spacing: Millimetres) -> tuple[Mask, NDArray[np.float64]]:
    """With one voxel of background around, and only every k-th voxel of a very large one; and the spacing then."""
    steps = np.ones(3, dtype=int)
    while np.prod(-(-np.array(boxed.shape) // steps)) > MOST_VOXELS:
        steps[int(np.argmin(steps * spacing))] += 1
    thin = boxed[:: steps[0], :: steps[1], :: steps[2]]
    thin = thin if thin.any() else boxed
    return np.pad(thin, 1), steps * np.asarray(spacing) if thin is not boxed else np.asarray(spacing, dtype=float)


def _thickness(padded: Mask, steps: NDArray[np.float64]) -> dict[str, float]:
    """From distances to the border. A distance is between centres of voxels, half a voxel more than to the border."""
    half = float(steps.min()) / 2
    deep = ndimage.distance_transform_edt(padded, sampling=steps)
    flat_steps = (steps[0], steps[1], 1e6 * float(steps.max()))
    flat = ndimage.distance_transform_edt(padded, sampling=flat_steps)[padded]
    in_plane = float(min(steps[:2])) / 2
    return {
        "thickness_mm": 2 * (float(deep.max()) - half),
        "wall_mm": 2 * (float(flat.max()) - in_plane),
        "wall_mean_mm": 4 * (float(flat.mean()) - in_plane),
    }


def _form(padded: Mask, steps: NDArray[np.float64], volume_ml: float) -> dict[str, float]:
    points = np.argwhere(padded) * steps
    # A voxel is a box, not a point: its own second moment is a twelfth of its squared side.
    moments = np.cov(points.T, bias=True) + np.diag(steps**2 / 12) if len(points) > 1 else np.diag(steps**2 / 12)
    length, width, depth = 2 * np.sqrt(5 * np.linalg.eigvalsh(moments)[::-1])
    surface = surface_mm2(padded, steps)
    return {
        "surface_cm2": float(surface) / 100,
        "length_mm": float(length),
        "width_mm": float(width),
        "depth_mm": float(depth),
        "sphericity": float(np.pi ** (1 / 3) * (6000 * volume_ml) ** (2 / 3) / surface),
        "elongation": float(width / length),
        "flatness": float(depth / length),
    }


def surface_mm2(padded: Mask, steps: NDArray[np.float64]) -> float:
    """Area of the border by Cauchy and Crofton: how often straight lines in 13 directions cross it.

    The directions are those to a voxel's neighbours; each stands for the part of the sphere that is nearest to it, so
    that the area does not depend on how the structure lies in the grid (G. Lehmann and D. Legland, Insight Journal
    2012). ``padded`` has background on every side.
    """
    directions, shares = _directions(tuple(float(step) for step in steps))
    voxel = float(np.prod(steps))
    total = 0.0
    for direction, share in zip(directions, shares, strict=True):
        first, second = _shifted(padded, direction)
        crossings = int(np.count_nonzero(first != second))
        # Lines of one direction cover the volume once: their density is the distance between voxels over a voxel.
        total += share * crossings * voxel / float(np.linalg.norm(np.array(direction) * steps))
    return 2 * total


_NEIGHBOURS = [
    (i, j, k) for i in (-1, 0, 1) for j in (-1, 0, 1) for k in (-1, 0, 1) if (i, j, k) > (0, 0, 0)
]  # one of each opposite pair


def _shifted(padded: Mask, direction: tuple[int, int, int]) -> tuple[Mask, Mask]:
    pairs = list(zip(direction, padded.shape, strict=True))
    ahead = tuple(slice(max(step, 0), length + min(step, 0)) for step, length in pairs)
    back = tuple(slice(max(-step, 0), length + min(-step, 0)) for step, length in pairs)
    return padded[ahead], padded[back]


@lru_cache(maxsize=64)
def _directions(steps: tuple[float, float, float]) -> tuple[list[tuple[int, int, int]], NDArray[np.float64]]:
    """The 13 directions and the share of the sphere nearest to each, from 20,000 points spread evenly over it."""
    axes = np.array(_NEIGHBOURS) * np.array(steps)
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    number = np.arange(20_000) + 0.5
    height, turn = 1 - 2 * number / 20_000, np.pi * (1 + 5**0.5) * number
    flat = np.sqrt(1 - height**2)
    sphere = np.stack([flat * np.cos(turn), flat * np.sin(turn), height], axis=1)
    nearest = np.abs(sphere @ axes.T).argmax(axis=1)
    return _NEIGHBOURS, np.bincount(nearest, minlength=len(axes)) / 20_000


def _parts(padded: Mask) -> dict[str, float]:
    labels, count = ndimage.label(padded, structure=np.ones((3, 3, 3)))
    sizes = np.bincount(labels.ravel())[1:]
    return {"parts": float(count), "largest_part": float(sizes.max() / sizes.sum())}
