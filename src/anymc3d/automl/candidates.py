"""A candidate: numbers of every case, a linear head fitted on them in closed form, and what it is as a plugin."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from anymc3d.automl.sights import Sight, planes_of, size_of
from anymc3d.data.case_scans import PreparedCase
from anymc3d.models.features import representation
from anymc3d.models.fusion import CONCAT
from anymc3d.models.plain import PLAIN
from anymc3d.models.store import LoadedBackbone
from anymc3d.settings.config import TaskSettings
from anymc3d.settings.training import MethodSettings
from anymc3d.train.fitted_classifier import FittedClassifier, fitted_frozen, fitted_plain, head_tensors
from anymc3d.train.plain.numbers import PlainNumbers, plain_learner
from anymc3d.train.quick.crossval import Pool
from anymc3d.train.quick.features import CaseFeatures
from anymc3d.train.quick.heads import HeadLearner, Tokens, embed, stack_tokens
from anymc3d.train.quick.settings import Candidate as Head
from anymc3d.train.ridge.learner import RidgeLearner

Rows = NDArray[np.intp]
Floats = NDArray[np.float64]

Fusions = Callable[[str, int], tuple[str, ...]]
"""Representation and number of views -> poolings."""

SIMPLEST = ("scan-statistics", "foreground", "mask-size", "mask-measures", "voxels")
"""Plain methods from few numbers to many."""


@dataclass(eq=False)
class Candidate:
    """One row of the leaderboard that is fitted in closed form.

    ``kind``: ``plain`` or ``frozen``; ``fitted``: on some cases of the pool, as a plugin; ``prepared``: what is known
    of the pool's scans as it sees them; ``seconds``: of its numbers and its fits.
    """

    name: str
    kind: str
    task: TaskSettings
    views: str
    size: str
    learner: RidgeLearner
    fitted: Callable[[Rows], FittedClassifier]
    prepared: Sequence[PreparedCase]
    backbone: LoadedBackbone | None
    seconds: float

    @property
    def numbers(self) -> int:
        """How many of each case it looks at: of two that are level the smaller is taken."""
        return self.learner.numbers.shape[1]

    @property
    def family(self) -> str:
        """What it looks at: itself for a plain method, the sight for a frozen one."""
        return self.name if self.kind == "plain" else self.name.partition("; ")[2]

    @property
    def trained_parameters(self) -> int:
        """Weights and biases of its head."""
        labels = self.task.labels
        rows = 1 if labels.head == "ordinal" else labels.num_logits
        return rows * self.numbers + labels.num_logits

    def answers(self, train: Rows, ask: Rows) -> Floats:
        """Logits (len(ask), K) of the fit on ``train``."""
        return self.learner.path(train, ask)[0]


def plain_candidate(
    method: str, task: TaskSettings, numbers: PlainNumbers, pool: Pool, prepared: Sequence[PreparedCase], seconds: float
) -> Candidate:
    """Of a plain method whose numbers are there; ``task``: with the views it sees."""
    task = replace(task, method=MethodSettings(name=method), fusion="mean", features="class")
    learner = plain_learner(numbers, pool.targets, task.labels, pool.patients)
    sees = PLAIN[method].sees_slices
    return Candidate(
        name=method,
        kind="plain",
        task=task,
        views=planes_of(task.views) if sees else "scan and mask" if PLAIN[method].needs_mask else "scan",
        size=size_of(task.views) if sees else "as stored",
        learner=learner,
        fitted=lambda train: fitted_plain(task, learner, numbers, train),
        prepared=prepared,
        backbone=None,
        seconds=seconds,
    )


def frozen_candidates(
    sight: Sight,
    features: Sequence[CaseFeatures],
    names: Sequence[str],
    structures: tuple[int, ...],
    pool: Pool,
    prepared: Sequence[PreparedCase],
    backbone: LoadedBackbone,
    seconds: float,
    *,
    fusions: Fusions | None = None,
) -> Iterator[Candidate]:
    """Every representation of a sight with every pooling that it has; ``fusions``: in place of :func:`fusions_of`."""
    for name in names:
        rows = [{v: None if f is None else f.tokens(name) for v, f in case.items()} for case in features]
        tokens = stack_tokens(rows, tuple(sight.views))
        for fusion in (fusions or fusions_of)(name, len(sight.views)):
            yield _frozen(sight, name, fusion, tokens, structures, pool, prepared, backbone, seconds)


def fusions_of(features: str, num_views: int) -> tuple[str, ...]:
    """How slices and views are pooled: slices by their mean, views side by side; of the class token also all by their
    mean, and by their maximum."""
    if representation(features).of_scan:
        return (CONCAT,)
    joining = (CONCAT,) if num_views > 1 else ()
    return (*joining, "mean", "max") if features == "class" else joining or ("mean",)


def _frozen(
    sight: Sight,
    features: str,
    fusion: str,
    tokens: Tokens,
    structures: tuple[int, ...],
    pool: Pool,
    prepared: Sequence[PreparedCase],
    backbone: LoadedBackbone,
    seconds: float,
) -> Candidate:
    task = replace(sight.task, method=MethodSettings(name="frozen"), fusion=fusion, features=features)
    shape = HeadLearner(tokens, pool.targets, task.labels, [Head(fusion, 1.0, features)])
    numbers = _pooled(shape, tokens)
    learner = RidgeLearner(numbers, pool.targets, task.labels, pool.patients)

    def fitted(train: Rows) -> FittedClassifier:
        recipe = {
            "recipe": "closed form",
            "penalty": learner.penalty(train),
            "chosen_by": "cross-entropy without a patient",
        }
        head = learner.head(train)
        classifier = shape.new_classifier(shape.candidates[0])
        solved = head_tensors(head, raw=True) | _centers(fusion, tokens, head.center)
        tensors = classifier.tensors() | solved  # the queries at 0, which weighs all views alike
        with_structures = structures if representation(features).needs_mask else ()
        return fitted_frozen(task, classifier, tokens, tensors, recipe, with_structures)

    return Candidate(
        name=f"{features}, {fusion}; {sight.name}",
        kind="frozen",
        task=task,
        views=planes_of(sight.views),
        size=size_of(sight.views),
        learner=learner,
        fitted=fitted,
        prepared=prepared,
        backbone=backbone,
        seconds=seconds,
    )


def _pooled(shape: HeadLearner, tokens: Tokens) -> NDArray[np.float32]:
    """What the head sees of each case; NaN of a view that it lacks where views stand side by side."""
    head = shape.candidates[0]
    with torch.inference_mode():
        numbers = embed(shape.new_classifier(head), tokens).numpy().astype(np.float32)
    if head.fusion == CONCAT:
        for place, (_, mask) in zip(_places(tokens), tokens.views.values(), strict=True):
            numbers[~mask.any(dim=1).numpy(), place] = np.nan
    return numbers


def _centers(fusion: str, tokens: Tokens, center: Floats) -> dict[str, torch.Tensor]:
    """What stands for a view that a case lacks: the mean of the training cases, which adds nothing to any logit."""
    if fusion != CONCAT or len(tokens.views) == 1:
        return {}
    places = zip(tokens.views, _places(tokens), strict=True)
    return {f"fusion.{view}.center": torch.from_numpy(center[place]) for view, place in places}


def _places(tokens: Tokens) -> Iterator[slice]:
    start = 0
    for width in tokens.widths.values():
        yield slice(start, start + width)
        start += width


def simplest_first(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Plain methods before frozen ones, each from few numbers to many: of equals the first is taken."""
    return sorted(candidates, key=lambda one: (one.kind != "plain", one.numbers))
