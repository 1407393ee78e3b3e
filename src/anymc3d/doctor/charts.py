"""Bar charts as inline SVG: no script, colours from the page, a text for those who do not see them."""

from __future__ import annotations

from anymc3d.doctor.histograms import Histogram
from anymc3d.printable import escape

_WIDTH, _HEIGHT, _FOOT, _HEAD = 300, 120, 18, 14


def bars(histogram: Histogram) -> str:
    """One histogram with the largest count and the two ends of its axis written on it."""
    counts, edges = histogram.counts, histogram.edges
    most = max(max(counts), 1)
    room = _HEIGHT - _FOOT - _HEAD
    step = _WIDTH / len(counts)
    shapes = "".join(
        f'<rect x="{index * step:.2f}" y="{_HEAD + room * (1 - count / most):.2f}" width="{max(step - 1, 0.5):.2f}"'
        f' height="{room * count / most:.2f}"><title>{_range(edges, index, histogram.unit)}: {count:,}</title></rect>'
        for index, count in enumerate(counts)
        if count
    )
    ends = f"{_number(edges[0])} to {_number(edges[-1])} {histogram.unit}"
    beyond = f"; {histogram.beyond}" if histogram.beyond else ""
    text = f"{histogram.title}: {ends}, at most {most:,} in one bar{beyond}"
    note = f'<p class="quiet">{escape(histogram.beyond)}</p>' if histogram.beyond else ""
    unit = f'<span class="quiet">({escape(histogram.unit)})</span>'
    return (
        f"<figure><figcaption>{escape(histogram.title)} {unit}</figcaption>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(text)}">'
        f'<line x1="0" x2="{_WIDTH}" y1="{_HEIGHT - _FOOT}" y2="{_HEIGHT - _FOOT}"/>{shapes}'
        f'<text x="0" y="10">{most:,} {escape(histogram.of)}</text>'
        f'<text x="0" y="{_HEIGHT - 4}">{_number(edges[0])}</text>'
        f'<text x="{_WIDTH}" y="{_HEIGHT - 4}" text-anchor="end">{_number(edges[-1])}</text>'
        f"</svg>{note}</figure>"
    )


def _range(edges: tuple[float, ...], index: int, unit: str) -> str:
    return escape(f"{_number(edges[index])} to {_number(edges[index + 1])} {unit}")


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
