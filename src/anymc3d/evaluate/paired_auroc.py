"""How much the mean AUROC of two scores of the same cases differs, and the standard error of that difference.

Each case has an influence on the difference: how far its placement values stand from their mean, over the number of
cases of its outcome, averaged over the labels. Their squares add up to the variance. Of one label and one case a
patient that is DeLong's (Biometrics 1988); of several cases a patient, summed within patients first, it is Obuchowski's
(Biometrics 1997) but for a factor I / (I - 1) of I patients. The labels of a case share its influence, so their
covariance is in it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from anymc3d.evaluate.delong import placement_values
from anymc3d.evaluate.intervals import group_index
from anymc3d.evaluate.weighted import Floats


class PairedDifference(NamedTuple):
    """Mean AUROC of the first minus that of the second; its standard error, infinite where it cannot be estimated.

    ``value`` is None where no label has both outcomes.
    """

    value: float | None
    error: float


def mean_auroc_difference(
    targets: Floats, first: Floats, second: Floats, patients: Sequence[str] | None = None
) -> PairedDifference:
    """Compare two scores (n, L) of the same cases; targets (n, L) of 0 and 1, NaN = missing.

    Args:
        targets: labels with one outcome only take no part.
        first: higher = more positive.
        second: likewise.
        patients: (n,) of the cases; None: each case is its own.
    """
    influence, differences, estimable = np.zeros(len(targets)), [], False
    for truth, a, b in zip(targets.T, first.T, second.T, strict=True):
        known = np.flatnonzero(~np.isnan(truth))
        is_positive = truth[known] == 1
        if is_positive.all() or not is_positive.any():
            continue
        scores = np.stack([a[known], b[known]])
        for rows, placed in zip((is_positive, ~is_positive), placement_values(truth[known], scores), strict=True):
            gap = placed[0] - placed[1]
            number = len(gap)
            unbiased = math.sqrt(number / (number - 1)) if number > 1 else 1.0
            influence[known[rows]] += unbiased * (gap - gap.mean()) / number
        estimable |= min(is_positive.sum(), (~is_positive).sum()) > 1
        differences.append(float(gap.mean()))
    if not differences:
        return PairedDifference(None, math.inf)
    influence /= len(differences)
    if patients is not None:
        influence = np.bincount(group_index(patients), weights=influence)
    error = math.sqrt(float((influence**2).sum())) if estimable else math.inf
    return PairedDifference(float(np.mean(differences)), error)
