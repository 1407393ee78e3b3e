"""Label cells to targets, and the guess of what a label column means."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise

import numpy as np

from anymc3d.data.case import Case
from anymc3d.data.label_words import MISSING_WORDS, doubtful, negative_first, stand_for_missing
from anymc3d.data.manifest import Manifest, label_column_problems
from anymc3d.errors import ManifestError
from anymc3d.files.spelling import as_seen
from anymc3d.settings.config import LabelSettings

MAX_NUMERIC_CLASSES = 20
MAX_CLASSES = 100
MAX_LABEL = 1e12
"""Of a label that is a number."""
NUMBER_STRATA = 5
"""Parts of the range of a number that splits and folds deal out evenly."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def encode(cases: Sequence[Case], settings: LabelSettings) -> np.ndarray:
    """Targets of ``cases``: float64 (n, L), NaN where the cell is empty.

    Binary and multi-class: one column holding the class index. Multi-label: 0 or 1 per column. Regression: the number.

    Raises:
        ManifestError: with every cell that is none of the classes, or no number, by row and case.
    """
    targets, problems = _encode(cases, settings)
    if problems:
        raise ManifestError(f"labels {', '.join(settings.columns)}", problems)
    return targets


def label_problems(cases: Sequence[Case], settings: LabelSettings) -> list[str]:
    """Every label cell of ``cases`` that is none of the classes, one line each."""
    return _encode(cases, settings)[1]


def unlearnable(targets: np.ndarray, settings: LabelSettings) -> list[str]:
    """One line per label that cannot be learnt from ``targets`` (n, L): it has no value, or a class has no case."""
    problems = []
    if settings.is_number:
        known = targets[~np.isnan(targets)]
        if len(np.unique(known)) < 2:
            problems.append(f"{settings.columns[0]!r}: expected different numbers, got {np.unique(known).tolist()}")
        return problems
    for column, values in zip(settings.columns, targets.T, strict=True):
        absent = absent_classes(values, settings)
        if np.isnan(values).all():
            problems.append(f"{column!r} is empty in every case; give it labels, or leave it out of labels.columns")
        elif absent:
            what = "class" if len(absent) == 1 else "classes"
            problems.append(
                f"no case of {column!r} has the {what} {', '.join(map(repr, absent))}, which cannot be learnt then; "
                "move such a case here, or leave it out of the task"
            )
    return problems


def absent_classes(values: np.ndarray, settings: LabelSettings) -> list[str]:
    """The classes that none of ``values`` (n,), a column of targets, has; a number has no classes."""
    if settings.is_number:
        return []
    classes = settings.classes or ("0", "1")
    return [name for index, name in enumerate(classes) if not (values == index).any()]


def guess_labels(manifest: Manifest, columns: Sequence[str]) -> tuple[LabelSettings, list[str]]:
    """What the label columns mean, and one reason per choice. Rows of the test split are not looked at.

    One column of 0/1 or of two values is binary, of more values multi-class, of more than twenty different numbers a
    number; several columns are multi-label.

    Raises:
        ManifestError: a column is absent, empty, constant, or looks like an identifier.
    """
    problems = label_column_problems(manifest.columns, columns)
    if not columns:
        problems.append("no label column was named")
    cases = [case for case in manifest.cases if case.split != "test"]
    problems += [problem for column in columns for problem in _unusable(cases, column)] if not problems else []
    if problems:
        raise ManifestError(str(manifest.path), problems)
    if len(columns) > 1:
        problems = [problem for column in columns for problem in _not_binary(cases, column)]
        if problems:
            raise ManifestError(str(manifest.path), problems)
        return LabelSettings(columns=tuple(columns), kind="multilabel"), [
            f"{len(columns)} columns of 0/1: one yes/no question each"
        ]
    return _guess_one(cases, columns[0])


def missing_codes(cases: Sequence[Case], column: str) -> dict[str, tuple[str, list[Case]]]:
    """Of one column the values that stand for "not known": what to say of each, and the cases that have it."""
    values = {value for value in _values(cases, column) if value.lower() not in MISSING_WORDS}
    stand_ins = stand_for_missing(natural_order(values)) if len(values) <= MAX_CLASSES else {}
    codes = {}
    for value, others in stand_ins.items():
        group = [case for case in cases if canonical(case.cells[column]) == value]
        cells = "1 cell is" if len(group) == 1 else f"{len(group)} cells are"
        codes[value] = (f"{cells} {value!r} beside {others}", group)
    return codes


def _code_problem(column: str, what: str, group: Sequence[Case]) -> str:
    rows = ", ".join(str(case.row) for case in group[:5]) + (", …" if len(group) > 5 else "")
    return (
        f"row {group[0].row}: column {column!r}: {what} (rows {rows}): empty them if it means not known; if it is a"
        " class of its own, give it a name that says so"
    )


def guesses(labels: LabelSettings) -> list[str]:
    """What :func:`guess_labels` could not know of these classes and a person should check; one line each."""
    column = labels.columns[0]
    if labels.kind == "binary" and labels.classes != ("0", "1") and not negative_first(*labels.classes)[1]:
        negative, positive = labels.classes
        return [
            f"{column}: that {positive!r} is positive and {negative!r} negative is a guess (the second in order); swap"
            " labels.classes if it is the other way round"
        ]
    doubts = doubtful(labels.classes) if labels.kind == "multiclass" else []
    if doubts:
        names = " and ".join(map(repr, doubts))
        return [f"{column}: {names} became a class of its own; empty these cells if it means not known"]
    return []


def canonical(cell: str) -> str:
    """One spelling per value: ``1``, ``1.0`` and ``+1`` are the same class; other text is itself."""
    if not _NUMBER.fullmatch(cell):
        return cell
    value = float(cell)
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)


def natural_order(texts: Iterable[str]) -> list[str]:
    """Numbers by value, then text with its digits by value: ``grade2`` before ``grade10``."""

    def key(text: str) -> tuple:
        if _NUMBER.fullmatch(text):
            return (0, float(text), "")
        parts = re.split(r"(\d+)", text.casefold())
        return (1, 0.0, [(int(part), "") if part.isdecimal() else (-1, part) for part in parts], text)

    return sorted(texts, key=key)


def _encode(cases: Sequence[Case], settings: LabelSettings) -> tuple[np.ndarray, list[str]]:
    if settings.is_number:
        return _encode_numbers(cases, settings.columns[0])
    classes = settings.classes or ("0", "1")
    index = {canonical(name): position for position, name in enumerate(classes)}
    problems = [] if len(index) == len(classes) else [f"labels.classes: two of {list(classes)} are the same number"]
    targets = np.full((len(cases), len(settings.columns)), np.nan)
    for i, case in enumerate(cases):
        for j, column in enumerate(settings.columns):
            cell = case.cells.get(column)
            if cell is None:
                problems.append(f"row {case.row}: case {case.id!r}: the manifest has no column {column!r}")
            elif cell:
                position = index.get(canonical(cell))
                if position is None:
                    expected = f"expected {' or '.join(classes[:12])}, or an empty cell for missing"
                    problems.append(f"row {case.row}: case {case.id!r}: {column} is {cell!r}, {expected}")
                else:
                    targets[i, j] = position
    return targets, problems


def _encode_numbers(cases: Sequence[Case], column: str) -> tuple[np.ndarray, list[str]]:
    targets, problems = np.full((len(cases), 1), np.nan), []
    for i, case in enumerate(cases):
        cell = case.cells.get(column)
        if cell is None:
            problems.append(f"row {case.row}: case {case.id!r}: the manifest has no column {column!r}")
        elif cell and not (_NUMBER.fullmatch(cell) and abs(float(cell)) <= MAX_LABEL):
            expected = "expected a number, or an empty cell for missing"
            problems.append(f"row {case.row}: case {case.id!r}: {column} is {cell!r}, {expected}")
        elif cell:
            targets[i, 0] = float(cell)
    return targets, problems


def strata(targets: np.ndarray, settings: LabelSettings) -> np.ndarray:
    """What splits and folds deal out evenly: targets (n, L) as they are; of a number its fifth of the cases."""
    if not settings.is_number:
        return targets
    values = targets[:, 0]
    known = np.sort(values[~np.isnan(values)])
    if not known.size:
        return targets
    bounds = known[[known.size * part // NUMBER_STRATA for part in range(1, NUMBER_STRATA)]]
    fifths = np.searchsorted(bounds, values, side="right").astype(np.float64)
    return np.where(np.isnan(values), np.nan, fifths)[:, None]


def _values(cases: Sequence[Case], column: str) -> set[str]:
    return {canonical(case.cells[column]) for case in cases if case.cells[column]}


def _unusable(cases: Sequence[Case], column: str) -> list[str]:
    problems = [
        f"row {case.row}: case {case.id!r}: {column} is {case.cells[column]!r}; an empty cell means missing"
        for case in cases
        if case.cells[column].lower() in MISSING_WORDS
    ]
    values = {value for value in _values(cases, column) if value.lower() not in MISSING_WORDS}
    codes = missing_codes(cases, column)
    problems += [_code_problem(column, what, group) for what, group in codes.values()]
    values -= set(codes)
    folded = {as_seen(value) for value in values}
    if not values:
        problems.append(f"column {column!r}: no row (outside the test split) has a label")
    elif len(values) == 1:
        problems.append(f"column {column!r}: every label is {values.pop()!r}; two classes are needed")
    elif len(folded) < len(values):
        cased = len({value.casefold() for value in values}) < len(values)
        what = "upper and lower case" if cased else "signs that look alike or are not seen"
        examples = natural_order(values)[:10] if cased else [ascii(value) for value in natural_order(values)[:10]]
        problems.append(f"column {column!r}: values differ only in {what}: {examples}")
    if is_measurement(values):
        if _counts_rows(values):
            problems.append(f"column {column!r}: {len(values)} numbers without a gap look like identifiers, not labels")
    elif len(values) > MAX_CLASSES:
        problems.append(f"column {column!r}: {len(values)} different texts look like identifiers, not classes")
    return problems


def is_measurement(values: Collection[str]) -> bool:
    """Whether the values of a column (in one spelling each) are so many numbers that they are no classes."""
    return len(values) > MAX_NUMERIC_CLASSES and all(_NUMBER.fullmatch(value) for value in values)


def _counts_rows(values: Collection[str]) -> bool:
    """Whether numbers are 1, 2, 3, … as ids are."""
    numbers = sorted(float(value) for value in values)
    return numbers[0] in (0, 1) and all(after - before == 1 for before, after in pairwise(numbers))


def _not_binary(cases: Sequence[Case], column: str) -> list[str]:
    return [
        f"row {case.row}: case {case.id!r}: {column} is {case.cells[column]!r}; with several label columns each is 0, 1"
        " or empty"
        for case in cases
        if canonical(case.cells[column]) not in ("", "0", "1")
    ]


def _guess_one(cases: Sequence[Case], column: str) -> tuple[LabelSettings, list[str]]:
    values = natural_order(_values(cases, column))
    if is_measurement(values):
        reason = (
            f"{len(values)} different numbers from {values[0]} to {values[-1]}: a measurement, predicted as a number; "
            "for classes make a column of them (for instance 0/1 at a threshold)"
        )
        return LabelSettings(columns=(column,), kind="regression"), [reason]
    if len(values) > 2:
        reason = f"{len(values)} different values: one class each, in natural order"
        if values == [str(number) for number in range(len(values))]:
            reason += "; if these are grades, kind: ordinal keeps to their order"
        return LabelSettings(columns=(column,), kind="multiclass", classes=tuple(values)), [reason]
    if values == ["0", "1"]:
        return LabelSettings(columns=(column,), kind="binary", classes=("0", "1")), ["only 0 and 1: 1 is positive"]
    classes, says_so = negative_first(*values)
    why = "by its name" if says_so else "the second in order, a guess: check it"
    reason = f"two values, {classes[1]!r} is positive ({why}); swap the classes to change that"
    return LabelSettings(columns=(column,), kind="binary", classes=classes), [reason]
