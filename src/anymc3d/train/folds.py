"""``fit_folds``: k-fold cross-validation, repeated if asked for, with one honest prediction per case.

In each fold the held-out cases take no part in anything: the epoch and the operating points are chosen on a
validation part of the other cases. Cases whose manifest row says ``test`` are in no fold.

Where the task is calibrated and a label is rare in some fold's validation part, the plugins are written once more,
calibrated with the pooled held-out cases of all folds. Those are for an ensemble; the out-of-fold results are of the
first ones, which know nothing of what they held out.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from anymc3d.cost.device import choose_device
from anymc3d.data.case import Case
from anymc3d.data.labels import encode, natural_order, strata
from anymc3d.data.manifest import Manifest, read_manifest, write_manifest
from anymc3d.data.patients import patients_of
from anymc3d.data.splits import check_no_leak, make_folds, make_splits
from anymc3d.errors import ManifestError, UsageError
from anymc3d.evaluate import outputs
from anymc3d.evaluate.study import evaluate_rows
from anymc3d.evaluate.study_cases import MAX_GROUP_VALUES, StudySettings
from anymc3d.evaluate.task_calibration import CHOICES
from anymc3d.files.folders import claim, locked
from anymc3d.files.private import make_private
from anymc3d.files.tables import write_table
from anymc3d.plugins import load_plugin
from anymc3d.plugins.recalibrate import read_pooled
from anymc3d.predict.cohort import predict_cohort
from anymc3d.predict.predictor import Predictor
from anymc3d.segmenters.build import check_programs
from anymc3d.settings.config import TaskSettings
from anymc3d.train.callbacks import Callback
from anymc3d.train.fit import fit
from anymc3d.train.identity import FORMAT, chosen_format
from anymc3d.train.processes import Processes, join
from anymc3d.train.run_folder import RunFolder
from anymc3d.train.sister_calibration import any_rare, calibrate_sisters, pooled_warnings
from anymc3d.train.start import settings_of_run
from anymc3d.train.study import check_studies
from anymc3d.train.task_checks import check_task

logger = logging.getLogger(__name__)

PREDICTIONS, METRICS, RECORD, MANIFESTS, HELD_OUT = "oof.csv", "metrics.csv", "folds.json", "folds", "out_of_fold"
POOLED, CALIBRATION = "pooled", "calibration.csv"


@dataclass(frozen=True)
class FoldRuns:
    """What a run leaves: the plugin of every fold, the out-of-fold predictions and their metrics."""

    plugins: tuple[Path, ...]
    predictions: Path
    metrics: Path
    pooled: tuple[Path, ...] = ()
    """The same plugins, rare labels calibrated on the pooled held-out cases; empty where no label is rare."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fold:
    """One training run of a cross-validation. ``name``: as the manifest names the fold, or its number."""

    repeat: int
    number: int
    name: str
    folder: Path
    task: TaskSettings
    held_out: tuple[Case, ...]
    splits: tuple[str, ...]
    """The split of every case of the pool; the held-out ones are ``test``."""


def fit_folds(
    task: TaskSettings,
    run_dir: Path | str,
    *,
    folds: int = 5,
    repeats: int = 1,
    device: str = "auto",
    segmenters: Sequence[str | Path] = (),
    quiet: bool = False,
    callbacks: Sequence[Callback | str] = (),
) -> FoldRuns:
    """Train ``folds`` plugins in ``run_dir/fold_0`` … (repeated: ``repeat_0/fold_0`` …) and predict every case once.

    Folds are those of the manifest's ``fold`` column where it has one, otherwise patients dealt out, stratified on
    the labels. A repeat takes another seed, and other folds unless the manifest names them. The same call resumes.
    ``callbacks``: as those of :func:`anymc3d.train.fit.fit`, of every fold's run.

    Raises:
        AnyMC3DError: as :func:`anymc3d.train.fit.fit`; the faults of all folds are found before the first is trained.
    """
    check_task(task)
    check_programs(task.views.values(), segmenters)
    if folds < 2 or repeats < 1:
        raise UsageError(f"expected at least 2 folds and 1 repeat, got {folds} and {repeats}")
    out = Path(run_dir)
    where = choose_device(device)
    processes = join(where)
    with ExitStack() as locks:
        processes.on_first(lambda: locks.enter_context(locked(out)))
        manifest, pool, targets = processes.together(lambda: read_pool(task))
        planned = processes.together(lambda: list(_plan(task, out, pool, targets, folds, repeats)))
        chosen = processes.on_first(lambda: _begin(out, task, manifest, pool, planned, folds, repeats, where))
        named = {f"repeat {fold.repeat}, fold {fold.name}": fold.task for fold in planned}
        processes.together(lambda: check_studies(named, "folds that cannot be trained"))
        rows = []
        for fold in planned:
            logger.info("repeat %d, fold %s: %d cases held out", fold.repeat, fold.name, len(fold.held_out))
            options = {"device": device, "segmenters": segmenters, "quiet": quiet, "callbacks": callbacks}
            plugin = fit(fold.task, fold.folder, number_format=chosen, **options)
            rows += _predict(fold, plugin, device, segmenters, processes, quiet)
        processes.on_first(lambda: _write_results(out, task, pool, planned, rows, repeats))
        pooled, warnings = processes.on_first(lambda: _calibrate_rare(out, task, planned, repeats))
    plugins = tuple(RunFolder(fold.folder).plugin for fold in planned)
    return FoldRuns(plugins, out / PREDICTIONS, out / METRICS, pooled, warnings)


def read_pool(task: TaskSettings) -> tuple[Manifest, list[Case], np.ndarray]:
    """The manifest, and the labelled cases outside its test split with their targets (n, L)."""
    manifest = read_manifest(task.data.manifest, labels=task.labels.columns)
    cases = [case for case in manifest.cases if case.split != "test"]
    targets = encode(cases, task.labels) if cases else np.zeros((0, len(task.labels.columns)))
    known = ~np.isnan(targets).all(axis=1)
    pool = [case for case, is_known in zip(cases, known, strict=True) if is_known]
    if not pool:
        raise ManifestError(str(manifest.path), ["expected cases with labels outside the test split, got none"])
    return manifest, pool, targets[known]


def _plan(
    task: TaskSettings, out: Path, pool: Sequence[Case], targets: np.ndarray, folds: int, repeats: int
) -> Iterator[Fold]:
    patients = patients_of(pool)
    train, val, _ = task.data.fractions
    fractions = (train / (train + val), val / (train + val), 0.0)
    for repeat in range(repeats):
        names, members = fold_of_each(pool, strata(targets, task.labels), folds, task.data.split_seed + repeat)
        for number, name in enumerate(names):
            inside = np.array([member == name for member in members])
            rest = np.flatnonzero(~inside)
            dealt = make_splits(
                [patients[i] for i in rest],
                strata(targets[rest], task.labels),
                fractions=fractions,
                seed=task.data.split_seed + repeat,
            )
            splits = np.full(len(pool), "test", dtype=object)
            splits[rest] = dealt
            within = f"repeat_{repeat}/fold_{number}" if repeats > 1 else f"fold_{number}"
            data = replace(task.data, manifest=str((out / MANIFESTS / f"{within.replace('/', '_')}.csv").absolute()))
            fold_task = replace(
                task,
                name=f"{task.name}-{within.replace('/', '-')}",
                data=data,
                train=replace(task.train, seed=task.train.seed + repeat),
            )
            held_out = tuple(case for case, is_inside in zip(pool, inside, strict=True) if is_inside)
            yield Fold(repeat, number, name, out / within, fold_task, held_out, tuple(splits))


def fold_of_each(pool: Sequence[Case], targets: np.ndarray, folds: int, seed: int) -> tuple[list[str], list[str]]:
    """The names of the folds, and the fold of each case: the manifest's own, else dealt by patient and label.

    Raises:
        ManifestError, UsageError: the ``fold`` column has gaps or another number of folds, or splits a patient.
    """
    patients = patients_of(pool)
    named_folds = [case.fold for case in pool if case.fold]
    if not named_folds:
        numbers = make_folds(patients, targets, folds=folds, seed=seed)
        return [str(number) for number in range(folds)], [str(number) for number in numbers]
    problems = [f"row {case.row}: fold is empty, other rows have one" for case in pool if not case.fold]
    if problems:
        raise ManifestError("folds", problems)
    check_no_leak(patients, named_folds)
    names = natural_order(set(named_folds))
    if len(names) != folds:
        raise UsageError(
            f"--folds {folds}: the manifest's fold column has {len(names)} ({', '.join(names[:12])}); "
            f"use --folds {len(names)}, or take the column out"
        )
    return names, named_folds


def _begin(
    out: Path,
    task: TaskSettings,
    manifest: Manifest,
    pool: Sequence[Case],
    planned: Sequence[Fold],
    folds: int,
    repeats: int,
    device: torch.device,
) -> str:
    """Claim the folder, write one manifest per fold, and return the number format of all of them."""
    cases = "\n".join(f"{case.id}|{case.patient}|{[fold.splits[i] for fold in planned]}" for i, case in enumerate(pool))
    settings = settings_of_run(task)
    identity = {
        "kind": "folds",
        "settings": settings,
        "folds": folds,
        "repeats": repeats,
        "cases": hashlib.sha256(cases.encode()).hexdigest(),
    }
    chosen = chosen_format(out / RECORD, task.train.precision, device)
    claim(out / RECORD, identity | {FORMAT: chosen}, "a cross-validation", later=[FORMAT])
    make_private(out / MANIFESTS)
    for fold in planned:
        write_manifest(Path(fold.task.data.manifest), manifest, {"split": fold.splits}, cases=pool)
    return chosen


def _predict(
    fold: Fold, plugin: Path, device: str, segmenters: Sequence[str | Path], processes: Processes, quiet: bool
) -> list[Mapping[str, str]]:
    """The held-out cases as rows of predictions, with ``plugin`` naming the repeat."""

    def held_out_rows() -> list[Mapping[str, str]]:
        trained = load_plugin(plugin)
        backbone = None if trained.card.holds_network else fold.task.backbone.name
        predictor = Predictor([trained], backbone=backbone, device=device, segmenters=segmenters)
        rows = predict_cohort(predictor, fold.held_out, fold.folder / HELD_OUT, quiet=quiet).rows
        return [{**row, "plugin": f"repeat_{fold.repeat}", "fold": fold.name} for row in rows]

    return processes.on_first(held_out_rows)


def _write_results(
    out: Path,
    task: TaskSettings,
    pool: Sequence[Case],
    planned: Sequence[Fold],
    rows: Sequence[Mapping[str, str]],
    repeats: int,
) -> None:
    """``oof.csv`` in the order of the manifest, repeat by repeat, and ``metrics.csv`` over it and per fold."""
    place = {case.id: index for index, case in enumerate(pool)}
    rows = sorted(rows, key=lambda row: (int(row["plugin"].rpartition("_")[2]), place[row["case"]]))
    columns = outputs.columns_of(task.labels, with_plugin=repeats > 1, with_covariates=bool(task.covariates))
    columns.insert(1 + (repeats > 1), "fold")
    listed = [{name: row[name] for name in columns if name in row} for row in rows]
    write_table(out / PREDICTIONS, columns, listed)
    of_case = {case.id: fold.name for fold in planned if fold.repeat == 0 for case in fold.held_out}
    cells = [{**case.cells, "case": case.id, "patient": case.patient, "fold": of_case[case.id]} for case in pool]
    per_fold = ("fold",) if repeats == 1 and len(set(of_case.values())) <= MAX_GROUP_VALUES else ()
    complete = [{name: row.get(name, "") for name in columns} for row in listed]
    metrics = evaluate_rows(
        complete, cells, labels=task.labels, plugin=task.name, settings=StudySettings(groups=per_fold)
    )
    write_table(out / METRICS, list(metrics[0]), metrics)


def _calibrate_rare(
    out: Path, task: TaskSettings, planned: Sequence[Fold], repeats: int
) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Write ``out/pooled`` and ``out/calibration.csv`` where a label has too few validation cases in some fold."""
    choice = CHOICES[task.calibration]
    if choice.method is None:
        return (), ()
    paths: list[Path] = []
    warnings: list[str] = []
    for repeat in range(repeats):
        runs = {str(fold.folder.relative_to(out)): RunFolder(fold.folder) for fold in planned if fold.repeat == repeat}
        pooled = read_pooled(task.labels, out / PREDICTIONS, Path(task.data.manifest), repeat=f"repeat_{repeat}")
        if any_rare(list(runs.values()), pooled):
            folder = out / POOLED / (f"repeat_{repeat}" if repeats > 1 else "")
            files = {name: folder / f"{Path(name).name}.safetensors" for name in runs}
            rows = calibrate_sisters(runs, files, pooled, choice, folder / CALIBRATION)
            paths += files.values()
            warnings += pooled_warnings(rows, len(runs))
    return tuple(paths), tuple(dict.fromkeys(warnings))
