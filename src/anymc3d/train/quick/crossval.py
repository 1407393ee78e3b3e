"""Nested cross-validation by patient: what chooses never sees what is scored. Arrays only; no torch.

Outer folds hold cases out. Inside each training part inner folds choose among the candidates, the chosen one is fitted
on the whole training part, and only then asked about the held-out cases.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from anymc3d.data.case import Case
from anymc3d.data.labels import natural_order, strata
from anymc3d.data.patients import patients_of
from anymc3d.data.splits import check_no_leak, make_folds, make_splits
from anymc3d.errors import ManifestError
from anymc3d.evaluate import outputs
from anymc3d.evaluate.influence import Influence, auroc_influence, r2_influence
from anymc3d.evaluate.metrics import Metric, macro_auroc
from anymc3d.evaluate.regression.metrics import value_of
from anymc3d.evaluate.resampling import Scale
from anymc3d.settings.config import LabelSettings

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]


class Learner(Protocol):
    """Fits every candidate of a grid on some cases and answers for others."""

    candidates: Sequence[Any]
    sizes: Sequence[int]
    """How many numbers the fit of each candidate rests on: of two that are level, the smaller is taken."""

    def path(self, train: Rows, ask: Rows) -> list[Floats]:
        """Head logits (len(ask), K) per candidate, in the order of the grid, fitted on ``train`` alone."""
        ...


@dataclass(frozen=True, eq=False)
class Pool:
    """The cases outside the test split. ``targets`` (n, L), NaN = missing, numbers standardised; ``folds`` (n,) the
    outer fold of each."""

    patients: tuple[str, ...]
    targets: Floats
    labels: LabelSettings
    folds: NDArray[np.intp]
    fold_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.patients)

    def of(self, rows: Rows) -> list[str]:
        """The patients of some cases."""
        return [self.patients[row] for row in rows]

    @property
    def metric(self) -> str:
        """What candidates are chosen by, and what the learning curve is of."""
        return "R²" if self.labels.is_number else "AUROC"

    @property
    def chance(self) -> float:
        """Its value where nothing is known."""
        return 0.0 if self.labels.is_number else 0.5

    @property
    def scale(self) -> Scale:
        """On which the intervals of that metric are made."""
        return "real" if self.labels.is_number else "share"

    def strata(self, rows: Rows) -> Floats:
        """What folds of some cases deal out evenly."""
        return strata(self.targets[rows], self.labels)

    def influence(self, logits: Floats, rows: Rows | None = None) -> Influence:
        """The same AUROC with what each case adds to it."""
        targets = self.targets if rows is None else self.targets[rows]
        if self.labels.is_number:
            return r2_influence(targets[:, 0], logits[:, 0])
        raw = outputs.raw_logits(logits, self.labels.kind)
        truth = outputs.label_targets(targets, self.labels.kind, raw.shape[1])
        return auroc_influence(truth, outputs.ranking_scores(raw, self.labels.kind))

    def auroc(self, logits: Floats, rows: Rows | None = None) -> Metric:
        """AUROC of head logits; of several labels or classes the mean of those that are defined; of a number R²."""
        targets = self.targets if rows is None else self.targets[rows]
        if self.labels.is_number:
            return value_of("r2", targets[:, 0], logits[:, 0])
        raw = outputs.raw_logits(logits, self.labels.kind)
        truth = outputs.label_targets(targets, self.labels.kind, raw.shape[1])
        return macro_auroc(truth, outputs.ranking_scores(raw, self.labels.kind), self.labels.output_names)


@dataclass(frozen=True, eq=False)
class NestedResult:
    """``logits`` (n, K): of each case by the fit that never saw it. Per outer fold: the chosen candidate, the number
    of training cases, and the AUROC on these training cases themselves (None where undefined)."""

    logits: Floats
    chosen: tuple[int, ...]
    num_train: tuple[int, ...]
    train_auroc: tuple[float | None, ...]
    inner: tuple[Floats, ...] = ()
    """Per outer fold: head logits of its training cases, each by the chosen candidate fitted on other inner folds."""


def make_pool(cases: Sequence[Case], targets: Floats, labels: LabelSettings, *, folds: int, seed: int) -> Pool:
    """Deal the cases out to outer folds by patient: those of the ``fold`` column, otherwise ``folds`` stratified ones.

    Raises:
        ManifestError: only some rows have a fold, a patient is in two, or an outcome has too few patients.
    """
    patients = patients_of(cases)
    named_folds = [case.fold for case in cases if case.fold]
    if not named_folds:
        _check_outcomes(patients, targets, labels, folds)
        numbers, names = (
            make_folds(patients, strata(targets, labels), folds=folds, seed=seed),
            [str(n) for n in range(folds)],
        )
    else:
        problems = [f"row {case.row}: fold is empty, other rows have one" for case in cases if not case.fold]
        if problems:
            raise ManifestError("folds", problems)
        check_no_leak(patients, named_folds)
        names = natural_order(set(named_folds))
        if len(names) < 2:
            raise ManifestError("folds", [f"expected two folds or more in the fold column, got only {names[0]!r}"])
        numbers = [names.index(name) for name in named_folds]
    return Pool(tuple(patients), np.asarray(targets, dtype=np.float64), labels, np.array(numbers), tuple(names))


def check_training_parts(pool: Pool, inner_folds: int) -> None:
    """Check that inner folds can be made in the training part of every outer fold.

    Raises:
        ManifestError: an outcome has fewer patients there than there are inner folds.
    """
    problems = []
    for number, name in enumerate(pool.fold_names):
        train = np.flatnonzero(pool.folds != number)
        for what, num_patients in outcome_patients(pool, train).items():
            if num_patients < inner_folds:
                problems.append(
                    f"without fold {name!r} only {num_patients} patients have {what}, expected {inner_folds} or more; "
                    "deal the folds out anew, or take the fold column out"
                )
    if problems:
        raise ManifestError("folds that --quick cannot use", problems)


def outcome_patients(pool: Pool, rows: Rows) -> dict[str, int]:
    """Outcome in words -> how many patients of the cases ``rows`` have it."""
    return _outcomes([pool.patients[row] for row in rows], pool.targets[rows], pool.labels)


def nested(
    learner: Learner,
    pool: Pool,
    *,
    inner_folds: int,
    seed: int,
    fraction: float = 1.0,
    draw: int = 0,
    progress: Callable[[], object] = lambda: None,
) -> NestedResult | str:
    """Run the whole nested cross-validation, on a ``fraction`` of each training part (the ``draw``-th such part).

    The held-out cases are the same for every fraction. Returns a reason instead where a part is too small to choose.
    """
    logits = np.full((len(pool), pool.labels.num_logits), np.nan)
    chosen, num_train, train_auroc, inner = [], [], [], []
    for number in range(len(pool.fold_names)):
        held_out, rest = np.flatnonzero(pool.folds == number), np.flatnonzero(pool.folds != number)
        train = rest if fraction == 1 else _part(pool, rest, fraction, purpose_seed(seed, "part", number, draw))
        fewest = min(outcome_patients(pool, train).items(), key=lambda item: item[1])
        if fewest[1] < inner_folds:
            return (
                f"too few patients of a training part have {fewest[0]}: {fewest[1]}; {inner_folds} are needed to choose"
            )
        own_seed = purpose_seed(seed, "inner", number, draw)
        best, inside = choose_with_logits(learner, pool, train, inner_folds=inner_folds, seed=own_seed)
        fold_logits = learner.path(train, np.concatenate([held_out, train]))[best]
        logits[held_out] = fold_logits[: len(held_out)]
        chosen.append(best)
        inner.append(inside)
        num_train.append(len(train))
        train_auroc.append(pool.auroc(fold_logits[len(held_out) :], train).value)
        progress()
    return NestedResult(logits, tuple(chosen), tuple(num_train), tuple(train_auroc), tuple(inner))


def choose(learner: Learner, pool: Pool, rows: Rows, *, inner_folds: int, seed: int) -> int:
    """The choice of :func:`choose_with_logits`."""
    return choose_with_logits(learner, pool, rows, inner_folds=inner_folds, seed=seed)[0]


def choose_with_logits(learner: Learner, pool: Pool, rows: Rows, *, inner_folds: int, seed: int) -> tuple[int, Floats]:
    """The choice among the candidates, and its head logits (len(rows), K) for each case by a fit without its fold.

    That is the candidate with the highest AUROC over inner folds of ``rows``, unless a smaller one is within one
    standard error of it (of the paired difference): then the best of the smallest such size.

    Of equals, and where none is defined, the first, which is the simplest.
    """
    candidates = inner_logits(learner, pool, rows, inner_folds=inner_folds, seed=seed)
    best = smallest_within_error([pool.influence(logits, rows) for logits in candidates], learner.sizes, pool.of(rows))
    return best, candidates[best]


def inner_logits(learner: Learner, pool: Pool, rows: Rows, *, inner_folds: int, seed: int) -> list[Floats]:
    """Head logits (len(rows), K) of every candidate, each case by a fit on the other inner folds of ``rows``."""
    patients = [pool.patients[row] for row in rows]
    parts = np.array(make_folds(patients, pool.strata(rows), folds=inner_folds, seed=seed))
    candidates = [np.full((len(rows), pool.labels.num_logits), np.nan) for _ in learner.candidates]
    for part in range(inner_folds):
        inside = parts == part
        for logits, answer in zip(candidates, learner.path(rows[~inside], rows[inside]), strict=True):
            logits[inside] = answer
    return candidates


def smallest_within_error(influences: Sequence[Influence], sizes: Sequence[int], patients: Sequence[str]) -> int:
    """The position of the best AUROC, or of the best among those of the smallest size that is level with it."""
    scores = [-1.0 if influence.value is None else influence.value for influence in influences]
    best = max(range(len(scores)), key=scores.__getitem__)
    for size in sorted({size for size in sizes if size < sizes[best]}):
        rival = max((i for i in range(len(sizes)) if sizes[i] == size), key=scores.__getitem__)
        if scores[best] - scores[rival] <= (influences[best] - influences[rival]).standard_error(patients):
            return rival
    return best


def purpose_seed(seed: int, *purpose: str | int) -> int:
    """A seed of its own for every purpose."""
    text = "|".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "little")


def _part(pool: Pool, rows: Rows, fraction: float, seed: int) -> Rows:
    patients = [pool.patients[row] for row in rows]
    splits = make_splits(patients, pool.strata(rows), fractions=(fraction, 1 - fraction, 0.0), seed=seed)
    return rows[np.array(splits) == "train"]


def _check_outcomes(patients: Sequence[str], targets: Floats, labels: LabelSettings, least: int) -> None:
    problems = [
        f"expected {least} patients or more with {what} outside the test split (one per fold), got {num_patients}; "
        + ("add cases, or leave the column out of labels.columns" if len(labels.columns) > 1 else "add cases of it")
        for what, num_patients in _outcomes(patients, targets, labels).items()
        if num_patients < least
    ]
    if problems:
        raise ManifestError("too few cases for --quick", problems)


def _outcomes(patients: Sequence[str], targets: Floats, labels: LabelSettings) -> dict[str, int]:
    names = np.asarray(patients, dtype=object).astype(str)
    if labels.is_number:
        return {f"a number in {labels.columns[0]}": len(set(names[~np.isnan(targets[:, 0])]))}
    classes = labels.classes or ("0", "1")
    return {
        f"{column} = {name!r}": len(set(names[values == index]))
        for column, values in zip(labels.columns, np.asarray(targets).T, strict=True)
        for index, name in enumerate(classes)
    }
