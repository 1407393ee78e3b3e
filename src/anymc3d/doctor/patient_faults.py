"""Who the patients are: one in two splits, one written two ways, and columns that may name them without saying so."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from anymc3d.data.case import SPLITS, Case, is_metadata
from anymc3d.data.manifest import Manifest
from anymc3d.data.patients import are_named, names_patient, two_spellings
from anymc3d.doctor.checks import Finding, finding_of
from anymc3d.doctor.label_faults import Labels, is_site, outcomes

LEAST_GROUPS = 5
MOST_ROWS = 20
"""Rows of one patient; a column whose cells stand in more rows each is a site, a scanner or a class."""
MOSTLY = 0.5
"""Share of the filled rows that have their cell in common with another row."""
BY_CHANCE = 0.01
"""How likely the groups would be of one label each if cells and labels had nothing to do with each other."""
_ID_DIGITS = 3
_DATE = re.compile(r"(19|20)\d{2}\D?\d{2}\D?\d{2}|\d{1,2}\D\d{1,2}\D(19|20)?\d{2}")
_FRACTION = re.compile(r"[+-]?\d*[.,]\d*[1-9]\d*")


def patients_written_or_split(manifest: Manifest) -> list[Finding]:
    """Patients in two splits, under one id or under several that look like one; and such ids wherever they stand."""
    members: dict[str, list[Case]] = defaultdict(list)
    for case in manifest.cases:
        members[case.patient].append(case)
    id_pairs = two_spellings(manifest.cases)
    findings = [
        finding_of("patient-written-two-ways", f"{len({case.patient for case in group})} ids that look like one", group)
        for group in id_pairs
    ]
    for group in (*members.values(), *(id_pairs if are_named(manifest.cases) else ())):
        splits = sorted({case.split for case in group if case.split}, key=SPLITS.index)
        if len(splits) > 1:
            ids = len({case.patient for case in group})
            what = "one patient" if ids == 1 else f"one patient written {ids} ways"
            findings.append(finding_of("patient-in-two-splits", f"{what} is in {', '.join(splits)}", group))
    return findings


def unnamed_patients(manifest: Manifest, labels: Labels) -> list[Finding]:
    """Columns outside the labels whose cells join cases of several patients as a patient's number would.

    Each cell stands in a few rows, and all rows of a cell have one label, which chance would hardly do. Where no label
    is known, the cells must look like numbers of a registry.
    """
    label_columns = labels.settings.columns if labels.settings else ()
    findings = []
    for column in manifest.columns:
        if is_metadata(column) and column not in label_columns:
            groups = _groups(manifest.cases, column)
            if groups and (names_patient(column) or _is_alike(groups, labels, column)):
                findings.append(_finding(manifest.cases, groups, column))
    return findings


def _groups(cases: Sequence[Case], column: str) -> Mapping[str, list[int]]:
    """Cell to case indices where the cells could be patients' numbers; else nothing."""
    cells = [case.cells.get(column, "") for case in cases]
    distinct = set(cells) - {""}
    if not LEAST_GROUPS <= len(distinct) < len(cells):
        return {}
    groups: dict[str, list[int]] = defaultdict(list)
    for index, cell in enumerate(cells):
        if cell:
            groups[cell].append(index)
    sizes = [len(group) for group in groups.values()]
    shared = sum(size for size in sizes if size > 1)
    joined = any(len({cases[index].patient for index in group}) > 1 for group in groups.values())
    fits = max(sizes) <= MOST_ROWS and shared >= MOSTLY * sum(sizes) and joined
    return groups if fits and not any(_FRACTION.fullmatch(cell) for cell in groups) else {}


def _is_alike(groups: Mapping[str, list[int]], labels: Labels, column: str) -> bool:
    columns = [has for _, _, has in outcomes(labels)]
    if not columns:
        return not is_site(column) and _look_like_ids(list(groups))
    return all(_pure(groups, has) for has in columns) and min(_chance(groups, has) for has in columns) < BY_CHANCE


def _pure(groups: Mapping[str, list[int]], has: NDArray[np.float64]) -> bool:
    return all(len({value for value in has[group].tolist() if value == value}) <= 1 for group in groups.values())


def _chance(groups: Mapping[str, list[int]], has: NDArray[np.float64]) -> float:
    """The chance that all groups are of one outcome, were the outcomes drawn anew."""
    share = float(np.nanmean(has)) if np.isfinite(has).any() else 1.0
    sizes = [int(np.isfinite(has[group]).sum()) for group in groups.values()]
    return float(np.prod([share**size + (1 - share) ** size for size in sizes if size]))


def _look_like_ids(cells: Sequence[str]) -> bool:
    """One pattern of letters and digits for nearly all, no date, with more digits than a count or an age has."""
    shapes = [re.sub(r"[^\W\d_]", "a", re.sub(r"\d", "9", cell)) for cell in cells]
    usual = max(set(shapes), key=shapes.count)
    one_pattern = shapes.count(usual) >= 0.9 * len(shapes)
    is_number = usual.count("9") >= _ID_DIGITS and " " not in usual
    return one_pattern and is_number and not any(map(_DATE.fullmatch, cells))


def _finding(cases: Sequence[Case], groups: Mapping[str, list[int]], column: str) -> Finding:
    number = sum(len(group) for group in groups.values())
    parted = sum(len({cases[index].split for index in group} - {None}) > 1 for group in groups.values())
    text = f"column {column!r} groups {number} cases into {len(groups)}: are these patients?"
    return Finding("patients-unnamed", text + (f" {parted} of them are in two splits" if parted else ""), column=column)
