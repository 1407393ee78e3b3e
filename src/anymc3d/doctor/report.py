"""The report as data: the same content for the terminal, JSON and HTML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from anymc3d.doctor.checks import CHECKS, SEVERITIES, Finding
from anymc3d.doctor.examine import Examination
from anymc3d.doctor.summary import Summary, summarise
from anymc3d.version import __version__

SCHEMA_VERSION = 1
"""Raised whenever a reader of the JSON would have to change."""
RESEARCH_ONLY = "For research use only. This is not a medical device."
LIMITS = (
    "Whether left and right are swapped cannot be determined from a scan.",
    "That a label is true, and that a row names the right patient, cannot be determined from the files.",
    "Near-duplicates are found where the whole grid shows the same; a part cut out of a scan is not found.",
)
_NOT_DECODED = (
    "Headers only: voxels were not decoded. Damage inside the data, intensities, slices, flips, duplicates and the"
    " values of masks were not looked at."
)
_NO_LABELS = "Labels were not looked at: name them with --labels, or give the task file with --task."


@dataclass(frozen=True)
class Report:
    """What was found, and in what."""

    manifest: str
    """Its file name, without the folder."""
    labels: tuple[str, ...]
    headers_only: bool
    summary: Summary
    findings: tuple[Finding, ...]
    limits: tuple[str, ...]

    @property
    def counts(self) -> Mapping[str, int]:
        """Findings by severity, worst first."""
        return {name: sum(finding.severity == name for finding in self.findings) for name in SEVERITIES}

    @property
    def verdict(self) -> str:
        """One sentence."""
        counts = self.counts
        if counts["error"]:
            return "Training should not start: " + self._counted("error") + "."
        if counts["warning"]:
            return "Training can start; look first at " + self._counted("warning") + "."
        return "No fault was found."

    def _counted(self, severity: str) -> str:
        count = self.counts[severity]
        return f"{count} {severity if count == 1 else severity + 's'}"

    @property
    def exit_code(self) -> int:
        """2 when training should not start, otherwise 0."""
        return 2 if self.counts["error"] else 0


def make_report(examination: Examination) -> Report:
    """What an examination found, with what it could not see."""
    unseen = ((_NOT_DECODED,) if examination.headers_only else ()) + (() if examination.asked_labels else (_NO_LABELS,))
    return Report(
        manifest=examination.manifest.path.name,
        labels=examination.asked_labels,
        headers_only=examination.headers_only,
        summary=summarise(examination),
        findings=examination.findings,
        limits=unseen + LIMITS,
    )


def to_json(report: Report) -> dict[str, Any]:
    """JSON-ready; the same report always gives the same text."""
    summary = asdict(report.summary)
    summary["labels"] = [
        {"column": column, "class": name, "cases": counts} for column, name, counts in report.summary.labels
    ]
    return {
        "schema": "anymc3d-doctor",
        "schema_version": SCHEMA_VERSION,
        "anymc3d": __version__,
        "research_use_only": RESEARCH_ONLY,
        "manifest": report.manifest,
        "labels": list(report.labels),
        "headers_only": report.headers_only,
        "verdict": report.verdict,
        "exit_code": report.exit_code,
        "counts": dict(report.counts),
        "findings": [
            {
                "check": finding.check,
                "severity": finding.severity,
                "message": finding.message,
                "column": finding.column,
                "cases": list(finding.cases),
                "rows": list(finding.rows),
            }
            for finding in report.findings
        ],
        "summary": summary,
        "limits": list(report.limits),
        "checks": {
            name: {"severity": check.severity, "what": check.what, "do": check.do, "promises": check.promises}
            for name, check in CHECKS.items()
        },
    }
