"""Slices that do not lie as a straight and even stack, resampled to one: shifted within their planes where the gantry
was tilted, and interpolated between them where their distances differ. Both are linear, and neither changes where in
space anything is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anymc3d.data.volume import Voxels


@dataclass(frozen=True, eq=False)
class Resampling:
    """How the acquired slices become the stack, in the order of the stack."""

    shape: tuple[int, int, int]
    """Columns, rows and slices of the stack."""
    shifts: NDArray[np.float64] | None = None
    """(acquired slices, 2): columns and rows from the stack's first pixel to the slice's; at least 0."""
    places: NDArray[np.float64] | None = None
    """(slices of the stack,): where each lies, counted in acquired slices."""

    def apply(self, voxels: Voxels) -> Voxels:
        """(columns, rows, acquired slices) -> the stack; where there is nothing, its lowest value."""
        if self.shifts is not None:
            voxels = self._straightened(voxels, self.shifts)
        return voxels if self.places is None else self._even(voxels, self.places)

    def _straightened(self, voxels: Voxels, shifts: NDArray[np.float64]) -> Voxels:
        lowest = voxels.min()
        result = np.empty((*self.shape[:2], voxels.shape[2]), dtype=np.float32, order="F")
        for k, (columns, rows) in enumerate(shifts):
            moved = _moved(voxels[:, :, k] - lowest, columns, self.shape[0])
            result[:, :, k] = _moved(moved.T, rows, self.shape[1]).T + lowest
        return result

    def _even(self, voxels: Voxels, places: NDArray[np.float64]) -> Voxels:
        result = np.empty((*voxels.shape[:2], len(places)), dtype=np.float32, order="F")
        for k, place in enumerate(places):
            below = min(int(place), voxels.shape[2] - 1)
            share = np.float32(place - below)
            above = min(below + 1, voxels.shape[2] - 1)
            result[:, :, k] = voxels[:, :, below] * (np.float32(1) - share) + voxels[:, :, above] * share
        return result


def _moved(slab: NDArray[np.float32], shift: float, size: int) -> NDArray[np.float32]:
    """The first axis moved by ``shift`` into ``size``, zeros around it."""
    whole = int(np.floor(shift))
    share = np.float32(shift - whole)
    result = np.zeros((size, slab.shape[1]), dtype=np.float32)
    result[whole : whole + len(slab)] = slab * (np.float32(1) - share)
    if share:
        result[whole + 1 : whole + 1 + len(slab)] += slab * share
    return result
