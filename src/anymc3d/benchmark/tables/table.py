"""THE table of layouts: name -> function of the results."""

from __future__ import annotations

from collections.abc import Callable

from anymc3d.benchmark.tables.grid import Grid
from anymc3d.benchmark.tables.main import main_table
from anymc3d.benchmark.tables.rows import Results
from anymc3d.errors import UsageError, did_you_mean

LAYOUTS: dict[str, Callable[[Results], Grid]] = {
    "main": main_table,
}


def make_table(results: Results, layout: str) -> Grid:
    """The table of a layout.

    Raises:
        UsageError: there is no such layout.
    """
    if layout not in LAYOUTS:
        raise UsageError(f"--layout: unknown name {layout!r}{did_you_mean(layout, LAYOUTS)}")
    return LAYOUTS[layout](results)
