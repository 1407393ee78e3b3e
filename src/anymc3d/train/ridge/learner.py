"""``RidgeLearner``: a linear classifier that chooses its own penalty, in closed form.

One eigendecomposition gives the fits of all penalties and, by the hat matrix, what each patient's cases would get
by the fit without them; so inner cross-validation costs nothing. A small map from scores to logits (Platt's, or its
form for several classes) is fitted on those held-out scores. Where there are more numbers than cases it ranks as
penalised logistic regression does, in a fraction of its time. Arrays only; no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_expit, logsumexp

from anymc3d.settings.config import LabelSettings
from anymc3d.train.ridge.maps import ScoreMap, as_scores, fit_map
from anymc3d.train.ridge.scale import Scale, Scaling, measure_scale
from anymc3d.train.ridge.solve import left_out, several, spectrum

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]

PENALTIES = tuple(10.0**power for power in np.arange(2, -2.1, -0.5))
"""From strong to weak, where the mean squared length of a standardised case is 1."""


@dataclass(frozen=True, eq=False)
class LinearHead:
    """A fit in the units of its numbers: standardise (``center``, ``spread``, ``clip``), then ``weight`` and ``bias``.

    ``weight`` (R, F): a row per logit, of ordered grades one, for the score; ``bias`` (R,). ``cuts`` (K - 1,): of
    ordered grades, between which the score lies; otherwise None.
    """

    center: Floats
    spread: Floats
    clip: float | None
    weight: Floats
    bias: Floats
    cuts: Floats | None = None

    def raw(self) -> tuple[Floats, Floats]:
        """Weight and bias for numbers that are not standardised; only without a clip."""
        weight = self.weight / self.spread
        return weight, self.bias - weight @ self.center


@dataclass(frozen=True, eq=False)
class _Fit:
    """The chosen penalty: scores are standardised numbers @ ``slopes`` (F, T) + ``means`` (T,); ``held_out`` (n, T)."""

    scale: Scale
    slopes: Floats
    means: Floats
    held_out: Floats
    map: ScoreMap
    penalty: float

    def logits(self, numbers: NDArray[np.floating]) -> Floats:
        """Head logits (n, K)."""
        return self.map(self.scale.standardised(numbers) @ self.slopes + self.means)


class RidgeLearner:
    """A learner of :mod:`anymc3d.train.quick.crossval` with one candidate, itself.

    Args:
        numbers: (n, F), what is known of each case; NaN where it is not.
        targets: (n, L), NaN where missing.
        labels: what the targets mean.
        patients: (n,), of the cases: those of one are held out together.
        scaling: ``spread``: each number by its mean and spread; ``robust``: by its median and quartiles, cut off at
            ``CLIP``; ``common``: centred, and one factor for all, for numbers of one unit such as voxels.
        penalties: from strong to weak; the one with the smallest cross-entropy on held-out scores is taken, and of
            those that are nearly level the one nearest to 1.
    """

    def __init__(
        self,
        numbers: NDArray[np.floating],
        targets: Floats,
        labels: LabelSettings,
        patients: Sequence[str],
        *,
        scaling: Scaling = "spread",
        penalties: Sequence[float] = PENALTIES,
    ) -> None:
        self.numbers, self.targets, self.labels = numbers, np.asarray(targets, dtype=np.float64), labels
        self.patients, self.scaling = np.asarray(patients, dtype=object).astype(str), scaling
        self.penalties = tuple(penalties)
        self.candidates: tuple[str, ...] = ("ridge",)
        self.sizes = (numbers.shape[1],)
        self._last: tuple[bytes, _Fit] | None = None

    def path(self, train: Rows, ask: Rows) -> list[Floats]:
        """Head logits (len(ask), K) fitted on the cases ``train``, for the cases ``ask``; one entry."""
        return [self._fit(train).logits(self.numbers[ask])]

    def held_out(self, train: Rows) -> Floats:
        """Head logits (len(train), K) for each case of ``train`` by the fit without its patient; of one that it
        lacks, by the fit on all that have that label."""
        fit = self._fit(train)
        return fit.map(fit.held_out)

    def penalty(self, train: Rows) -> float:
        """The penalty that the cases ``train`` choose."""
        return self._fit(train).penalty

    def head(self, train: Rows) -> LinearHead:
        """What a plugin holds, fitted on the cases ``train``."""
        fit = self._fit(train)
        weight = fit.map.weight @ fit.slopes.T / fit.scale.count**0.5
        bias = fit.map.weight @ fit.means + fit.map.bias
        return LinearHead(fit.scale.center, fit.scale.spread, fit.scale.clip, weight, bias, fit.map.cuts)

    def _fit(self, train: Rows) -> _Fit:
        key = np.asarray(train, dtype=np.int64).tobytes()
        if self._last is None or self._last[0] != key:
            self._last = (key, self._solve(train))
        return self._last[1]

    def _solve(self, train: Rows) -> _Fit:
        scale = measure_scale(self.numbers[train], self.scaling)
        rows, targets = scale.standardised(self.numbers[train]), self.targets[train]
        wanted = as_scores(targets, self.labels)
        duals, held_out = (np.zeros((len(self.penalties), *wanted.shape)) for _ in range(2))
        for known, columns in _by_gaps(wanted):
            of_known = wanted[known][:, columns]
            solutions = self._of_columns(rows[known], of_known, self.patients[train[known]])
            rest = np.setdiff1d(np.arange(len(train)), known)
            across = (rows[rest] - rows[known].mean(axis=0)) @ rows[known].T
            for number, (dual, scores) in enumerate(solutions):
                duals[number][np.ix_(known, columns)], held_out[number][np.ix_(known, columns)] = dual, scores
                held_out[number][np.ix_(rest, columns)] = of_known.mean(axis=0) + across @ dual
        maps = [fit_map(scores, targets, self.labels) for scores in held_out]
        chosen = self._choose(held_out, maps, targets)
        slopes = rows.T @ duals[chosen]
        is_known = ~np.isnan(wanted)
        centre = np.stack([rows[known].mean(axis=0) for known in is_known.T], axis=1)
        means = np.nanmean(wanted, axis=0) - (centre * slopes).sum(axis=0)
        return _Fit(scale, slopes, means, held_out[chosen], maps[chosen], self.penalties[chosen])

    def _choose(self, held_out: Floats, maps: Sequence[ScoreMap], targets: Floats) -> int:
        """Held-out cross-entropy of all cases together, and the squared distance from 1 in decades beside it."""
        losses = [
            len(targets) * cross_entropy(score_map(scores), targets, self.labels) + np.log10(penalty) ** 2
            for scores, score_map, penalty in zip(held_out, maps, self.penalties, strict=True)
        ]
        return int(np.argmin(losses))

    def _of_columns(
        self, rows: NDArray[np.floating], targets: Floats, patients: NDArray[np.str_]
    ) -> list[tuple[Floats, Floats]]:
        """Per penalty: what each case counts in the slopes (n, T), which add up to 0, and held-out scores (n, T)."""
        means = targets.mean(axis=0)
        vectors, values = spectrum(rows - rows.mean(axis=0))
        inside = vectors.T @ (targets - means)
        groups = several(patients)
        solutions = []
        for penalty in self.penalties:
            shrunk = values / (values + penalty)
            residuals = targets - means - vectors @ (shrunk[:, None] * inside)
            scores = left_out(vectors, shrunk, residuals, targets, groups)
            solutions.append((vectors @ (inside / (values + penalty)[:, None]), scores))
        return solutions


def cross_entropy(logits: Floats, targets: Floats, labels: LabelSettings) -> float:
    """Mean over the labels and cases that are known, of head logits (n, K) and targets (n, L); of a number half the
    logarithm of the mean squared error, which is its cross-entropy but for a constant."""
    if labels.is_number:
        errors = np.square(logits - targets)[~np.isnan(targets)]
        return float(0.5 * np.log(max(errors.mean(), 1e-12)))
    if labels.kind == "multilabel":
        known = ~(np.isnan(targets) | np.isnan(logits))
        signed = np.where(targets == 1, logits, -logits)[known]
        return float(-log_expit(signed).mean()) if signed.size else np.inf
    known = ~np.isnan(targets[:, 0])
    known_logits, truth = logits[known], targets[known, 0].astype(int)
    return float((logsumexp(known_logits, axis=1) - known_logits[np.arange(len(truth)), truth]).mean())


def _by_gaps(targets: Floats) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Rows that are known, and the columns that have exactly these gaps."""
    groups: dict[bytes, tuple[NDArray[np.intp], list[int]]] = {}
    for column in range(targets.shape[1]):
        known = ~np.isnan(targets[:, column])
        groups.setdefault(known.tobytes(), (np.flatnonzero(known), []))[1].append(column)
    return [(known, np.array(columns)) for known, columns in groups.values()]
