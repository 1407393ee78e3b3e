"""Line plots as inline SVG: no script, colours from the page, a text for those who do not see them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, floor, isfinite, log10

from anymc3d.printable import escape

_WIDTH, _HEIGHT = 340, 300
_LEFT, _RIGHT, _TOP, _FOOT = 46, 10, 10, 40
_DASHES = ("", "6 3", "2 3", "8 3 2 3")
MAX_POINTS = 240
"""Points of one line on the page; a finer line looks the same."""

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line with its name; ``band``: (x, low, high); ``sizes``: area of a dot on every point, between 0 and 1."""

    name: str
    points: Points
    band: Sequence[tuple[float, float, float]] = ()
    stepped: bool = False
    sizes: Sequence[float] = ()
    bars: Sequence[tuple[float, float, float]] = ()
    """(x, low, high) of error bars."""


@dataclass(frozen=True, kw_only=True)
class Plot:
    """One figure. ``x_range``, ``y_range``: None = from the lines; ``reference``: what chance or perfection is."""

    title: str
    x_name: str
    y_name: str
    lines: Sequence[Line]
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    reference: Points = ()
    whole_x: bool = False
    """Ticks of the x axis at whole numbers only."""
    note: str = ""


def draw(plot: Plot) -> str:
    """Return one ``<figure>``."""
    x_range = plot.x_range or _span([x for line in plot.lines for x, _ in line.points])
    y_range = plot.y_range or _span([y for line in plot.lines for _, y in line.points], room=0.05)
    frame = _Frame(x_range, y_range)
    shapes = [*_axes(plot, frame)]
    if plot.reference:
        shapes.append(f'<path class="reference" d="{_path(frame, plot.reference)}"/>')
    for index, line in enumerate(plot.lines):
        shapes += _line(frame, line, index)
    names = "; ".join(line.name for line in plot.lines)
    label = f"{plot.title}: {plot.y_name} over {plot.x_name}. {names}"
    legend = "".join(
        f'<li><svg class="key" viewBox="0 0 24 8" aria-hidden="true"><path class="line c{i % 6}"'
        f' stroke-dasharray="{_DASHES[i % 4]}" d="M0 4H24"/></svg>{escape(line.name)}</li>'
        for i, line in enumerate(plot.lines)
    )
    note = f'<p class="quiet">{escape(plot.note)}</p>' if plot.note else ""
    return (
        f'<figure class="plot"><figcaption>{escape(plot.title)}</figcaption>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(label)}">{"".join(shapes)}</svg>'
        f'<ul class="legend">{legend}</ul>{note}</figure>'
    )


@dataclass(frozen=True)
class _Frame:
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def at(self, x: float, y: float) -> str:
        return f"{self.x(x):.1f} {self.y(y):.1f}"

    def x(self, value: float) -> float:
        low, high = self.x_range
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (min(max(value, low), high) - low) / (high - low)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return _HEIGHT - _FOOT - (_HEIGHT - _TOP - _FOOT) * (min(max(value, low), high) - low) / (high - low)


def _axes(plot: Plot, frame: _Frame) -> Iterator[str]:
    bottom, right = _HEIGHT - _FOOT, _WIDTH - _RIGHT
    for value in ticks(*frame.y_range):
        y = frame.y(value)
        yield f'<path class="grid" d="M{_LEFT} {y:.1f}H{right}"/>'
        yield f'<text x="{_LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>'
    for value in ticks(*frame.x_range):
        if plot.whole_x and value != round(value):
            continue
        x = frame.x(value)
        yield f'<path class="grid" d="M{x:.1f} {_TOP}V{bottom}"/>'
        yield f'<text x="{x:.1f}" y="{bottom + 15}" text-anchor="middle">{value:g}</text>'
    middle = (_LEFT + right) / 2
    yield f'<text x="{middle:.0f}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(plot.x_name)}</text>'
    centre = (_TOP + bottom) / 2
    yield f'<text transform="translate(11 {centre:.0f}) rotate(-90)" text-anchor="middle">{escape(plot.y_name)}</text>'


def _line(frame: _Frame, line: Line, index: int) -> Iterator[str]:
    colour = f"c{index % 6}"
    points = thinned([(x, y) for x, y in line.points if isfinite(x) and isfinite(y)])
    band = [(x, low, high) for x, low, high in line.band if isfinite(low) and isfinite(high)]
    if len(band) > 1:
        upper, lower = [(x, high) for x, _, high in band], [(x, low) for x, low, _ in band]
        if line.stepped:
            upper, lower = stepped(upper), stepped(lower)
        yield f'<path class="band {colour}" d="{_path(frame, [*upper, *reversed(lower)])}Z"/>'
    for x, low, high in line.bars:
        if isfinite(low) and isfinite(high):
            yield f'<path class="bar {colour}" d="M{frame.at(x, low)}L{frame.at(x, high)}"/>'
    if len(points) > 1:
        drawn = stepped(points) if line.stepped else points
        dashes = f' stroke-dasharray="{_DASHES[index % 4]}"' if _DASHES[index % 4] else ""
        yield f'<path class="line {colour}"{dashes} d="{_path(frame, drawn)}"/>'
    sizes = line.sizes or ([0.1] * len(points) if len(points) <= 30 and not line.stepped and not line.band else [])
    for (x, y), size in zip(points, sizes, strict=False):
        yield f'<circle class="{colour}" cx="{frame.x(x):.1f}" cy="{frame.y(y):.1f}" r="{1.5 + 4.5 * size**0.5:.1f}"/>'


def _path(frame: _Frame, points: Points) -> str:
    return "M" + "L".join(frame.at(x, y) for x, y in points)


def stepped(points: Points) -> list[tuple[float, float]]:
    """Return a staircase where each point's value holds back to the point before it (as average precision sums)."""
    corners = list(points[:1])
    for x, y in points[1:]:
        corners += [(corners[-1][0], y), (x, y)]
    return corners


def thinned(points: Points) -> list[tuple[float, float]]:
    """Return at most ``MAX_POINTS``, without points on the straight line between their neighbours; ends stay."""
    bent = [
        point
        for i, point in enumerate(points)
        if i in (0, len(points) - 1) or not _between(points[i - 1], point, points[i + 1])
    ]
    step = ceil(len(bent) / MAX_POINTS)
    return bent if step <= 1 else [*bent[:-1:step], bent[-1]]


def _between(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    """Whether b is between a and c on a line that runs along an axis."""
    return a[0] == b[0] == c[0] or a[1] == b[1] == c[1]


def _span(values: Sequence[float], room: float = 0.0) -> tuple[float, float]:
    finite = [value for value in values if isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    if high <= low:
        return low - 0.5, high + 0.5
    return low - room * (high - low), high + room * (high - low)


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round values from ``low`` to ``high``, roughly ``about`` of them."""
    raw = (high - low) / about
    power = 10 ** floor(log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    first = ceil(low / step - 1e-9)
    return [round(index * step, 12) for index in range(first, floor(high / step + 1e-9) + 1)]
