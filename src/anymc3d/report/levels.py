"""The 256 grey levels that a page keeps of a scan, wide enough that the reader can change the window there."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anymc3d.data.volume import Volume
from anymc3d.settings.windows import WINDOWS

Levels = NDArray[np.float64]

_CT_KNOTS = ((0, -1024.0), (40, -200.0), (210, 300.0), (255, 1800.0))
"""Grey levels of a CT and their HU. Three units a level where soft tissues are, 20 and 33 in air, lung and bone."""
_CT_WINDOWS = ("soft-tissue", "lung", "bone", "brain", "subdural", "liver", "mediastinum")


def levels_of(scan: Volume, grey: tuple[float, float], *, is_ct: bool) -> Levels:
    """The intensity of each of 256 levels, increasing; ``grey``, what is shown first, lies within."""
    low, high = grey
    if is_ct:
        places, units = zip(*_CT_KNOTS, strict=True)
        levels = np.interp(np.arange(256), places, (min(units[0], low), *units[1:3], max(units[3], high)))
        return np.round(levels, 2)
    first, last = np.nanpercentile(scan.voxels, (0.05, 99.95))
    first, last = min(float(first), low), max(float(last), high)
    return np.linspace(first, last if last > first else first + 1.0, 256)


def table_of(levels: Levels, grey: tuple[float, float]) -> NDArray[np.float64]:
    """Level -> grey value in [0, 1] under a window."""
    low, high = grey
    return np.clip((levels - low) / max(high - low, 1e-9), 0, 1)


def windows_of(grey: tuple[float, float], *, is_ct: bool) -> dict[str, tuple[float, float]]:
    """What the page offers by name: the window it begins with, and of a CT the usual ones."""
    return {"as first shown": grey} | ({name: WINDOWS[name].pair for name in _CT_WINDOWS} if is_ct else {})
