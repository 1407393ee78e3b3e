"""The report for the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from anymc3d.doctor.checks import CHECKS, SEVERITIES, Finding, condensed
from anymc3d.doctor.report import RESEARCH_ONLY, Report
from anymc3d.printable import printable

SHOWN_CASES = 8


def to_text(report: Report) -> str:
    """All findings, worst first; of a long list of cases the first few."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    summary = report.summary
    yield f"{printable(report.manifest)}: {report.verdict}"
    yield ""
    yield (
        f"  {_counted(summary.num_cases, 'case')} of {_counted(summary.num_patients, 'patient')}, "
        f"{summary.num_read} of {summary.num_scans} "
        + ("scans readable" + (f", {summary.num_masks} masks" if summary.num_masks else ""))
    )
    if summary.splits and set(summary.splits) != {"none"}:
        yield "  " + ", ".join(
            f"{count} {'without split' if name == 'none' else name}" for name, count in summary.splits.items()
        )
    for column, name, counts in summary.labels:
        detail = ", ".join(f"{count} {split}" for split, count in counts.items() if split != "none")
        yield f"  {printable(column)} = {printable(name)}: {sum(counts.values())}" + (f" ({detail})" if detail else "")
    if summary.few_patients:
        yield f"  {printable(summary.few_patients)}"
    for severity, meaning in SEVERITIES.items():
        members = condensed([finding for finding in report.findings if finding.severity == severity])
        if members:
            yield ""
            yield f"{severity.upper()}S ({len(members)}): {meaning}"
            for finding in members:
                yield from _finding(finding)
    yield ""
    yield from (f"not seen: {limit}" for limit in report.limits)
    yield RESEARCH_ONLY


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _finding(finding: Finding) -> Iterator[str]:
    check = CHECKS[finding.check]
    column = (
        f"{printable(finding.column)}: " if finding.column and not finding.message.startswith(finding.column) else ""
    )
    yield f"  {finding.check}: {check.what}"
    yield f"      {column}{printable(finding.message)}"
    if where := places(finding):
        yield f"      {where}"
    yield f"      -> {check.do}"


def places(finding: Finding, most: int = SHOWN_CASES) -> str:
    """Cases and rows in words, at most this many of them."""
    rows = _listed([str(row) for row in finding.rows], most)
    noun = "row" if len(finding.rows) == 1 else "rows"
    if not finding.cases:
        return f"{noun} {rows}" if rows else ""
    named = "case" if len(finding.cases) == 1 else f"{len(finding.cases)} cases:"
    return f"{named} {_listed([printable(case) for case in finding.cases], most)} ({noun} {rows})"


def _listed(items: list[str], most: int) -> str:
    shown = ", ".join(items[:most])
    return shown + (f" and {len(items) - most} more" if len(items) > most else "")
