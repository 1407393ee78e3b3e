"""Predicted against true numbers: every case a dot, the line where both are equal, and the means of ten parts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from anymc3d.evaluate.curves import Band, Curve
from anymc3d.evaluate.pictures import COLOURS, Drawn
from anymc3d.evaluate.regression.metrics import NumberCases
from anymc3d.evaluate.study import Study
from anymc3d.evaluate.study_rows import ALL
from anymc3d.evaluate.summary_cells import figure
from anymc3d.files import atomic
from anymc3d.printable import plotted

NUMBERS = "numbers"
"""The kind of curve: mean predicted and mean true number of ten parts of the cases."""
PARTS = 10
"""Groups of the cases by their predicted number, in the calibration line."""
_TITLE_LETTERS = 40
_LEAST = 3
"""Cases in each of these parts."""


def draw_numbers(path: Path, study: Study) -> None:
    """One panel per plugin and label; no picture, and none left of an earlier run, where there are no numbers."""
    panels = [] if study.numbers is None else [pair for pair in study.numbers.cases if pair[1].truth.size]
    if not panels or study.numbers is None:
        path.unlink(missing_ok=True)
        return
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    index = {(row["metric"], row["plugin"], row["label"]): row for row in study.numbers.rows if row["group"] == ALL}
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    drawn = Figure(figsize=(4.6 * columns, 4.8 * lines), layout="constrained")
    FigureCanvasAgg(drawn)
    for number, (plugin, cases) in enumerate(panels, start=1):
        axis = drawn.add_subplot(lines, columns, number)
        low = float(min(cases.truth.min(), cases.predicted.min()))
        high = float(max(cases.truth.max(), cases.predicted.max()))
        edge = 0.03 * ((high - low) or 1.0)
        axis.plot([low - edge, high + edge], [low - edge, high + edge], ":", color="0.5", label="predicted = true")
        axis.plot(
            cases.predicted, cases.truth, ".", color=COLOURS[0], alpha=0.5, ms=5, label=f"{cases.truth.size} cases"
        )
        middle = tenths(cases)
        if len(middle):
            axis.plot(middle[:, 0], middle[:, 1], "o-", color=COLOURS[1], ms=4, label="means of tenths")
        words = [
            f"MAE {figure(index[('mae', plugin, cases.label)])}",
            f"R² {figure(index[('r2', plugin, cases.label)])}",
        ]
        title = [f"{plugin} {cases.label}".strip()[:_TITLE_LETTERS], *words]
        axis.set_title("\n".join(map(plotted, title)), fontsize="medium")
        axis.set(xlabel=f"predicted {plotted(cases.label)}", ylabel=f"true {plotted(cases.label)}")
        axis.set(xlim=(low - edge, high + edge), ylim=(low - edge, high + edge), aspect="equal")
        axis.legend(frameon=False, fontsize="small", loc="upper left")
    with atomic.replacing(path) as temporary:
        drawn.savefig(temporary, format="png", dpi=150, bbox_inches="tight")


def curves_of(study: Study) -> Iterator[Drawn]:
    """The calibration line of every plugin and label; none of fewer than six cases."""
    nothing = Band(*[np.zeros(0)] * 3)
    for plugin, cases in [] if study.numbers is None else study.numbers.cases:
        middle = tenths(cases)
        if len(middle):
            curve = Curve(NUMBERS, middle[:, 0], middle[:, 1], nothing)
            yield Drawn(cases.label, plugin, curve, "", cases.truth.size, 0)


def tenths(cases: NumberCases) -> np.ndarray:
    """Mean predicted and mean true number (parts, 2) of parts of the cases in the order of what was predicted; none
    where a part would have fewer than three."""
    parts = min(PARTS, cases.truth.size // _LEAST)
    if parts < 2:
        return np.zeros((0, 2))
    order = np.argsort(cases.predicted, kind="stable")
    return np.array([[cases.predicted[part].mean(), cases.truth[part].mean()] for part in np.array_split(order, parts)])
