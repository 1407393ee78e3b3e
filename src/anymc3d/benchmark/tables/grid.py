"""A table to look at: columns, rows of texts, notes; and its four formats."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from anymc3d.errors import UsageError, did_you_mean
from anymc3d.files.tables import row_text
from anymc3d.printable import escape, markdown, shown

EMPTY = "-"
"""A cell that was not run or not printed; never 0."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """``rows``: one text per column. ``numeric``: how many columns, from the left, hold names and not numbers."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    names: int = 1

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"{self.title}: {len(row)} cells for {len(self.columns)} columns: {list(row)}")


def as_markdown(grid: Grid) -> str:
    """A table of GitHub's Markdown, the notes as a list below."""
    rule = ["---" if i < grid.names else "---:" for i in range(len(grid.columns))]
    lines = [_bar(map(markdown, grid.columns)), _bar(rule)]
    lines += [_bar(map(markdown, row)) for row in grid.rows]
    notes = ["", *(f"- {markdown(note)}" for note in grid.notes)] if grid.notes else []
    return "\n".join([f"## {markdown(grid.title)}", "", *lines, *notes]) + "\n"


def as_csv(grid: Grid) -> str:
    """Header and rows; the notes stay out."""
    return "".join(row_text(cells) for cells in (grid.columns, *grid.rows))


def as_html(grid: Grid) -> str:
    """One ``<table>`` with caption, and a list of notes."""
    head = "".join(f"<th scope='col'>{escape(name)}</th>" for name in grid.columns)
    body = "\n".join(_html_row(row, grid.names) for row in grid.rows)
    notes = "".join(f"<li>{escape(note)}</li>" for note in grid.notes)
    return (
        f"<table>\n<caption>{escape(grid.title)}</caption>\n<thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{body}\n</tbody>\n</table>\n" + (f"<ul>{notes}</ul>\n" if notes else "")
    )


def as_latex(grid: Grid) -> str:
    """A ``table`` with booktabs rules; needs ``\\usepackage{booktabs}``."""
    form = "l" * grid.names + "r" * (len(grid.columns) - grid.names)
    lines = [" & ".join(_latex(cell) for cell in row) + r" \\" for row in (grid.columns, *grid.rows)]
    notes = [rf"\\ \footnotesize {_latex(note)}" for note in grid.notes]
    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{_latex(grid.title)}}}",
            rf"\begin{{tabular}}{{{form}}}",
            r"\toprule",
            lines[0],
            r"\midrule",
            *lines[1:],
            r"\bottomrule",
            r"\end{tabular}",
            *notes,
            r"\end{table}",
            "",
        ]
    )


FORMATS: dict[str, Callable[[Grid], str]] = {
    "md": as_markdown,
    "csv": as_csv,
    "html": as_html,
    "latex": as_latex,
}


def render(grid: Grid, name: str) -> str:
    """``grid`` in the named format.

    Raises:
        UsageError: there is no such format.
    """
    if name not in FORMATS:
        raise UsageError(f"--format: unknown name {name!r}{did_you_mean(name, FORMATS)}")
    return FORMATS[name](grid)


def _bar(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _html_row(row: Sequence[str], names: int) -> str:
    cells = [f"<th scope='row'>{escape(c)}</th>" if i < names else f"<td>{escape(c)}</td>" for i, c in enumerate(row)]
    return f"<tr>{''.join(cells)}</tr>"


_SPECIAL = {c: f"\\{c}" for c in "&%$#_{}"} | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_SPECIAL["\\"] = r"\textbackslash{}"


def _latex(text: str) -> str:
    return "".join(_SPECIAL.get(letter, letter) for letter in shown(text, len(text)))
