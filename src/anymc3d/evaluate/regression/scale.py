"""How a number is learnt: in units in which the training cases have mean 0 and spread 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from anymc3d.settings.limits import Between

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class NumberScale:
    """Mean and standard deviation of the training cases' labels, in the units of the manifest; and their range."""

    center: Annotated[float, Between(-1e15, 1e15)] = 0.0
    spread: Annotated[float, Between(1e-15, 1e15)] = 1.0
    low: Annotated[float, Between(-1e15, 1e15)] = 0.0
    high: Annotated[float, Between(-1e15, 1e15)] = 0.0

    def standard(self, values: Floats) -> Floats:
        """From the units of the manifest."""
        return (np.asarray(values, dtype=np.float64) - self.center) / self.spread

    def in_units(self, standard: Floats) -> Floats:
        """To the units of the manifest."""
        return np.asarray(standard, dtype=np.float64) * self.spread + self.center


UNIT = NumberScale()


def scale_of(targets: Floats) -> NumberScale:
    """The scale of the known targets, NaN where missing; equal targets have a spread of 1."""
    known = targets[~np.isnan(targets)]
    if not known.size:
        return UNIT
    spread = float(known.std()) or 1.0
    return NumberScale(center=float(known.mean()), spread=spread, low=float(known.min()), high=float(known.max()))
