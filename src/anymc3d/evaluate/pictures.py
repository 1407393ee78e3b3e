"""Pictures of the curves: one panel per label, one colour and line style per plugin, bands for the uncertainty.

Colours are Okabe and Ito's, which colour-blind readers distinguish; line styles say the same once more. matplotlib
draws into memory (Agg) and needs no display.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from anymc3d.evaluate.curves import Curve
from anymc3d.files import atomic
from anymc3d.printable import plotted

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P")
_DPI = 150
_COLUMNS = 3
_TITLE_LETTERS = 34


@dataclass(frozen=True)
class Drawn:
    """One curve with what its legend says, for instance ``AUROC 0.91 (0.85 to 0.94)``."""

    label: str
    plugin: str
    curve: Curve
    legend: str
    n: int
    n_positive: int
    points: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Operating point -> where it lies on the curve; the reliability curve has none."""

    @property
    def prevalence(self) -> float:
        """Share of positives."""
        return self.n_positive / self.n


@dataclass(frozen=True)
class _Kind:
    title: str
    x: str
    y: str
    legend_place: str


_KINDS: Mapping[str, _Kind] = {
    "roc": _Kind("ROC", "1 - specificity", "sensitivity", "lower right"),
    "pr": _Kind("Precision-recall", "recall (sensitivity)", "precision (PPV)", "best"),
    "reliability": _Kind(
        "Reliability", "mean predicted probability (dot area: number of cases)", "share of positives", "upper left"
    ),
    "risk": _Kind("Selective risk", "share of cases answered, surest first", "share of wrong decisions", "upper left"),
}


def draw_curves(path: Path, curves: Sequence[Drawn], *, subtitle: str) -> None:
    """Write one PNG with all ``curves``, which are of one kind; readable at a width of 800 pixels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    kind = _KINDS[curves[0].curve.kind]
    labels = list(dict.fromkeys(drawn.label for drawn in curves))
    plugins = list(dict.fromkeys(drawn.plugin for drawn in curves))
    columns = min(len(labels), _COLUMNS)
    lines = math.ceil(len(labels) / columns)
    width, height = (6.4, 6.2) if columns == 1 else (4.2 * columns, 4.1 * lines + 0.8)
    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(f"{kind.title}: {subtitle}", fontsize=12 if columns == 1 else 14)
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for axis in axes[len(labels) :]:
        axis.set_visible(False)
    for axis, label in zip(axes, labels, strict=False):
        of_label = [drawn for drawn in curves if drawn.label == label]
        _draw_panel(axis, kind, of_label, plugins, font=11 if columns == 1 else 12)
    with atomic.replacing(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})


def _draw_panel(axis: Axes, kind: _Kind, curves: Sequence[Drawn], plugins: Sequence[str], *, font: int) -> None:
    _draw_reference(axis, curves)
    for drawn in curves:
        index = plugins.index(drawn.plugin)
        colour, style = COLOURS[index % len(COLOURS)], STYLES[index % len(STYLES)]
        name = f"{plotted(drawn.plugin)}\n{drawn.legend}" if len(plugins) > 1 else drawn.legend
        _draw_one(axis, drawn.curve, colour, style, name)
        _draw_points(axis, drawn, colour)
    axis.set_title(_title(curves), fontsize=font + 1)
    axis.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    if curves[0].curve.kind == "risk":
        highest = max(float(np.nanmax([0.02, *drawn.curve.y, *drawn.curve.band.high])) for drawn in curves)
        axis.set(ylim=(-0.01 * highest, 1.25 * highest), aspect="auto")
    axis.set_xlabel(kind.x, fontsize=font)
    axis.set_ylabel(kind.y, fontsize=font)
    axis.tick_params(labelsize=font - 1)
    axis.grid(color="#E5E5E5", linewidth=0.7)
    axis.set_axisbelow(True)
    axis.legend(loc=kind.legend_place, fontsize=font - 1, framealpha=0.9)


def _title(curves: Sequence[Drawn]) -> str:
    """The label and how many cases it has; the number of each plugin where they differ."""
    label = curves[0].label
    name = plotted(label, _TITLE_LETTERS)
    what = "wrong if all are answered" if curves[0].curve.kind == "risk" else "positive"
    numbers = dict.fromkeys(f"n = {drawn.n}, {drawn.n_positive} {what}" for drawn in curves)
    return f"{name}\n{' / '.join(numbers)}"


def _draw_points(axis: Axes, drawn: Drawn, colour: str) -> None:
    """The operating points, each with its own sign and name."""
    for marker, (name, (x, y)) in zip(MARKERS, drawn.points.items(), strict=False):
        style = {"markerfacecolor": "white", "markeredgewidth": 1.8, "markersize": 8, "zorder": 4, "clip_on": False}
        axis.plot(x, y, marker, color=colour, label=f"at {plotted(name)}", **style)


def _draw_one(axis: Axes, curve: Curve, colour: str, style: str, name: str) -> None:
    band, is_defined = curve.band, ~np.isnan(curve.band.low)
    if curve.kind == "reliability":
        spread = np.maximum(np.stack([curve.y - band.low, band.high - curve.y])[:, is_defined], 0)
        axis.errorbar(
            curve.x[is_defined], curve.y[is_defined], yerr=spread, fmt="none", ecolor=colour, alpha=0.5, capsize=3
        )
        sizes = curve.sizes if curve.sizes is not None else np.ones(curve.x.size)
        axis.plot(curve.x, curve.y, color=colour, linestyle=style, linewidth=1.2, marker="o", markersize=2, label=name)
        axis.scatter(curve.x, curve.y, s=12 + 90 * sizes / sizes.max(), color=colour, zorder=3, clip_on=False)
        return
    axis.fill_between(
        band.x[is_defined],
        band.low[is_defined],
        band.high[is_defined],
        color=colour,
        alpha=0.18,
        linewidth=0,
        step=_step(curve),
    )
    if curve.kind == "pr":
        x, y = np.r_[0.0, curve.x], np.r_[curve.y[0], curve.y]
        axis.step(x, y, where="pre", color=colour, linestyle=style, linewidth=1.8, label=name)
    else:
        axis.plot(curve.x, curve.y, color=colour, linestyle=style, linewidth=1.8, label=name)


def _draw_reference(axis: Axes, curves: Sequence[Drawn]) -> None:
    """What chance (or, for reliability, perfection) looks like."""
    grey = {"color": "#777777", "linewidth": 1.0, "linestyle": (0, (1, 2))}
    if curves[0].curve.kind in ("pr", "risk"):
        axis.axhline(curves[0].prevalence, **grey)
    else:
        axis.plot([0, 1], [0, 1], **grey)


def _step(curve: Curve) -> str | None:
    return "pre" if curve.kind == "pr" else None
