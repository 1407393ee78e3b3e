"""What each case adds to an AUROC, or to the mean of several: the standard error of one score and of a difference.

One row a patient and one label: DeLong's variance, exactly (Biometrics 1988). Several rows a patient: their parts are
summed first, as Obuchowski does for clustered data (Biometrics 1997). A mean over labels or classes is the same sum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from anymc3d.evaluate.intervals import group_index
from anymc3d.evaluate.weighted import Floats


@dataclass(frozen=True, eq=False)
class Influence:
    """``value``: the mean AUROC of the labels that are defined, None without any. ``parts`` (n,): what each case adds;
    they sum to 0, and the sum of their squares (of each patient's sum) is the variance."""

    value: float | None
    parts: Floats

    def standard_error(self, patients: Sequence[str]) -> float:
        """Standard error of the value, with cases of one patient taken together."""
        of_patients = np.bincount(group_index(patients), weights=self.parts)
        return math.sqrt(float(np.square(of_patients).sum()))

    def __sub__(self, other: Influence) -> Influence:
        """The difference of two scores of the same cases."""
        if self.value is None or other.value is None:
            return Influence(None, np.zeros_like(self.parts))
        return Influence(self.value - other.value, self.parts - other.parts)


def auroc_influence(targets: ArrayLike, scores: ArrayLike) -> Influence:
    """Influence of each case on the mean AUROC of ``targets`` (n, L), 0, 1 or NaN, and ``scores`` (n, L)."""
    truth, ranked = np.asarray(targets, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    areas, parts = [], np.zeros(len(truth))
    for target, score in zip(truth.T, ranked.T, strict=True):
        positive, negative = np.flatnonzero(target == 1), np.flatnonzero(target == 0)
        if not len(positive) or not len(negative):
            continue
        of_positive = _share_below(score[positive], score[negative])
        of_negative = 1 - _share_below(score[negative], score[positive])
        areas.append(float(of_positive.mean()))
        parts[positive] += _centred(of_positive)
        parts[negative] += _centred(of_negative)
    if not areas:
        return Influence(None, parts)
    return Influence(float(np.mean(areas)), parts / len(areas))


def r2_influence(truth: ArrayLike, predicted: ArrayLike) -> Influence:
    """Of R² of numbers (n,), NaN where missing: what each case's squared error adds, the variance of the cases taken as
    known. The difference of two answers to the same cases has the variance of a paired comparison of squared errors."""
    target, answer = np.asarray(truth, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    is_known = ~np.isnan(target)
    parts = np.zeros(len(target))
    variance = float(target[is_known].var()) if is_known.any() else 0.0
    if not variance:
        return Influence(None, parts)
    errors = np.square(answer[is_known] - target[is_known]) / variance
    parts[is_known] = -_centred(errors)
    return Influence(1 - float(errors.mean()), parts)


def _centred(placements: Floats) -> Floats:
    """So that the sum of squares is the variance of the mean; of a single case there is none."""
    count = len(placements)
    return (placements - placements.mean()) / math.sqrt(count * max(count - 1, 1))


def _share_below(values: Floats, others: Floats) -> Floats:
    """For each value, the share of ``others`` below it, ties one half."""
    ordered = np.sort(others)
    below = np.searchsorted(ordered, values, side="left") + np.searchsorted(ordered, values, side="right")
    return below / (2 * others.size)
