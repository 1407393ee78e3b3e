"""From the best tensors to the plugin: final validation, operating points, metrics, files.

The tensors are rounded to the precision of the file first and validated in float32 afterwards, so what is written
about the plugin is true of the file.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from anymc3d import outputs
from anymc3d.config import TaskSettings
from anymc3d.data.dataset import PreparedCase
from anymc3d.data.intensity import summarise
from anymc3d.data.preprocess import CODE_VERSION
from anymc3d.data.splits import split_hash
from anymc3d.evaluate.operating_points import OperatingPoint, choose
from anymc3d.evaluate.study import evaluate_rows
from anymc3d.models.store import LoadedBackbone
from anymc3d.plugins import BackboneRecord, PluginCard, save_plugin, to_half
from anymc3d.tables import write_table
from anymc3d.train.loop import Parts, validate
from anymc3d.train.losses import Loss
from anymc3d.train.processes import Processes
from anymc3d.train.run_folder import RunFolder
from anymc3d.version import __version__

if TYPE_CHECKING:
    from anymc3d.train.fit import Study

TRAIN_HASH_SALT = "anymc3d training split"
CRITERION = "youden"
FALLBACK_CRITERION = "probability=0.5"
"""Where validation has one outcome only, nothing can be chosen on it."""


def finish(
    folder: RunFolder,
    task: TaskSettings,
    study: Study,
    backbone: LoadedBackbone,
    best: Mapping[str, Tensor],
    train_cases: Sequence[PreparedCase],
    parts: Parts,
) -> None:
    """Write predictions and metrics of the validation split, then the plugin; the plugin's presence means: finished."""
    parts.classifier.load_tensors({name: tensor.float() for name, tensor in to_half(best).items()})
    reference = replace(parts, encoding=replace(parts.encoding, dtype=torch.float32), processes=Processes())
    logits, _ = validate(reference)
    raw = outputs.raw_logits(logits, task.labels.kind)
    points = operating_points(task, parts.val.targets, raw)
    rows = validation_rows(task, parts.val.ids, raw, points)
    write_table(folder.predictions, outputs.prediction_columns(task.labels.output_names), rows)
    metrics = evaluate_rows(rows, validation_manifest(task, study), labels=task.labels, plugin=task.name)
    write_table(folder.metrics, list(metrics[0]), metrics)
    card = make_card(task, study, backbone, train_cases, points, metrics, parts.loss)
    save_plugin(folder.plugin, card, best)


def operating_points(task: TaskSettings, targets: np.ndarray, raw: np.ndarray) -> list[OperatingPoint]:
    """One per label, chosen on validation by Youden's J (METHODS 10)."""
    truth = outputs.label_targets(targets, task.labels.kind, raw.shape[1])
    points = []
    for index in range(raw.shape[1]):
        there = ~np.isnan(truth[:, index])
        known = truth[there, index]
        criterion = CRITERION if len(np.unique(known)) == 2 else FALLBACK_CRITERION
        points.append(choose(criterion, known, raw[there, index], source_split="val"))
    return points


def validation_rows(
    task: TaskSettings, ids: Sequence[str], raw: np.ndarray, points: Sequence[OperatingPoint]
) -> list[dict[str, str]]:
    """The validation cases as rows of ``predictions.csv``."""
    kind, names = task.labels.kind, task.labels.output_names
    probability = outputs.probabilities(raw, kind)
    decision = outputs.decisions(raw, kind, [point.threshold for point in points])
    return [
        {"case": case, "status": "ok", "message": ""}
        | outputs.prediction_cells(names, raw[i], probability[i], decision[i])
        for i, case in enumerate(ids)
    ]


def validation_manifest(task: TaskSettings, study: Study) -> list[dict[str, str]]:
    """The validation cases as manifest rows."""
    return [
        {"case": case.id, "patient": case.patient, "split": "val", **{c: case.cells[c] for c in task.labels.columns}}
        for case in (study.manifest.cases[i] for i in study.indices("val"))
    ]


def make_card(
    task: TaskSettings,
    study: Study,
    backbone: LoadedBackbone,
    train_cases: Sequence[PreparedCase],
    points: Sequence[OperatingPoint],
    metrics: Sequence[Mapping[str, Any]],
    loss: Loss,
) -> PluginCard:
    """Everything the plugin file says about itself; no id, path, host or user name is in it."""
    columns = {view.image for view in task.views.values()}
    profiles = {c: [case.scans[c].intensities for case in train_cases if c in case.scans] for c in sorted(columns)}
    network = backbone.module
    return PluginCard(
        name=task.name,
        labels=task.labels,
        modality=task.data.modality,
        preprocessing=dict(task.views),
        backbone=BackboneRecord(
            name=backbone.card.name,
            fingerprint=backbone.fingerprint,
            positions=task.backbone.positions,
            embed_dim=network.embed_dim,
            patch_size=network.patch_size,
            mean=backbone.card.mean,
            std=backbone.card.std,
            licence=backbone.card.licence,
        ),
        method=task.method,
        fusion=task.fusion,
        code_version=CODE_VERSION,
        intensities={column: summarise(found) for column, found in profiles.items() if found},
        operating_points=tuple(point.to_dict() for point in points),
        metrics=tuple(dict(row) for row in metrics),
        split=split_record(study),
        training=asdict(task.train) | loss.record() | {"augmentation": task.augmentation} | software(),
    )


def split_record(study: Study) -> dict[str, Any]:
    """Numbers of cases and patients per split, and a hash over all training ids: it proves a list, reveals no id."""
    record: dict[str, Any] = {"unit": "patient"}
    for split in ("train", "val", "test"):
        cases = [study.manifest.cases[i] for i in study.indices(split)]
        record[split] = {"cases": len(cases), "patients": len({case.patient for case in cases})}
    train = [study.manifest.cases[i].id for i in study.indices("train")]
    return record | {"train_hash": split_hash(train, TRAIN_HASH_SALT)}


def software() -> dict[str, str]:
    """Versions that made the plugin."""
    return {"anymc3d": __version__, "torch": torch.__version__, "python": platform.python_version()}
