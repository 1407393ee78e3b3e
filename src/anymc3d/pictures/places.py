"""Where a slice is: its number as the file counts slices, and its place in millimetres."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from nibabel.orientations import io_orientation

from anymc3d.data.volume import Volume, to_ras

_LETTERS = ("LR", "PA", "IS")
"""What lies at negative and at positive millimetres of each RAS axis."""


@dataclass(frozen=True)
class AxisPlaces:
    """The slices along one RAS axis of a scan."""

    count: int
    first_mm: float
    """Middle of the first slice, in RAS millimetres along this axis; of an oblique grid through its centre."""
    step_mm: float
    letters: str
    """The patient's side at negative and at positive millimetres."""
    is_flipped: bool
    """Whether the file counts its slices the other way round."""

    def number(self, index: int) -> int:
        """The slice at a RAS index as the file counts it, from 1."""
        return self.count - index if self.is_flipped else index + 1

    def text(self, index: int) -> str:
        """``61 of 120, S 12.0 mm``."""
        mm = self.first_mm + self.step_mm * index
        return f"{self.number(index)} of {self.count}, {self.letters[mm >= 0]} {abs(mm):.1f} mm"

    def record(self) -> dict[str, Any]:
        """For the script of a page."""
        return {
            "count": self.count,
            "first": self.first_mm,
            "step": self.step_mm,
            "letters": self.letters,
            "flipped": self.is_flipped,
        }


def places_of(scan: Volume) -> tuple[AxisPlaces, ...]:
    """The slices along each RAS axis of a scan that is stored in any orientation."""
    ras, stored = to_ras(scan), io_orientation(scan.affine)
    flips = {int(axis): bool(direction < 0) for axis, direction in stored}
    middle = np.array([(size - 1) / 2 for size in ras.shape])
    places = []
    for axis, letters in enumerate(_LETTERS):
        start = middle.copy()
        start[axis] = 0.0
        first = float(ras.affine[axis, :3] @ start + ras.affine[axis, 3])
        places.append(AxisPlaces(ras.shape[axis], first, float(ras.affine[axis, axis]), letters, flips[axis]))
    return tuple(places)
