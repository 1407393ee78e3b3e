"""The learning curve as a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from anymc3d.files import atomic
from anymc3d.printable import plotted
from anymc3d.train.quick.curve import Curve, CurvePoint, Estimate

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

    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    name, chance = scored
    sizes = _draw_points(axis, curve, f"{plotted(of)}, held-out cases (95 % interval)")
    axis.axhline(chance, color=_GREY, linestyle=":", label="chance")
    if trivial is not None and trivial.value is not None:
        axis.axhline(trivial.value, color=_ORANGE, linestyle="--", label="size, intensities, brightness alone")
    # A fitted value may lie where no AUROC can.
    sizes += _draw_doubling(axis, curve, least=0.0 if name == "AUROC" else -math.inf)
    _mark_sizes(axis, sizes)
    axis.set(xlabel="training cases", ylabel=name, ylim=(_lowest(axis), 1.0))
    axis.set_title(plotted(title))
    figure.legend(frameon=False, loc="outside lower center", ncols=2, fontsize="small")
    with atomic.replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def _known(curve: Curve) -> list[CurvePoint]:
    return [point for point in curve.points if point.auroc.value is not None]


def _draw_points(axis: Axes, curve: Curve, label: str) -> list[float]:
    """Means, intervals and single draws; returns the numbers of cases."""
    points = _known(curve)
    for number, point in enumerate(points):
        if len(point.draws) > 1:
            of_draws = "" if number else "single draws of the training cases"
            # Beside the mean, which would cover them.
            axis.plot([point.num_train * 0.95] * len(point.draws), point.draws, ".", color=_GREY, ms=5, label=of_draws)
        if point.auroc.low is not None:
            axis.plot([point.num_train] * 2, [point.auroc.low, point.auroc.high], "-", color=_BLUE, linewidth=1.2)
    sizes = [point.num_train for point in points]
    axis.plot(sizes, [point.auroc.value for point in points], "o-", color=_BLUE, label=label)
    return sizes


def _draw_doubling(axis: Axes, curve: Curve, *, least: float) -> list[float]:
    """What twice the cases would bring, as fitted; returns their number, nothing where that is not known."""
    points = _known(curve)
    doubled = curve.gain.doubling if curve.gain is not None else None
    if doubled is None or doubled.low is None or points[-1].auroc.value is None:
        return []
    x, y = 2 * points[-1].num_train, points[-1].auroc.value
    value, *ends = (min(1.0, max(least, y + bound)) for bound in (doubled.value, doubled.low, doubled.high))
    axis.plot([x, x], ends, "-", color=_BLUE, linewidth=1.2)
    axis.plot(x, value, "o", mfc="white", ms=4, color=_BLUE, label="twice the cases, fitted")
    return [x]


def _mark_sizes(axis: Axes, sizes: Sequence[float]) -> None:
    """A logarithmic axis with a tick at each number of cases, and nowhere else."""
    from matplotlib.ticker import NullFormatter, NullLocator, ScalarFormatter

    axis.set_xscale("log")
    axis.set_xticks(sizes)
    axis.xaxis.set_major_formatter(ScalarFormatter())
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xticklabels([f"{size:.0f}" for size in sizes])


def _lowest(axis: Axes) -> float:
    """Where the y axis begins: a little below all that is drawn, intervals, draws and chance."""
    drawn = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in axis.get_lines()])
    low = float(drawn[np.isfinite(drawn)].min())
    return low - 0.05 * (1.0 - low)
