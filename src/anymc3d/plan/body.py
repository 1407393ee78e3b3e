"""What part of the body a CT shows, as far as its Hounsfield units say, and the windows for it.

Litres of lung-like, brain-like and dense voxels show a chest and a head; nothing separates an abdomen from a limb or a
crop, so the soft-tissue window is there the default to be checked, not a finding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from anymc3d.data.volume import Volume
from anymc3d.settings.windows import Pair, window, window_names

LUNG_HU = (-900.0, -500.0)
"""Aerated lung; foam of a couch and the air around the patient are below."""
BRAIN_HU = (10.0, 60.0)
DENSE_HU = 500.0
"""Hounsfield units of a skull; contrast medium and spongy bone are mostly below."""
CHEST_LITRES, HEAD_BRAIN_LITRES, HEAD_DENSE_LITRES, HEAD_MOST_LUNG_LITRES = 1.0, 0.7, 0.1, 0.2
HEAD_MOST_MM = 300.0
"""In-plane; scans of the trunk show more."""

_SAMPLE = 500_000


@dataclass(frozen=True)
class Tissues:
    """Litres of voxels in a range of Hounsfield units, and the larger in-plane extent (x, y)."""

    lung: float
    brain: float
    dense: float
    in_plane_mm: float

    @property
    def part(self) -> str:
        """``chest``, ``head`` or ``unknown``."""
        if self.lung >= CHEST_LITRES:
            return "chest"
        is_small = self.in_plane_mm <= HEAD_MOST_MM and self.lung <= HEAD_MOST_LUNG_LITRES
        if is_small and self.brain >= HEAD_BRAIN_LITRES and self.dense >= HEAD_DENSE_LITRES:
            return "head"
        return "unknown"


WINDOW_SETS: dict[str, tuple[str, ...]] = {
    "chest": ("ct-rate-wide", "abdomen", "lung"),
    "head": ("bleeding", "tissue", "bone"),
    "unknown": ("abdomen",),
}
"""By part of the body: the paper's T11, T12, and T1 to T5."""


def tissues(volume: Volume) -> Tissues:
    """Measure a scan; means nothing when it is no CT."""
    # One step for all axes, so that the sample does not depend on the order in which they are stored.
    step = max(1, int(np.ceil((volume.voxels.size / _SAMPLE) ** (1 / 3))))
    sample = volume.voxels[::step, ::step, ::step]
    litres = float(np.prod(volume.extent_mm)) / 1e6
    # Stored axis to x, y, z: the in-plane extent is that of the two axes that do not point upwards.
    along_z = int(np.argmax([letter in "SI" for letter in volume.orientation]))
    in_plane = max(extent for axis, extent in enumerate(volume.extent_mm) if axis != along_z)

    def share(low: float, high: float) -> float:
        return float(((sample >= low) & (sample <= high)).mean()) * litres

    return Tissues(share(*LUNG_HU), share(*BRAIN_HU), share(DENSE_HU, np.inf), in_plane)


def choose_ct_windows(tissues: Sequence[Tissues]) -> tuple[tuple[Pair, ...], str]:
    """The windows for the part of the body that most scans show, and why."""
    parts = [scan.part for scan in tissues]
    part = max(WINDOW_SETS, key=parts.count) if parts else "unknown"
    windows = tuple(window(name) for name in WINDOW_SETS[part])
    names, votes = window_names(windows), f"{parts.count(part)} of {len(tissues)} scans look like"
    of_part = [scan for scan in tissues if scan.part == part]
    if part == "chest":
        litres = float(np.median([scan.lung for scan in of_part]))
        return windows, f"{votes} a chest ({litres:.1f} l of lung): {names}, as the paper's T11; check"
    if part == "head":
        width = float(np.median([scan.in_plane_mm for scan in of_part]))
        return windows, f"{votes} a head ({width:.0f} mm wide, brain and skull): {names}, as the paper's T12; check"
    return windows, (
        f"{names} (HU), as the paper's T1 to T5: neither chest nor head, which part it is cannot be determined; check:"
        " lung: [lung], brain: [brain], or three names for three channels"
    )
