"""The learning curve as a picture."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from anymc3d.files import atomic
from anymc3d.printable import plotted
from anymc3d.train.quick.curve import Curve, Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BLUE, _GREY, _ORANGE = "#0072B2", "0.55", "#D55E00"


def draw_curve(
    path: Path,
    curve: Curve,
    scored: tuple[str, float] = ("AUROC", 0.5),
    *,
    title: str,
    trivial: Estimate | None,
    of: str = "frozen features",
) -> None:
    """AUROC (or what is ``scored``: its name and its value by chance) over training cases with 95 % intervals; every
    draw a dot, chance and the plain measurements lines. ``of``: what was learnt on."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter, NullLocator, ScalarFormatter

    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    points = [point for point in curve.points if point.auroc.value is not None]
    sizes, middle = [point.num_train for point in points], [point.auroc.value for point in points]
    for number, point in enumerate(points):
        if len(point.draws) > 1:
            label = "" if number else "single draws of the training cases"
            # Beside the mean, which would cover them.
            axis.plot([point.num_train * 0.95] * len(point.draws), point.draws, ".", color=_GREY, ms=5, label=label)
        if point.auroc.low is not None:
            axis.plot([point.num_train] * 2, [point.auroc.low, point.auroc.high], "-", color=_BLUE, linewidth=1.2)
    axis.plot(sizes, middle, "o-", color=_BLUE, label=f"{plotted(of)}, held-out cases (95 % interval)")
    name, chance = scored
    axis.axhline(chance, color=_GREY, linestyle=":", label="chance")
    if trivial is not None and trivial.value is not None:
        axis.axhline(trivial.value, color=_ORANGE, linestyle="--", label="size, intensities, brightness alone")
    doubled = curve.gain.doubling if curve.gain is not None else None
    if doubled is not None and doubled.low is not None and points[-1].auroc.value is not None:
        x, y = 2 * sizes[-1], points[-1].auroc.value
        # A fitted value may lie where no AUROC can.
        least = 0.0 if name == "AUROC" else -math.inf
        value, *ends = (min(1.0, max(least, y + bound)) for bound in (doubled.value, doubled.low, doubled.high))
        axis.plot([x, x], ends, "-", color=_BLUE, linewidth=1.2)
        axis.plot(x, value, "o", mfc="white", ms=4, color=_BLUE, label="twice the cases, fitted")
        sizes = [*sizes, x]
    axis.set_xscale("log")
    axis.set_xticks(sizes)
    axis.xaxis.set_major_formatter(ScalarFormatter())
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xticklabels([f"{size:.0f}" for size in sizes])
    axis.set(xlabel="training cases", ylabel=name, ylim=(_lowest(axis), 1.0))
    axis.set_title(plotted(title))
    figure.legend(frameon=False, loc="outside lower center", ncols=2, fontsize="small")
    with atomic.replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def _lowest(axis: Axes) -> float:
    """Where the y axis begins: a little below all that is drawn, intervals, draws and chance."""
    drawn = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in axis.get_lines()])
    low = float(drawn[np.isfinite(drawn)].min())
    return low - 0.05 * (1.0 - low)
