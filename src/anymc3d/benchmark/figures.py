"""Figures 7 and 8 and the label-efficiency curve as pictures, the paper's printed figures drawn hollow beside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anymc3d.benchmark import paper_numbers
from anymc3d.benchmark.tables.parameters import Dot, dots
from anymc3d.benchmark.tables.rows import Entry, Results, number
from anymc3d.errors import UsageError, did_you_mean
from anymc3d.files import atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8A6100", "#56B4E9", "#333F4C", "#B84A00")
MARKS = ("o", "s", "^", "D", "v", "P", "X", "*", "p")
"""One more than colours, so that no two of 72 methods look the same."""
DPI = 130


NAME_PLACES = (((0, 8), "center"), ((0, -15), "center"), ((8, -3), "left"), ((-8, -3), "right"), ((0, 20), "center"))
"""Where a name may stand: points from its dot, and the alignment."""


def look_of(index: int) -> tuple[str, str]:
    """The mark and the colour of the ``index``-th method of a figure."""
    return MARKS[index % len(MARKS)], COLOURS[index % len(COLOURS)]


def draw_decoders(results: Results, figure: Figure) -> None:
    """Figure 7: AUROC by segmentation decoder, own and printed."""
    own_axes, paper = figure.subplots(1, 2, sharey=True)
    names = {entry.system: entry.variant for entry in paper_numbers.DECODERS}
    methods = results.where(lambda row: row["system"] == "anymc3d" and row["fusion"] == "query")
    place = 0
    for task in results.tasks:
        for method in methods:
            entry = results.headline(task, method)
            if entry is not None and entry.value is not None:
                decoder = results.describe(method)["segmentation"]
                label = method if len(results.tasks) == 1 else f"{method}, {task}"
                _dot(own_axes, place, entry, list(names).index(decoder) if decoder in names else 7, label)
                place += 1
    own_axes.set_xlim(-0.6, max(place, 1) - 0.4)
    for index, decoder_point in enumerate(paper_numbers.DECODERS):
        for value in decoder_point.values:
            paper.plot(index, value, MARKS[index], mfc="none", mec=COLOURS[index], ms=8)
            paper.annotate(f"{value:.3f}", (index, value), textcoords="offset points", xytext=(0, 8), ha="center")
    paper.set_xticks(range(len(paper_numbers.DECODERS)), list(names.values()), rotation=20, ha="right")
    paper.set_xlim(-0.6, len(paper_numbers.DECODERS) - 0.4)
    paper.set_title("printed, T5", fontsize=10)
    own_axes.set_title("own", fontsize=10)
    own_axes.set_ylabel("AUROC")
    own_axes.margins(y=0.25)
    own_axes.set_ylim(top=min(own_axes.get_ylim()[1], 1.01))


def _dot(axes: Any, place: int, entry: Entry, colour: int, label: str) -> None:
    low, high = number(entry.row["ci_low"]), number(entry.row["ci_high"])
    value = entry.value or 0.0
    spread = [[entry.sd], [entry.sd]] if entry.sd is not None else None
    if spread is None and low is not None and high is not None:
        spread = [[value - low], [high - value]]
    axes.errorbar(place, value, yerr=spread, fmt=MARKS[colour], color=COLOURS[colour], capsize=3)
    ticks = [*axes.get_xticks()] if place else []
    labels = [text.get_text() for text in axes.get_xticklabels()] if place else []
    axes.set_xticks([*ticks, place], [*labels, label], rotation=20, ha="right")


def draw_parameters(results: Results, figure: Figure) -> None:
    """Figure 8: trainable parameters against AUROC; hollow: printed, of other tasks."""
    axes = figure.subplots()
    known = [dot for dot in dots(results) if dot.millions is not None and dot.auroc is not None]
    own_dots = [dot for dot in known if not dot.is_printed]
    for index, dot in enumerate(own_dots):
        mark, colour = look_of(index)
        axes.plot(dot.millions, dot.auroc, mark, color=colour, ms=7, ls="none", label=dot.name)
    for dot in known:
        if dot.is_printed:
            axes.plot(dot.millions, dot.auroc, "o", mfc="none", mec="0.45", ms=7)
    axes.set_xscale("log")
    axes.set(xlabel="trainable parameters, millions", ylabel="AUROC")
    tasks = ", ".join(results.tasks)
    axes.set_title(f"filled: {tasks}; hollow: printed means over T1 to T10", fontsize=10)
    axes.margins(0.14, 0.14)
    if own_dots:
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.draw_without_rendering()  # names are placed on the finished layout
    _name_apart(axes, known)


def _name_apart(axes: Any, all_dots: Sequence[Dot]) -> None:
    """Names beside the printed dots, each at the first place where it covers no dot and no other name."""
    from matplotlib.transforms import Bbox

    covered = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in (_pixel(axes, dot) for dot in all_dots)]
    for dot in (dot for dot in all_dots if dot.is_printed):
        name = axes.annotate(
            dot.name,
            (dot.millions, dot.auroc),
            textcoords="offset points",
            xytext=NAME_PLACES[0][0],
            ha="center",
            fontsize=7.5,
            color="0.35",
            in_layout=False,
        )
        for offset, side in NAME_PLACES:
            name.set(position=offset, ha=side)
            box = name.get_window_extent()
            if not box.count_overlaps(covered):
                break
        covered.append(box)


def _pixel(axes: Any, dot: Dot) -> tuple[float, float]:
    x, y = axes.transData.transform((dot.millions, dot.auroc))
    return float(x), float(y)


def draw_label_efficiency(results: Results, figure: Figure) -> None:
    """AUROC over the number of training cases, one line per method; the printed points by share beside."""
    widths = [3.0] * len(results.tasks) + [1.6]
    *task_axes, paper = figure.subplots(1, len(widths), width_ratios=widths, sharey=True)
    for axes, task in zip(task_axes, results.tasks, strict=True):
        for index, method in enumerate(results.methods):
            _curve(axes, results, task, method, index)
        sizes = results.sizes(task)
        axes.set_xscale("log")
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.minorticks_off()
        axes.set(xlabel="training cases", title=task)
    task_axes[0].set_ylabel("AUROC")
    for point in paper_numbers.LABEL_EFFICIENCY:
        for value in point.values:
            paper.plot(point.share, value, "o", mfc="none", mec="0.45", ms=7)
        if point.share < 1:
            name, place = point.system.replace(" (", "\n("), (point.share, point.values[0])
            paper.annotate(name, place, textcoords="offset points", xytext=(7, -3), fontsize=7.5, color="0.35")
    paper.set_xticks([0.2, 1.0], ["20 %", "100 %"])
    paper.set_xlim(0, 1.3)
    paper.set(xlabel="share of training cases", title="printed, T3")
    handles = task_axes[0].get_legend_handles_labels()[0]
    if handles:
        figure.legend(handles=handles, frameon=False, fontsize=8, loc="outside right center")


def _curve(axes: Any, results: Results, task: str, method: str, index: int) -> None:
    entries = [results.headline(task, method, size) for size in results.sizes(task)]
    known = [entry for entry in entries if entry is not None and entry.value is not None]
    if not known:
        return
    x, y = [entry.train_cases for entry in known], [entry.value for entry in known]
    mark, colour = look_of(index)
    axes.plot(x, y, marker=mark, color=colour, label=method)
    bounds = [_bounds(entry) for entry in known]
    if all(bound is not None for bound in bounds):
        lows, highs = zip(*(bound for bound in bounds if bound is not None), strict=True)
        axes.fill_between(x, lows, highs, color=colour, alpha=0.1, lw=0)


def _bounds(entry: Entry) -> tuple[float, float] | None:
    value = entry.value or 0.0
    if entry.sd is not None:
        return value - entry.sd, value + entry.sd
    low, high = number(entry.row["ci_low"]), number(entry.row["ci_high"])
    return None if low is None or high is None else (low, high)


FIGURES: dict[str, tuple[Callable[[Results, Any], None], tuple[float, float]]] = {
    "figure7": (draw_decoders, (8.5, 3.8)),
    "figure8": (draw_parameters, (8.5, 4.4)),
    "label-efficiency": (draw_label_efficiency, (9.0, 4.0)),
}
"""Name -> how it is drawn, and its size in inches."""


def draw_figure(results: Results, layout: str, path: Path) -> None:
    """Draw a layout into ``path``, a PNG.

    Raises:
        UsageError: there is no such figure, or ``path`` is not named .png.
    """
    if layout not in FIGURES:
        raise UsageError(f"--layout: unknown figure {layout!r}{did_you_mean(layout, FIGURES)}")
    if path.suffix.lower() != ".png":
        raise UsageError(f"-o: expected a name that ends in .png, got {path.name}")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    draw, size = FIGURES[layout]
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    draw(results, figure)
    with atomic.replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI)
