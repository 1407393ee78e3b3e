"""A study: predictions and labels in, the rows of ``metrics.csv`` out. Tables only, never a scan.

Where the manifest has splits, results are of ``test`` and thresholds are chosen on ``val`` alone: test labels cannot
move them. Cases that failed or are absent are counted (``failed_cases``), never dropped in silence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anymc3d.evaluate.comparison import compare
from anymc3d.evaluate.covariate_rows import covariate_rows
from anymc3d.evaluate.measures import Sampling
from anymc3d.evaluate.outputs import VALUE
from anymc3d.evaluate.plugin_study import PluginResult, PluginStudy, study_plugin
from anymc3d.evaluate.predictions import check_overlap, left_out, read_predictions
from anymc3d.evaluate.regression.study import NumberStudy, number_labels, read_numbers, study_numbers
from anymc3d.evaluate.study_cases import StudyCases, StudySettings, check_groups, choose_rows, groups_of
from anymc3d.evaluate.study_rows import ALL, Row, row_of
from anymc3d.evaluate.study_warnings import number_warnings
from anymc3d.settings.config import LabelSettings


@dataclass(frozen=True)
class Study:
    """The result: rows of ``metrics.csv``, warnings for the reader, and what the curves are drawn from."""

    rows: list[Row]
    warnings: list[str]
    split: str
    plugins: tuple[PluginStudy, ...]
    patients: NDArray[np.object_]
    """The patients of the evaluated cases, in the order that ``LabelCases.rows`` count."""
    cases: NDArray[np.object_]
    """Their ids."""
    severity_groups: tuple[str, ...] = ()
    """The groups of the severity tables."""
    numbers: NumberStudy | None = None
    """The results of labels that are numbers."""
    with_covariates: tuple[str, ...] = ()
    """What both, the image and the covariates are called in rows of plugins that have covariates."""


def evaluate_rows(
    predictions: Sequence[Mapping[str, str]],
    manifest: Sequence[Mapping[str, str]],
    *,
    labels: LabelSettings | None = None,
    plugin: str = "",
    settings: StudySettings | None = None,
) -> list[Row]:
    """Return the rows of ``metrics.csv``; see :func:`evaluate_study`."""
    known = () if labels is None else (labels,)
    return evaluate_study(predictions, manifest, known=known, plugin=plugin, settings=settings).rows


def evaluate_study(
    predictions: Sequence[Mapping[str, str]],
    manifest: Sequence[Mapping[str, str]],
    *,
    known: Sequence[LabelSettings] = (),
    plugin: str = "",
    settings: StudySettings | None = None,
) -> Study:
    """Evaluate predictions against labels.

    Args:
        predictions: rows of ``predictions.csv`` as text.
        manifest: one row per case as text: ``case``, optionally ``patient`` and ``split``, and the label columns.
        known: what label columns mean, where cells are not 0 and 1 (from the task file).
        plugin: the name of the only plugin of a table without a ``plugin`` column.
        settings: groups, operating points and resampling.

    Raises:
        UsageError: the tables do not fit each other, or settings that these tables cannot serve.
        ProblemsError: faulty cells, all of them named.
    """
    settings = settings or StudySettings()
    split, evaluated, for_thresholds = choose_rows(manifest)
    ids = [row["case"] for row in manifest]
    of_classes, of_numbers = _by_kind(predictions)
    per_plugin, warnings = [], left_out(of_numbers, ids)
    if of_classes or not of_numbers:
        per_plugin, warnings = read_predictions(of_classes, ids, known=known, plugin=plugin)
    check_groups(settings.groups, manifest)
    patients = np.array([row.get("patient") or row["case"] for row in manifest], dtype=object)
    cases = StudyCases(manifest, split, evaluated, for_thresholds, patients)
    numbers, number_lines = _numbers(of_numbers, cases, plugin, settings) if of_numbers else (None, [])
    results = [study_plugin(answers, cases, settings) for answers in per_plugin]
    warnings = [*warnings, *number_lines, *(line for result in results for line in result.warnings)]
    parted = [result.answers for result in results if result.answers]
    rows = [row for result in results for row in result.rows]
    rows += _compared_rows(results, cases, settings.sampling)
    rows += [] if numbers is None else numbers.rows
    rows += [row for part in parted for row in covariate_rows(part, patients[evaluated], split, settings.sampling)]
    return Study(
        rows=rows,
        warnings=list(dict.fromkeys(warnings)),
        split=split,
        plugins=tuple(result.study for result in results),
        patients=patients[evaluated],
        cases=np.array(ids, dtype=object)[evaluated],
        severity_groups=tuple(dict.fromkeys(group for result in results for group in result.severity_groups)),
        numbers=numbers,
        with_covariates=tuple(name for part in parted for name, _ in part),
    )


def _by_kind(
    predictions: Sequence[Mapping[str, str]],
) -> tuple[list[Mapping[str, str]], list[Mapping[str, str]]]:
    """The rows of plugins that answer classes, and of those that answer numbers."""
    columns = [f"{VALUE}.{label}" for label in number_labels(list(predictions[0]) if predictions else [])]
    if not columns:
        return list(predictions), []
    if not any(column.startswith("logit.") for column in predictions[0]):
        return [], list(predictions)
    numeric = {row.get("plugin", "") for row in predictions if any(row[column] for column in columns)}
    of_numbers = [row for row in predictions if row.get("plugin", "") in numeric]
    return [row for row in predictions if row.get("plugin", "") not in numeric], of_numbers


def _numbers(
    predictions: Sequence[Mapping[str, str]], cases: StudyCases, plugin: str, settings: StudySettings
) -> tuple[NumberStudy, list[str]]:
    """The results of labels that are numbers, and what to say of them."""
    ids = [row["case"] for row in cases.manifest]
    check_overlap([row["case"] for row in predictions], ids)
    predicted = read_numbers(predictions, ids, plugin=plugin)
    groups = list(groups_of(cases.manifest, cases.evaluated, settings.groups))
    study = study_numbers(predicted, cases.manifest, groups, cases.patients, cases.split, settings.sampling)
    return study, number_warnings(predicted, cases.split, cases.evaluated)


def _compared_rows(plugin_results: Sequence[PluginResult], cases: StudyCases, sampling: Sampling) -> list[Row]:
    """Every pair of plugins on the cases that both have."""
    plugins = [(result.study.plugin, result.study.labels) for result in plugin_results]
    rows: list[Row] = []
    for pair in compare(plugins, cases.patients[cases.evaluated], sampling):
        frame = {"label": pair.label, "group": ALL, "split": cases.split, "plugin": " - ".join(pair.plugins)}
        rows += [row_of(measure, frame) for measure in pair.measures()]
    return rows
