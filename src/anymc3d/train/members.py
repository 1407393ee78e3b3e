"""``fit_members``: several plugins of one task on different splits, calibrated, joined to one ensemble.

The cases outside the manifest's test split are dealt out by patient to equal parts that keep each label's prevalence.
Member i validates on part i and trains on all others, so that no case is validated twice and the validation logits of
all members together are out-of-fold logits. Supplement D and docs/metrics.md.

Training does not depend on the calibration: with another ``calibration`` the same call fits anew and trains nothing.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from anymc3d.cost.device import choose_device
from anymc3d.data.case import Case
from anymc3d.data.manifest import Manifest, write_manifest
from anymc3d.errors import UsageError
from anymc3d.evaluate.command import read_labels
from anymc3d.evaluate.operating_points import OperatingPoint
from anymc3d.evaluate.outputs import prediction_columns
from anymc3d.evaluate.study import evaluate_rows
from anymc3d.evaluate.study_rows import Row
from anymc3d.evaluate.task_calibration import CHOICES
from anymc3d.files import atomic
from anymc3d.files.folders import claim, locked
from anymc3d.files.private import make_private
from anymc3d.files.tables import read_table, write_table
from anymc3d.plugins import Plugin, load_plugin, plugin_bytes
from anymc3d.plugins.ensemble import make_ensemble, warnings_of
from anymc3d.plugins.evidence import out_of_fold_rows
from anymc3d.plugins.recalibrate import scored_cases
from anymc3d.settings.config import TaskSettings
from anymc3d.train.fit import fit
from anymc3d.train.folds import fold_of_each, read_pool
from anymc3d.train.identity import FORMAT, chosen_format
from anymc3d.train.processes import join
from anymc3d.train.result import validation_rows
from anymc3d.train.run_folder import RunFolder
from anymc3d.train.sister_calibration import calibrate_sisters, pooled_warnings
from anymc3d.train.start import settings_of_run
from anymc3d.train.study import check_studies
from anymc3d.train.task_checks import check_task

logger = logging.getLogger(__name__)

RECORD, MEMBERS, MANIFESTS, CALIBRATED = "members.json", "members", "manifests", "calibrated"
PREDICTIONS, METRICS, CALIBRATION, ENSEMBLE = "oof.csv", "metrics.csv", "calibration.csv", "plugin.safetensors"


@dataclass(frozen=True)
class MemberRuns:
    """What a run leaves: the ensemble, its members as trained, the out-of-fold predictions with their results."""

    ensemble: Path
    plugins: tuple[Path, ...]
    predictions: Path
    metrics: Path
    calibration: Path | None
    """What was fitted on what; None where the task is not calibrated."""
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _Member:
    name: str
    folder: RunFolder
    task: TaskSettings
    splits: tuple[str, ...]
    """``train`` or ``val`` for every case of the pool."""


def fit_members(
    task: TaskSettings, run_dir: Path | str, *, members: int = 10, device: str = "auto", quiet: bool = False
) -> MemberRuns:
    """Train, calibrate and join ``members`` plugins in ``run_dir``. The same call again resumes, or is done.

    The number of parts is that of the manifest's ``fold`` column, else as many as the validation share of
    ``data.fractions`` fits into all cases; with more members than parts, the cases are dealt again with another seed.
    Members already trained are kept when ``members`` or ``calibration`` change.

    Raises:
        AnyMC3DError: as :func:`anymc3d.train.fit.fit`; the faults of all members are found before the first is trained.
    """
    check_task(task)
    if members < 1:
        raise UsageError(f"expected at least 1 member, got {members}")
    out = Path(run_dir)
    where = choose_device(device)
    processes = join(where)
    with ExitStack() as locks:
        processes.on_first(lambda: locks.enter_context(locked(out)))
        manifest, pool, targets = processes.together(lambda: read_pool(task))
        planned = processes.together(lambda: _plan(task, out, pool, targets, members))
        chosen = processes.on_first(lambda: _begin(out, task, manifest, pool, planned, where))
        named = {member.name: member.task for member in planned}
        processes.together(lambda: check_studies(named, "members that cannot be trained"))
        for member in planned:
            logger.info("%s of %d", member.name, members)
            fit(member.task, member.folder.path, device=device, number_format=chosen, quiet=quiet)
        return processes.on_first(lambda: _join(out, task, planned))


def _plan(
    task: TaskSettings, out: Path, pool: Sequence[Case], targets: np.ndarray, members: int
) -> tuple[_Member, ...]:
    parts = _num_parts(task, pool)
    if members > parts and any(case.fold for case in pool):
        raise UsageError(f"--members {members}: the manifest's fold column has {parts}; use at most {parts} members")
    dealt: dict[int, tuple[list[str], list[str]]] = {}
    planned = []
    for number in range(members):
        deal, part = divmod(number, parts)
        if deal not in dealt:
            dealt[deal] = fold_of_each(pool, targets, parts, task.data.split_seed + deal)
        names, of_each = dealt[deal]
        name = f"member_{number:02d}"
        member_task = replace(
            task,
            name=f"{task.name}-{name.replace('_', '-')}",
            data=replace(task.data, manifest=str((out / MANIFESTS / f"{name}.csv").absolute())),
            train=replace(task.train, seed=task.train.seed + number),
            calibration="none",
        )
        splits = tuple("val" if fold == names[part] else "train" for fold in of_each)
        planned.append(_Member(name, RunFolder(out / MEMBERS / name), member_task, splits))
    return tuple(planned)


def _num_parts(task: TaskSettings, pool: Sequence[Case]) -> int:
    folds = {case.fold for case in pool if case.fold}
    if folds:
        return len(folds)
    train, val, test = task.data.fractions
    if test > 0:
        raise UsageError(
            f"data.fractions: expected no test share, got {test:g}: every case outside the manifest's test split "
            "trains some member; name the test cases in a split column, and use for instance [0.9, 0.1, 0.0]"
        )
    return max(2, round((train + val) / val))


def _begin(
    out: Path,
    task: TaskSettings,
    manifest: Manifest,
    pool: Sequence[Case],
    planned: Sequence[_Member],
    device: torch.device,
) -> str:
    """Claim the folder, write one manifest per member, and return the number format of all of them."""
    settings = settings_of_run(replace(task, calibration="none"))
    # Of the weights each member's own record holds the fingerprint, which a path has no say in.
    settings.pop("backbone")
    cases = "\n".join(f"{case.id}|{case.patient}|{case.fold}" for case in pool)
    identity = {"kind": "members", "settings": settings, "cases": hashlib.sha256(cases.encode()).hexdigest()}
    chosen = chosen_format(out / RECORD, task.train.precision, device)
    claim(out / RECORD, identity | {FORMAT: chosen}, "a run of members", later=[FORMAT])
    make_private(out / MANIFESTS)
    make_private(out / MEMBERS)
    for member in planned:
        write_manifest(Path(member.task.data.manifest), manifest, {"split": member.splits}, cases=pool)
    return chosen


def _join(out: Path, task: TaskSettings, planned: Sequence[_Member]) -> MemberRuns:
    """Calibrate every member, write the ensemble, and the out-of-fold predictions with their results."""
    runs = {member.name: member.folder for member in planned}
    choice = CHOICES[task.calibration]
    files = {name: run.plugin for name, run in runs.items()}
    warnings: list[str] = []
    if choice.method is not None:
        files = {name: out / CALIBRATED / f"{name}.safetensors" for name in runs}
        validated = [row for run in _first_deal(runs) for row in read_table(run.predictions)]
        pooled = scored_cases(task.labels, validated, read_labels(Path(task.data.manifest)))
        rows = calibrate_sisters(runs, files, pooled, choice, out / CALIBRATION)
        warnings = pooled_warnings(rows, len(runs))
    members = {name: load_plugin(path) for name, path in files.items()}
    card, tensors = make_ensemble(list(members.values()), name=task.name, sources=list(map(str, files.values())))
    if choice.method != "platt":
        warnings += warnings_of(card)
    card = replace(card, out_of_fold=out_of_fold_rows(_write_pooled(out, task, runs, members)))
    atomic.write_bytes(out / ENSEMBLE, plugin_bytes(card, tensors))
    return MemberRuns(
        ensemble=out / ENSEMBLE,
        plugins=tuple(run.plugin for run in runs.values()),
        predictions=out / PREDICTIONS,
        metrics=out / METRICS,
        calibration=None if choice.method is None else out / CALIBRATION,
        warnings=tuple(dict.fromkeys(warnings)),
    )


def _first_deal(runs: Mapping[str, RunFolder]) -> list[RunFolder]:
    """The members that together validate a case at most once: those before the cases were dealt again."""
    chosen: list[RunFolder] = []
    seen: set[str] = set()
    for run in runs.values():
        cases = {row["case"] for row in read_table(run.predictions)}
        if seen & cases:
            break
        seen |= cases
        chosen.append(run)
    return chosen


def _write_pooled(
    out: Path, task: TaskSettings, runs: Mapping[str, RunFolder], members: Mapping[str, Plugin]
) -> list[Row]:
    """``oof.csv``: every validated case as its calibrated member answers it; and the rows of ``metrics.csv``."""
    names = task.labels.output_names
    rows: list[dict[str, str]] = []
    listed: list[dict[str, str]] = []
    for (name, run), _ in zip(runs.items(), _first_deal(runs), strict=False):
        card, predictions = members[name].card, read_table(run.predictions)
        raw = np.array([[float(row[f"logit.{label}"]) for label in names] for row in predictions])
        points = [OperatingPoint.from_dict(point) for point in card.operating_points]
        answers = validation_rows(task, [row["case"] for row in predictions], raw, points, card.calibration)
        rows += [{**row, "member": name} for row in answers]
        listed += [row for row in read_table(run.manifest) if row["split"] == "val"]
    columns = prediction_columns(names)
    columns.insert(1, "member")
    write_table(out / PREDICTIONS, columns, rows)
    metrics = evaluate_rows(rows, listed, labels=task.labels, plugin=f"{task.name}, members out of fold")
    write_table(out / METRICS, list(metrics[0]), metrics)
    return metrics
