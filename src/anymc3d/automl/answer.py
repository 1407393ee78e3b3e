"""From a chosen blend to files: members as plugins, one ensemble with its calibration, tables of the out-of-fold cases.

Everything is fitted on out-of-fold logits of cases outside the test split. The nested estimate is that of the choice;
the calibration is of the deployed blend.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymc3d.automl.candidates import Candidate
from anymc3d.automl.clinical import ClinicalMember
from anymc3d.automl.data import AutoData
from anymc3d.automl.folder import AutoFolder
from anymc3d.evaluate import outputs
from anymc3d.evaluate.operating_points import OperatingPoint
from anymc3d.evaluate.study import evaluate_rows
from anymc3d.files.tables import write_table
from anymc3d.plugins import Plugin, load_plugin, save_plugin
from anymc3d.plugins.ensemble import make_ensemble
from anymc3d.plugins.evidence import OUT_OF_FOLD, doubts_of, out_of_fold_rows
from anymc3d.settings.config import TaskSettings
from anymc3d.train.covariates.record import Answers
from anymc3d.train.quick.covariates import report_of
from anymc3d.train.quick.crossval import Pool
from anymc3d.train.quick.results import at_half
from anymc3d.train.result import decide_how, in_units, make_card, software, validation_rows
from anymc3d.train.start import Start
from anymc3d.train.study import Study

Floats = NDArray[np.float64]
Row = Mapping[str, Any]
Clinical = tuple[ClinicalMember, Floats]

SPLIT = OUT_OF_FOLD
"""What the metrics of the plugin are of."""


def write_member(
    folder: Path, name: str, candidate: Candidate, study: Study, out: Floats, clinical: Clinical | None = None
) -> Plugin:
    """One member, fitted on all cases of the pool; decided on its out-of-fold logits (n, K) as head logits.

    ``clinical``: what the plugin takes of clinical columns, and the raw logits (n, labels) of these alone."""
    fitted = candidate.fitted(np.arange(len(candidate.learner.targets)))
    task = replace(fitted.task, name=name, calibration="none")
    raw = outputs.raw_logits(out, task.labels.kind)
    if clinical is not None:
        raw = clinical[0].raw(raw, clinical[1])
    points, _ = decide_how(task, candidate.learner.targets, raw)
    start = Start(candidate.backbone, None)
    record = None if clinical is None else clinical[0].record
    card = make_card(task, study, start, candidate.prepared, points, None, [], {}, covariates=record, **fitted.more)
    card = replace(card, training={**fitted.recipe, **software()})
    path = folder / f"{name}.safetensors"
    save_plugin(path, card, fitted.tensors)
    return load_plugin(path)


def with_clinical(folder: Path, name: str, plugin: Plugin, clinical: Clinical | None) -> Plugin:
    """A trained member with the clinical columns in its card."""
    if clinical is None or clinical[0].record is None:
        return plugin
    path = folder / f"{name}.safetensors"
    save_plugin(path, replace(plugin.card, covariates=clinical[0].record), plugin.tensors)
    return load_plugin(path)


def write_plugin(
    folder: AutoFolder,
    task: TaskSettings,
    members: Sequence[Plugin],
    weights: Sequence[float],
    data: AutoData,
    out: Floats,
    nested: Sequence[Row],
) -> tuple[str, ...]:
    """``plugin.safetensors``: the members in one file, calibrated on the blend's out-of-fold logits (n, K).

    ``nested``: rows of the nested estimate, which no choice flatters. Returns what speaks against the plugin.
    """
    if not task.labels.is_number:
        task = replace(task, calibration="temperature" if task.labels.one_of_classes else "youden")
    pool, raw = data.pool, outputs.raw_logits(out, task.labels.kind)
    points, calibration = decide_how(task, pool.targets, raw)
    if calibration is not None:
        calibration = replace(calibration, split=SPLIT)
    points = [replace(point, source_split=SPLIT) for point in points]
    card, tensors = make_ensemble(members, name=task.name, weights=list(weights))
    answered, _ = in_units(data.scale, raw, None)
    metrics = _metrics(task, data, validation_rows(task, _ids(pool), answered, points, calibration))
    record = {"recipe": "auto", "members": len(members), **software()}
    card = replace(
        card,
        operating_points=tuple(point.to_dict() for point in points),
        calibration=calibration,
        metrics=tuple(dict(row) for row in metrics),
        out_of_fold=out_of_fold_rows(nested),
        training=record,
    )
    save_plugin(folder.plugin, card, tensors)
    return doubts_of(card)


def write_out_of_fold(folder: AutoFolder, task: TaskSettings, data: AutoData, logits: Floats) -> None:
    """``oof.csv``: each case by a blend that was chosen without it, decided at a probability of 0.5."""
    pool = data.pool
    columns = outputs.columns_of(task.labels)
    columns.insert(1, "fold")
    rows = _rows(task, data, [case.id for case in data.cases], logits)
    write_table(
        folder.out_of_fold,
        columns,
        [{**row, "fold": pool.fold_names[fold]} for row, fold in zip(rows, pool.folds, strict=True)],
    )


def nested_metrics(task: TaskSettings, data: AutoData, logits: Floats) -> list[Row]:
    """Rows of ``metrics.csv`` of the nested out-of-fold logits (n, K)."""
    return _metrics(task, data, _rows(task, data, _ids(data.pool), logits))


def clinical_report(task: TaskSettings, data: AutoData, answers: Answers) -> dict[str, Any]:
    """The clinical columns alone, the image alone, both, and their paired differences, as ``quick.json`` has them."""
    both, parts = in_units(data.scale, answers.both, answers)
    rows = validation_rows(task, _ids(data.pool), both, _at_half(task), None, parts)
    return report_of(data.covariates, _metrics(task, data, rows), task.name)


def _rows(task: TaskSettings, data: AutoData, ids: Sequence[str], logits: Floats) -> list[dict[str, str]]:
    raw, _ = in_units(data.scale, outputs.raw_logits(logits, task.labels.kind), None)
    return validation_rows(task, ids, raw, _at_half(task), None)


def _at_half(task: TaskSettings) -> list[OperatingPoint]:
    return [] if task.labels.is_number else [at_half() for _ in task.labels.output_names]


def _metrics(task: TaskSettings, data: AutoData, rows: Sequence[Mapping[str, str]]) -> list[Row]:
    pool = data.pool
    listed = [
        {"case": case, "patient": patient, **{column: entry.cells[column] for column in task.labels.columns}}
        for case, patient, entry in zip(_ids(pool), pool.patients, data.cases, strict=True)
    ]
    figures = evaluate_rows(rows, listed, labels=task.labels, plugin=task.name)
    return [{**row, "split": SPLIT} for row in figures]


def _ids(pool: Pool) -> list[str]:
    return [str(number) for number in range(len(pool))]
