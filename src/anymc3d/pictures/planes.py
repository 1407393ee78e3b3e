"""The three anatomical planes and how each is drawn: the radiological convention, in one table.

The patient's right is on the left of axial and coronal planes (seen from the feet, and from the front); sagittal planes
are seen from the patient's left, with anterior on the left. Every picture of this program takes it from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True)
class Plane:
    """One plane of a volume in RAS order, and where its picture's edges are.

    ``right``, ``up`` and ``across``: the volume axes along the picture's width, its height, and through it.
    ``mirrored``: the picture's right is the start of its axis.
    """

    name: str
    right: int
    up: int
    across: int
    mirrored: bool
    sides: tuple[str, str, str, str]
    """The patient's side at the left, right, top and bottom edge."""

    def cut(self, volume: NDArray[Number], index: int) -> NDArray[Number]:
        """The plane through ``index`` of a RAS volume (X, Y, Z) as a picture: (rows from above, columns)."""
        picture = np.take(volume, index, axis=self.across).T[::-1]
        return picture[:, ::-1] if self.mirrored else picture

    def place(self, index: tuple[int, ...], shape: tuple[int, ...]) -> tuple[float, float]:
        """Where a voxel lies in the picture: shares of its width from the left and of its height from above."""
        along = (index[self.right] + 0.5) / shape[self.right]
        above = 1 - (index[self.up] + 0.5) / shape[self.up]
        return (1 - along if self.mirrored else along), above

    def size_mm(self, extent_mm: tuple[float, float, float]) -> tuple[float, float]:
        """Width and height of the picture of a volume of that extent."""
        return extent_mm[self.right], extent_mm[self.up]

    def record(self) -> dict[str, Any]:
        """For the script of a page: the same convention, so that it is written once."""
        return {"axes": [self.right, self.up, self.across], "mirrored": self.mirrored, "sides": self.sides}


PLANES: Mapping[str, Plane] = {
    "axial": Plane("axial", 0, 1, 2, True, ("R", "L", "A", "P")),
    "coronal": Plane("coronal", 0, 2, 1, True, ("R", "L", "S", "I")),
    "sagittal": Plane("sagittal", 1, 2, 0, True, ("A", "P", "S", "I")),
}

CONVENTION = "The patient's right is on the left."
