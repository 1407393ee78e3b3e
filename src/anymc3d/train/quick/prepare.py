"""What a quick run decides before it opens a scan: cases and folds first, so that their faults are known before a
backbone is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from anymc3d.data.case import Case
from anymc3d.data.pseudonyms import Pseudonyms
from anymc3d.errors import ManifestError, UsageError
from anymc3d.evaluate.regression.scale import UNIT
from anymc3d.models.features import check_backbone, representation
from anymc3d.models.plain import PLAIN, is_plain
from anymc3d.models.store import LoadedBackbone, find_backbone
from anymc3d.segmenters.store import with_stored_models
from anymc3d.settings.config import TaskSettings
from anymc3d.train.plain.numbers import voxel_views
from anymc3d.train.quick.crossval import Pool, check_training_parts, make_pool, outcome_patients
from anymc3d.train.quick.embedded import EmbeddedFolder, check_network
from anymc3d.train.quick.findings import Plan
from anymc3d.train.quick.settings import QuickSettings
from anymc3d.train.quick.slices import limit_slices
from anymc3d.train.result import number_scale
from anymc3d.train.study import Study, load_study
from anymc3d.train.task_checks import ALL_FEATURES, chosen_features


def make_plan(
    task: TaskSettings, settings: QuickSettings, pseudonyms: Pseudonyms | None, embedded: EmbeddedFolder | None = None
) -> Plan:
    """Cases and folds first, so that their faults are known before a backbone is loaded."""
    task = replace(task, views=with_stored_models(task.views))
    study = load_study(task, pseudonyms, check_scans=embedded is None)
    rows = sorted(study.indices("train") + study.indices("val"))
    pool = make_checked_pool(task, study, rows, settings)
    if is_plain(task.method):
        return _plain_plan(task, settings, study, rows, pool)
    backbone = find_backbone(task.backbone.name, position_rule=task.backbone.positions)
    if embedded is not None:
        check_network(embedded, backbone, task.backbone.positions)
        return Plan(task, settings, study, rows, pool, backbone, (), (embedded.features,))
    limit = limit_slices(
        task,
        num_cases=len(rows),
        patch_size=backbone.module.patch_size,
        num_parameters=sum(p.numel() for p in backbone.module.parameters()),
        wanted=settings.slices,
    )
    names, notes = _representations(task, [study.manifest.cases[row] for row in rows], backbone)
    return Plan(replace(task, views=limit.views), settings, study, rows, pool, backbone, (*limit.notes, *notes), names)


def _plain_plan(task: TaskSettings, settings: QuickSettings, study: Study, rows: list[int], pool: Pool) -> Plan:
    """Of a plain method, which has no backbone.

    Raises:
        UsageError: a case has no mask, and the method needs one.
    """
    method, notes = PLAIN[task.method.name], []
    if method.needs_mask:
        check_masks(f"method: {task.method.name}", task, [study.manifest.cases[row] for row in rows])
    if method.sees_slices:
        views = voxel_views(task.views)
        for name, view in views.items():
            if view.size != task.views[name].size:
                before = " x ".join("all" if n is None else str(n) for n in task.views[name].size)
                notes.append(f"view {name}: a grid of {' x '.join(map(str, view.size))} instead of {before}")
        task = replace(task, views=views)
    return Plan(task, settings, study, rows, pool, None, tuple(notes))


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
            _check_masks_of(name, task, cases)
            names.append(name)
        except UsageError as error:
            if task.features != ALL_FEATURES:
                raise
            notes.append(str(error))
    return tuple(names), tuple(notes)


def _check_masks_of(name: str, task: TaskSettings, cases: list[Case]) -> None:
    if representation(name).needs_mask:
        check_masks(f"features: {name}", task, cases)


def check_masks(what: str, task: TaskSettings, cases: Sequence[Case]) -> None:
    """Check that every scan of every case has a segmentation.

    Raises:
        UsageError: some have none.
    """
    columns = sorted({view.image for view in task.views.values()})
    without = [case for case in cases if any(column in case.images and not case.mask(column) for column in columns)]
    if without:
        raise UsageError(
            f"{what} needs a segmentation of every scan, and {len(without)} of {len(cases)} cases have none "
            f"(row {without[0].row} is the first); fill the manifest's 'mask' column, or take another"
        )


def make_checked_pool(task: TaskSettings, study: Study, rows: list[int], settings: QuickSettings) -> Pool:
    """The cases in outer folds.

    Raises:
        ManifestError: an outcome has too few patients.
    """
    cases = [study.manifest.cases[row] for row in rows]
    scale = number_scale(task, study) or UNIT
    pool = make_pool(
        cases, scale.standard(study.targets[rows]), task.labels, folds=settings.outer_folds, seed=task.data.split_seed
    )
    check_training_parts(pool, settings.inner_folds)
    _check_train_split(pool, np.array([study.splits[row] == "train" for row in rows]), settings.inner_folds)
    return pool


def _check_train_split(pool: Pool, is_train: np.ndarray, inner_folds: int) -> None:
    patients_with = outcome_patients(pool, np.flatnonzero(is_train))
    problems = [
        f"split 'train': expected {inner_folds} patients or more with {what} (one per inner fold), got {number}"
        for what, number in patients_with.items()
        if number < inner_folds
    ]
    if problems:
        raise ManifestError("too few cases for --quick", problems)
