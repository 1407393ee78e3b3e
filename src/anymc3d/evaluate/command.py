"""Predictions and manifest in, a folder of results out: ``metrics.csv``, curves, pictures and a readable table.

Tables only: no scan is opened, none needs to be there. The same inputs give the same bytes of every table.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from anymc3d.data.manifest import inspect_manifest
from anymc3d.data.patients import patients_of
from anymc3d.data.pseudonyms import Pseudonyms
from anymc3d.errors import ManifestError, RunFolderError, UsageError
from anymc3d.evaluate.curves import Curve, precision_recall_curve, reliability_curve, risk_curve, roc_curve
from anymc3d.evaluate.heatmap_rows import heatmap_rows
from anymc3d.evaluate.measures import LabelCases, Sampling
from anymc3d.evaluate.pictures import Drawn, draw_curves
from anymc3d.evaluate.plugin_study import PluginStudy, class_column
from anymc3d.evaluate.predictions import PREDICT_RECORD
from anymc3d.evaluate.regression.pictures import curves_of, draw_numbers
from anymc3d.evaluate.segmentation_rows import left_out, segmentation_rows
from anymc3d.evaluate.selective import selective_cases
from anymc3d.evaluate.study import Study, evaluate_study
from anymc3d.evaluate.study_cases import StudySettings
from anymc3d.evaluate.study_rows import ALL, COLUMNS, Row
from anymc3d.evaluate.summary import figure, markdown
from anymc3d.evaluate.task_calibration import states_in_words
from anymc3d.files import atomic
from anymc3d.files.folders import claim, locked
from anymc3d.files.tables import read_table, write_table
from anymc3d.settings.config import LabelSettings
from anymc3d.settings.task_file import read_task

RECORD, METRICS, CURVES, SUMMARY = "evaluation.json", "metrics.csv", "curves.csv", "table.md"
NUMBERS = "predicted.png"
PICTURES: Mapping[str, tuple[str, str]] = {
    "roc": ("roc.png", "auroc"),
    "pr": ("pr.png", "average_precision"),
    "reliability": ("reliability.png", "expected_calibration_error"),
    "risk": ("risk.png", "selective_risk"),
}
"""Kind of curve -> its picture and the metric in the legend."""
CURVE_COLUMNS = ("curve", "label", "plugin", "split", "part", "x", "y", "low", "high", "n")

_SHORT = {"auroc": "AUROC", "average_precision": "AP", "expected_calibration_error": "ECE", "selective_risk": "risk"}


def evaluate_predictions(
    predictions: Path,
    manifest: Path,
    out: Path,
    *,
    tasks: Sequence[Path] = (),
    settings: StudySettings | None = None,
    pseudonyms: Pseudonyms | None = None,
    heatmaps: Path | None = None,
    segmentations: Path | None = None,
    overwrite: bool = False,
) -> Study:
    """Evaluate one table of predictions into the folder ``out``.

    Args:
        predictions: as ``anymc3d predict`` writes it.
        manifest: with the label columns; its scans need not exist.
        out: new, empty, or made from the same inputs; other inputs need ``overwrite``.
        tasks: task files, needed where a label's cells are other texts than 0 and 1.
        settings: groups, operating points, resampling.
        pseudonyms: where the predictions were made under them.
        heatmaps: ``heatmap_scores.csv`` of ``anymc3d explain``, for rows about the maps.
        segmentations: ``segmentations.csv`` of ``anymc3d predict --segmentation``, for Dice.
        overwrite: replace the results of other inputs.

    Raises:
        UsageError, ProblemsError: inputs that cannot be used, or nothing to evaluate.
        RunFolderError: ``out`` holds something else, or another process works in it.
    """
    settings = settings or StudySettings()
    known = [read_task(path).labels for path in tasks]
    labels = read_labels(manifest, pseudonyms)
    study = evaluate_study(read_table(predictions), labels, known=known, settings=settings)
    _check_has_figures(study)
    if heatmaps is not None:
        study.rows.extend(_heatmap_rows(study, heatmaps, settings.sampling))
    if segmentations is not None:
        study.rows.extend(_segmentation_rows(study, segmentations, settings.sampling))
    identity = {
        "kind": "evaluation",
        "predictions": _sha256(predictions),
        "manifest": _sha256(manifest),
        "labels": [_label_record(settings_known) for settings_known in known],
        **({} if heatmaps is None else {"heatmaps": _sha256(heatmaps)}),
        **({} if segmentations is None else {"segmentations": _sha256(segmentations)}),
    }
    with locked(out):
        _claim(out, identity, overwrite=overwrite)
        write_table(out / METRICS, COLUMNS, study.rows)
        curves = list(draw(study, settings.sampling))
        write_table(out / CURVES, CURVE_COLUMNS, (row for drawn in curves for row in _curve_rows(drawn, study.split)))
        _draw_pictures(out, curves, study.split)
        draw_numbers(out / NUMBERS, study)
        probabilities = list(_probabilities(predictions.parent / PREDICT_RECORD, study))
        atomic.write_text(out / SUMMARY, markdown(study, level=settings.sampling.level, probabilities=probabilities))
    return study


def read_labels(path: Path, pseudonyms: Pseudonyms | None = None) -> list[dict[str, str]]:
    """Read a manifest for its labels: ``case``, ``patient``, ``split`` (where it has one) and the other columns' cells.

    ``pseudonyms``: those under which the cases were predicted.

    Raises:
        ManifestError: with every fault that matters without the scans.
    """
    manifest, problems = inspect_manifest(path, check_scans=False)
    if "case" in manifest.columns:
        problems = [problem for problem in problems if not problem.startswith("row 1: no column 'image'")]
    if problems:
        raise ManifestError(str(path), problems)
    rows = []
    # One patient in two spellings is one in every interval.
    cases = [
        replace(case, patient=name) for case, name in zip(manifest.cases, patients_of(manifest.cases), strict=True)
    ]
    for case in cases if pseudonyms is None else pseudonyms.rename(cases):
        row = {**case.cells, "case": case.id, "patient": case.patient}
        rows.append(row if case.split is None else {**row, "split": case.split})
    return rows


def draw(study: Study, sampling: Sampling) -> Iterator[Drawn]:
    """Yield the curves of every plugin and label that has both outcomes, kind by kind."""
    index = {(row["metric"], row["label"], row["plugin"]): row for row in study.rows if row["group"] == ALL}
    for kind, (_, metric) in PICTURES.items():
        for plugin in study.plugins:
            if kind == "risk":
                yield from _risk(study, plugin, index, sampling)
                continue
            for cases in plugin.labels:
                if 0 < cases.targets.sum() < cases.targets.size:
                    patients = list(study.patients[cases.rows])
                    legend = f"{_SHORT[metric]} {figure(index[(metric, cases.label, plugin.plugin)], digits=2)}"
                    curve = _curve(kind, cases, patients, sampling)
                    numbers = cases.targets.size, int(cases.targets.sum())
                    yield Drawn(cases.label, plugin.plugin, curve, legend, *numbers, places_of(kind, cases))
    yield from curves_of(study)


def _risk(
    study: Study, plugin: PluginStudy, index: Mapping[tuple[object, object, object], Row], sampling: Sampling
) -> Iterator[Drawn]:
    """The curve of the selective risk of a plugin that left decisions unanswered."""
    for of_label in selective_cases(plugin.labels, class_column(plugin.settings)) if plugin.abstains else ():
        row = index.get(("selective_risk", of_label.label, plugin.plugin))
        if row is None or len(set(of_label.targets)) < 2:
            continue
        curve = risk_curve(
            of_label.targets, of_label.wrong, of_label.confidence, list(study.patients[of_label.rows]), sampling
        )
        place = {"answered": (float(of_label.answered.mean()), of_label.risk or 0.0)}
        legend = f"{_SHORT['selective_risk']} {figure(row, digits=2)}"
        yield Drawn(of_label.label, plugin.plugin, curve, legend, of_label.wrong.size, int(of_label.wrong.sum()), place)


def places_of(kind: str, cases: LabelCases) -> dict[str, tuple[float, float]]:
    """Where the operating points lie on a curve: operating point -> (x, y); the targets hold both outcomes."""
    places = {}
    for name, decided in cases.decisions.items():
        if kind == "reliability" or isinstance(decided, str):
            continue
        # Of a point that leaves cases unanswered: among the answered ones.
        truth, decided = cases.targets[~np.isnan(decided)], decided[~np.isnan(decided)]
        if not 0 < truth.sum() < truth.size:
            continue
        hits, alarms = (float(decided[truth == outcome].sum()) for outcome in (1, 0))
        sensitivity = hits / float((truth == 1).sum())
        if kind == "roc":
            places[name] = alarms / float((truth == 0).sum()), sensitivity
        elif hits + alarms:
            places[name] = sensitivity, hits / (hits + alarms)
    return places


def _heatmap_rows(study: Study, path: Path, sampling: Sampling) -> Iterator[Row]:
    """Scores of the maps of the only plugin, on the evaluated cases that have the label."""
    if len(study.plugins) != 1:
        raise UsageError(f"--heatmaps: expected the predictions of one plugin, got {len(study.plugins)}")
    (plugin,) = study.plugins
    positives = {
        cases.label: {study.cases[row]: study.patients[row] for row in cases.rows[cases.targets == 1]}
        for cases in plugin.labels
    }
    return heatmap_rows(read_table(path), positives, split=study.split, plugin=plugin.plugin, sampling=sampling)


def _segmentation_rows(study: Study, path: Path, sampling: Sampling) -> Iterator[Row]:
    if len(study.plugins) != 1:
        raise UsageError(f"--segmentations: expected the predictions of one plugin, got {len(study.plugins)}")
    patients = dict(zip(study.cases, study.patients, strict=True))
    plugin, table = study.plugins[0].plugin, read_table(path)
    yield from segmentation_rows(table, patients, split=study.split, plugin=plugin, sampling=sampling)
    study.warnings.extend(left_out(table, study.cases))


def _probabilities(record: Path, study: Study) -> Iterator[str]:
    """What the record that ``predict`` left beside its table says of the probabilities; nothing without one."""
    try:
        recorded = json.loads(record.read_text(encoding="utf-8"))["probabilities"]
        states = {plugin: states_in_words(of) for plugin, of in recorded.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return
    for plugin, words in states.items():
        if len(states) == 1 or plugin in {plugin_study.plugin for plugin_study in study.plugins}:
            yield f"Probabilities of {plugin}: {words}."


def _claim(out: Path, identity: Mapping[str, object], *, overwrite: bool) -> None:
    is_evaluation = (out / RECORD).exists()
    if overwrite and is_evaluation:
        atomic.write_json(out / RECORD, identity)
    try:
        claim(out / RECORD, identity, "an evaluation")
    except RunFolderError as error:
        if not is_evaluation:
            raise
        raise RunFolderError(f"{error}; --overwrite replaces what is there") from error


def _curve(kind: str, cases: LabelCases, patients: list[str], sampling: Sampling) -> Curve:
    if kind == "reliability":
        return reliability_curve(cases.targets, cases.probabilities, patients, sampling)
    make = roc_curve if kind == "roc" else precision_recall_curve
    return make(cases.targets, cases.scores, patients, sampling)


def _draw_pictures(out: Path, curves: Sequence[Drawn], split: str) -> None:
    which = "all cases" if split == ALL else f"{split} split"
    for kind, (name, _) in PICTURES.items():
        of_kind = [drawn for drawn in curves if drawn.curve.kind == kind]
        if of_kind:
            draw_curves(out / name, of_kind, subtitle=which)
        else:
            (out / name).unlink(missing_ok=True)  # of an earlier run that had both outcomes


def _curve_rows(drawn: Drawn, split: str) -> Iterator[Row]:
    curve, band = drawn.curve, drawn.curve.band
    frame: Row = {"curve": curve.kind, "label": drawn.label, "plugin": drawn.plugin, "split": split}
    sizes = curve.sizes if curve.sizes is not None else np.full(curve.x.size, np.nan)
    for x, y, size in zip(curve.x, curve.y, sizes, strict=True):
        yield {**frame, "part": "curve", "x": _cell(x), "y": _cell(y), "n": None if np.isnan(size) else int(size)}
    for x, low, high in zip(band.x, band.low, band.high, strict=True):
        yield {**frame, "part": "band", "x": _cell(x), "low": _cell(low), "high": _cell(high)}


def _cell(value: float) -> float | None:
    return None if np.isnan(value) else float(f"{value:.9g}")


def _check_has_figures(study: Study) -> None:
    if any(cases.targets.size for plugin in study.plugins for cases in plugin.labels):
        return
    if study.numbers is not None and any(cases.truth.size for _, cases in study.numbers.cases):
        return
    which = "case" if study.split == ALL else f"{study.split} case"
    raise UsageError(
        f"nothing to evaluate: no {which} has both a prediction and a label"
        + (f" ({'; '.join(study.warnings)})" if study.warnings else "")
    )


def _label_record(settings: LabelSettings) -> dict[str, object]:
    return {"columns": list(settings.columns), "kind": settings.kind, "classes": list(settings.classes)}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
