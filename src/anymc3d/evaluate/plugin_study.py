"""What one plugin contributes to a study: its rows, label by label and group by group, and its warnings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from anymc3d.evaluate.covariate_rows import answers
from anymc3d.evaluate.measures import (
    LabelCases,
    Measure,
    Sampling,
    class_accuracy,
    label_measures,
    macro_measures,
    pooled_crg,
)
from anymc3d.evaluate.operating_points import OperatingPoint
from anymc3d.evaluate.predictions import PluginPredictions
from anymc3d.evaluate.selective import abstains, cases_by_point, selective_cases, selective_measures, set_measures
from anymc3d.evaluate.severity import Severity, severities
from anymc3d.evaluate.study_cases import StudyCases, StudySettings, groups_of
from anymc3d.evaluate.study_points import PLUGIN_POINT, choose_points, label_cases
from anymc3d.evaluate.study_rows import ALL, Row, failed_row, row_of, threshold_rows
from anymc3d.evaluate.study_warnings import one_outcome, plugin_warnings
from anymc3d.evaluate.targets import encode_targets
from anymc3d.evaluate.weighted import Floats
from anymc3d.settings.config import LabelSettings


@dataclass(frozen=True)
class PluginStudy:
    """One plugin's evaluated cases, label by label, and the thresholds chosen for it."""

    plugin: str
    labels: tuple[LabelCases, ...]
    points: Mapping[str, Mapping[str, OperatingPoint]]
    """Label -> criterion -> operating point."""
    settings: LabelSettings | None = None
    """What its labels mean; None where every case failed."""
    abstains: bool = False
    """Whether it left decisions unanswered."""


@dataclass(frozen=True)
class PluginResult:
    """What one plugin contributes to the study."""

    rows: list[Row]
    warnings: list[str]
    study: PluginStudy
    severity_groups: list[str]
    answers: list[tuple[str, list[LabelCases]]]
    """The answers of a plugin with covariates: both, the image alone, the covariates alone."""


def study_plugin(predictions: PluginPredictions, cases: StudyCases, settings: StudySettings) -> PluginResult:
    """The rows of one plugin, its warnings, and what comparisons and curves need of it."""
    split, evaluated, source, patients = cases.split, cases.evaluated, cases.for_thresholds, cases.patients
    frame = {"split": split, "plugin": predictions.plugin}
    known = predictions.settings
    targets = encode_targets(cases.manifest, known) if known else np.zeros((len(cases.manifest), 0))
    points = choose_points(predictions, targets, source, settings.operating_points, evaluated=evaluated, split=split)
    rows = list(threshold_rows(points, predictions.plugin))
    whole: list[LabelCases] = []
    for group, members in groups_of(cases.manifest, evaluated, settings.groups):
        labels = label_cases(predictions, targets, members, points)
        whole = labels if group == ALL else whole
        of_group = {**frame, "group": group}
        rows.append(failed_row(predictions, members, group, frame))
        rows += _group_rows(predictions, labels, patients[members], settings.sampling, of_group)
        rows += _selective_rows(predictions, labels, targets, members, patients, settings.sampling, of_group)
    graded = list(severities(predictions, cases.manifest, settings.severity))
    for table in graded:
        rows += _severity_rows(table, evaluated, source, patients, settings, frame)
    chosen = {label: {n: p for n, p in of.items() if not isinstance(p, str)} for label, of in points.items()}
    return PluginResult(
        rows=rows,
        warnings=[
            *plugin_warnings(predictions, split, evaluated, source, points),
            *one_outcome(predictions, targets[evaluated], split),
        ],
        study=PluginStudy(predictions.plugin, tuple(whole), chosen, known, abstains(predictions)),
        severity_groups=[comparison.group for table in graded for comparison in table.comparisons],
        answers=answers(predictions, targets, evaluated),
    )


def _group_rows(
    predictions: PluginPredictions,
    labels: Sequence[LabelCases],
    patients: NDArray[np.object_],
    sampling: Sampling,
    frame: Mapping[str, str],
) -> Iterator[Row]:
    for part, point in cases_by_point(labels):
        for label, measure in _group_measures(predictions, part, patients, sampling):
            if point is None or measure.point == point:
                yield row_of(measure, {**frame, "label": label})


def _group_measures(
    predictions: PluginPredictions, labels: Sequence[LabelCases], patients: NDArray[np.object_], sampling: Sampling
) -> Iterator[tuple[str, Measure]]:
    for cases in labels:
        for measure in label_measures(cases, patients[cases.rows], sampling):
            yield cases.label, measure
    if predictions.settings is None or len(labels) < 2:
        return
    if predictions.settings.one_of_classes:
        strata = np.full(patients.size, -1.0)
        for index, cases in enumerate(labels):
            strata[cases.rows[cases.targets == 1]] = index
        for measure in macro_measures(labels, patients, strata, sampling, without=("crg", "accuracy")):
            yield "macro", measure
        if PLUGIN_POINT in labels[0].decisions:
            yield predictions.settings.columns[0], class_accuracy(labels, patients, sampling)
        return
    for measure in macro_measures(labels, patients, None, sampling):
        yield "macro", measure
    for measure in pooled_crg(labels, patients, sampling):
        yield "pooled", measure


def _selective_rows(
    predictions: PluginPredictions,
    labels: Sequence[LabelCases],
    targets: Floats,
    members: NDArray[np.intp],
    patients: NDArray[np.object_],
    sampling: Sampling,
    frame: Mapping[str, str],
) -> Iterator[Row]:
    """Rows of a table with decisions that are not answered, or with prediction sets."""
    measures = []
    if abstains(predictions):
        measures += list(
            selective_measures(selective_cases(labels, class_column(predictions.settings)), patients[members], sampling)
        )
    if predictions.sets is not None:
        parts = {name: getattr(predictions, name)[members] for name in ("logits", "sets")}
        measures += list(set_measures(replace(predictions, **parts), targets[members], patients[members], sampling))
    for label, measure in measures:
        yield row_of(measure, {**frame, "label": label})


def class_column(settings: LabelSettings | None) -> str | None:
    """The column of a task that decides between classes; None of any other."""
    return settings.columns[0] if settings is not None and settings.one_of_classes else None


def _severity_rows(
    graded: Severity,
    evaluated: NDArray[np.intp],
    source: NDArray[np.intp],
    patients: NDArray[np.object_],
    settings: StudySettings,
    frame: Mapping[str, str],
) -> Iterator[Row]:
    """Every comparison of one severity table, at the thresholds of the lowest grade against all others."""
    points = choose_points(
        graded.one,
        graded.any_grade[:, None],
        source,
        settings.operating_points,
        evaluated=evaluated,
        split=frame["split"],
        with_evaluated=True,
    )
    yield from threshold_rows(points, frame["plugin"], graded.comparisons[-1].group)
    for comparison in graded.comparisons:
        members = evaluated[~np.isnan(comparison.targets[evaluated])]
        yield failed_row(graded.one, members, comparison.group, frame)
        labels = label_cases(graded.one, comparison.targets[:, None], members, points)
        yield from _group_rows(
            graded.one, labels, patients[members], settings.sampling, {**frame, "group": comparison.group}
        )
