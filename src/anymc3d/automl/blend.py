"""Which members answer together, and with what weights: chosen on held-out logits, never on what they were fitted on.

Candidates that look at the same thing (the representations and poolings of one sight) are a family; a plain method is
one of its own. Of each family the simplest within a standard error of its best joins. Weights are 0 or more and lower
the cross-entropy; with few cases they are held near equal ones, because a difference between members that few cases
show is mostly chance. Measured against entering one by one: docs/decisions. Of a number the squared error stands for
the cross-entropy, and the weights add up to 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, nnls
from scipy.special import log_expit, log_softmax

from anymc3d.settings.config import LabelSettings

Floats = NDArray[np.float64]

_SHRINK = 1.0
"""Penalty on the distance of the weights' sum from 1, in cases: members say log-odds already."""
_EQUAL = 1.0
"""Penalty on the distance of the weights from equal ones, in cases a member."""
_LEAST_WEIGHT = 0.05
"""Share of the sum below which a member is dropped: it would cost every answer a pass and change it by next to nothing.
On five sets this changes the nested AUROC by 0.001 at most (benchmarks/auto.md)."""


@dataclass(frozen=True)
class Blend:
    """``weights`` of members by their position among the candidates, all above 0."""

    weights: dict[int, float]

    def logits(self, candidate_logits: Sequence[Floats]) -> Floats:
        """The weighted mean of the candidates' logits (n, K), as an ensemble's file takes it."""
        total = sum(self.weights.values())
        return sum((weight / total) * candidate_logits[index] for index, weight in self.weights.items())


def choose_blend(
    candidate_logits: Sequence[Floats],
    families: Sequence[str],
    targets: Floats,
    labels: LabelSettings,
    patients: Sequence[str],
    *,
    most: int,
    margin: float,
) -> Blend:
    """Choose members and weights.

    Args:
        candidate_logits: held-out logits (n, K) of each candidate, the simplest first.
        families: of the candidates; one of each joins.
        targets: (n, L), NaN where missing.
        labels: what the targets mean.
        patients: of the cases.
        most: members; with more the heaviest are kept and weighed again.
        margin: standard errors by which a larger candidate of a family must be better than a smaller one.
    """
    members = []
    for family in dict.fromkeys(families):
        of_family = [index for index, name in enumerate(families) if name == family]
        members.append(
            of_family[best_single([candidate_logits[i] for i in of_family], targets, labels, patients, margin=margin)]
        )
    weights = fit_weights([candidate_logits[index] for index in members], targets, labels, equal=_EQUAL)
    heaviest = np.argsort(-weights, kind="stable")[:most]
    kept = [place for place in sorted(heaviest) if weights[place] > _LEAST_WEIGHT * weights.sum()]
    if len(kept) < len(members):
        members = [members[place] for place in kept]
        weights = fit_weights([candidate_logits[index] for index in members], targets, labels, equal=_EQUAL)
    return Blend({index: float(weight) for index, weight in zip(members, weights, strict=True) if weight > 0})


def best_single(
    candidate_logits: Sequence[Floats],
    targets: Floats,
    labels: LabelSettings,
    patients: Sequence[str],
    *,
    margin: float,
) -> int:
    """The first (simplest) candidate whose cross-entropy is within ``margin`` standard errors of the lowest."""
    losses = [case_losses(logits, targets, labels) for logits in candidate_logits]
    best = min(range(len(candidate_logits)), key=lambda index: float(np.nansum(losses[index])))
    for index in range(best):
        worse, error = paired(losses[index], losses[best], patients)
        if worse <= margin * error:
            return index
    return best


def case_losses(logits: Floats, targets: Floats, labels: LabelSettings) -> Floats:
    """Cross-entropy (n,) of each case, of several labels the sum of those that are known; of a number the squared
    error, in units of its variance."""
    if labels.is_number:
        return np.nan_to_num(np.square(logits[:, 0] - targets[:, 0]), nan=0.0)
    if labels.kind == "multilabel":
        each = np.where(targets == 1, -log_expit(logits), -log_expit(-logits))
        return np.where(np.isnan(targets), 0.0, each).sum(axis=1)
    known = ~np.isnan(targets[:, 0])
    losses = np.zeros(len(targets))
    log_shares = log_softmax(logits[known], axis=1)
    losses[known] = -log_shares[np.arange(len(log_shares)), targets[known, 0].astype(int)]
    return losses


def paired(before: Floats, after: Floats, patients: Sequence[str]) -> tuple[float, float]:
    """How much the sum of the losses falls, and its standard error, cases of one patient taken together."""
    _, of_row = np.unique(np.asarray(patients, dtype=object).astype(str), return_inverse=True)
    each = np.bincount(of_row, weights=before - after)
    return float(each.sum()), float(each.std(ddof=1) * len(each) ** 0.5) if len(each) > 1 else 0.0


def fit_weights(
    member_logits: Sequence[Floats], targets: Floats, labels: LabelSettings, *, equal: float = 0.0
) -> Floats:
    """Weights >= 0 that minimise the cross-entropy of the weighted sum; ``equal`` holds them near equal ones. Of a
    number they add up to 1 and minimise the squared error."""
    stacked, start = np.stack(member_logits), np.full(len(member_logits), 1 / len(member_logits))
    if labels.is_number:
        return _mean_of_numbers(stacked[:, :, 0], targets[:, 0], equal * len(member_logits))

    def loss(values: Floats) -> float:
        shrunk = _SHRINK * (values.sum() - 1) ** 2 + equal * len(values) * ((values - start) ** 2).sum()
        return float(case_losses(np.tensordot(values, stacked, 1), targets, labels).sum() + shrunk)

    optimum = minimize(
        loss, start, method="L-BFGS-B", bounds=[(0.0, None)] * len(member_logits), options={"maxiter": 60}
    )
    return optimum.x if optimum.x.sum() > 0 else start


def _mean_of_numbers(answers: Floats, truth: Floats, equal: float) -> Floats:
    """Weights (members,) of a weighted mean with the least squared error; ``answers`` (members, n)."""
    known, count = ~np.isnan(truth), len(answers)
    errors = (answers[:, known] - truth[known]).T
    # With weights that add up to 1 the error of the mean is the mean of the errors: only that sum is asked for besides.
    sure = 1e3 * max(float(np.abs(errors).max(initial=0.0)), 1.0)
    rows = np.vstack([errors, sure * np.ones((1, count)), equal**0.5 * np.eye(count)])
    weights = nnls(rows, np.r_[np.zeros(len(errors)), sure, np.full(count, equal**0.5 / count)])[0]
    total = weights.sum()
    return weights / total if total > 0 else np.full(count, 1 / count)
