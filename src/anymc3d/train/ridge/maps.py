"""From scores of a regression to logits: Platt's map for yes or no, its forms for several classes and for grades.

Fitted on scores that every case got from a fit without its patient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_expit, logsumexp, softmax

from anymc3d.settings.config import LabelSettings

Floats = NDArray[np.float64]


def as_scores(targets: Floats, labels: LabelSettings) -> Floats:
    """Targets (n, L) as numbers to regress on (n, T): -1 and 1, one column per class, the grade, or the number."""
    if labels.is_number:
        return targets
    if labels.kind == "multiclass":
        one_hot = (targets == np.arange(labels.num_logits)).astype(np.float64)
        return np.where(np.isnan(targets), np.nan, one_hot)
    if labels.kind == "ordinal":
        return targets - (labels.num_logits - 1) / 2
    return 2 * targets - 1


@dataclass(frozen=True, eq=False)
class ScoreMap:
    """Scores (n, T) to logits (n, K): their linear map, or one score with the cuts between grades."""

    weight: Floats
    bias: Floats
    cuts: Floats | None = None

    def __call__(self, scores: Floats) -> Floats:
        mapped = scores @ self.weight.T + self.bias
        return mapped if self.cuts is None else grade_logits(mapped[:, 0], self.cuts)


def fit_map(scores: Floats, targets: Floats, labels: LabelSettings) -> ScoreMap:
    """The map of one fit, from held-out scores (n, T) and targets (n, L), NaN where missing."""
    return _MAPS[labels.kind](scores, targets, labels)


def _map_of_two(scores: Floats, targets: Floats, labels: LabelSettings) -> ScoreMap:
    slope, shift = _platt(scores[:, 0], targets[:, 0])
    return ScoreMap(np.array([[-slope / 2], [slope / 2]]), np.array([-shift / 2, shift / 2]))


def _map_of_labels(scores: Floats, targets: Floats, labels: LabelSettings) -> ScoreMap:
    fits = [_platt(score, target) for score, target in zip(scores.T, targets.T, strict=True)]
    return ScoreMap(np.diag([slope for slope, _ in fits]), np.array([shift for _, shift in fits]))


def _platt(scores: Floats, targets: Floats) -> tuple[float, float]:
    """Slope and shift of the log-odds; with Platt's targets, a little short of 0 and 1, it is finite for any scores."""
    known = ~(np.isnan(targets) | np.isnan(scores))
    scores, truth = scores[known], targets[known] == 1
    positive, negative = int(truth.sum()), int((~truth).sum())
    if not positive or not negative:
        return 1.0, 0.0
    soft = np.where(truth, (positive + 1) / (positive + 2), 1 / (negative + 2))
    width = float(scores.std()) or 1.0

    def loss(values: Floats) -> tuple[float, Floats]:
        logits = values[0] * scores / width + values[1]
        error = expit(logits) - soft
        value = -(soft * log_expit(logits) + (1 - soft) * log_expit(-logits)).sum()
        return float(value), np.array([(error * scores / width).sum(), error.sum()])

    # A score of the wrong sign by chance must not turn the classifier over.
    optimum = minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=[(0.0, None), (None, None)]).x
    return float(optimum[0]) / width, float(optimum[1])


_FREE, _SHARED = 1.0, 0.01
"""Penalties of the map of several classes: on what is not one factor for all, and on that factor and the shifts."""


def _map_of_classes(scores: Floats, targets: Floats, labels: LabelSettings) -> ScoreMap:
    """logits = (factor I + free) scores + shift: with few cases a common factor, with many what discriminates best."""
    known = ~np.isnan(targets[:, 0])
    width = float(scores[known].std()) or 1.0
    scaled, truth, count = scores[known] / width, targets[known, 0].astype(int), labels.num_logits
    one_hot = np.eye(count)[truth]

    def parts(values: Floats) -> tuple[Floats, Floats]:
        free = values[1 : 1 + count**2].reshape(count, count)
        return values[0] * np.eye(count) + free, values[1 + count**2 :]

    def loss(values: Floats) -> tuple[float, Floats]:
        weight, shift = parts(values)
        logits = scaled @ weight.T + shift
        penalised = values * np.r_[_SHARED, np.full(count**2, _FREE), np.full(count, _SHARED)]
        value = (logsumexp(logits, axis=1) - logits[np.arange(len(truth)), truth]).sum() + 0.5 * values @ penalised
        error = softmax(logits, axis=1) - one_hot
        slope = error.T @ scaled
        return float(value), np.r_[np.trace(slope), slope.ravel(), error.sum(axis=0)] + penalised

    start = np.r_[1.0, np.zeros(count**2 + count)]
    weight, shift = parts(minimize(loss, start, jac=True, method="L-BFGS-B").x)
    return ScoreMap(weight / width, shift)


def grade_logits(scores: Floats, cuts: Floats) -> Floats:
    """Scores (n,) and rising cuts (K - 1,) to the log probabilities of the grades (n, K): P(grade > k) is the expit of
    score - cut k."""
    above = scores[:, None] - cuts
    lowest, highest = log_expit(-above[:, :1]), log_expit(above[:, -1:])
    between = log_expit(above[:, :-1]) + log_expit(-above[:, 1:]) + np.log(-np.expm1(-np.diff(cuts)))
    return np.concatenate([lowest, between, highest], axis=1)


def _map_of_grades(scores: Floats, targets: Floats, labels: LabelSettings) -> ScoreMap:
    known = ~np.isnan(targets[:, 0])
    width = float(scores[known].std()) or 1.0
    scaled, truth, count = scores[known, 0] / width, targets[known, 0].astype(int), labels.num_logits
    least = 1e-2

    def parts(values: Floats) -> tuple[float, Floats]:
        return float(values[0]), np.cumsum(np.r_[values[1], least + np.logaddexp(0, values[2:])])

    def loss(values: Floats) -> float:
        slope, cuts = parts(values)
        logits = grade_logits(slope * scaled, cuts)
        return float(-logits[np.arange(len(truth)), truth].sum() + 0.5 * _SHARED * np.square(values).sum())

    start = np.r_[1.0, -1.0, np.zeros(count - 2)]
    slope, cuts = parts(minimize(loss, start, method="L-BFGS-B").x)
    return ScoreMap(np.array([[slope / width]]), np.zeros(1), cuts)


def _map_of_number(scores: Floats, targets: Floats, labels: LabelSettings) -> ScoreMap:
    """The line of the targets on held-out scores: their penalty has pulled them towards the mean, never past it."""
    known = ~np.isnan(targets[:, 0])
    known_scores, truth = scores[known, 0], targets[known, 0]
    spread = float(known_scores.var())
    slope = (
        max(float(np.mean((known_scores - known_scores.mean()) * (truth - truth.mean()))) / spread, 0.0)
        if spread > 0
        else 0.0
    )
    return ScoreMap(np.array([[slope]]), np.array([float(truth.mean() - slope * known_scores.mean())]))


_MAPS: Mapping[str, Callable[[Floats, Floats, LabelSettings], ScoreMap]] = {
    "binary": _map_of_two,
    "multilabel": _map_of_labels,
    "multiclass": _map_of_classes,
    "ordinal": _map_of_grades,
    "regression": _map_of_number,
}
