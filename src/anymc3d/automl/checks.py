"""What ends ``anymc3d auto`` before anything is computed, one clear line each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from anymc3d.data.manifest import Manifest
from anymc3d.doctor.checks import Finding, condensed, grouped
from anymc3d.doctor.examine import Examination
from anymc3d.errors import ManifestError, UsageError, did_you_mean
from anymc3d.train.quick.crossval import Pool, outcome_patients

NOT_NEEDED = frozenset({"split-lacks-part"})
"""What the doctor asks for and this does without: folds stand for the validation split."""
SHOWN_ROWS = 5


def check_outcomes(pool: Pool, least: int, folds: int) -> None:
    """Check that every outcome has enough patients outside the test split.

    Raises:
        ManifestError: one has too few; all are listed.
    """
    wanted = max(least, 2 * folds)
    few = {what: count for what, count in outcome_patients(pool, np.arange(len(pool))).items() if count < wanted}
    problems = [
        f"{what}: expected {wanted} patients or more outside the test split, got {count}; "
        + ("there is one class only, and nothing to distinguish" if count == 0 else "add cases of it")
        for what, count in few.items()
    ]
    if problems:
        raise ManifestError("too few cases for anymc3d auto", problems)


def check_column(manifest: Manifest, name: str, labels: Sequence[str]) -> None:
    """Check a column that ``--leave-out`` names.

    Raises:
        UsageError: it is not there, is a label, or has one value only.
    """
    if name not in manifest.columns:
        raise UsageError(f"--leave-out: no column {name!r}{did_you_mean(name, manifest.columns)}")
    if name in labels:
        raise UsageError(f"--leave-out: {name!r} is the label; name the column of the sites")
    values = {case.cells.get(name, "") for case in manifest.cases}
    if len(values - {""}) < 2:
        raise UsageError(f"--leave-out: column {name!r} has one value only; leave the option out")


def check_examined(examination: Examination) -> list[str]:
    """The doctor's warnings; its errors end the run, and so does a leak between splits.

    Raises:
        ManifestError: there are errors; each is a line.
    """
    bad = [
        finding for finding in examination.findings if finding.severity == "error" and finding.check not in NOT_NEEDED
    ]
    if bad:
        raise ManifestError("what the doctor found ('anymc3d doctor' says more)", _lines(bad))
    return _lines([finding for finding in examination.findings if finding.severity == "warning"])


def _lines(findings: Sequence[Finding]) -> list[str]:
    """One line a check and column, with the rows of the manifest that it is about; ids stay out of the report."""
    return [_line(finding) for finding in condensed(grouped(findings), most=1)]


def _line(finding: Finding) -> str:
    rows = sorted(set(finding.rows))
    shown = ", ".join(map(str, rows[:SHOWN_ROWS])) + (
        f" and {len(rows) - SHOWN_ROWS} more" if len(rows) > SHOWN_ROWS else ""
    )
    where = f" ({'row' if len(rows) == 1 else 'rows'} {shown} of the manifest)" if rows else ""
    column = f"{finding.column}: " if finding.column and not finding.message.startswith(finding.column) else ""
    return f"{finding.check}: {column}{finding.message}{where}"
