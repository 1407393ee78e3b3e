"""THE table of layouts: name -> function of the results."""

from __future__ import annotations

from collections.abc import Callable

from anymc3d.benchmark.tables import choices
from anymc3d.benchmark.tables.data_sets import data_sets
from anymc3d.benchmark.tables.grid import Grid
from anymc3d.benchmark.tables.label_efficiency import label_efficiency
from anymc3d.benchmark.tables.main import main_table
from anymc3d.benchmark.tables.parameters import parameters
from anymc3d.benchmark.tables.rows import Results
from anymc3d.benchmark.tables.severity import severity
from anymc3d.errors import UsageError, did_you_mean

LAYOUTS: dict[str, Callable[[Results], Grid]] = {
    "main": main_table,
    "table3": data_sets,
    "table4": choices.strategies,
    "table5": choices.fusions,
    "table6": choices.sizes,
    "table7": choices.versions,
    "table8": severity,
    "figure7": choices.decoders,
    "figure8": parameters,
    "label-efficiency": label_efficiency,
}


def make_table(results: Results, layout: str) -> Grid:
    """The table of a layout.

    Raises:
        UsageError: there is no such layout.
    """
    if layout not in LAYOUTS:
        raise UsageError(f"--layout: unknown name {layout!r}{did_you_mean(layout, LAYOUTS)}")
    return LAYOUTS[layout](results)
