"""THE table of everything the doctor looks for; a finding names its entry, and nothing is reported that is not here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from anymc3d.data.case import Case

Severity = Literal["error", "warning", "note"]
SEVERITIES: Mapping[Severity, str] = {
    "error": "training should not start",
    "warning": "look at it before you trust a result",
    "note": "good to know",
}
"""Worst first. Only an error changes the exit code."""


@dataclass(frozen=True)
class Check:
    """One thing the doctor looks for."""

    severity: Severity
    what: str
    """What it is, in a few words."""
    do: str
    promises: str = ""
    """Ids of the reliability page that it helps to keep."""


@dataclass(frozen=True)
class Finding:
    """One fault: which check, what was seen, where."""

    check: str
    """A key of :data:`CHECKS`."""
    message: str
    cases: tuple[str, ...] = ()
    rows: tuple[int, ...] = ()
    """Rows of the manifest, counted as a spreadsheet does."""
    column: str = ""

    @property
    def severity(self) -> Severity:
        """The severity of its check."""
        return CHECKS[self.check].severity


def finding_of(check: str, message: str, cases: Iterable[Case] = (), column: str = "") -> Finding:
    """A finding about some cases."""
    ordered = sorted(cases, key=lambda case: case.row)
    return Finding(check, message, tuple(case.id for case in ordered), tuple(case.row for case in ordered), column)


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Worst first, then as the table has them, then by row; the same for any order in which they were found."""
    severities, names = list(SEVERITIES), list(CHECKS)

    def key(finding: Finding) -> tuple[object, ...]:
        return (
            severities.index(finding.severity),
            names.index(finding.check),
            finding.rows[:1],
            finding.column,
            finding.message,
            finding.cases,
        )

    return sorted(set(findings), key=key)


def grouped(findings: Sequence[Finding], least: int = 2) -> list[Finding]:
    """Findings that say the same of several cases become one that names them all."""
    groups: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.check, finding.message, finding.column), []).append(finding)
    result: list[Finding] = []
    for (check, message, column), members in groups.items():
        if len(members) < least:
            result += members
            continue
        rows = tuple(sorted({row for finding in members for row in finding.rows}))
        if any(len(finding.cases) != len(finding.rows) for finding in members):  # damaged rows are of no case
            result.append(Finding(check, message, (), rows, column))
            continue
        pairs = sorted(
            {(row, case) for finding in members for row, case in zip(finding.rows, finding.cases, strict=True)}
        )
        result.append(Finding(check, message, tuple(case for _, case in pairs), tuple(row for row, _ in pairs), column))
    return result


MOST_ALIKE = 20


def condensed(findings: Sequence[Finding], most: int = MOST_ALIKE) -> list[Finding]:
    """For readers: more than ``most`` findings of one check and column become one that quotes the first."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.check, finding.column), []).append(finding)
    result = []
    for members in groups.values():
        if len(members) <= most:
            result += members
            continue
        first = members[0]
        cases = tuple(case for finding in members for case in finding.cases)
        rows = tuple(row for finding in members for row in finding.rows)
        text = f"{len(members)} findings; the first: {first.message}"
        result.append(Finding(first.check, text, cases, rows, first.column))
    return in_order(result)


_AGAIN = "do what the message says, or take the case out"
_SPLIT = "write train, val or test in every row, all rows of a patient alike, or leave the column out"
_HU = "convert the scan again with rescale slope and intercept applied once"
CHECKS: Mapping[str, Check] = {
    "manifest-unreadable": Check(
        "error",
        "the manifest cannot be read",
        "do what the message says; a manifest is a UTF-8 CSV with a header",
        "A14",
    ),
    "manifest-empty": Check("error", "the manifest has no cases", "add a row per case below the header", "A14"),
    "manifest-row": Check("error", "a row is damaged", "fix the row; quote cells that hold a comma or a quote", "A14"),
    "manifest-column": Check("error", "a column is missing or misnamed", "rename or add the column", "A14"),
    "manifest-cell": Check("error", "a cell has no usable value", "fix the cell, or empty it", "A14"),
    "id-unsafe": Check("error", "an id cannot name a file", "use letters, digits, - and _", "A8, A14"),
    "id-duplicate": Check("error", "an id is in several rows", "give each case its own id", "A14"),
    "scan-not-found": Check(
        "error", "a scan or mask is not there", "fix the path, fetch the file, or take the row out", "A14"
    ),
    "scan-missing": Check("error", "a case has no scan at all", "fill an image cell, or take the row out", "A14"),
    "view-missing": Check("warning", "cases lack a view", "training goes on without it; fill the cell if it exists"),
    "split-name": Check("error", "an unknown split", _SPLIT, "A14"),
    "split-partly": Check("error", "some rows have no split", _SPLIT, "A14"),
    "split-lacks-part": Check("error", "no cases to train or to select on", _SPLIT, "B14"),
    "split-without-test": Check("note", "no test cases", "keep some cases unseen, or test on another data set"),
    "patient-in-two-splits": Check("error", "a patient is in two splits", _SPLIT, "B12"),
    "patient-written-two-ways": Check(
        "warning",
        "patients differ only in letter case, zeros, '.0', '-' or a prefix such as 'sub-'",
        "write one patient one way, or their scans may be in two splits",
        "B12",
    ),
    "patients-unnamed": Check(
        "warning",
        "a column may say who the patient is",
        "if it does, rename it 'patient', or the scans of one patient may be in two splits",
        "B12",
    ),
    "patient-column-missing": Check(
        "note", "no column says who the patient is", "add a 'patient' column unless each case is another patient", "B12"
    ),
    "label-column": Check(
        "error", "a label column cannot be used", "name a column of the manifest with classes", "B14"
    ),
    "label-word-for-missing": Check(
        "error",
        "a word or number stands for a missing label",
        "empty the cell; a class of its own needs a name that says so",
        "B14",
    ),
    "label-guessed": Check(
        "warning", "what a class means is a guess", "check labels.classes in the task file that plan writes", "B14"
    ),
    "label-outside": Check("error", "a label is none of the classes", "fix the cell, or add the class", "B14"),
    "label-constant": Check("error", "all labels are the same", "add cases of another class", "B14"),
    "label-spelling": Check("error", "one class in several spellings", "spell each class one way", "B14"),
    "label-no-class": Check("error", "labels look like ids", "make a column of classes from it", "B14"),
    "label-number": Check("note", "the label is a number", "for classes make a column of them", "B14"),
    "label-absent-in-train": Check("error", "a class without training cases", "move a case, or drop the class", "B14"),
    "label-absent-in-split": Check("warning", "a class is absent in a split", "its metrics are undefined there", "B14"),
    "label-too-rare-to-split": Check(
        "warning",
        "too few patients have an outcome for every split to have one",
        "collect more cases, or say which split they are in",
        "B14",
    ),
    "label-rare": Check("warning", "a class is rare", "its metrics will be uncertain; collect more cases", "B14"),
    "label-missing": Check(
        "warning", "labels are missing", "those cases take no part in this label; check them", "B14"
    ),
    "label-doubtful": Check(
        "note",
        "labels that a confident out-of-fold answer contradicts",
        "look at these scans, the most doubted first; change a label only for a reason that is in the scan",
        "B14",
    ),
    "label-in-case-id": Check(
        "warning",
        "the case ids give the label away",
        "check that the classes come from one source; rename before reading",
    ),
    "label-by-size": Check("warning", "the scan's size gives the label away", "crop or pad all to one field of view"),
    "label-by-spacing": Check("warning", "the spacing gives the label away", "check that classes share scanners"),
    "label-by-site": Check("warning", "a site column gives the label away", "balance sites, or test on unseen sites"),
    "scan-unreadable": Check("error", "a scan cannot be read", _AGAIN, "A1, A2, A3, A4, B4, B5, B7"),
    "scan-not-finite": Check("error", "NaN or infinite voxels", "find out where they come from; export again", "B9"),
    "scan-constant": Check("error", "an empty scan", _AGAIN, "B9"),
    "scan-ambiguous": Check("warning", "the reader had to choose", "check the header, fix it at the source", "B7, B8"),
    "scan-is-mask": Check("error", "image and mask are one file", "name the scan in the image column"),
    "same-scan-in-two-splits": Check("error", "one scan in two splits", "keep it in one split, or once", "B13"),
    "same-scan-two-patients": Check("error", "one scan under two patients", "give both rows one patient", "B13"),
    "same-scan-other-label": Check("error", "one scan with two labels", "find out which label is right", "B13, B14"),
    "same-scan-again": Check("warning", "one scan under several ids", "keep one row, unless it is meant so", "B13"),
    "near-duplicate": Check(
        "warning", "two scans are almost the same", "look at both; same patient, same split", "B13"
    ),
    "constant-slices": Check("warning", "empty slices inside a scan", "look at the scan; slices may be lost", "B9"),
    "duplicate-slices": Check(
        "warning", "slices repeat inside a scan", "look at the scan; it may be badly stacked", "B4"
    ),
    "hu-offset": Check("error", "HU are shifted: rescale intercept not applied", _HU, "B10"),
    "hu-rescaled-twice": Check("error", "HU are shifted: rescaled twice", _HU, "B10"),
    "hu-windowed": Check(
        "error", "a CT was windowed to 8 bits", "export the scan itself, not the picture of it", "B10"
    ),
    "hu-implausible": Check("warning", "hardly any soft tissue between -200 and 300 HU", _HU, "B10"),
    "hu-padding": Check(
        "note", "padding below air", "use windows, which cut it off, not z-score or percentiles", "B10"
    ),
    "modality-differs": Check(
        "warning", "a scan of another modality", "check that the row names the right scan", "B10"
    ),
    "label-by-brightness": Check(
        "warning",
        "the brightness of the scans gives the label away",
        "check that classes share scanners and exports",
        "B10",
    ),
    "intensity-scale": Check(
        "warning",
        "intensities many times brighter or darker than the others",
        "find out where they come from: another unit, rescaling or export; a model may learn that instead",
        "B10",
    ),
    "intensity-differs": Check("warning", "intensities unlike the others", "look at the scan", "B10"),
    "storage-differs": Check("note", "scans are stored in several number types", "check that all were exported alike"),
    "orientation-differs": Check(
        "note", "stored in another orientation than the rest", "harmless if the header is true; see flip-suspected"
    ),
    "flip-suspected": Check(
        "warning",
        "the anatomy fits the others only when turned or flipped",
        "look at the scan; fix its affine",
        "B1",
    ),
    "geometry-lost": Check(
        "warning",
        "spacing 1 x 1 x 1 mm and an identity affine look like a lost header",
        "convert from the source",
        "B8",
    ),
    "planes-mixed": Check(
        "warning",
        "thick scans of several planes in one column",
        "give each plane a column (view) of its own; cut across, they are a few coarse steps",
        "B2",
    ),
    "spacing-outlier": Check("warning", "spacing far from the others", "check unit and source of the header", "B2, B8"),
    "size-outlier": Check("warning", "field of view far from the others", "check that it shows the same region"),
    "size-implausible": Check("warning", "no body part is that large or small", "check the spacing's unit", "B8"),
    "few-slices": Check("warning", "hardly any slices", "check that the whole series was converted", "B4"),
    "center-outside": Check("error", "the point of interest is outside the scan", "give world millimetres, RAS"),
    "mask-unreadable": Check("error", "a mask cannot be read", _AGAIN, "A1, A2, A3"),
    "mask-grid": Check("error", "mask and scan have different grids", "resample the mask to the scan's grid"),
    "mask-empty": Check("warning", "an empty mask", "right where nothing was found; a region (roi: mask) needs more"),
    "mask-whole": Check("warning", "the mask is nearly the whole scan", "check that it is the organ's mask"),
    "mask-not-integer": Check("error", "a mask with fractions or negative values", "save integer labels, 0 = outside"),
    "mask-value-absent": Check("warning", "a mask lacks a value that the others have", "look at the mask"),
    "mask-value-unknown": Check("warning", "a mask has a value that no other has", "look at the mask"),
    "mask-at-border": Check(
        "note", "the region reaches the scan's border in most scans", "right where the scan simply ends there"
    ),
    "mask-cut": Check("warning", "the region is cut off at the scan's border", "leave the case out, or record it"),
}
"""By id, which is stable: it stands in JSON reports."""
