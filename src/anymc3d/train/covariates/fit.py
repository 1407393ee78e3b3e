"""Fits: the covariates alone, by penalised logistic regression; and the slopes that join them with the image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, nnls
from scipy.special import expit, log_expit, logsumexp, softmax
from sklearn.linear_model import LogisticRegression, Ridge

from anymc3d.data.labels import strata
from anymc3d.data.splits import make_folds
from anymc3d.evaluate.covariates import CovariateModel
from anymc3d.settings.config import LabelSettings

Floats = NDArray[np.float64]

STRENGTHS = (0.01, 0.1, 1.0, 10.0)
"""C of the logistic regression, from strong penalty to weak; of equals the stronger is taken."""
FOLDS = 5
_FEW = 0.1
"""C where an outcome has too few patients to choose one."""
_JOIN_PENALTY = 1.0
"""On half the squared slopes, on logits of spread 1, beside the summed cross-entropy: scikit-learn's default."""


class AloneFit:
    """The covariates alone: ``weights`` (labels, F), ``bias`` (labels,), the chosen ``strength``; ``held_out``
    (n, labels) raw logits of each case by a fit without its fold, NaN where an outcome has too few patients."""

    def __init__(
        self, numbers: Floats, targets: Floats, labels: LabelSettings, patients: Sequence[str], *, seed: int
    ) -> None:
        self._labels = labels
        self.held_out = np.full((len(numbers), _count(labels)), np.nan)
        folds = _folds(targets, labels, patients, seed)
        if folds is None:
            self.strength = _FEW
        else:
            trials = [self._held_out(numbers, targets, folds, strength) for strength in STRENGTHS]
            losses = [_loss(trial, targets, labels) for trial in trials]
            best = int(np.argmin(np.round(losses, 9)))
            self.strength, self.held_out = STRENGTHS[best], trials[best]
        self.weights, self.bias = _fit(numbers, targets, labels, self.strength)

    def _held_out(self, numbers: Floats, targets: Floats, folds: NDArray[np.intp], strength: float) -> Floats:
        logits = np.full((len(numbers), _count(self._labels)), np.nan)
        for fold in np.unique(folds):
            inside = folds == fold
            weights, bias = _fit(numbers[~inside], targets[~inside], self._labels, strength)
            logits[inside] = numbers[inside] @ weights.T + bias
        return logits


def join(
    alone: AloneFit, image: Floats, covariate_logits: Floats, targets: Floats, labels: LabelSettings
) -> CovariateModel:
    """The model of both.

    Args:
        alone: fitted on the training cases.
        image: raw logits (m, labels) of the image, of cases that it was not trained on.
        covariate_logits: those of the covariates alone, of the same cases and as little fitted on them.
        targets: (m, L) of these cases.
        labels: of the task.
    """
    joined = _join_number if labels.is_number else _join_classes if labels.one_of_classes else _join_labels
    slopes, shift = joined(image, covariate_logits, targets)
    return CovariateModel(
        weights=tuple(map(_numbers, alone.weights)),
        bias=_numbers(alone.bias),
        image=_numbers(slopes[0]),
        covariates=_numbers(slopes[1]),
        shift=_numbers(shift),
        strength=alone.strength,
        cases=len(alone.held_out),
        joined_on=len(image),
    )


def _numbers(values: Floats) -> tuple[float, ...]:
    return tuple(float(f"{value:.9g}") for value in np.clip(values, -1e9, 1e9))


def _count(labels: LabelSettings) -> int:
    return len(labels.output_names)


def _folds(targets: Floats, labels: LabelSettings, patients: Sequence[str], seed: int) -> NDArray[np.intp] | None:
    """Folds by patient in which every outcome has cases elsewhere; None where one has a single patient."""
    names = np.asarray(patients, dtype=object).astype(str)
    if labels.is_number:
        fewest = len(set(names[~np.isnan(targets[:, 0])]))
    else:
        values = range(len(labels.classes) or 2)
        fewest = min(len(set(names[column == value])) for column in targets.T for value in values)
    folds = min(FOLDS, fewest)
    return np.array(make_folds(list(names), strata(targets, labels), folds=folds, seed=seed)) if folds >= 2 else None


def _fit(numbers: Floats, targets: Floats, labels: LabelSettings, strength: float) -> tuple[Floats, Floats]:
    """Weights (labels, F) and bias (labels,)."""
    if labels.is_number:
        return _fit_number(numbers, targets[:, 0], strength)
    if labels.one_of_classes:
        return _fit_classes(numbers, targets[:, 0], len(labels.classes), strength)
    fits = [_fit_one(numbers, column, strength) for column in targets.T]
    return np.array([weights for weights, _ in fits]), np.array([bias for _, bias in fits])


def _fit_one(numbers: Floats, target: Floats, strength: float) -> tuple[Floats, float]:
    is_known = ~np.isnan(target)
    if len(np.unique(target[is_known])) < 2:
        share = (target[is_known].sum() + 0.5) / (is_known.sum() + 1)
        return np.zeros(numbers.shape[1]), float(np.log(share / (1 - share)))
    model = LogisticRegression(C=strength, max_iter=2000, tol=1e-8).fit(numbers[is_known], target[is_known])
    return model.coef_[0], float(model.intercept_[0])


def _fit_number(numbers: Floats, target: Floats, strength: float) -> tuple[Floats, Floats]:
    """Ridge regression; the penalty is 1 / C, as of the logistic regression."""
    is_known = ~np.isnan(target)
    model = Ridge(alpha=1 / strength).fit(numbers[is_known], target[is_known])
    return np.asarray(model.coef_)[None], np.array([float(model.intercept_)])


def _fit_classes(numbers: Floats, target: Floats, count: int, strength: float) -> tuple[Floats, Floats]:
    is_known = ~np.isnan(target)
    weights, bias = np.zeros((count, numbers.shape[1])), np.full(count, np.log(0.5 / (is_known.sum() + 1)))
    present = np.unique(target[is_known]).astype(int)
    if len(present) == 2:
        # scikit-learn answers two classes with one row; here each has its own.
        row, shift = _fit_one(numbers[is_known], (target[is_known] == present[1]).astype(float), strength)
        weights[present], bias[present] = np.stack([-row / 2, row / 2]), np.array([-shift / 2, shift / 2])
    elif len(present) > 2:
        model = LogisticRegression(C=strength, max_iter=2000, tol=1e-8).fit(numbers[is_known], target[is_known])
        weights[present], bias[present] = model.coef_, model.intercept_
    return weights, bias


def _loss(logits: Floats, targets: Floats, labels: LabelSettings) -> float:
    """Mean cross-entropy of what is known; of a number the mean squared error."""
    if labels.is_number:
        return float(np.nanmean(np.square(logits - targets)))
    if labels.one_of_classes:
        is_known = ~np.isnan(targets[:, 0])
        rows, truth = logits[is_known], targets[is_known, 0].astype(int)
        return float((logsumexp(rows, axis=1) - rows[np.arange(len(rows)), truth]).mean())
    is_known = ~np.isnan(targets)
    signs = np.where(targets == 1, 1.0, -1.0)
    return float(-log_expit(signs * logits)[is_known].mean())


def _spread(logits: Floats) -> float:
    return float(logits.std()) or 1.0


def _join_labels(image: Floats, covariate_logits: Floats, targets: Floats) -> tuple[tuple[Floats, Floats], Floats]:
    """Slopes per label and shifts."""
    fits = [_join_one(*columns) for columns in zip(image.T, covariate_logits.T, targets.T, strict=True)]
    slopes = np.array([[of_image, of_own] for of_image, of_own, _ in fits]).reshape(-1, 2)
    return (slopes[:, 0], slopes[:, 1]), np.array([shift for _, _, shift in fits])


def _join_one(image: Floats, covariate_logits: Floats, target: Floats) -> tuple[float, float, float]:
    is_known = ~np.isnan(target)
    if len(np.unique(target[is_known])) < 2:
        return 1.0, 1.0, 0.0
    rows, truth = np.stack([image[is_known], covariate_logits[is_known]], axis=1), target[is_known]
    widths = np.array([_spread(column) for column in rows.T])
    scaled = rows / widths

    def loss(values: Floats) -> tuple[float, Floats]:
        logits = scaled @ values[:2] + values[2]
        error = expit(logits) - truth
        penalty = 0.5 * _JOIN_PENALTY * float(values[:2] @ values[:2])
        value = -float(np.where(truth == 1, log_expit(logits), log_expit(-logits)).sum()) + penalty
        return value, np.r_[scaled.T @ error + _JOIN_PENALTY * values[:2], error.sum()]

    # A logit of the wrong sign by chance must not turn an answer over.
    bounds = [(0.0, None), (0.0, None), (None, None)]
    optimum = minimize(loss, np.array([1.0, 1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=bounds).x
    return float(optimum[0] / widths[0]), float(optimum[1] / widths[1]), float(optimum[2])


def _join_number(image: Floats, covariate_logits: Floats, targets: Floats) -> tuple[tuple[Floats, Floats], Floats]:
    """Least squares with slopes of 0 or more, mildly penalised as of labels."""
    is_known = ~np.isnan(targets[:, 0])
    rows, truth = np.hstack([image, covariate_logits])[is_known], targets[is_known, 0]
    widths = np.array([_spread(column) for column in rows.T])
    middle = rows.mean(axis=0)
    scaled = np.vstack([(rows - middle) / widths, np.sqrt(_JOIN_PENALTY) * np.eye(2)])
    slopes = nnls(scaled, np.r_[truth - truth.mean(), 0.0, 0.0])[0] / widths
    return (slopes[:1], slopes[1:]), np.array([float(truth.mean() - middle @ slopes)])


def _join_classes(image: Floats, covariate_logits: Floats, targets: Floats) -> tuple[tuple[Floats, Floats], Floats]:
    """One slope for all classes, and a shift for each."""
    is_known = ~np.isnan(targets[:, 0])
    truth, count = targets[is_known, 0].astype(int), image.shape[1]
    parts = [rows[is_known] - rows[is_known].mean(axis=1, keepdims=True) for rows in (image, covariate_logits)]
    widths = [_spread(rows) for rows in parts]
    first, second = (rows / width for rows, width in zip(parts, widths, strict=True))
    one_hot = np.eye(count)[truth]

    def loss(values: Floats) -> tuple[float, Floats]:
        logits = values[0] * first + values[1] * second + values[2:]
        error = softmax(logits, axis=1) - one_hot
        # The shifts are free but for their common part, which says nothing; a hair of a penalty takes it away.
        penalty = 0.5 * _JOIN_PENALTY * float(values[:2] @ values[:2]) + 0.5e-3 * float(values[2:] @ values[2:])
        value = float((logsumexp(logits, axis=1) - logits[np.arange(len(truth)), truth]).sum()) + penalty
        slopes = np.array([(error * first).sum(), (error * second).sum()]) + _JOIN_PENALTY * values[:2]
        return value, np.r_[slopes, error.sum(axis=0) + 1e-3 * values[2:]]

    bounds = [(0.0, None), (0.0, None), *[(None, None)] * count]
    optimum = minimize(loss, np.r_[1.0, 1.0, np.zeros(count)], jac=True, method="L-BFGS-B", bounds=bounds).x
    return (optimum[:1] / widths[0], optimum[1:2] / widths[1]), optimum[2:]
