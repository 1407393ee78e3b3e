"""Scans of thick slices that were acquired in different planes and stand in one column.

Cut in one plane, the others are a few thick steps wide there; and where the plane goes with a label, it gives it away.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anymc3d.data.preprocess import AXES, slice_plane

THICK = 2.0
"""Largest spacing by the middle one; thinner slices show the other planes well enough."""
_ADVERBS = {"axial": "axially", "coronal": "coronally", "sagittal": "sagittally"}
_SHOWN = 5


class MixedPlanes(NamedTuple):
    """How many scans are of which plane, the scans that are not of the usual one, and their places."""

    counts: str
    names: str
    others: tuple[int, ...]


def thick_plane(spacing: Sequence[float]) -> str | None:
    """The plane of a scan (mm along x, y, z) whose slices are thick; None where it has no such plane."""
    ordered = np.sort(np.asarray(spacing, dtype=np.float64))
    if ordered[2] < THICK * ordered[1]:
        return None
    x, y, z = (float(step) for step in spacing)
    return slice_plane((x, y, z))


def thick_slice_warning(spacing: Sequence[float], planes: Collection[str]) -> str | None:
    """What to say of a scan (mm along x, y, z) of thick slices of which only other ``planes`` are looked at."""
    plane = thick_plane(spacing)
    if plane is None or plane in planes or "auto" in planes:
        return None
    times = max(spacing) / min(spacing)
    views = " and ".join(sorted(planes))
    slices = f"in slices {times:.1f} times as thick as a pixel is wide"
    return f"the scan was acquired {_ADVERBS[plane]}, {slices}, and is looked at in {views} pictures: they are coarse"


def mixed_planes(spacings: NDArray[np.float64], names: Sequence[str]) -> MixedPlanes | None:
    """Whether scans (n, 3) of thick slices were acquired in several planes; ``names`` are their cases."""
    planes = [thick_plane(spacing) for spacing in spacings]
    counts = {plane: planes.count(plane) for plane in AXES if plane in planes}
    if len(counts) < 2:
        return None
    usual = max(counts, key=lambda plane: counts[plane])
    others = tuple(place for place, plane in enumerate(planes) if plane not in (None, usual))
    ordered = sorted(counts.items(), key=lambda item: item[1])
    (fewest, count), *rest = ordered
    parts = [f"{count} of {len(planes)} scans were acquired {_ADVERBS[fewest]}"]
    parts += [f"{count} {_ADVERBS[plane]}" for plane, count in rest]
    examples = ", ".join(names[place] for place in others[:_SHOWN]) + (", …" if len(others) > _SHOWN else "")
    return MixedPlanes(", ".join(parts), examples, others)
