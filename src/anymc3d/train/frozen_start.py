"""What training starts from besides random values: the scale of the frozen embeddings, and the solution on them.

The class tokens of the training cases are computed once by the frozen backbone (and kept, see
``anymc3d.train.quick.features``). Their mean and spread are the scale that query and head are trained on. With ``start:
frozen`` query and head are fitted on them to the end, as ``train --quick`` does it; LoRA's B is 0, so the classifier
answers as that solution does until the first step. Nothing here sees a validation or test case.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anymc3d.errors import ManifestError
from anymc3d.evaluate.regression.scale import scale_of
from anymc3d.models.classifier import VolumeClassifier
from anymc3d.models.standardisation import Scale, in_standard_units
from anymc3d.models.store import LoadedBackbone
from anymc3d.settings.config import LabelSettings, TaskSettings
from anymc3d.train.checkpoint import TrainingState
from anymc3d.train.loop_parts import Parts
from anymc3d.train.quick.crossval import Pool, choose, purpose_seed
from anymc3d.train.quick.features import CaseFeatures, class_tokens, compute_features
from anymc3d.train.quick.heads import HeadLearner, Tokens, measure_scale, stack_tokens
from anymc3d.train.quick.settings import Candidate, QuickSettings
from anymc3d.train.run import Run
from anymc3d.train.scans import Scans
from anymc3d.train.start import Start
from anymc3d.train.stopping import listening

logger = logging.getLogger(__name__)

POOLS: Mapping[str, Callable[..., np.ndarray]] = {"max": np.max, "median": np.median}
"""How the slices of a case are pooled beforehand where the tokens are too many; other fusions by the mean."""
USUAL_SLICES = 128
"""Slices of a scan where the task file does not say how many."""
MOST_NUMBERS = 250_000_000
"""Numbers of all class tokens (1 GB) up to which a query is fitted; beyond it slices are pooled case by case."""


@dataclass(frozen=True)
class FrozenStart:
    """``scale`` of the training cases' frozen embeddings; ``tensors`` of query and head in raw units, by plugin-file
    name (none where they start from random values); ``record``: how they were found, for the plugin's card."""

    scale: Scale
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)

    def enter(self, classifier: VolumeClassifier) -> None:
        """Train ``classifier`` on this scale from now on, from these tensors; others keep their initial values."""
        if self.tensors:
            tensors = classifier.tensors()
            with torch.no_grad():
                for name, tensor in in_standard_units(self.tensors, self.scale, classifier.fusion_name).items():
                    tensors[name].copy_(tensor)
        classifier.scale = self.scale.to(next(classifier.parameters()).device)


def begin_frozen(task: TaskSettings, scans: Scans, start: Start, parts: Parts, run: Run, state: TrainingState) -> None:
    """Put what is found on frozen features into the classifier, where the task asks for it; the state notes how.

    Raises: as :func:`find_frozen_start`.
    """
    if start.backbone is None or not task.train.standardise:
        return
    started = time.monotonic()
    frozen_start = find_frozen_start(task, scans, start.backbone, run)
    frozen_start.enter(parts.classifier)
    state.start, state.seconds = dict(frozen_start.record), time.monotonic() - started


def find_frozen_start(task: TaskSettings, scans: Scans, backbone: LoadedBackbone, run: Run) -> FrozenStart:
    """Frozen features of the training cases and what is solved on them; the same in all processes.

    Raises:
        InterruptedRunError: a stop was asked for; the features so far are kept.
        ManifestError: no training case has one of the views.
        RunFolderError: the feature cache cannot be used.
    """
    chosen = scans.study.indices("train")
    cases, prepared = [scans.study.manifest.cases[i] for i in chosen], scans.of_split("train")

    def features(rows: Sequence[int], *, pooled: bool) -> list[CaseFeatures]:
        with listening() as stop:
            return compute_features(
                [cases[row] for row in rows],
                [prepared[row] for row in rows],
                task.views,
                backbone=backbone,
                positions=task.backbone.positions,
                device=run.device,
                slices=scans.cache,
                chunk_size=task.train.chunk_size,
                stop=stop,
                segmenters=scans.segmenters,
                quiet=bool(run.hides_bars),
                keep=partial(_pooled, POOLS.get(task.fusion, np.mean)) if pooled else lambda whole: whole,
            ).cases

    rows, processes = range(len(cases)), run.processes
    if processes.world_size > 1:  # each computes its share into the cache, from which the first takes all
        processes.together(lambda: features(rows[processes.rank :: processes.world_size], pooled=True))
    is_solved = task.train.start == "frozen"
    pooled = not is_solved or _num_numbers(task, len(rows), backbone.module.embed_dim) > MOST_NUMBERS

    def find() -> FrozenStart:
        tokens_of_cases = class_tokens(features(rows, pooled=pooled))
        _check_views(task, tokens_of_cases)
        tokens = stack_tokens(tokens_of_cases, tuple(task.views))
        if not is_solved:
            return FrozenStart(measure_scale(tokens))
        patients, targets = [case.patient for case in cases], scans.study.targets[chosen]
        options = {"seed": task.data.split_seed, "with_query": not pooled}
        return solve(tokens, targets, patients, task.labels, task.fusion, **options)

    return processes.on_first(find)


def solve(
    tokens: Tokens,
    targets: np.ndarray,
    patients: Sequence[str],
    labels: LabelSettings,
    fusion: str,
    *,
    seed: int,
    with_query: bool = True,
) -> FrozenStart:
    """Scale, and query and head fitted to the end, their decay chosen by AUROC in inner folds of the same cases.

    Args:
        tokens: class tokens of the training cases.
        targets: (n, L), NaN where missing.
        patients: (n,) of the cases; folds are dealt by them.
        labels: what the targets mean.
        fusion: ``query`` (of which the mean over slices is the query 0), ``mean``, ``max`` or ``median``.
        seed: of the folds.
        with_query: whether another query than 0 is tried.
    """
    settings = QuickSettings()
    if labels.is_number:
        targets = scale_of(targets).standard(targets)
    fusions = ("mean", *(["query"] if with_query else [])) if fusion == "query" else (fusion,)
    grid = [Candidate(name, decay) for name in fusions for decay in settings.decays]
    learner = HeadLearner(tokens, targets, labels, grid)
    rows = np.arange(len(tokens))
    folds = min(settings.inner_folds, len(set(patients)))
    pool = Pool(tuple(patients), targets, labels, np.zeros(len(rows), dtype=np.intp), ("all",))
    chosen = choose(learner, pool, rows, inner_folds=folds, seed=purpose_seed(seed, "plugin")) if folds > 1 else 0
    tensors = learner.tensors(rows, chosen)
    if fusion == "query" and grid[chosen].fusion == "mean":
        zero = torch.zeros(tokens.width)
        names = ["task_query"] if len(tokens.views) == 1 else [f"query.{view}" for view in tokens.views]
        tensors |= {name: zero.clone() for name in names}
    record = {
        "fusion": grid[chosen].fusion,
        "weight_decay": grid[chosen].decay,
        "chosen_by": f"{pool.metric} in {folds} folds",
    }
    logger.info("start: %s over slices, head with weight decay %g, on frozen features", *list(record.values())[:2])
    return FrozenStart(measure_scale(tokens), tensors, record)


def _check_views(task: TaskSettings, cases: Sequence[Mapping[str, np.ndarray | None]]) -> None:
    empty = [name for name in task.views if all(case[name] is None for case in cases)]
    if empty:
        raise ManifestError("views", [f"view {name!r}: no training case has it" for name in empty])


def _pooled(pool: Callable[..., np.ndarray], case: CaseFeatures) -> CaseFeatures:
    """A case with one token a view."""
    return {
        view: None
        if features is None
        else replace(features, parts={name: pool(part, axis=0, keepdims=True) for name, part in features.parts.items()})
        for view, features in case.items()
    }


def _num_numbers(task: TaskSettings, num_cases: int, width: int) -> int:
    slices = sum(view.size[2] or USUAL_SLICES for view in task.views.values())
    return num_cases * slices * width
