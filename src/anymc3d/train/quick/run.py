"""``fit_quick``: the first answer in minutes. Frozen features, nested cross-validation, learning curve, a plugin.

The order of work is the order of :func:`fit_quick`. Test rows take no part in anything: their scans are not opened.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from anymc3d.cost.device import choose_device
from anymc3d.cost.progress import Progress
from anymc3d.data.cache import Cache
from anymc3d.data.case import Case
from anymc3d.data.case_scans import PreparedCase
from anymc3d.data.dataset import prepare_all
from anymc3d.data.manifest import write_manifest
from anymc3d.data.pseudonyms import Pseudonyms
from anymc3d.errors import ManifestError, UsageError
from anymc3d.files import home
from anymc3d.files.folders import claim, locked
from anymc3d.models.build import is_baseline
from anymc3d.models.features import check_backbone, representation
from anymc3d.models.frozen_pass import Pass
from anymc3d.models.store import LoadedBackbone, find_backbone
from anymc3d.segmenters.build import build_segmenters, check_programs
from anymc3d.segmenters.store import with_stored_models
from anymc3d.settings.config import MethodSettings, TaskSettings
from anymc3d.settings.task_file import write_task
from anymc3d.train.identity import is_finished
from anymc3d.train.log import write_regions
from anymc3d.train.quick import results
from anymc3d.train.quick.crossval import (
    Learner,
    Nested,
    Pool,
    check_training_parts,
    choose,
    make_pool,
    nested,
    outcome_patients,
    purpose_seed,
)
from anymc3d.train.quick.curve import Curve, make_curve
from anymc3d.train.quick.features import CaseFeatures, Features, compute_features
from anymc3d.train.quick.findings import Findings, Plan
from anymc3d.train.quick.folder import QuickFolder, StageLog, identity, refuse_other_runs
from anymc3d.train.quick.heads import HeadLearner, stack_tokens
from anymc3d.train.quick.settings import QuickSettings, candidates
from anymc3d.train.quick.slices import limit_slices
from anymc3d.train.quick.trivial import trivial_candidates, trivial_tokens
from anymc3d.train.stopping import StopRequest, listening
from anymc3d.train.study import Study, leave_out, load_study, undefined_figures
from anymc3d.train.task_checks import ALL_FEATURES, check_task, chosen_features

logger = logging.getLogger(__name__)


def fit_quick(
    task: TaskSettings,
    run_dir: Path | str,
    *,
    settings: QuickSettings | None = None,
    device: str = "auto",
    segmenters: Sequence[str | Path] = (),
    quiet: bool = False,
    pseudonyms: Pseudonyms | None = None,
) -> Path:
    """Make a frozen plugin and the report on it in ``run_dir``; return the path of ``quick.json``.

    The same call again goes on where it stopped (features are kept), or is done. With ``pseudonyms`` nothing in
    ``run_dir`` tells which cases they were; folds are then dealt by the pseudonyms.

    Raises:
        AnyMC3DError: task, manifest, backbone or folder cannot be used; see ``anymc3d.errors`` for the kinds.
        InterruptedRunError: a stop was asked for; the features so far are kept.
    """
    settings = settings or QuickSettings()
    if is_baseline(task.method):
        raise UsageError(
            f"--quick learns on frozen features of the backbone, and method {task.method.name} has none; leave out "
            "--quick, or set method=anymc3d"
        )
    if task.segmentation.is_on:
        raise UsageError("--quick learns from class tokens, without masks; leave out --quick, or set segmentation=none")
    task = replace(task, method=MethodSettings(name="frozen"), train=replace(task.train, copies=None))
    check_task(task)
    check_programs(task.views.values(), segmenters)
    candidates(task, settings)
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise UsageError("--quick runs in one process; start it without torchrun")
    folder, where = QuickFolder(Path(run_dir)), choose_device(device)
    with locked(folder.path):
        refuse_other_runs(folder)
        plan = _plan(task, settings, pseudonyms)
        claim(folder.record, identity(plan.task, plan.study, plan.backbone, settings), "a --quick run")
        if is_finished(folder.plugin):
            logger.info("%s is finished; nothing to do", folder.path)
            return folder.report
        _begin(folder, plan)
        log = StageLog(folder.log_jsonl)
        with listening() as stop:
            plan, prepared, features = _features(plan, folder, where, segmenters, stop, log, quiet)
        learner = _learner(plan, features)
        findings = _find(plan, learner, _trivial_learner(plan, prepared, features.cases), log, quiet)
        results.write(folder, plan, learner, findings, prepared)
        log.stage("plugin and report")
    return folder.report


def _plan(task: TaskSettings, settings: QuickSettings, pseudonyms: Pseudonyms | None) -> Plan:
    """Cases and folds first, so that their faults are told before a backbone is loaded."""
    task = replace(task, views=with_stored_models(task.views))
    study = load_study(task, pseudonyms)
    rows = sorted(study.indices("train") + study.indices("val"))
    pool = _pool(task, study, rows, settings)
    backbone = find_backbone(task.backbone.name, position_rule=task.backbone.positions)
    limit = limit_slices(
        task,
        num_cases=len(rows),
        patch_size=backbone.module.patch_size,
        num_parameters=sum(p.numel() for p in backbone.module.parameters()),
        wanted=settings.slices,
    )
    names, notes = _representations(task, [study.manifest.cases[row] for row in rows], backbone)
    return Plan(replace(task, views=limit.views), settings, study, rows, pool, backbone, (*limit.notes, *notes), names)


def _representations(
    task: TaskSettings, cases: list[Case], backbone: LoadedBackbone
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The representations that compete, the smallest first, and why some of ``all`` do not.

    Raises:
        UsageError: one that was named is not possible here.
    """
    names, notes = [], []
    for name in chosen_features(task):
        try:
            check_backbone(name, backbone.module)
            _check_masks(name, task, cases)
            names.append(name)
        except UsageError as error:
            if task.features != ALL_FEATURES:
                raise
            notes.append(str(error))
    return tuple(names), tuple(notes)


def _check_masks(name: str, task: TaskSettings, cases: list[Case]) -> None:
    if not representation(name).needs_mask:
        return
    columns = sorted({view.image for view in task.views.values()})
    without = [case for case in cases if any(column in case.images and not case.mask(column) for column in columns)]
    if without:
        raise UsageError(
            f"features: {name} needs a segmentation of every scan, and {len(without)} of {len(cases)} cases have none "
            f"(row {without[0].row} is the first); fill the manifest's 'mask' column, or take other features"
        )


def _begin(folder: QuickFolder, plan: Plan) -> None:
    """Write what is trained on, and tell what cannot be measured and what was limited."""
    write_manifest(folder.manifest, plan.study.shown, {"split": plan.study.splits})
    own = replace(plan.task, data=replace(plan.task.data, manifest=str(folder.manifest)))
    write_task(folder.task, own, complete=True)
    for line in undefined_figures(plan.study, plan.task.labels):
        logger.warning("%s", line)
    for note in plan.notes:
        logger.info("%s; --slices changes it", note)


def _pool(task: TaskSettings, study: Study, rows: list[int], settings: QuickSettings) -> Pool:
    cases = [study.manifest.cases[row] for row in rows]
    pool = make_pool(cases, study.targets[rows], task.labels, folds=settings.outer_folds, seed=task.data.split_seed)
    check_training_parts(pool, settings.inner_folds)
    _check_train_split(pool, np.array([study.splits[row] == "train" for row in rows]), settings.inner_folds)
    return pool


def _kept(plan: Plan, prepared: list[PreparedCase], folder: QuickFolder) -> tuple[Plan, list[PreparedCase]]:
    """Without the cases that their views' regions leave out, as in any training; the folds are dealt anew then."""
    by_row = dict(zip(plan.rows, prepared, strict=True))
    study = leave_out(plan.study, [row for row, case in by_row.items() if case.excluded], plan.task.labels)
    if any(view.roi is not None for view in plan.task.views.values()):
        write_regions(folder, study, by_row)
    rows = [row for row, case in by_row.items() if not case.excluded]
    if len(rows) == len(plan.rows):
        return plan, prepared
    pool = _pool(plan.task, study, rows, plan.settings)
    return replace(plan, study=study, rows=rows, pool=pool), [by_row[row] for row in rows]


def _check_train_split(pool: Pool, is_train: np.ndarray, inner_folds: int) -> None:
    found = outcome_patients(pool, np.flatnonzero(is_train))
    problems = [
        f"split 'train': expected {inner_folds} patients or more with {what} (one per inner fold), got {number}"
        for what, number in found.items()
        if number < inner_folds
    ]
    if problems:
        raise ManifestError("too few cases for --quick", problems)


def _features(
    plan: Plan,
    folder: QuickFolder,
    device: torch.device,
    given: Sequence[str | Path],
    stop: StopRequest,
    log: StageLog,
    quiet: bool,
) -> tuple[Plan, list[PreparedCase], Features]:
    slices = Cache(home.cache_folder())
    segmenters = build_segmenters(plan.task.views.values(), given=given)
    with Progress(total=len(plan.rows), what="reading scans", unit="scan", quiet=quiet) as bar:
        prepared = prepare_all(
            plan.cases,
            plan.task.views,
            slices,
            progress=bar.update,
            segmenters=segmenters,
            with_masks=Pass(features=plan.features).needs_mask,
        )
    plan, prepared = _kept(plan, prepared, folder)
    plan = _with_structures(plan, prepared)
    log.stage("scans", cases=len(prepared))
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
    log.stage("features", computed=features.computed, reused=features.reused, device=str(device))
    logger.info("frozen features: %d computed, %d found in the cache", features.computed, features.reused)
    _check_views(plan, features)
    return plan, prepared, features


def _check_views(plan: Plan, features: Features) -> None:
    empty = [name for name in plan.task.views if all(case[name] is None for case in features.cases)]
    if empty:
        raise ManifestError("views", [f"view {name!r}: no training or validation case has it" for name in empty])


def _with_structures(plan: Plan, prepared: list[PreparedCase]) -> Plan:
    """The plan with the labels that the masks of its cases hold.

    Raises:
        ManifestError: masks are wanted, and all are empty.
    """
    labels = {label for case in prepared for found in case.mask_labels.values() for label in found}
    if Pass(features=plan.features).needs_mask and not labels:
        raise ManifestError("masks", ["every mask is empty on the slices of its view; check the masks"])
    return replace(plan, structures=tuple(sorted(labels)))


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


def _find(plan: Plan, learner: HeadLearner, trivial: HeadLearner | None, log: StageLog, quiet: bool) -> Findings:
    settings, seed = plan.settings, plan.task.data.split_seed
    runs = 1 + (trivial is not None) + len(settings.fractions) * settings.repeats
    with Progress(total=runs * len(plan.pool.fold_names), what="cross-validation", unit="fold", quiet=quiet) as bar:

        def run(of: Learner, fraction: float = 1.0, draw: int = 0) -> Nested | str:
            return nested(
                of,
                plan.pool,
                inner_folds=settings.inner_folds,
                seed=seed,
                fraction=fraction,
                draw=draw,
                progress=bar.update,
            )

        whole = run(learner)
        plain = None if trivial is None else run(trivial)
        log.stage("nested cross-validation", candidates=len(learner.candidates))
        parts = {f: [run(learner, f, draw) for draw in range(settings.repeats)] for f in settings.fractions}
    if isinstance(whole, str) or isinstance(plain, str):
        raise ManifestError("folds that --quick cannot use", [str(whole)])
    curve = _curve(plan, whole, parts)
    train = plan.of_split("train")
    chosen = choose(learner, plan.pool, train, inner_folds=settings.inner_folds, seed=purpose_seed(seed, "plugin"))
    log.stage("learning curve", repeats=settings.repeats)
    return Findings(whole, curve, plain, chosen)


def _curve(plan: Plan, whole: Nested, parts: dict[float, list[Nested | str]]) -> Curve:
    fits: dict[float, list[np.ndarray] | str] = {1.0: [whole.logits]}
    sizes = {1.0: float(np.mean(whole.num_train))}
    for fraction, found in parts.items():
        reasons = [one for one in found if isinstance(one, str)]
        there = [one for one in found if isinstance(one, Nested)]
        fits[fraction] = reasons[0] if reasons else [one.logits for one in there]
        sizes[fraction] = (
            fraction * sizes[1.0] if reasons else float(np.mean([number for one in there for number in one.num_train]))
        )
    return make_curve(plan.pool, fits, sizes, resamples=plan.settings.resamples, seed=plan.task.data.split_seed)
