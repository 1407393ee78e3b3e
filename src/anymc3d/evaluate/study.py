"""A study: predictions and labels in, the rows of ``metrics.csv`` out. Tables only, never a scan.

Where the manifest has splits, results are of ``test`` and thresholds are chosen on ``val`` alone: test labels cannot
move them. Cases that failed or are absent are counted (``failed_cases``), never dropped in silence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from anymc3d.errors import UsageError, did_you_mean
from anymc3d.evaluate.comparison import compare
from anymc3d.evaluate.covariate_rows import answers, covariate_rows
from anymc3d.evaluate.measures import (
    LabelCases,
    Measure,
    Sampling,
    class_accuracy,
    label_measures,
    macro_measures,
    pooled_crg,
)
from anymc3d.evaluate.number_study import (
    NumberPredictions,
    NumberStudy,
    number_labels,
    read_numbers,
    study_numbers,
)
from anymc3d.evaluate.operating_points import OperatingPoint
from anymc3d.evaluate.outputs import VALUE
from anymc3d.evaluate.predictions import (
    PluginPredictions,
    check_overlap,
    left_out,
    read_predictions,
    shown_few,
)
from anymc3d.evaluate.selective import abstains, apart, selective_cases, selective_measures, set_measures
from anymc3d.evaluate.severity import Severity, severities
from anymc3d.evaluate.study_points import PLUGIN_POINT, Points, choose_points, label_cases
from anymc3d.evaluate.study_rows import ALL, Row, failed_row, failures, row_of, threshold_rows
from anymc3d.evaluate.targets import encode_targets
from anymc3d.evaluate.weighted import Floats
from anymc3d.settings.config import LabelSettings

MAX_GROUP_VALUES = 20
_SEEN = {"train": "which the weights were fitted on", "val": "which the epoch was chosen on"}
"""Splits of which results flatter, and why."""


@dataclass(frozen=True, kw_only=True)
class StudySettings:
    """What to report."""

    groups: tuple[str, ...] = ()
    """Manifest columns whose values become subgroups."""
    operating_points: tuple[str, ...] | None = None
    """Criteria chosen on ``val``; None: Youden's J where there are ``val`` predictions, nothing where not."""
    severity: tuple[str, ...] = ()
    """Grade columns (``COLUMN`` or ``LABEL=COLUMN``) to read the labels by; see :mod:`anymc3d.evaluate.severity`."""
    sampling: Sampling = field(default_factory=Sampling)


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
class Study:
    """The result: rows of ``metrics.csv``, warnings for the reader, and what the curves are drawn from."""

    rows: list[Row]
    warnings: list[str]
    split: str
    plugins: tuple[PluginStudy, ...]
    patients: NDArray[np.object_]
    """Of the evaluated cases, which ``LabelCases.rows`` count."""
    cases: NDArray[np.object_]
    """Their ids."""
    severity_groups: tuple[str, ...] = ()
    """The groups of the severity tables."""
    numbers: NumberStudy | None = None
    """Of labels that are numbers."""
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
    split, evaluated, for_thresholds = _choose_rows(manifest)
    ids = [row["case"] for row in manifest]
    of_classes, of_numbers = _by_kind(predictions)
    per_plugin, warnings = [], left_out(of_numbers, ids)
    if of_classes or not of_numbers:
        per_plugin, warnings = read_predictions(of_classes, ids, known=known, plugin=plugin)
    _check_groups(settings.groups, manifest)
    patients = np.array([row.get("patient") or row["case"] for row in manifest], dtype=object)
    cases = _Cases(manifest, split, evaluated, for_thresholds, patients)
    numbers, lost = _numbers(of_numbers, cases, plugin, settings) if of_numbers else (None, [])
    warnings = [*warnings, *lost]
    plugin_results = [_of_plugin(predictions, cases, settings) for predictions in per_plugin]
    rows = [row for result in plugin_results for row in result.rows] + _compared_rows(
        plugin_results, cases, settings.sampling
    )
    parted = [result.answers for result in plugin_results if result.answers]
    rows += [] if numbers is None else numbers.rows
    rows += [row for part in parted for row in covariate_rows(part, patients[evaluated], split, settings.sampling)]
    return Study(
        rows=rows,
        warnings=list(dict.fromkeys([*warnings, *(line for result in plugin_results for line in result.warnings)])),
        split=split,
        plugins=tuple(result.study for result in plugin_results),
        patients=patients[evaluated],
        cases=np.array([row["case"] for row in manifest], dtype=object)[evaluated],
        severity_groups=tuple(dict.fromkeys(group for result in plugin_results for group in result.severity_groups)),
        numbers=numbers,
        with_covariates=tuple(name for part in parted for name, _ in part),
    )


@dataclass(frozen=True)
class _Cases:
    """The rows of the manifest: which are evaluated, on which thresholds may be chosen, and whose they are."""

    manifest: Sequence[Mapping[str, str]]
    split: str
    evaluated: NDArray[np.intp]
    for_thresholds: NDArray[np.intp]
    patients: NDArray[np.object_]


@dataclass(frozen=True)
class _PluginResult:
    """What one plugin contributes to the study."""

    rows: list[Row]
    warnings: list[str]
    study: PluginStudy
    severity_groups: list[str]
    answers: list[tuple[str, list[LabelCases]]]
    """Of a plugin with covariates: both, the image alone, the covariates alone."""


def _of_plugin(predictions: PluginPredictions, cases: _Cases, settings: StudySettings) -> _PluginResult:
    split, evaluated, source, patients = cases.split, cases.evaluated, cases.for_thresholds, cases.patients
    frame = {"split": split, "plugin": predictions.plugin}
    targets = (
        encode_targets(cases.manifest, predictions.settings)
        if predictions.settings
        else np.zeros((len(cases.manifest), 0))
    )
    points = choose_points(predictions, targets, source, settings.operating_points, evaluated=evaluated, split=split)
    warnings = _warnings(predictions, split, evaluated, source, points) + _one_outcome(
        predictions, targets[evaluated], split
    )
    rows = list(threshold_rows(points, predictions.plugin))
    whole: list[LabelCases] = []
    for group, members in _groups(cases.manifest, evaluated, settings.groups):
        labels = label_cases(predictions, targets, members, points)
        whole = labels if group == ALL else whole
        rows.append(failed_row(predictions, members, group, frame))
        rows += _group_rows(predictions, labels, patients[members], settings.sampling, {**frame, "group": group})
        rows += _selective_rows(
            predictions, labels, targets, members, patients, settings.sampling, {**frame, "group": group}
        )
    graded = list(severities(predictions, cases.manifest, settings.severity))
    for table in graded:
        rows += _severity_rows(table, evaluated, source, patients, settings, frame)
    chosen = {label: {n: p for n, p in of.items() if not isinstance(p, str)} for label, of in points.items()}
    groups = [comparison.group for table in graded for comparison in table.comparisons]
    parted = answers(predictions, targets, evaluated)
    return _PluginResult(
        rows,
        warnings,
        PluginStudy(predictions.plugin, tuple(whole), chosen, predictions.settings, abstains(predictions)),
        groups,
        parted,
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
    predictions: Sequence[Mapping[str, str]], cases: _Cases, plugin: str, settings: StudySettings
) -> tuple[NumberStudy, list[str]]:
    """The results of labels that are numbers, and what to say of them."""
    ids = [row["case"] for row in cases.manifest]
    check_overlap([row["case"] for row in predictions], ids)
    predicted = read_numbers(predictions, ids, plugin=plugin)
    groups = list(_groups(cases.manifest, cases.evaluated, settings.groups))
    found = study_numbers(predicted, cases.manifest, groups, cases.patients, cases.split, settings.sampling)
    return found, list(_lost(predicted, cases.split, cases.evaluated))


def _lost(predicted: Sequence[NumberPredictions], split: str, evaluated: NDArray[np.intp]) -> Iterator[str]:
    """Lines on cases without a number, and on rows that flatter."""
    for predictions in predicted:
        num_error, num_absent = failures(predictions, evaluated)
        if num_error + num_absent:
            name, which = (
                f"plugin {predictions.plugin!r}: " if predictions.plugin else "",
                "" if split == ALL else f"{split} ",
            )
            count = f"{num_error + num_absent} of {evaluated.size} {which}cases have no prediction and are not in"
            yield f"{name}{count} the results ({num_error} failed, {num_absent} not in the table)"
    if split in _SEEN:
        yield f"the manifest has no test rows: the results are of its {split} rows, {_SEEN[split]}"


def _compared_rows(plugin_results: Sequence[_PluginResult], cases: _Cases, sampling: Sampling) -> list[Row]:
    """Every pair of plugins on the cases that both have."""
    plugins = [(result.study.plugin, result.study.labels) for result in plugin_results]
    rows: list[Row] = []
    for pair in compare(plugins, cases.patients[cases.evaluated], sampling):
        frame = {"label": pair.label, "group": ALL, "split": cases.split, "plugin": " - ".join(pair.plugins)}
        rows += [row_of(measure, frame) for measure in pair.measures()]
    return rows


def _choose_rows(manifest: Sequence[Mapping[str, str]]) -> tuple[str, NDArray[np.intp], NDArray[np.intp]]:
    """Return the evaluated split, its rows, and the rows on which thresholds may be chosen."""
    if not manifest:
        raise UsageError("the manifest has no rows")
    splits = np.array([row.get("split", "") for row in manifest])
    names = sorted(set(splits) - {""})
    if not names:
        return ALL, np.arange(len(manifest)), np.array([], dtype=np.intp)
    if "test" in names:
        return "test", np.flatnonzero(splits == "test"), np.flatnonzero(splits == "val")
    if len(names) == 1:
        return names[0], np.flatnonzero(splits == names[0]), np.array([], dtype=np.intp)
    raise UsageError(
        f"the manifest has a split column with {', '.join(names)} but no test rows, and results are of the test rows; "
        "give a manifest with test rows, or one without the split column to evaluate all of it"
    )


def _check_groups(groups: Sequence[str], manifest: Sequence[Mapping[str, str]]) -> None:
    for column in groups:
        if column not in manifest[0]:
            raise UsageError(f"the manifest has no column {column!r} to group by{did_you_mean(column, manifest[0])}")
        num_values = len({row[column] for row in manifest})
        if num_values > MAX_GROUP_VALUES:
            msg = f"column {column!r} has {num_values} different values, at most {MAX_GROUP_VALUES} make groups"
            raise UsageError(f"{msg}; add a column of ranges, for instance {column}_group")


def _groups(
    manifest: Sequence[Mapping[str, str]], evaluated: NDArray[np.intp], columns: Sequence[str]
) -> Iterator[tuple[str, NDArray[np.intp]]]:
    """Yield (group name, its evaluated rows): ``all``, then ``<column>=<value>``; an empty cell is ``(missing)``."""
    yield ALL, evaluated
    for column in columns:
        values = np.array([manifest[row][column] for row in evaluated], dtype=object)
        for value in sorted(set(values), key=lambda text: (text == "", len(text) if text.isdigit() else 0, text)):
            yield f"{column}={value or '(missing)'}", evaluated[values == value]


def _group_rows(
    predictions: PluginPredictions,
    labels: Sequence[LabelCases],
    patients: NDArray[np.object_],
    sampling: Sampling,
    frame: Mapping[str, str],
) -> Iterator[Row]:
    for part, point in apart(labels):
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
    """Of a table with decisions that are not answered, or with prediction sets."""
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


def _one_outcome(predictions: PluginPredictions, targets: Floats, split: str) -> list[str]:
    """A line for every label of which the evaluated rows, (n, L), have no positive, no negative, or no value."""
    lines = []
    rows = "rows" if split == ALL else f"{split} rows"
    for label, column in zip(predictions.labels, targets.T, strict=True):
        known = column[~np.isnan(column)]
        if not known.size:
            lines.append(f"{label}: no label in any of the {rows}: all its results are undefined")
        elif known.min() == known.max():
            counts = f"{int(known.sum())} positive of {known.size}"
            lines.append(f"{label}: the {rows} have one outcome only ({counts}): AUROC and others are undefined")
    return lines


def _warnings(
    predictions: PluginPredictions, split: str, evaluated: NDArray[np.intp], source: NDArray[np.intp], points: Points
) -> list[str]:
    name = f"plugin {predictions.plugin!r}: " if predictions.plugin else ""
    lines = []
    for what, members in ((split, evaluated), ("val", source)):
        num_error, num_absent = failures(predictions, members)
        if num_absent == members.size and what == "val":
            if num_absent:
                lines.append(f"{name}no prediction of a val row: only the plugin's own decisions are evaluated")
        elif num_error + num_absent:
            which = "" if what == ALL else f"{what} "
            msg = f"{name}{num_error + num_absent} of {members.size} {which}cases have no prediction and are not in"
            lines.append(f"{msg} the results ({num_error} failed, {num_absent} not in the table)")
    if split in _SEEN:
        lines.append(f"the manifest has no test rows: the results are of its {split} rows, {_SEEN[split]}")
    unchosen = [f"{label}: {point}" for label, of in points.items() for point in of.values() if isinstance(point, str)]
    return lines + ([f"{name}{shown_few(list(dict.fromkeys(unchosen)))}"] if unchosen else [])
