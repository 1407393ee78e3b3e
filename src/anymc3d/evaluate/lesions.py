"""Lesions found and missed, over all patients: matching by overlap, average precision.

The rules are those of the PI-CAI challenge (picai_eval, Apache-2.0), written anew: a candidate finds a lesion when
their intersection over union is at least 0.10; as many lesions as possible are matched, then the overlaps are as large
as possible; a candidate that overlaps a lesion matched to another one is neither hit nor false alarm; a lesion without
a candidate counts as found at no threshold.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEAST_OVERLAP = 0.10


@dataclass(frozen=True)
class LesionResult:
    """One candidate or one missed lesion of one patient."""

    is_lesion: bool
    confidence: float
    """0 of a missed lesion."""
    overlap: float
    """Intersection over union of a matched pair, else 0."""


def match_lesions(detection: NDArray[Any], lesions: NDArray[Any]) -> list[LesionResult]:
    """Match the candidates of a detection map to the lesions of a mask.

    Args:
        detection: (X, Y, Z) confidences, 0 where there is no candidate; a connected region is one candidate.
        lesions: (X, Y, Z), true or 1 in lesions; a connected region is one lesion (26 neighbours both).

    Raises:
        ValueError: their shapes differ, or a confidence is negative.
    """
    from scipy.ndimage import label, maximum
    from scipy.optimize import linear_sum_assignment

    if detection.shape != lesions.shape or detection.min() < 0:
        raise ValueError(f"expected confidences of at least 0 on {lesions.shape}, got {detection.shape}")
    candidates, num_found = label(detection > 0, structure=np.ones((3, 3, 3)))
    true, num_true = label(np.asarray(lesions) > 0, structure=np.ones((3, 3, 3)))
    confidences = np.asarray(maximum(detection, candidates, range(1, num_found + 1)) if num_found else [], dtype=float)
    shares = _overlaps(true, num_true, candidates, num_found)
    shares[shares < LEAST_OVERLAP] = 0
    rows, columns = linear_sum_assignment(np.where(shares > 0, shares + 1, 0), maximize=True)
    pairs = [(row, column) for row, column in zip(rows, columns, strict=True) if shares[row, column] > 0]
    results = [LesionResult(True, float(confidences[column]), float(shares[row, column])) for row, column in pairs]
    results += [LesionResult(True, 0.0, 0.0)] * (num_true - len(pairs))
    alarms = [number for number in range(num_found) if not (shares[:, number] > 0).any()]
    return results + [LesionResult(False, float(confidences[number]), 0.0) for number in alarms]


def lesion_average_precision(results: Iterable[LesionResult]) -> float | None:
    """Step-wise sum of precision over the gain in recall, all patients together; None without any lesion."""
    listed = list(results)
    num_lesions = sum(result.is_lesion for result in listed)
    if num_lesions == 0:
        return None
    total, hits, called = 0.0, 0, 0
    for confidence in sorted({result.confidence for result in listed if result.confidence > 0}, reverse=True):
        same = [result for result in listed if result.confidence == confidence]
        new = sum(result.is_lesion for result in same)
        hits, called = hits + new, called + len(same)
        total += new * hits / called
    return total / num_lesions


def _overlaps(true: NDArray[Any], num_true: int, candidates: NDArray[Any], num_found: int) -> NDArray[np.float64]:
    """(lesions, candidates): intersection over union."""
    pairs = np.bincount((true * (num_found + 1) + candidates).ravel(), minlength=(num_true + 1) * (num_found + 1))
    both = pairs.reshape(num_true + 1, num_found + 1).astype(float)
    size_true, size_found = both.sum(axis=1), both.sum(axis=0)
    union = size_true[1:, None] + size_found[None, 1:] - both[1:, 1:]
    return both[1:, 1:] / union
