"""A study of labels that are numbers: columns ``value.<label>`` of predictions and the manifest's cells in, rows of
``metrics.csv`` out. Rows are chosen as for other labels: of the ``test`` split where there is one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from anymc3d.errors import ManifestError, ProblemsError, UsageError, did_you_mean
from anymc3d.evaluate.covariates import PARTS, SAYS
from anymc3d.evaluate.intervals import holm
from anymc3d.evaluate.measures import Measure, Sampling
from anymc3d.evaluate.metrics import Metric
from anymc3d.evaluate.outputs import VALUE
from anymc3d.evaluate.regression.metrics import ErrorTest, NumberCases, compare_errors, number_measures
from anymc3d.evaluate.study_rows import ALL, Row, failed_row, row_of
from anymc3d.evaluate.weighted import Floats

BOTH = "both"
_SHOWN = 8
Groups = Sequence[tuple[str, NDArray[np.intp]]]


@dataclass(frozen=True, eq=False)
class NumberPredictions:
    """One plugin's numbers for one label, (n cases of the manifest,) each, NaN where there is none."""

    plugin: str
    label: str
    values: Floats
    states: tuple[str, ...]
    """Per case: ``ok``, ``warn``, ``error``, or ``absent`` where the table has no row."""
    parts: Mapping[str, Floats] = field(default_factory=dict)
    """The answers of the image and of the covariates alone, of a plugin with covariates."""


@dataclass(frozen=True, eq=False)
class NumberStudy:
    """``rows`` of ``metrics.csv``; of each plugin and label its evaluated ``cases``."""

    rows: list[Row]
    cases: list[tuple[str, NumberCases]]
    answers: tuple[str, ...] = ()
    """What both, the image and the covariates are called, of plugins with covariates."""


def number_labels(columns: Sequence[str]) -> list[str]:
    """The labels of a table of predictions that are numbers."""
    return [column.partition(".")[2] for column in columns if column.startswith(f"{VALUE}.")]


def read_numbers(
    rows: Sequence[Mapping[str, str]], case_ids: Sequence[str], *, plugin: str = ""
) -> list[NumberPredictions]:
    """The numbers of every plugin and label, in order of appearance.

    Raises:
        ProblemsError: duplicated cases, or cells that are no numbers.
    """
    position = {case: index for index, case in enumerate(case_ids)}
    by_plugin: dict[str, list[Mapping[str, str]]] = {}
    for row in rows:
        by_plugin.setdefault(row.get("plugin", plugin), []).append(row)
    problems: list[str] = []
    numbers = [
        _of_label(name, label, part, position, problems)
        for name, part in by_plugin.items()
        for label in number_labels(list(part[0]))
        if any(row.get(f"{VALUE}.{label}") for row in part)
    ]
    if problems:
        raise ProblemsError("predictions", problems, most=_SHOWN)
    return numbers


def _of_label(
    plugin: str, label: str, rows: Sequence[Mapping[str, str]], position: Mapping[str, int], problems: list[str]
) -> NumberPredictions:
    columns = [VALUE, *(part for part in PARTS if any(row.get(f"{part}.{label}") for row in rows))]
    values = np.full((len(columns), len(position)), np.nan)
    states = ["absent"] * len(position)
    seen: set[str] = set()
    for row in rows:
        case = row["case"]
        if case in seen:
            problems.append(f"case {case!r}: appears twice; a case is predicted once per plugin")
        seen.add(case)
        if case not in position:
            continue
        states[position[case]] = row["status"]
        if row["status"] == "error":
            continue
        for number, column in enumerate(columns):
            value = _number(row.get(f"{column}.{label}", ""))
            if value is None:
                text = row.get(f"{column}.{label}", "")
                problems.append(f"case {case!r}: {column}.{label} is {text!r}, expected a finite number")
            else:
                values[number, position[case]] = value
    parts = dict(zip(columns[1:], values[1:], strict=True))
    return NumberPredictions(plugin, label, values[0], tuple(states), parts)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def true_numbers(rows: Sequence[Mapping[str, str]], column: str) -> Floats:
    """The label (n,), NaN where the cell is empty.

    Raises:
        UsageError: the manifest has no such column, or no cell of it is filled.
        ManifestError: cells that are no numbers.
    """
    if rows and column not in rows[0]:
        raise UsageError(f"the manifest has no label column {column!r}{did_you_mean(column, rows[0])}")
    numbers, problems = np.full(len(rows), np.nan), []
    for index, row in enumerate(rows):
        value = _number(row[column]) if row[column] else math.nan
        if value is None:
            problems.append(f"case {row['case']!r}: {column} is {row[column]!r}, expected a number")
        else:
            numbers[index] = value
    if problems:
        raise ManifestError("label cells", problems, most=_SHOWN)
    if np.isnan(numbers).all():
        raise UsageError(f"no labels: {column} empty in all {len(rows)} rows of the manifest")
    return numbers


def study_numbers(
    predicted: Sequence[NumberPredictions],
    manifest: Sequence[Mapping[str, str]],
    groups: Groups,
    patients: NDArray[np.object_],
    split: str,
    sampling: Sampling,
) -> NumberStudy:
    """Rows of every plugin, group and label; ``groups``: names with the evaluated rows of the manifest, ``all`` first;
    ``patients`` (n,) of the manifest's rows."""
    rows: list[Row] = []
    cases: list[tuple[str, NumberCases]] = []
    named: list[tuple[str, str, NumberCases]] = []
    answers: list[str] = []
    for predictions in predicted:
        truth = true_numbers(manifest, predictions.label)
        for group, members in groups:
            frame = {"split": split, "plugin": predictions.plugin, "group": group}
            rows.append(failed_row(predictions, members, group, frame))
            cases_of_group = _cases(predictions.label, predictions.values, truth, members)
            for measure in number_measures(cases_of_group, patients[members][cases_of_group.rows], sampling):
                rows.append(row_of(measure, {**frame, "label": predictions.label}))
            if group == ALL:
                cases.append((predictions.plugin, cases_of_group))
                named.append((predictions.plugin, predictions.label, cases_of_group))
        members = groups[0][1]
        parts = _parts(predictions, truth, members)
        answers += [name for name, _, _ in parts]
        rows += _part_rows(parts, patients[members], split, sampling)
    return NumberStudy([*rows, *_compared(named, patients[groups[0][1]], split, sampling)], cases, tuple(answers))


def _cases(label: str, values: Floats, truth: Floats, members: NDArray[np.intp]) -> NumberCases:
    rows = np.flatnonzero(~np.isnan(truth[members]) & ~np.isnan(values[members]))
    return NumberCases(label, rows, truth[members[rows]], values[members[rows]])


def _parts(
    predictions: NumberPredictions, truth: Floats, members: NDArray[np.intp]
) -> list[tuple[str, str, NumberCases]]:
    if not predictions.parts:
        return []
    before = f"{predictions.plugin}, " if predictions.plugin else ""
    parts = [(predictions.plugin or BOTH, predictions.values)]
    parts += [(f"{before}{SAYS[part]}", values) for part, values in predictions.parts.items()]
    return [(name, predictions.label, _cases(predictions.label, values, truth, members)) for name, values in parts]


def _part_rows(
    parts: Sequence[tuple[str, str, NumberCases]], patients: NDArray[np.object_], split: str, sampling: Sampling
) -> Iterator[Row]:
    for name, label, cases in parts[1:]:
        for measure in number_measures(cases, patients[cases.rows], sampling):
            yield row_of(measure, {"label": label, "group": ALL, "split": split, "plugin": name})
    yield from _compared(parts, patients, split, sampling)


def _compared(
    named: Sequence[tuple[str, str, NumberCases]], patients: NDArray[np.object_], split: str, sampling: Sampling
) -> Iterator[Row]:
    """Every two answers to one label, by their absolute errors on the cases that both have."""
    tests: list[tuple[dict[str, str], ErrorTest]] = []
    for (name, label, first), (other, same, second) in combinations(named, 2):
        if label != same:
            continue
        rows, left, right = np.intersect1d(first.rows, second.rows, return_indices=True)
        truth = first.truth[left]
        test = compare_errors(truth, first.predicted[left], second.predicted[right], patients[rows], sampling.level)
        tests.append(({"label": label, "group": ALL, "split": split, "plugin": f"{name} - {other}"}, test))
    known = [test.p_value for _, test in tests if test.p_value is not None]
    adjusted = iter(holm(known))
    for frame, test in tests:
        reason = test.interval.reason
        value = Metric(test.difference, "" if test.difference is not None else reason)
        yield row_of(Measure("mae_difference", "", value, test.interval, test.n, None), frame)
        p_holm = None if test.p_value is None else next(adjusted)
        for metric, p_value in (("mae_difference_p", test.p_value), ("mae_difference_p_holm", p_holm)):
            empty = replace(test.interval, low=None, high=None)
            p_metric = Metric(p_value, "" if p_value is not None else reason)
            yield row_of(Measure(metric, "", p_metric, empty, test.n, None), frame)
