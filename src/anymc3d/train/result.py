"""From the best tensors to the plugin: final validation, operating points, calibration, metrics, files.

The tensors are rounded to the precision of the file first and validated in float32 afterwards, so what is written
about the plugin is true of the file.
"""

from __future__ import annotations

import logging
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anymc3d.cost.device import format_of
from anymc3d.data.cache import Cache
from anymc3d.data.case_scans import PreparedCase
from anymc3d.data.intensity import summarise
from anymc3d.data.preprocess import CODE_VERSION
from anymc3d.data.splits import split_hash
from anymc3d.evaluate import outputs
from anymc3d.evaluate.ood import fit_statistics
from anymc3d.evaluate.operating_points import OperatingPoint
from anymc3d.evaluate.regression.scale import UNIT, NumberScale, scale_of
from anymc3d.evaluate.study import evaluate_rows
from anymc3d.evaluate.task_calibration import CHOICES, TaskCalibration, answer, choose_points, fit_task
from anymc3d.files import home
from anymc3d.files.tables import write_table
from anymc3d.models.plain import is_plain
from anymc3d.models.seam import first_adapted
from anymc3d.models.store import LoadedBackbone
from anymc3d.models.zoo.table import zoo_entry
from anymc3d.models.zoo.weights import RANDOM
from anymc3d.plugins import save_plugin, stored, without_decoders
from anymc3d.plugins.card import BackboneRecord, PluginCard
from anymc3d.plugins.covariates import CovariateRecord
from anymc3d.plugins.own_parts import own_parts_record
from anymc3d.segmenters.store import portable
from anymc3d.settings.config import TaskSettings
from anymc3d.settings.training import MethodSettings
from anymc3d.train import log
from anymc3d.train.checkpoint import TrainingState
from anymc3d.train.cost import parameter_counts
from anymc3d.train.covariates.record import Answers, TrainedCovariates, answers_of, cells_of_cases
from anymc3d.train.loop_parts import Parts
from anymc3d.train.processes import Processes
from anymc3d.train.run_folder import RunFolder
from anymc3d.train.start import Start
from anymc3d.train.study import Study
from anymc3d.train.validation import validate
from anymc3d.version import __version__

logger = logging.getLogger(__name__)

TRAIN_HASH_SALT = "anymc3d training split"


def finish(
    folder: RunFolder,
    task: TaskSettings,
    study: Study,
    start: Start,
    state: TrainingState,
    best: Mapping[str, Tensor],
    train_cases: Sequence[PreparedCase],
    parts: Parts,
) -> None:
    """Write the last picture, predictions and metrics of the validation split, then the plugin: it means "finished"."""
    log.draw_curves(folder, state.history)
    tensors_kept = stored(best, whole=start.backbone is None)
    parts.classifier.scale = None
    parts.classifier.load_tensors({name: tensor.float() for name, tensor in tensors_kept.items()})
    exact = replace(parts.encoding, dtype=torch.float32)
    val = parts.val.in_float32()
    reference = replace(parts, encoding=exact, val=val, processes=Processes(), segmentation=None)
    logits = validate(reference).logits
    raw = outputs.raw_logits(logits, task.labels.kind)
    record, answers = _with_covariates(task, study, raw, parts.val.targets)
    raw, answers = in_units(number_scale(task, study), raw, answers)
    points, calibration = decide_how(task, parts.val.targets, raw)
    rows = validation_rows(task, parts.val.ids, raw, points, calibration, answers)
    write_table(folder.predictions, validation_columns(task), rows)
    metrics = evaluate_rows(rows, validation_manifest(task, study), labels=task.labels, plugin=task.name)
    write_table(folder.metrics, list(metrics[0]), metrics)
    loss = parts.loss.record()
    card = make_card(task, study, start, train_cases, points, calibration, metrics, loss, covariates=record)
    numbers = {"number_format": format_of(parts.encoding.dtype), **parameter_counts(parts)}
    card = replace(card, training={**card.training, **training_summary(state), **numbers})
    save_plugin(folder.plugin, card, best if task.segmentation.keep else without_decoders(best))


def _with_covariates(
    task: TaskSettings, study: Study, image: np.ndarray, targets: np.ndarray
) -> tuple[CovariateRecord | None, Answers | None]:
    """The covariates, fitted on the training cases and joined with the image on the validation cases, which it was not
    trained on; ``image``: their raw logits."""
    if not task.covariates:
        return None, None
    scale = number_scale(task, study) or UNIT
    train, val = (study.indices(split) for split in ("train", "val"))
    cases = [study.manifest.cases[i] for i in (*train, *val)]
    cells = cells_of_cases(task, cases, cache=Cache(home.cache_folder()))
    patients = [case.patient for case in cases[: len(train)]]
    fitted = TrainedCovariates(
        task.covariates,
        cells[: len(train)],
        scale.standard(study.targets[train]),
        task.labels,
        patients,
        seed=task.data.split_seed,
    )
    record = fitted.joined_on(image, cells[len(train) :], scale.standard(targets))
    return record, answers_of(record, image, cells[len(train) :])


def number_scale(task: TaskSettings, study: Study) -> NumberScale | None:
    """The units in which a number is learnt, those of the training cases; None of other labels."""
    return scale_of(study.targets[study.indices("train")]) if task.labels.is_number else None


def in_units(scale: NumberScale | None, raw: np.ndarray, answers: Answers | None) -> tuple[np.ndarray, Answers | None]:
    """What a task answers, (n, labels), of both where there are covariates: numbers in the units of the manifest."""
    answered = raw if answers is None else answers.both
    if scale is None:
        return answered, answers
    parts = None if answers is None else (answers.both, answers.image, answers.alone)
    return scale.in_units(answered), None if parts is None else Answers(*map(scale.in_units, parts))


def decide_how(
    task: TaskSettings, targets: np.ndarray, raw: np.ndarray
) -> tuple[list[OperatingPoint], TaskCalibration | None]:
    """Operating point per label, and the calibration, by the task file's ``calibration`` key, on validation alone.

    ``targets`` (n, L) with NaN = missing, ``raw`` (n, labels).
    """
    if task.labels.is_number:
        return [], None
    choice = CHOICES[task.calibration]
    truth = outputs.label_targets(targets, task.labels.kind, raw.shape[1])
    points = choose_points(truth, outputs.ranking_scores(raw, task.labels.kind), choice.criterion)
    if choice.method is None:
        return points, None
    calibration = fit_task(truth, raw, task.labels, points, method=choice.method)
    for note in calibration.notes():
        logger.warning("calibration on validation: %s", note)
    return points, calibration


def validation_rows(
    task: TaskSettings,
    ids: Sequence[str],
    raw: np.ndarray,
    points: Sequence[OperatingPoint],
    calibration: TaskCalibration | None,
    parts: Answers | None = None,
) -> list[dict[str, str]]:
    """The validation cases as rows of ``predictions.csv``; ``parts``: of a task with covariates."""
    names = task.labels.output_names
    if task.labels.is_number:
        return [
            {"case": case, "status": "ok", "message": ""}
            | outputs.value_cells(names, raw[i])
            | ({} if parts is None else outputs.part_cells(names, parts.image[i], parts.alone[i]))
            for i, case in enumerate(ids)
        ]
    decided = answer(raw, task.labels.kind, [point.threshold for point in points], calibration)
    return [
        {"case": case, "status": "ok", "message": ""}
        | outputs.prediction_cells(names, decided.logits[i], decided.probabilities[i], decided.decisions[i])
        | ({} if parts is None else outputs.part_cells(names, parts.image[i], parts.alone[i]))
        for i, case in enumerate(ids)
    ]


def validation_columns(task: TaskSettings) -> list[str]:
    """The columns of the table of :func:`validation_rows`."""
    return outputs.columns_of(task.labels, with_covariates=bool(task.covariates))


def validation_manifest(task: TaskSettings, study: Study) -> list[dict[str, str]]:
    """The validation cases as manifest rows."""
    return [
        {"case": case.id, "patient": case.patient, "split": "val", **{c: case.cells[c] for c in task.labels.columns}}
        for case in (study.manifest.cases[i] for i in study.indices("val"))
    ]


def make_card(
    task: TaskSettings,
    study: Study,
    start: Start,
    train_cases: Sequence[PreparedCase],
    points: Sequence[OperatingPoint],
    calibration: TaskCalibration | None,
    metrics: Sequence[Mapping[str, Any]],
    loss: Mapping[str, Any],
    **more: Any,
) -> PluginCard:
    """Everything the plugin file says about itself; no id, path, host or user name is in it.

    ``loss``: its record; ``more``: other keys of the card.
    """
    kind = "plain" if is_plain(task.method) else "plugin" if start.backbone is not None else "baseline"
    patients = [study.manifest.cases[i].patient for i in study.indices("train")]
    columns = {view.image for view in task.views.values()}
    profiles = {c: [case.scans[c].intensities for case in train_cases if c in case.scans] for c in sorted(columns)}
    return PluginCard(
        name=task.name,
        labels=task.labels,
        modality=task.data.modality,
        preprocessing={name: portable(view) for name, view in task.views.items()},
        backbone=_backbone_record(task, start.backbone),
        method=_without_path(task.method),
        fusion=task.fusion,
        features=task.features,
        segmentation=task.segmentation if task.segmentation.is_on else None,
        kind=kind,
        number=number_scale(task, study),
        code_version=CODE_VERSION,
        intensities={column: summarise(profile) for column, profile in profiles.items() if profile},
        scan_statistics=fit_statistics([case.measures for case in train_cases], patients),
        operating_points=tuple(point.to_dict() for point in points),
        calibration=calibration,
        metrics=tuple(dict(row) for row in metrics),
        split=split_record(study),
        training=training_record(task, start) | dict(loss) | {"augmentation": task.augmentation} | software(),
        **more,
    )


def _without_path(method: MethodSettings) -> MethodSettings:
    """A file of start weights is recorded by its fingerprint; its path stays private."""
    return method if method.weights in (None, RANDOM) else replace(method, weights=None)


def training_record(task: TaskSettings, start: Start) -> dict[str, Any]:
    """The recipe with the values that were used, and of a network the fingerprint of what it started from."""
    if start.backbone is not None:
        return asdict(task.train) | own_parts_record(task.fusion, task.method)
    if is_plain(task.method):
        return {}
    entry = zoo_entry(task.method.name)
    recipe = entry.recipe
    changed = {"network_revision": entry.revision} if entry.revision > 1 else {}
    changed |= {"optimizer": recipe.optimizer, "momentum": recipe.momentum, "slow": dict(recipe.slow)}
    return asdict(task.train) | changed | {"start_weights": start.fingerprint}


def training_summary(state: TrainingState) -> dict[str, Any]:
    """Which epoch was kept (0 = the start), and how the start was solved where training began from a solution."""
    return {"best_epoch": state.best_epoch} | ({"frozen_start": state.start} if state.start else {})


def _backbone_record(task: TaskSettings, backbone: LoadedBackbone | None) -> BackboneRecord | None:
    if backbone is None:
        return None
    seam = first_adapted(backbone.module, task.method.blocks)
    return BackboneRecord(
        name=backbone.card.name,
        fingerprint=backbone.fingerprint,
        positions=task.backbone.positions,
        embed_dim=backbone.module.embed_dim,
        patch_size=backbone.module.patch_size,
        mean=backbone.card.mean,
        std=backbone.card.std,
        licence=backbone.card.licence,
        trunk=None if seam is None else backbone.trunk(seam),
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
