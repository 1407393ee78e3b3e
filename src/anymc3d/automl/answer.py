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
from anymc3d.automl.folder import AutoFolder
from anymc3d.evaluate import outputs
from anymc3d.evaluate.study import evaluate_rows
from anymc3d.evaluate.task_calibration import answer
from anymc3d.files.tables import write_table
from anymc3d.plugins import Plugin, load_plugin, save_plugin
from anymc3d.plugins.ensemble import make_ensemble
from anymc3d.settings.config import TaskSettings
from anymc3d.train.quick.crossval import Pool
from anymc3d.train.result import decide_how, make_card, software, validation_rows
from anymc3d.train.start import Start
from anymc3d.train.study import Study

Floats = NDArray[np.float64]
Row = Mapping[str, Any]

SPLIT = "out-of-fold"
"""What the metrics of the plugin are of."""


def write_member(folder: Path, name: str, candidate: Candidate, study: Study, out: Floats) -> Plugin:
    """One member, fitted on all cases of the pool; decided on its out-of-fold logits (n, K) as head logits."""
    fitted = candidate.fitted(np.arange(len(candidate.learner.targets)))
    task = replace(fitted.task, name=name, calibration="none")
    raw = outputs.raw_logits(out, task.labels.kind)
    points, _ = decide_how(task, candidate.learner.targets, raw)
    start = Start(candidate.backbone, None)
    card = make_card(task, study, start, candidate.prepared, points, None, [], {}, **fitted.more)
    card = replace(card, training={**fitted.recipe, **software()})
    path = folder / f"{name}.safetensors"
    save_plugin(path, card, fitted.tensors)
    return load_plugin(path)


def write_plugin(
    folder: AutoFolder, task: TaskSettings, members: Sequence[Plugin], weights: Sequence[float], pool: Pool, out: Floats
) -> list[Row]:
    """``plugin.safetensors``: the members in one file, calibrated on the blend's out-of-fold logits (n, K).

    Returns the metrics of these cases.
    """
    task = replace(task, calibration="temperature" if task.labels.one_of_classes else "youden")
    raw = outputs.raw_logits(out, task.labels.kind)
    points, calibration = decide_how(task, pool.targets, raw)
    if calibration is not None:
        calibration = replace(calibration, split=SPLIT)
    points = [replace(point, source_split=SPLIT) for point in points]
    card, tensors = make_ensemble(members, name=task.name, weights=list(weights))
    metrics = _metrics(task, pool, validation_rows(task, _ids(pool), raw, points, calibration))
    record = {"recipe": "auto", "members": len(members), **software()}
    card = replace(
        card,
        operating_points=tuple(point.to_dict() for point in points),
        calibration=calibration,
        metrics=tuple(dict(row) for row in metrics),
        training=record,
    )
    save_plugin(folder.plugin, card, tensors)
    return metrics


def write_out_of_fold(folder: AutoFolder, task: TaskSettings, pool: Pool, ids: Sequence[str], logits: Floats) -> None:
    """``oof.csv``: each case by a blend that was chosen without it, decided at a probability of 0.5."""
    kind, names = task.labels.kind, task.labels.output_names
    raw = outputs.raw_logits(logits, kind)
    found = answer(raw, kind, [0.0] * raw.shape[1], None)
    columns = outputs.prediction_columns(names)
    columns.insert(1, "fold")
    rows = [
        {"case": case, "fold": pool.fold_names[pool.folds[i]], "status": "ok", "message": ""}
        | outputs.prediction_cells(names, found.logits[i], found.probabilities[i], found.decisions[i])
        for i, case in enumerate(ids)
    ]
    write_table(folder.out_of_fold, columns, rows)


def nested_metrics(task: TaskSettings, pool: Pool, logits: Floats) -> list[Row]:
    """Rows of ``metrics.csv`` of the nested out-of-fold logits (n, K)."""
    raw = outputs.raw_logits(logits, task.labels.kind)
    found = answer(raw, task.labels.kind, [0.0] * raw.shape[1], None)
    names = task.labels.output_names
    rows = [
        {"case": case, "status": "ok", "message": ""}
        | outputs.prediction_cells(names, found.logits[i], found.probabilities[i], found.decisions[i])
        for i, case in enumerate(_ids(pool))
    ]
    return _metrics(task, pool, rows)


def _metrics(task: TaskSettings, pool: Pool, rows: Sequence[Mapping[str, str]]) -> list[Row]:
    listed = [
        {"case": case, "patient": patient, **_cells(task, targets)}
        for case, patient, targets in zip(_ids(pool), pool.patients, pool.targets, strict=True)
    ]
    found = evaluate_rows(rows, listed, labels=task.labels, plugin=task.name)
    return [{**row, "split": SPLIT} for row in found]


def _cells(task: TaskSettings, targets: Floats) -> dict[str, str]:
    labels = task.labels
    classes = labels.classes or ("0", "1")
    return {
        column: "" if np.isnan(value) else classes[int(value)]
        for column, value in zip(labels.columns, targets, strict=True)
    }


def _ids(pool: Pool) -> list[str]:
    return [str(number) for number in range(len(pool))]
