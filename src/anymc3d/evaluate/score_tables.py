"""Checks of tables that other commands wrote and a hand may have changed: numbers are numbers, nothing twice."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from anymc3d.errors import TableError


def check_scores(
    rows: Sequence[Mapping[str, str]],
    *,
    option: str,
    key: Sequence[str],
    numbers: Collection[str],
    highest: Mapping[str, float] | None = None,
) -> None:
    """Check the rows of a table of scores.

    Args:
        option: of the command line, for messages.
        key: the columns that distinguish rows.
        numbers: columns that hold a number or nothing.
        highest: column -> the most it may hold, at least 0 then.

    Raises:
        UsageError: a row appears twice, or a cell is no number or out of range.
    """
    seen = set()
    for row in rows:
        place = ", ".join(f"{name} {row[name]!r}" for name in key)
        row_key = tuple(row[name] for name in key)
        if row_key in seen:
            raise TableError(f"{option}: two rows of {place}, and each would count; give the table of one run")
        seen.add(row_key)
        for name in numbers:
            _check_cell(f"{option}: {name} of {place}", row[name], (highest or {}).get(name))


def _check_cell(place: str, cell: str, highest: float | None) -> None:
    if cell == "":
        return
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or (highest is not None and not 0 <= value <= highest):
        wanted = "a number" if highest is None else f"a number from 0 to {highest:g}"
        raise TableError(f"{place}: expected {wanted} or nothing, got {cell!r}; make the table again")
