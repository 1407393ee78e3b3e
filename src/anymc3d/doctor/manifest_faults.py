"""Faults of the table itself: rows, ids, scans that are not there, splits, patients, views."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

from anymc3d.data.case import Case, view_of
from anymc3d.data.manifest import Manifest
from anymc3d.doctor.checks import Finding, finding_of, grouped
from anymc3d.doctor.patient_faults import patients_written_or_split

_ROW = re.compile(r"row (\d+): (.*)", re.DOTALL)
_NOT_FOUND = re.compile(
    r"(?P<column>(?:image|mask)\S*) .*: "
    r"(?P<why>there is no folder|not found in|a path of another computer|a link to a file)(?P<more>.*)",
    re.DOTALL,
)
_ABSENT = {"there is no folder": "there is no such folder", "not found in": "there is no such file"}
"""Without the path."""
_EMPTY = re.compile(r"no cases: |the table is empty: ")
_SAID_BELOW = re.compile(r"patients? .* (?:is )?in \d+ splits|case .* is also row \d+", re.DOTALL)
"""Once for all its rows, and without the patient's id."""
_RULES: tuple[tuple[str, str], ...] = (
    (r"no label column|column .* is reserved and cannot be a label", "label-column"),
    (r"no scan: every image cell", "scan-missing"),
    (r"(case|patient) .*(an id names files|characters, the limit is)", "id-unsafe"),
    (r"split is empty", "split-partly"),
    (r"split .*: expected one of", "split-name"),
    (r"(spacing|center_x, center_y, center_z) .*expected three", "manifest-cell"),
)
"""Which check a problem of :func:`anymc3d.data.manifest.inspect_manifest` belongs to, by how it begins."""


def manifest_faults(manifest: Manifest, problems: Sequence[str]) -> list[Finding]:
    """All that can be said without opening a scan; ``problems`` are those that reading the manifest gave."""
    by_row = {case.row: case for case in manifest.cases}
    findings = grouped(
        [finding for problem in problems if (finding := _finding(problem, manifest, by_row)) is not None]
    )
    findings += _duplicate_ids(manifest.cases)
    return (
        findings + patients_written_or_split(manifest) + _splits(manifest) + _views(manifest) + _image_is_mask(manifest)
    )


def _finding(problem: str, manifest: Manifest, by_row: dict[int, Case]) -> Finding | None:
    parts = _ROW.match(problem)
    if parts is None:
        check = "manifest-empty" if _EMPTY.match(problem) else "manifest-unreadable"
        return Finding(check, _without_path(problem, manifest))
    row, text = int(parts[1]), parts[2]
    if _SAID_BELOW.match(text):
        return None
    missing = _NOT_FOUND.match(text)
    check = "manifest-column" if row == 1 else "manifest-row"
    check = next((name for pattern, name in _RULES if re.match(pattern, text, re.DOTALL)), check)
    column = ""
    if missing:
        check, column = "scan-not-found", missing["column"]
        text = _ABSENT.get(missing["why"]) or missing["why"] + missing["more"]
        if "did you mean" in problem:
            text += "; one with nearly this name exists: check letter case and ending"
    case = by_row.get(row)
    return Finding(check, _without_path(text, manifest), (case.id,) if case else (), (row,), column)


def _without_path(text: str, manifest: Manifest) -> str:
    """A report does not show where the manifest is stored."""
    parents = (str(manifest.path), f"{manifest.path.parent}/", str(manifest.path.parent))
    for place, word in zip(parents, ("the manifest", "", "the manifest's folder"), strict=True):
        text = text.replace(place, word)
    text = re.sub(rf"^\S*{re.escape(manifest.path.name)}: ", "", text)
    return text.removeprefix("the manifest: ")


def _duplicate_ids(cases: Sequence[Case]) -> list[Finding]:
    members: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        if case.id:
            members[case.id].append(case)
    return [
        finding_of("id-duplicate", f"{len(group)} rows have one id", group)
        for group in members.values()
        if len(group) > 1
    ]


def _splits(manifest: Manifest) -> list[Finding]:
    findings = []
    named = {case.split for case in manifest.cases if case.split is not None}
    if named:
        findings += [
            Finding("split-lacks-part", f"no case is in split {part!r}")
            for part in ("train", "val")
            if part not in named
        ]
        if "test" not in named:
            findings.append(Finding("split-without-test", "no case is in split 'test'"))
    is_csv = manifest.path.suffix != ".npz"
    if manifest.cases and is_csv and "patient" not in manifest.columns:
        findings.append(Finding("patient-column-missing", "each case counts as a patient of its own"))
    return findings


def _views(manifest: Manifest) -> list[Finding]:
    findings = []
    for column in manifest.image_columns:
        without = [case for case in manifest.cases if case.images and column not in case.images]
        if without:
            text = f"{len(without)} of {len(manifest.cases)} cases have no scan of the view {view_of(column)!r}"
            findings.append(finding_of("view-missing", text, without, column))
    return findings


def _image_is_mask(manifest: Manifest) -> list[Finding]:
    return [
        finding_of("scan-is-mask", f"{column} names the same file as a mask column", [case], column)
        for case in manifest.cases
        for column, reference in case.images.items()
        if reference in case.masks.values()
    ]
