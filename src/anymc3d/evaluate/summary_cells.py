"""How a number of ``metrics.csv`` is written in a table for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from anymc3d.printable import markdown as markdown_text


def figure(row: Mapping[str, object] | None, *, digits: int = 3) -> str:
    """Return ``0.912 (0.874 to 0.939)``, ``undefined`` or, where there is no such row, nothing."""
    if row is None:
        return ""
    if not isinstance(row["value"], int | float):
        return "undefined"
    text = f"{row['value']:.{digits}f}"
    if row["ci_low"] is None:
        return text
    return f"{text} ({row['ci_low']:.{digits}f} to {row['ci_high']:.{digits}f})"


def p_value(row: Mapping[str, object]) -> str:
    """A p-value, or that it is very small."""
    value = row["value"]
    return "below 0.0001" if isinstance(value, float) and value < 1e-4 else figure(row, digits=4)


def table(lines: Sequence[Mapping[str, str]], cell: Callable[[str], str] = markdown_text) -> str:
    """Return a Markdown table padded to read well as plain text, too; ``cell`` makes a foreign text safe to show."""
    titles = list(dict.fromkeys(title for line in lines for title in line))
    cells = [titles, *([cell(line.get(title, "")) for title in titles] for line in lines)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(titles))]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in cells]
    padded.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(row)} |" for row in padded)
