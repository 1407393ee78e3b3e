"""Percentiles of whole scans: the numbers of ``np.percentile``, by counting instead of sorting.

A float's bits, read as a whole number, have the order of the floats (of the negative ones the reverse). So one pass
counts the voxels by the upper half of their bits and finds in which class the wanted ranks lie; a second counts those
classes by the lower half. Both are exact for any values, hold no copy of the scan, and do not mind its memory order.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_FEW = 1 << 19  # voxels, under which sorting is as fast
_BLOCK = 1 << 18  # voxels that fit the processor's cache
_HALF = 16
_CLASSES = 1 << _HALF
_NOT_FINITE = 0x7F80  # the upper half of infinity; of NaN it is this or more
_SIGN = 0x8000


def percentiles(voxels: NDArray, percents: Sequence[float]) -> NDArray[np.float64]:
    """``np.percentile(voxels, percents)`` of all voxels, equal to the last bit; ``percents`` go from 0 to 100.

    Several times faster for a big float32 array; anything else goes to NumPy.

    Raises:
        ValueError: a percent is not from 0 to 100.
    """
    if voxels.dtype != np.float32 or voxels.size < _FEW or not all(0 <= percent <= 100 for percent in percents):
        return np.percentile(voxels, percents)
    words = voxels.ravel(order="K").view(np.uint32)
    counts = _counts(words)
    if counts[_NOT_FINITE:_SIGN].any() or counts[_SIGN | _NOT_FINITE :].any():
        return np.percentile(voxels, percents)
    places = (voxels.size - 1) * np.true_divide(percents, 100)
    below = np.floor(places).astype(np.int64)
    above = np.minimum(below + 1, voxels.size - 1)
    values = _ranked(words, counts, np.concatenate([below, above]))
    low, high = values[: len(below)], values[len(below) :]
    # As NumPy interpolates: from the nearer neighbour, differences in the precision of the voxels.
    weight, step = places - below, high - low
    return np.where(weight >= 0.5, high - step * (1 - weight), low + step * weight)


def _counts(words: NDArray[np.uint32]) -> NDArray[np.int64]:
    """How many words have each upper half."""
    counts = np.zeros(_CLASSES, dtype=np.int64)
    for start in range(0, len(words), _BLOCK):
        counts += np.bincount(words[start : start + _BLOCK] >> _HALF, minlength=_CLASSES)
    return counts


def _ranked(words: NDArray[np.uint32], counts: NDArray[np.int64], ranks: NDArray[np.int64]) -> NDArray[np.float32]:
    """The values at these ranks (0 = lowest)."""
    ascending = np.concatenate([np.arange(_CLASSES - 1, _SIGN - 1, -1), np.arange(_SIGN)])
    ends = np.cumsum(counts[ascending])
    places = np.searchsorted(ends, ranks, side="right")
    uppers = ascending[places]
    inside = ranks - (ends[places] - counts[uppers])
    lowers = _lower_counts(words, np.unique(uppers))
    words_at = np.empty(len(ranks), dtype=np.uint32)
    for i, (upper, rank) in enumerate(zip(uppers.tolist(), inside.tolist(), strict=True)):
        within, negative = lowers[upper], upper >= _SIGN
        place = int(np.searchsorted(np.cumsum(within[::-1] if negative else within), rank, side="right"))
        words_at[i] = upper << _HALF | (_CLASSES - 1 - place if negative else place)
    return words_at.view(np.float32)


def _lower_counts(words: NDArray[np.uint32], uppers: NDArray[np.int64]) -> dict[int, NDArray[np.int64]]:
    """Of each of these upper halves: how many of its words have each lower half."""
    counts = {upper: np.zeros(_CLASSES, dtype=np.int64) for upper in uppers.tolist()}
    for start in range(0, len(words), _BLOCK):
        block = words[start : start + _BLOCK]
        upper_halves = (block >> _HALF).astype(np.uint16)
        for upper, count in counts.items():
            lower_halves = block[upper_halves == upper] & (_CLASSES - 1)
            if lower_halves.size:
                count += np.bincount(lower_halves, minlength=_CLASSES)
    return counts
