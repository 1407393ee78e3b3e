"""The report as one HTML file: no script, no network, light and dark, for a desk, a phone and paper."""

from __future__ import annotations

from collections.abc import Iterator

from anymc3d.doctor.charts import bars
from anymc3d.doctor.checks import CHECKS, SEVERITIES, Finding, condensed
from anymc3d.doctor.report import RESEARCH_ONLY, Report
from anymc3d.doctor.text import places
from anymc3d.page.style import STYLE
from anymc3d.printable import escape
from anymc3d.version import __version__

SHOWN_CASES = 200
"""Cases that the page lists of one finding; the JSON has them all."""
_FOLDED = 12
"""Longer lists of cases are folded; printing unfolds nothing, so the count stands in front."""
_SIGNS = {"error": "✕", "warning": "!", "note": "i"}


def to_html(report: Report) -> str:
    """A whole page."""
    title = f"Data set report: {escape(report.manifest)}"
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
            f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>",
            f"<header>\n<h1>{title}</h1>",
            f'<p class="verdict {_worst(report)}">{escape(report.verdict)}</p>',
            f"<p>{RESEARCH_ONLY}</p>\n{_contents(report)}</header>\n<main>",
            *_overview(report),
            *_histograms(report),
            *_findings(report),
            *_limits(report),
            "</main>",
            f"<footer><p>anymc3d {escape(__version__)}. {RESEARCH_ONLY}</p></footer>\n</body>\n</html>\n",
        ]
    )


def _worst(report: Report) -> str:
    return next((name for name, count in report.counts.items() if count and name != "note"), "fine")


def _contents(report: Report) -> str:
    links = [
        f'<a href="#{name}s">{count} {name}{"s" * (count != 1)}</a>' for name, count in report.counts.items() if count
    ]
    return f'<nav aria-label="Findings">{" ".join(links)}</nav>\n' if links else ""


def _overview(report: Report) -> Iterator[str]:
    summary = report.summary
    yield '<section aria-labelledby="overview"><h2 id="overview">Overview</h2>'
    tiles = [
        (summary.num_cases, "cases"),
        (summary.num_patients, "patients"),
        (f"{summary.num_read}/{summary.num_scans}", "scans readable"),
    ]
    tiles += [(summary.num_masks, "masks")] if summary.num_masks else []
    tiles += [(count, name if count == 1 else f"{name}s") for name, count in report.counts.items()]
    boxes = "".join(f"<div><dt>{escape(name)}</dt><dd>{value}</dd></div>" for value, name in tiles)
    yield f'<dl class="tiles">{boxes}</dl>'
    splits = list(summary.splits)
    if not splits:
        yield "</section>"
        return
    heads = "".join(f'<th scope="col" class="number">{_split(name)}</th>' for name in splits)
    yield '<div class="wide"><table><caption>Cases by split</caption>'
    yield f'<thead><tr><th scope="col">Label</th><th scope="col">Class</th>{heads}</tr></thead><tbody>'
    for column, name, counts in summary.labels:
        cells = "".join(f'<td class="number">{counts[split]}</td>' for split in splits)
        yield f'<tr><th scope="row">{escape(column)}</th><td>{escape(name)}</td>{cells}</tr>'
    cells = "".join(f'<td class="number">{summary.splits[split]}</td>' for split in splits)
    yield f'<tr class="total"><th scope="row">all cases</th><td></td>{cells}</tr></tbody></table></div>'
    yield f"<p>{escape(summary.few_patients)}.</p></section>" if summary.few_patients else "</section>"


def _split(name: str) -> str:
    return "no split" if name == "none" else escape(name)


def _findings(report: Report) -> Iterator[str]:
    for severity, meaning in SEVERITIES.items():
        members = condensed([finding for finding in report.findings if finding.severity == severity])
        if not members:
            continue
        yield f'<section aria-labelledby="{severity}s"><h2 id="{severity}s">{severity.capitalize()}s'
        yield f' <span class="quiet">({len(members)})</span></h2><p>{meaning.capitalize()}.</p>'
        yield '<div class="findings" role="list">'
        yield from (_finding(finding) for finding in members)
        yield "</div></section>"
    if not report.findings:
        yield "<section><h2>Findings</h2><p>None.</p></section>"


def _finding(finding: Finding) -> str:
    check = CHECKS[finding.check]
    column = f'<span class="column">{escape(finding.column)}</span> ' if finding.column else ""
    promises = f' <span class="quiet">({check.promises})</span>' if check.promises else ""
    where = _where(finding)
    return (
        f'<article role="listitem" class="{check.severity}"><h3><span class="sign" aria-hidden="true">'
        f"{_SIGNS[check.severity]}</span>{escape(_capital(check.what))}</h3>"
        f"<p>{column}{escape(finding.message)}</p>{where}"
        f'<p class="do"><strong>What to do:</strong> {escape(check.do)}.</p>'
        f'<p class="quiet"><code>{finding.check}</code>{promises}</p></article>'
    )


def _where(finding: Finding) -> str:
    if not finding.rows:
        return ""
    if len(finding.rows) <= _FOLDED:
        return f"<p>{escape(_capital(places(finding, _FOLDED)))}</p>"
    noun = "cases" if finding.cases else "rows"
    return (
        f"<details><summary>{len(finding.rows)} {noun}</summary><p>{escape(places(finding, SHOWN_CASES))}</p></details>"
    )


def _histograms(report: Report) -> Iterator[str]:
    if report.summary.histograms:
        yield '<section aria-labelledby="sizes"><h2 id="sizes">Sizes and intensities</h2><div class="charts">'
        yield from (bars(histogram) for histogram in report.summary.histograms)
        yield "</div></section>"


def _limits(report: Report) -> Iterator[str]:
    yield '<section aria-labelledby="limits"><h2 id="limits">What this report cannot see</h2><ul>'
    yield from (f"<li>{escape(limit)}</li>" for limit in report.limits)
    yield "</ul></section>"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
