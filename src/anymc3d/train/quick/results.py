"""From what was found to the files: out-of-fold predictions and results, the plugin, the report and its picture.

The plugin is written last; its presence means that the run is finished.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass, replace
from typing import Any

import numpy as np

from anymc3d.data.case_scans import PreparedCase
from anymc3d.evaluate import outputs
from anymc3d.evaluate.operating_points import OperatingPoint
from anymc3d.evaluate.regression.metrics import NUMBER_METRICS
from anymc3d.evaluate.study import evaluate_rows
from anymc3d.evaluate.study_cases import StudySettings
from anymc3d.evaluate.task_calibration import HALF
from anymc3d.files import atomic
from anymc3d.files.tables import write_table
from anymc3d.plugins import save_plugin
from anymc3d.plugins.evidence import out_of_fold_rows
from anymc3d.train.covariates.record import answers_of
from anymc3d.train.fitted_classifier import FittedClassifier
from anymc3d.train.quick import trivial, verdict
from anymc3d.train.quick.covariates import report_of
from anymc3d.train.quick.crossval import Learner
from anymc3d.train.quick.curve import Estimate, estimate, macro_draws
from anymc3d.train.quick.findings import CovariateFindings, Findings, Plan
from anymc3d.train.quick.folder import QuickFolder
from anymc3d.train.quick.picture import draw_curve
from anymc3d.train.result import (
    decide_how,
    in_units,
    make_card,
    number_scale,
    software,
    validation_columns,
    validation_manifest,
    validation_rows,
)
from anymc3d.train.start import Start

Row = Mapping[str, Any]


def write(
    folder: QuickFolder,
    plan: Plan,
    learner: Learner,
    findings: Findings,
    fitted: FittedClassifier,
    prepared: Sequence[PreparedCase],
) -> None:
    """Write everything a run leaves; ``fitted``: the chosen candidate on the training split."""
    figures = write_out_of_fold(folder, plan, findings)
    report = make_report(plan, learner, findings, figures)
    atomic.write_json(folder.report, report)
    scored = plan.pool.metric, plan.pool.chance
    options = {"title": plan.task.name, "trivial": _trivial(plan, findings)[0]}
    of = "frozen features" if plan.backbone is not None else plan.task.method.name
    draw_curve(folder.picture, findings.curve, scored, of=of, **options)
    write_plugin(folder, plan, fitted, prepared, findings.covariates, figures)


def write_out_of_fold(folder: QuickFolder, plan: Plan, findings: Findings) -> list[Row]:
    """``oof.csv`` in the order of the manifest, decided at a probability of 0.5, and its metrics; returns these."""
    labels, cases = plan.task.labels, plan.cases
    parts = None if findings.covariates is None else findings.covariates.answers
    raw = outputs.raw_logits(findings.nested.logits, labels.kind)
    raw, parts = in_units(number_scale(plan.task, plan.study), raw, parts)
    points = [] if labels.is_number else [at_half() for _ in labels.output_names]
    answers = validation_rows(plan.task, [case.id for case in cases], raw, points, None, parts)
    rows = [{**row, "fold": plan.pool.fold_names[fold]} for row, fold in zip(answers, plan.pool.folds, strict=True)]
    columns = validation_columns(plan.task)
    columns.insert(1, "fold")
    write_table(folder.out_of_fold, columns, rows)
    manifest = [
        {"case": case.id, "patient": case.patient, **{column: case.cells[column] for column in labels.columns}}
        for case in cases
    ]
    plain = [{name: cell for name, cell in row.items() if name != "fold"} for row in rows]
    figures = evaluate_rows(plain, manifest, labels=labels, plugin=plan.task.name, settings=StudySettings())
    write_table(folder.out_of_fold_metrics, list(figures[0]), figures)
    return figures


def at_half() -> OperatingPoint:
    """What is decided at a probability of 0.5, as nothing was chosen."""
    return OperatingPoint(name=HALF, criterion=HALF, threshold=0.0, value=0.0, source_split="", n=0, n_positive=0)


def write_plugin(
    folder: QuickFolder,
    plan: Plan,
    fitted: FittedClassifier,
    prepared: Sequence[PreparedCase],
    covariates: CovariateFindings | None = None,
    out_of_fold: Sequence[Row] = (),
) -> None:
    """Validate the chosen candidate, fitted on the training split, as the file will hold it.

    As after a normal training: operating points, calibration and metrics are of the validation split. ``out_of_fold``:
    rows of ``oof_metrics.csv``, by which the card says whether it is better than chance.
    """
    train, val, task = plan.of_split("train"), plan.of_split("val"), fitted.task
    raw, targets = outputs.raw_logits(fitted.logits(val), task.labels.kind), plan.pool.targets[val]
    parts = None if covariates is None else answers_of(covariates.record, raw, [covariates.cells[i] for i in val])
    raw, parts = in_units(number_scale(task, plan.study), raw, parts)
    points, calibration = decide_how(task, targets, raw)
    rows = validation_rows(task, [plan.cases[i].id for i in val], raw, points, calibration, parts)
    write_table(folder.predictions, validation_columns(task), rows)
    metrics = evaluate_rows(rows, validation_manifest(task, plan.study), labels=task.labels, plugin=task.name)
    write_table(folder.metrics, list(metrics[0]), metrics)
    facts = [prepared[i] for i in train]
    start = Start(plan.backbone, None)
    card = make_card(task, plan.study, start, facts, points, calibration, metrics, {}, **fitted.more)
    record = None if covariates is None else covariates.record
    own_rows = [row for row in out_of_fold if row["plugin"] == task.name]
    card = replace(card, covariates=record, out_of_fold=out_of_fold_rows(own_rows))
    save_plugin(folder.plugin, replace(card, training={**fitted.recipe, **software()}), fitted.tensors)


def make_report(plan: Plan, learner: Learner, findings: Findings, figures: Sequence[Row]) -> dict[str, Any]:
    """``quick.json``: every number with its interval, what was run, and the verdict. No time, path or id is in it."""
    wanted = tuple(NUMBER_METRICS) if plan.task.labels.is_number else ("auroc",)
    rows = [row for row in figures if row["metric"] in wanted and row["plugin"] == plan.task.name]
    auroc = [_figure(row) for row in rows if row["metric"] in ("auroc", "r2")]
    main = next((row for row in auroc if row["label"] == "macro"), auroc[0])
    whole = _of_image(plan, findings, Estimate(main["value"], main["low"], main["high"]))
    defined = [value for value in findings.nested.train_auroc if value is not None]
    on_training = float(np.mean(defined)) if defined else None
    plain, difference = _trivial(plan, findings)
    scored = verdict.Scored(plan.pool.metric, plan.pool.chance)
    data = verdict.more_data(whole, findings.curve, scored)
    return {
        "format": 1,
        "task": plan.task.name,
        "labels": list(plan.task.labels.output_names),
        "cases": _cases(plan),
        "views": {name: list(view.size) for name, view in plan.task.views.items()},
        "notes": list(plan.notes),
        "backbone": _backbone(plan),
        "settings": asdict(plan.settings),
        "grid": [
            asdict(candidate) if is_dataclass(candidate) else {"method": candidate} for candidate in learner.candidates
        ],
        "chosen_per_fold": dict(zip(plan.pool.fold_names, findings.nested.chosen, strict=True)),
        "chosen_for_plugin": findings.chosen,
        "metric": plan.pool.metric,
        "out_of_fold_auroc": [] if plan.task.labels.is_number else auroc,
        "out_of_fold": [{"metric": row["metric"], **_figure(row)} for row in rows],
        "headline": main["label"],
        "chance": plan.pool.chance,
        "auroc_on_own_training_cases": on_training,
        "covariates": report_of(plan.task.covariates, figures, plan.task.name) if findings.covariates else None,
        "trivial": {"of": trivial.WHAT, "auroc": asdict(plain), "frozen_minus_trivial": asdict(difference)},
        "learning_curve": [asdict(point) | {"spread": point.spread} for point in findings.curve.points],
        "gain": None if findings.curve.gain is None else asdict(findings.curve.gain),
        "more_data": asdict(data),
        "lora": asdict(verdict.lora(whole, on_training, data, scored)),
    }


def _of_image(plan: Plan, findings: Findings, headline: Estimate) -> Estimate:
    """What the learning curve and the verdict are of: the image alone."""
    if findings.covariates is None:
        return headline
    pool, logits = plan.pool, findings.nested.logits
    (draws,) = macro_draws(pool, [logits], resamples=plan.settings.resamples, seed=plan.task.data.split_seed)
    return estimate(pool.auroc(logits).value, draws, scale=pool.scale)


def _figure(row: Row) -> dict[str, Any]:
    return {
        "label": row["label"],
        "value": row["value"],
        "low": row["ci_low"],
        "high": row["ci_high"],
        "method": row["ci_method"],
        "n": row["n"],
        "n_positive": row["n_positive"],
        "reason": row["reason"],
    }


def _backbone(plan: Plan) -> dict[str, str] | None:
    if plan.backbone is None:
        return None
    return {"name": plan.backbone.card.name, "fingerprint": plan.backbone.fingerprint}


def _cases(plan: Plan) -> dict[str, int]:
    return {
        "pool": len(plan.rows),
        "patients": len(set(plan.pool.patients)),
        "train": len(plan.of_split("train")),
        "val": len(plan.of_split("val")),
        "outer_folds": len(plan.pool.fold_names),
    }


def _trivial(plan: Plan, findings: Findings) -> tuple[Estimate, Estimate]:
    """AUROC of the plain measurements, and how much better the frozen features are, on the same cases."""
    if findings.trivial is None:
        none = Estimate(None, None, None)
        return none, none
    pool, frozen, plain = plan.pool, findings.nested.logits, findings.trivial.logits
    draws = macro_draws(pool, [frozen, plain], resamples=plan.settings.resamples, seed=plan.task.data.split_seed)
    values = [pool.auroc(logits).value for logits in (frozen, plain)]
    difference = None if None in values else values[0] - values[1]
    paired = draws[0].map(draws[1], change=lambda frozen_values, simple: frozen_values - simple)
    return estimate(values[1], draws[1], scale=pool.scale), estimate(difference, paired, scale="real")
