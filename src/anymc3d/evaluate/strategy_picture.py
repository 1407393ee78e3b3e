"""The figure of the calibration strategies: one group of bars per metric, one colour per strategy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from anymc3d.evaluate.pictures import COLOURS
from anymc3d.evaluate.strategies import METRICS, STRATEGIES, Score
from anymc3d.files import atomic
from anymc3d.printable import plotted

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TITLES: Mapping[str, str] = {"auroc": "AUROC", "f1": "F1", "crg": "CRG", "average": "average"}


def draw_strategies(path: Path, scores: Sequence[Score], *, title: str) -> None:
    """Write the figure as a PNG: four groups of bars, one per metric, with their intervals."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 4.6), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    names, width = list(STRATEGIES), 0.8 / len(STRATEGIES)
    for index, name in enumerate(names):
        of_strategy = {score.metric: score for score in scores if score.strategy == name}
        for place, metric in enumerate(METRICS):
            _bar(
                axis,
                place + (index - (len(names) - 1) / 2) * width,
                width,
                of_strategy[metric],
                COLOURS[index],
                place == 0,
            )
    axis.set_xticks(range(len(METRICS)), [TITLES[metric] for metric in METRICS], fontsize=12)
    axis.set_ylim(0, 1.08)
    axis.set_title(plotted(title), fontsize=12)
    axis.grid(axis="y", color="#E5E5E5", linewidth=0.7)
    axis.set_axisbelow(True)
    axis.legend(title="calibrated for", loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=4, frameon=False)
    with atomic.replacing(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})


def _bar(axis: Axes, x: float, width: float, score: Score, colour: str, named: bool) -> None:
    if score.value is None:
        return
    low, high = score.interval.low, score.interval.high
    errors = None if low is None or high is None else [[max(score.value - low, 0)], [max(high - score.value, 0)]]
    label = score.strategy if named else None
    axis.bar(x, score.value, width * 0.94, yerr=errors, color=colour, ecolor="#333333", capsize=2, label=label)
    axis.text(x, 0.02, f"{score.value:.3f}", rotation=90, ha="center", va="bottom", fontsize=9, color="white")
