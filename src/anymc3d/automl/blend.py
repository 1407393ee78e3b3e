"""Which members answer together, and with what weights: chosen on held-out logits, never on what they were fitted on.

Members enter one after another, the one first that lowers the cross-entropy most, as long as it does so by more than
its own standard error (of the paired difference of the cases' losses, by patient). Weights are 0 or more and come from
the same cross-entropy; the sum is one linear combination of logits, so a shift is fitted with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_expit, log_softmax

from anymc3d.settings.config import LabelSettings

Floats = NDArray[np.float64]

_SHRINK = 1.0
"""Penalty on the distance of the weights' sum from 1, in cases: members say log-odds already."""
_LEAST_WEIGHT = 0.02
"""Share of the sum below which a member is dropped."""


@dataclass(frozen=True)
class Blend:
    """``weights`` of members by their position among the candidates, all above 0."""

    weights: dict[int, float]

    def logits(self, found: Sequence[Floats]) -> Floats:
        """The weighted mean of the candidates' logits (n, K), as an ensemble's file takes it."""
        total = sum(self.weights.values())
        return sum((weight / total) * found[index] for index, weight in self.weights.items())


def choose_blend(
    found: Sequence[Floats],
    targets: Floats,
    labels: LabelSettings,
    patients: Sequence[str],
    *,
    most: int,
    margin: float,
    start: int | None = None,
) -> Blend:
    """Choose members and weights.

    Args:
        found: held-out logits (n, K) of each candidate, the simplest first.
        targets: (n, L), NaN where missing.
        labels: what the targets mean.
        patients: of the cases.
        most: members.
        margin: standard errors by which a further member must lower the cross-entropy.
        start: the first member; None: by :func:`best_single`.
    """
    members = [best_single(found, targets, labels, patients, margin=margin) if start is None else start]
    # A member must not enter for the scale that the first one lacks: that is fitted too.
    weights = fit_weights([found[members[0]]], targets, labels)
    losses = case_losses(weights[0] * found[members[0]], targets, labels)
    while len(members) < most:
        tried = []
        for index in (i for i in range(len(found)) if i not in members):
            own = fit_weights([found[i] for i in (*members, index)], targets, labels)
            mixed = _mixed([found[i] for i in (*members, index)], own)
            tried.append((float(np.nansum(case_losses(mixed, targets, labels))), index, own))
        if not tried:
            break
        _, index, own = min(tried, key=lambda one: one[:2])
        after = case_losses(_mixed([found[i] for i in (*members, index)], own), targets, labels)
        gain, error = paired(losses, after, patients)
        if own[-1] <= _LEAST_WEIGHT * own.sum() or gain <= margin * error:
            break
        members, weights, losses = [*members, index], own, after
    kept = {index: float(weight) for index, weight in zip(members, weights, strict=True)}
    least = _LEAST_WEIGHT * sum(kept.values())
    return Blend({index: weight for index, weight in kept.items() if weight > least})


def best_single(
    found: Sequence[Floats], targets: Floats, labels: LabelSettings, patients: Sequence[str], *, margin: float
) -> int:
    """The first (simplest) candidate whose cross-entropy is within ``margin`` standard errors of the lowest."""
    losses = [case_losses(one, targets, labels) for one in found]
    best = min(range(len(found)), key=lambda index: float(np.nansum(losses[index])))
    for index in range(best):
        worse, error = paired(losses[index], losses[best], patients)
        if worse <= margin * error:
            return index
    return best


def case_losses(logits: Floats, targets: Floats, labels: LabelSettings) -> Floats:
    """Cross-entropy (n,) of each case, of several labels the sum of those that are known."""
    if labels.kind == "multilabel":
        each = np.where(targets == 1, -log_expit(logits), -log_expit(-logits))
        return np.where(np.isnan(targets), 0.0, each).sum(axis=1)
    known = ~np.isnan(targets[:, 0])
    found = np.zeros(len(targets))
    told = log_softmax(logits[known], axis=1)
    found[known] = -told[np.arange(len(told)), targets[known, 0].astype(int)]
    return found


def paired(before: Floats, after: Floats, patients: Sequence[str]) -> tuple[float, float]:
    """How much the sum of the losses falls, and its standard error, cases of one patient taken together."""
    _, of_row = np.unique(np.asarray(patients, dtype=object).astype(str), return_inverse=True)
    each = np.bincount(of_row, weights=before - after)
    return float(each.sum()), float(each.std(ddof=1) * len(each) ** 0.5) if len(each) > 1 else 0.0


def _mixed(found: Sequence[Floats], weights: Floats) -> Floats:
    """The sum as it was fitted; the scale that an ensemble loses comes back with its calibration."""
    return sum(weight * one for weight, one in zip(weights, found, strict=True))


def fit_weights(found: Sequence[Floats], targets: Floats, labels: LabelSettings) -> Floats:
    """Weights of 0 or more that minimise the cross-entropy of the weighted sum."""
    stacked = np.stack(found)

    def loss(values: Floats) -> float:
        shrunk = _SHRINK * (values.sum() - 1) ** 2
        return float(case_losses(np.tensordot(values, stacked, 1), targets, labels).sum() + shrunk)

    start = np.full(len(found), 1 / len(found))
    done = minimize(loss, start, method="L-BFGS-B", bounds=[(0.0, None)] * len(found), options={"maxiter": 60})
    return done.x if done.x.sum() > 0 else start
