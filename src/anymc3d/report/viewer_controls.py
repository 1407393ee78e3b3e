"""What stands above the planes of a report: which map, its opacity, the window, the crosshair."""

from __future__ import annotations

from collections.abc import Sequence

from anymc3d.pictures.colours import OPACITY
from anymc3d.printable import escape
from anymc3d.report.levels import Levels


def controls(
    maps: Sequence[tuple[str, float]],
    first: int,
    windows: Sequence[str],
    grey: tuple[float, float],
    levels: Levels,
) -> str:
    """Hidden until the page's script runs.

    Args:
        maps: label and probability of each.
        first: the one shown at first.
        windows: names of what the page offers.
        grey: what is black and what is white at first.
        levels: of the scan's grey values.
    """
    chooser = ""
    if len(maps) > 1:
        options = [f"{name}: {probability:.2f}" for name, probability in maps]
        chooser = _select("map", "Heatmap of label", options, first)
    low, high = grey
    span = float(levels[-1] - levels[0])
    step = "1" if span >= 200 else f"{span / 400:.2g}"
    return (
        f'<div class="controls" hidden>{chooser}'
        + _range("opacity", "Opacity of the heatmap", (0, 100), "5", round(OPACITY * 100), " %")
        + _select("window", "Window", windows, 0)
        + _range("centre", "Centre", (float(levels[0]), float(levels[-1])), step, (low + high) / 2)
        + _range("width", "Width", (0, span), step, high - low)
        + '<p class="control"><input type="checkbox" id="cross" checked><label for="cross">Crosshair</label></p>'
        '<p class="control"><button type="button" id="to-peak">Go to the highest value</button></p></div>'
    )


def _select(name: str, label: str, options: Sequence[str], first: int) -> str:
    inside = "".join(
        f'<option value="{i}"{" selected" if i == first else ""}>{escape(text)}</option>'
        for i, text in enumerate(options)
    )
    return f'<p class="control"><label for="{name}">{label}</label><select id="{name}">{inside}</select></p>'


def _range(name: str, label: str, ends: tuple[float, float], step: str, value: float, unit: str = "") -> str:
    return (
        f'<p class="control"><label for="{name}">{label}</label><input type="range" id="{name}" min="{ends[0]:g}" '
        f'max="{ends[1]:g}" step="{step}" value="{value:g}"><output id="{name}-value" for="{name}">{value:g}{unit}'
        "</output></p>"
    )
