"""Smooth random fields: the shapes of deformation, bias, folds and irregular edges in the demo's data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def smooth_field(shape: Sequence[int], cells: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Return a random field of the given shape, mean 0 and standard deviation about 1.

    Independent normal coefficients on a grid of ``cells`` spans an axis, blended by uniform cubic B-splines: two
    derivatives are continuous, and the cost is three small matrix products.

    Args:
        shape: voxels an axis.
        cells: spans an axis; more is finer.
        rng: drawn from ``(cells + 3) ** len(shape)`` times.
    """
    field = rng.standard_normal((cells + 3,) * len(shape)).astype(np.float32)
    for size in shape:  # contracts the first axis and appends the new one, so the order is right at the end
        field = np.tensordot(field, _cubic_basis(size, cells), axes=(0, 1))
    return field


def _cubic_basis(size: int, cells: int) -> npt.NDArray[np.float32]:
    """(size, cells + 3): each row holds a point's four B-spline weights, scaled to unit length on average."""
    position = np.linspace(0, cells, size)
    cell = np.clip(position.astype(int), 0, cells - 1)
    t = position - cell
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1) / 6
    weights /= np.sqrt((weights**2).sum(1)).mean()
    basis = np.zeros((size, cells + 3), dtype=np.float32)
    np.put_along_axis(basis, cell[:, None] + np.arange(4), weights.astype(np.float32), axis=1)
    return basis
