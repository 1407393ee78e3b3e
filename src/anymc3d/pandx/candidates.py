"""A map of the probability of tumour -> lesion candidates, a detection map and one score (docs/methods.md).

A candidate is a connected region (26 neighbours) around a peak, down to a share of the peak; its confidence is the
peak. The rule is that of the PI-CAI and PANORAMA challenges (report-guided-annotation, Apache-2.0), written anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from anymc3d.errors import UsageError

Mode = Literal["fast", "dynamic"]
MODES: tuple[Mode, ...] = ("fast", "dynamic")
STOP = 0.01
"""``dynamic`` looks for no candidate with a lower peak."""


@dataclass(frozen=True, kw_only=True)
class CandidateRule:
    """``fast``: one threshold, the highest probability over ``factor``. ``dynamic``: a threshold for each candidate,
    from its own peak, at most ``most`` of them, and none that touches an earlier one."""

    mode: Mode = "fast"
    factor: float = 15.0
    too_small: int = 10
    """Regions of at most this many voxels are no candidates."""
    most: int = 5

    def __post_init__(self) -> None:
        if self.mode not in MODES or self.factor <= 1 or self.too_small < 0 or self.most < 1:
            raise UsageError(f"candidates: expected mode fast or dynamic, factor above 1, most above 0, got {self}")


@dataclass(frozen=True, eq=False)
class Candidates:
    """``detection``: float32, shaped like the map; each candidate's voxels hold its confidence, all others 0."""

    detection: NDArray[np.float32]
    confidences: tuple[float, ...]
    """Highest first."""

    @property
    def score(self) -> float:
        """The patient's score: the highest confidence, 0 without a candidate."""
        return max(self.confidences, default=0.0)


def find_candidates(probability: NDArray[Any], rule: CandidateRule = CandidateRule()) -> Candidates:
    """The candidates of a map (X, Y, Z) of probabilities.

    Raises:
        UsageError: it holds something else than numbers from 0 to 1.
    """
    values = np.asarray(probability, dtype=np.float32)
    if values.ndim != 3 or values.size == 0 or not (values.min() >= 0 and values.max() <= 1):
        raise UsageError(f"expected a map (X, Y, Z) of probabilities from 0 to 1, got {_in_words(values)}")
    if rule.mode == "fast":
        regions = _regions(values, float(values.max()) / rule.factor, rule.too_small)
    else:
        regions = _one_by_one(values, rule)
    detection = np.zeros_like(values)
    for region, confidence in regions:
        detection[region] = confidence
    return Candidates(detection, tuple(sorted((confidence for _, confidence in regions), reverse=True)))


Region = tuple[NDArray[np.bool_], float]


def _regions(values: NDArray[np.float32], threshold: float, too_small: int) -> list[Region]:
    """The connected regions from a threshold on (above 0), large enough, each with its peak."""
    from scipy.ndimage import label, maximum

    labels, count = label((values >= threshold) & (values > 0), structure=np.ones((3, 3, 3)))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    large = [number for number in range(1, count + 1) if sizes[number] > too_small]
    peaks = maximum(values, labels, large) if large else []
    return [(labels == number, float(peak)) for number, peak in zip(large, peaks, strict=True)]


def _one_by_one(values: NDArray[np.float32], rule: CandidateRule) -> list[Region]:
    from scipy.ndimage import binary_dilation

    left, regions_kept = values.copy(), []
    occupied = np.zeros(values.shape, dtype=bool)
    while len(regions_kept) < rule.most and (peak := float(left.max())) >= STOP:
        threshold = peak / rule.factor
        regions = _regions(left, threshold, rule.too_small)
        if not regions:
            left[left >= threshold] = 0  # specks only
            continue
        region, confidence = max(regions, key=lambda each: each[1])
        if not (region & binary_dilation(occupied, structure=np.ones((3, 3, 3)))).any():
            regions_kept.append((region, confidence))
            occupied |= region
        left[region] = 0
    return regions_kept


def _in_words(values: NDArray[np.float32]) -> str:
    if values.ndim != 3 or values.size == 0:
        return f"shape {values.shape}"
    return f"numbers from {values.min():g} to {values.max():g}"
