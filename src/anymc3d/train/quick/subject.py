"""What a quick run learns from, once the scans are read: frozen features with heads on them, or the numbers of a plain
method; and how its chosen candidate becomes a plugin.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from anymc3d.cost.progress import Progress
from anymc3d.data.cache import Cache
from anymc3d.data.case_scans import PreparedCase, Segmenters
from anymc3d.data.dataset import prepare_all
from anymc3d.errors import ManifestError
from anymc3d.files import home
from anymc3d.models.frozen_pass import Pass
from anymc3d.models.plain import PLAIN, is_plain
from anymc3d.plugins.own_parts import own_parts_record
from anymc3d.segmenters.build import build_segmenters
from anymc3d.train.fitted_classifier import FittedClassifier, fitted_frozen, fitted_plain
from anymc3d.train.log import write_regions
from anymc3d.train.plain.numbers import measure_cases, plain_learner, voxels_of_cases
from anymc3d.train.quick.crossval import Learner
from anymc3d.train.quick.embedded import EmbeddedCases
from anymc3d.train.quick.features import CaseFeatures, Features, compute_features
from anymc3d.train.quick.findings import Plan
from anymc3d.train.quick.folder import QuickFolder, StageLog
from anymc3d.train.quick.heads import LOSS, HeadLearner, stack_tokens
from anymc3d.train.quick.prepare import make_checked_pool
from anymc3d.train.quick.settings import candidates
from anymc3d.train.quick.trivial import trivial_candidates, trivial_tokens
from anymc3d.train.stopping import StopRequest
from anymc3d.train.study import leave_out

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Subject:
    """``plan``: without the cases that regions leave out; ``fitted``: a candidate on some cases, as a plugin;
    ``trivial``: of plain measurements to compare with, where there are any."""

    plan: Plan
    prepared: list[PreparedCase]
    learner: Learner
    fitted: Callable[[int, np.ndarray], FittedClassifier]
    trivial: Learner | None = None


def read_subject(
    plan: Plan,
    folder: QuickFolder,
    device: torch.device,
    segmenter_paths: Sequence[str | Path],
    stop: StopRequest,
    log: StageLog,
    quiet: bool,
) -> Subject:
    """Read the scans, and compute what is learnt from.

    Raises:
        ManifestError: scans that cannot be used, or nothing to learn from.
        InterruptedRunError: a stop was asked for; what is computed is kept.
    """
    slices = Cache(home.cache_folder())
    segmenters = build_segmenters(plan.task.views.values(), given_paths=segmenter_paths)
    plan, prepared = _read(plan, folder, slices, segmenters, quiet)
    log.stage("scans", cases=len(prepared))
    if is_plain(plan.task.method):
        return _plain(plan, prepared, slices, segmenters, log, quiet)
    plan = _with_structures(plan, prepared)
    features = _features(plan, prepared, device, slices, segmenters, stop, quiet)
    log.stage("features", computed=features.computed, reused=features.reused, device=str(device))
    return _frozen(plan, prepared, features)


def subject_of(plan: Plan, embedded_cases: EmbeddedCases, log: StageLog) -> Subject:
    """What was embedded in place of scans, none of which is opened.

    Raises:
        ManifestError: no case has one of the views.
    """
    features = Features(embedded_cases.features, 0, len(embedded_cases.features))
    _check_views(plan, features)
    log.stage("embeddings", cases=len(plan.rows))
    return _frozen(plan, embedded_cases.prepared, features)


def _read(
    plan: Plan, folder: QuickFolder, slices: Cache, segmenters: Segmenters, quiet: bool
) -> tuple[Plan, list[PreparedCase]]:
    with Progress(total=len(plan.rows), what="reading scans", unit="scan", quiet=quiet) as bar:
        prepared = prepare_all(
            plan.cases,
            plan.task.views,
            slices,
            progress=bar.update,
            segmenters=segmenters,
            with_masks=Pass(features=plan.features).needs_mask,
        )
    return _kept(plan, prepared, folder)


def _kept(plan: Plan, prepared: list[PreparedCase], folder: QuickFolder) -> tuple[Plan, list[PreparedCase]]:
    """Without the cases that their views' regions leave out, as in any training; the folds are dealt anew then."""
    by_row = dict(zip(plan.rows, prepared, strict=True))
    study = leave_out(plan.study, [row for row, case in by_row.items() if case.excluded], plan.task.labels)
    if any(view.roi is not None for view in plan.task.views.values()):
        write_regions(folder, study, by_row)
    rows = [row for row, case in by_row.items() if not case.excluded]
    if len(rows) == len(plan.rows):
        return plan, prepared
    pool = make_checked_pool(plan.task, study, rows, plan.settings)
    return replace(plan, study=study, rows=rows, pool=pool), [by_row[row] for row in rows]


def _plain(
    plan: Plan, prepared: list[PreparedCase], slices: Cache, segmenters: Segmenters, log: StageLog, quiet: bool
) -> Subject:
    task = plan.task
    with Progress(total=len(prepared), what="measuring scans", unit="scan", quiet=quiet) as bar:
        if PLAIN[task.method.name].sees_slices:
            numbers = voxels_of_cases(plan.cases, prepared, task.views, slices, segmenters, progress=bar.update)
        else:
            method, modality = task.method.name, task.data.modality
            numbers = measure_cases(
                plan.cases, task.views, method, modality, cache=slices, prepared=prepared, progress=bar.update
            )
    log.stage("measures", numbers=numbers.values.shape[1])
    learner = plain_learner(numbers, plan.pool.targets, task.labels, plan.pool.patients)
    return Subject(plan, prepared, learner, lambda _, train: fitted_plain(task, learner, numbers, train))


def _features(
    plan: Plan,
    prepared: list[PreparedCase],
    device: torch.device,
    slices: Cache,
    segmenters: Segmenters,
    stop: StopRequest,
    quiet: bool,
) -> Features:
    features = compute_features(
        plan.cases,
        prepared,
        plan.task.views,
        backbone=plan.backbone,
        positions=plan.task.backbone.positions,
        device=device,
        slices=slices,
        chunk_size=plan.task.train.chunk_size,
        stop=stop,
        segmenters=segmenters,
        wanted=Pass(features=plan.features, structures=plan.structures),
        quiet=quiet,
    )
    logger.info("frozen features: %d computed, %d found in the cache", features.computed, features.reused)
    _check_views(plan, features)
    return features


def _check_views(plan: Plan, features: Features) -> None:
    empty = [name for name in plan.task.views if all(case[name] is None for case in features.cases)]
    if empty:
        raise ManifestError("views", [f"view {name!r}: no training or validation case has it" for name in empty])


def _with_structures(plan: Plan, prepared: list[PreparedCase]) -> Plan:
    """The plan with the labels that the masks of its cases hold.

    Raises:
        ManifestError: masks are wanted, and all are empty.
    """
    labels = {label for case in prepared for of_view in case.mask_labels.values() for label in of_view}
    if Pass(features=plan.features).needs_mask and not labels:
        raise ManifestError("masks", ["every mask is empty on the slices of its view; check the masks"])
    return replace(plan, structures=tuple(sorted(labels)))


def _frozen(plan: Plan, prepared: list[PreparedCase], features: Features) -> Subject:
    learner = _learner(plan, features)

    def fitted(chosen: int, train: np.ndarray) -> FittedClassifier:
        candidate = learner.candidates[chosen]
        recipe = {
            "recipe": "quick",
            "loss": LOSS.loss,
            "weight_decay": candidate.decay,
            "chosen_by": f"AUROC in {plan.settings.inner_folds} folds of the training split",
            **own_parts_record(candidate.fusion, plan.task.method),
        }
        return fitted_frozen(
            replace(plan.task, fusion=candidate.fusion, features=candidate.features),
            learner.new_classifier(candidate),
            learner.tokens[candidate.features],
            learner.tensors(train, chosen),
            recipe,
            plan.structures,
        )

    return Subject(plan, prepared, learner, fitted, _trivial_learner(plan, prepared, features.cases))


def _learner(plan: Plan, features: Features) -> HeadLearner:
    views = tuple(plan.task.views)
    tokens = {}
    for name in plan.features:
        rows = [{v: None if f is None else f.tokens(name) for v, f in case.items()} for case in features.cases]
        tokens[name] = stack_tokens(rows, views)
    grid = candidates(plan.task, plan.settings, plan.features)
    return HeadLearner(tokens, plan.pool.targets, plan.task.labels, grid)


def _trivial_learner(plan: Plan, prepared: list[PreparedCase], features: list[CaseFeatures]) -> HeadLearner | None:
    tokens = trivial_tokens(prepared, features, plan.task.views)
    if tokens is None:
        return None
    return HeadLearner(tokens, plan.pool.targets, plan.task.labels, trivial_candidates(plan.settings))
