"""How the numbers of cases are standardised before a ridge regression, from the training cases alone."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Scaling = Literal["spread", "robust", "common"]

CLIP = 4.0
"""Robustly standardised numbers are cut off there: one broken scan must not decide by itself."""
_FLAT = 1e-9


@dataclass(frozen=True, eq=False)
class Scale:
    """How numbers are standardised; ``count``: those that vary, by whose root a case's length is divided."""

    center: Floats
    spread: Floats
    clip: float | None
    count: int

    def standardised(self, numbers: NDArray[np.floating]) -> NDArray[np.floating]:
        """(n, F), NaN as the centre."""
        rows = (numbers - self.center.astype(numbers.dtype)) / self.spread.astype(numbers.dtype)
        np.nan_to_num(rows, copy=False, nan=0.0)
        if self.clip is not None:
            np.clip(rows, -self.clip, self.clip, out=rows)
        return rows / np.asarray(self.count**0.5, dtype=rows.dtype)


def measure_scale(numbers: NDArray[np.floating], scaling: Scaling) -> Scale:
    """The scale of some cases (n, F); a number that does not vary keeps a spread of 1."""
    if scaling == "robust":
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of numbers that no case has
            low, center, high = np.nanquantile(numbers, (0.25, 0.5, 0.75), axis=0)
            spread, rest = (high - low) / 1.349, np.nanstd(numbers, axis=0)
        center = np.nan_to_num(center, nan=0.0)
        # Counts and flags may be equal in half of the cases and differ in the others.
        spread = np.where(spread > 0, spread, rest)
    else:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of numbers that no case has
            center = np.nan_to_num(np.nanmean(numbers, axis=0, dtype=np.float64))
            spread = np.nanstd(numbers, axis=0, dtype=np.float64)
    varies = np.nan_to_num(spread, nan=0.0) > _FLAT
    if scaling == "common":
        spread = np.full(1, np.sqrt(np.square(spread).mean()) if varies.any() else 1.0)
    else:
        spread = np.where(varies, spread, 1.0)
    return Scale(center, spread, CLIP if scaling == "robust" else None, max(1, int(varies.sum())))
