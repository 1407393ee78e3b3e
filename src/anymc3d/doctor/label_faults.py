"""Faults of the labels, and ways in which something beside the anatomy gives them away."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from anymc3d.data.case import SPLITS, Case, is_metadata
from anymc3d.data.label_words import MISSING_WORDS
from anymc3d.data.labels import (
    MAX_CLASSES,
    canonical,
    encode,
    guess_labels,
    guesses,
    is_measurement,
    missing_codes,
    natural_order,
    strata,
)
from anymc3d.data.manifest import Manifest
from anymc3d.data.outcome_counts import lacking_outcomes, outcomes_of
from anymc3d.data.patients import patients_of
from anymc3d.data.splits import assign_splits
from anymc3d.doctor.checks import Finding, finding_of
from anymc3d.errors import ManifestError
from anymc3d.settings.config import DataSettings, LabelSettings

RARE = 10
"""A class with fewer cases."""
GIVEN_AWAY = 0.98
"""A word in the id that is in so many cases of a class, and in so few of the others, gives it away."""
SITE_STRENGTH = 0.5
"""Cramér's V between a site column and a label."""
_LEAST_EACH = 5
_MOST_SITES = 20
_SITE_WORDS = re.compile(
    r"\b(site|cent(er|re)|hospital|clinic|institution|scanner|vendor|manufacturer|model|device|station|protocol|kernel"
    r"|sequence|coil|field|strength|kvp|source|dataset|cohort|batch|year|study)\b"
)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


@dataclass(frozen=True, eq=False)
class Labels:
    """What the labels mean where that could be found out, and the targets (n, L), NaN where missing or faulty."""

    settings: LabelSettings | None
    targets: NDArray[np.float64]


def read_labels(
    manifest: Manifest, columns: Sequence[str], settings: LabelSettings | None
) -> tuple[Labels, list[Finding]]:
    """Targets and faults; ``settings`` are those of the task file, without them the meaning is guessed."""
    usable = [column for column in columns if column in manifest.columns and is_metadata(column)]
    findings, bad = [], set()
    for column in usable:
        classes = _allowed(settings, len(columns))
        numeric = settings is not None and settings.is_number
        found_here, bad_cells = _cell_faults(manifest.cases, column, classes, is_number=numeric)
        findings += found_here
        bad |= {(row, column) for row in bad_cells}
        if settings is None and classes is None:
            findings += _column_faults(manifest.cases, column, bad_cells)
    cleaned = replace(manifest, cases=tuple(_without_cells(case, bad) for case in manifest.cases))
    if settings is None and usable and not any(finding.check in _HOPELESS for finding in findings):
        try:
            settings = guess_labels(cleaned, usable)[0]
            findings += [Finding("label-guessed", text, column=settings.columns[0]) for text in guesses(settings)]
        except ManifestError as error:
            findings += [Finding("label-column", problem) for problem in error.problems]
    nothing = Labels(None, np.full((len(manifest.cases), 1), np.nan))
    if settings is None or set(settings.columns) - set(usable):
        return nothing, findings
    labels = Labels(settings, encode(cleaned.cases, settings))
    constant = {finding.column for finding in findings if finding.check == "label-constant"}
    counted = [finding for finding in _count_faults(manifest.cases, labels) if finding.column not in constant]
    return labels, findings + counted + _labels_in_ids(manifest.cases, labels)


_HOPELESS = ("label-constant", "label-spelling", "label-no-class")


def _allowed(settings: LabelSettings | None, num_columns: int) -> tuple[str, ...] | None:
    """The classes a cell may name; None where neither the task file nor the columns say."""
    if settings is not None:
        return None if settings.is_number else settings.classes or ("0", "1")
    return ("0", "1") if num_columns > 1 else None


def _without_cells(case: Case, bad: set[tuple[int, str]]) -> Case:
    return replace(case, cells={name: "" if (case.row, name) in bad else cell for name, cell in case.cells.items()})


def _cell_faults(
    cases: Sequence[Case], column: str, classes: tuple[str, ...] | None, *, is_number: bool = False
) -> tuple[list[Finding], set[int]]:
    """Findings of single cells, and the rows whose cell cannot be used."""
    filled = [case for case in cases if case.cells.get(column)]
    words = [case for case in filled if case.cells[column].lower() in MISSING_WORDS]
    findings = []
    if words:
        text = f"{column} is {', '.join(repr(word) for word in sorted({case.cells[column] for case in words}))}"
        findings.append(finding_of("label-word-for-missing", text, words, column))
    empty = [case for case in cases if not case.cells.get(column)]
    if empty and filled:
        text = f"{column} is empty in {len(empty)} of {len(cases)} cases"
        findings.append(finding_of("label-missing", text, empty, column))
    are_words = {case.row for case in words}
    rest = [case for case in filled if case.row not in are_words]
    if is_number:
        faults, bad = _not_numbers(rest, column)
    elif classes is None:
        faults, bad = _codes_for_missing(rest, column)
    else:
        faults, bad = _outside_classes(rest, column, classes)
    return findings + faults, are_words | bad


def _not_numbers(cases: Sequence[Case], column: str) -> tuple[list[Finding], set[int]]:
    """The cells of a column of numbers that are no number."""
    faulty = [case for case in cases if not _NUMBER.fullmatch(case.cells[column])]
    if not faulty:
        return [], set()
    values = ", ".join(repr(case.cells[column]) for case in faulty[:3])
    text = f"{column} is {values}, expected a number or an empty cell"
    return [finding_of("label-outside", text, faulty, column)], {case.row for case in faulty}


def _codes_for_missing(cases: Sequence[Case], column: str) -> tuple[list[Finding], set[int]]:
    """Of a column without named classes: codes for "not known", such as 9 beside 0 and 1."""
    codes = missing_codes(cases, column).values()
    findings = [finding_of("label-word-for-missing", f"{column}: {what}", group, column) for what, group in codes]
    return findings, {case.row for _, group in codes for case in group}


def _outside_classes(cases: Sequence[Case], column: str, classes: Sequence[str]) -> tuple[list[Finding], set[int]]:
    """Cells of a column of named classes that are none of them, a finding per value; and whether all are the same."""
    known = {canonical(name) for name in classes}
    outside = [case for case in cases if canonical(case.cells[column]) not in known]
    findings = []
    for value in natural_order({case.cells[column] for case in outside}):
        members = [case for case in outside if case.cells[column] == value]
        text = f"{column} is {value!r}, expected {' or '.join(classes[:12])} or an empty cell"
        findings.append(finding_of("label-outside", text, members, column))
    if len({canonical(case.cells[column]) for case in cases} & known) == 1:
        findings.append(Finding("label-constant", f"{column}: all labels are the same", column=column))
    return findings, {case.row for case in outside}


def _column_faults(cases: Sequence[Case], column: str, bad: set[int]) -> list[Finding]:
    """Faults of a column without named classes."""
    values = {canonical(case.cells[column]) for case in cases if case.cells.get(column) and case.row not in bad}
    num_filled = sum(bool(case.cells.get(column)) for case in cases)
    folded: dict[str, list[str]] = {}
    for value in natural_order(values):
        folded.setdefault(value.casefold(), []).append(value)
    if not values:
        return [Finding("label-column", f"{column} is empty in every case", column=column)]
    if len(values) == 1:
        return [Finding("label-constant", f"{column} is {next(iter(values))!r} in every case", column=column)]
    if is_measurement(values):
        text = f"{column} has {len(values)} different numbers: it is predicted as a number (kind: regression)"
        return [Finding("label-number", text, column=column)]
    if len(values) > MAX_CLASSES or (len(values) == num_filled and num_filled > RARE):
        return [Finding("label-no-class", f"{column} has {len(values)} different texts: ids?", column=column)]
    return [
        Finding("label-spelling", f"{column} has {' and '.join(map(repr, group))}", column=column)
        for group in folded.values()
        if len(group) > 1
    ]


def outcomes(labels: Labels) -> list[tuple[str, str, NDArray[np.float64]]]:
    """(column, class, which cases have it: 1, 0, or NaN where missing), of every class of every column."""
    return [] if labels.settings is None else list(outcomes_of(labels.targets, labels.settings))


def too_rare_to_split(manifest: Manifest, labels: Labels) -> list[Finding]:
    """Outcomes that the split which training will make cannot hold everywhere; of a given split see above."""
    settings, cases = labels.settings, manifest.cases
    if settings is None or settings.is_number or not cases or any(case.split for case in cases):
        return []
    parts = assign_splits(cases, labels.targets, fractions=DataSettings(manifest="").fractions, seed=0)
    lines = lacking_outcomes(parts, patients_of(cases), labels.targets, settings)
    return [Finding("label-too-rare-to-split", line) for line in lines]


def _count_faults(cases: Sequence[Case], labels: Labels) -> list[Finding]:
    findings = []
    for column, name, has in outcomes(labels):
        if np.isnan(has).all():
            continue  # every cell is faulty or missing, and was reported
        counts = {
            split: int(sum(has[i] == 1 for i, case in enumerate(cases) if case.split == split)) for split in SPLITS
        }
        present = [split for split in SPLITS if any(case.split == split for case in cases)]
        for split in present:
            if counts[split] == 0:
                check = "label-absent-in-train" if split == "train" else "label-absent-in-split"
                findings.append(Finding(check, f"no case of {split} has {column} = {name}", column=column))
        total = int((has == 1).sum())
        if total < RARE and not ("train" in present and counts["train"] == 0):
            noun = "case has" if total == 1 else "cases have"
            findings.append(Finding("label-rare", f"only {total} {noun} {column} = {name}", column=column))
    return findings


def _labels_in_ids(cases: Sequence[Case], labels: Labels) -> list[Finding]:
    words = [frozenset(re.findall(r"[a-z]+", case.id.lower())) for case in cases]
    counts = Counter(word for group in words for word in group)
    candidates = sorted(word for word, count in counts.items() if _LEAST_EACH <= count <= len(cases) - _LEAST_EACH)
    findings: dict[str, Finding] = {}
    for column, name, has in outcomes(labels):
        yes, no = has == 1, has == 0
        if min(yes.sum(), no.sum()) < _LEAST_EACH:
            continue
        for word in candidates:
            inside = np.array([word in group for group in words])
            if inside[yes].mean() >= GIVEN_AWAY and inside[no].mean() <= 1 - GIVEN_AWAY:
                text = f"ids with {word!r} are those of {column} = {name}"
                findings.setdefault(column, Finding("label-in-case-id", text, column=column))
    return list(findings.values())


def labels_by_site(manifest: Manifest, labels: Labels) -> list[Finding]:
    """Columns about where and how a scan was taken that predict a label: a model may learn the site instead."""
    from scipy.stats import chi2_contingency

    if labels.settings is None:
        return []  # what the labels are is not known, and said already
    label_columns = labels.settings.columns
    sites = [name for name in manifest.columns if is_metadata(name) and name not in label_columns and is_site(name)]
    findings = []
    for site in sites:
        cells = np.array([case.cells.get(site, "") for case in manifest.cases])
        parts = strata(labels.targets, labels.settings)
        for column, values in zip(label_columns, parts.T, strict=True):
            known = ~np.isnan(values) & (cells != "")
            rows, row_of = np.unique(cells[known], return_inverse=True)
            kinds, kind_of = np.unique(values[known], return_inverse=True)
            if not (2 <= len(rows) <= _MOST_SITES) or len(kinds) < 2 or known.sum() < 4 * _LEAST_EACH:
                continue
            table = np.zeros((len(rows), len(kinds)))
            np.add.at(table, (row_of, kind_of), 1)
            result = chi2_contingency(table, correction=False)
            strength = float(np.sqrt(result.statistic / known.sum() / (min(table.shape) - 1)))
            if strength >= SITE_STRENGTH and result.pvalue < 0.001 / max(1, len(sites) * len(label_columns)):
                text = f"{site} and {column} go together (Cramér's V {strength:.2f}, n = {int(known.sum())})"
                findings.append(Finding("label-by-site", text, column=column))
    return findings


def is_site(column: str) -> bool:
    """Whether a column is about where and how a scan was taken, by its name."""
    return _SITE_WORDS.search(re.sub(r"[^a-z]+", " ", column.lower())) is not None
