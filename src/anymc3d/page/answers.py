"""Pictures of an answer as inline SVG: a probability between 0 and 1, and how much each slice counts."""

from __future__ import annotations

from collections.abc import Sequence

from anymc3d.page.document import paragraph, table
from anymc3d.printable import escape

_WIDTH, _HEIGHT, _TOP = 320, 110, 18
_ALIKE = 1e-4
"""Share by which weights may differ that are called the same: what rounding leaves of a mean over slices."""


def meter(value: float, mark: float | None = None, band: tuple[float, float] | None = None) -> str:
    """A bar from 0 to ``value`` in a frame from 0 to 1, with a line across it at ``mark``, and one along ``band``."""
    across = "" if mark is None else f'<path class="mark" d="M{100 * mark:.1f} 0V14"/>'
    along = "" if band is None else f'<path class="mark" d="M{100 * band[0]:.1f} 7H{100 * band[1]:.1f}"/>'
    return (
        '<svg class="meter" viewBox="0 0 100 14" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="frame" x="0" y="2" width="100" height="10"/>'
        f'<rect x="0" y="2" width="{100 * value:.1f}" height="10"/>{across}{along}</svg>'
    )


def all_alike(weights: Sequence[float]) -> bool:
    """Whether the slices of a view weigh the same, but for what rounding leaves of a mean."""
    return max(weights) - min(weights) < _ALIKE * max(*weights, 1e-9)


def slice_bars(view: str, weights: Sequence[float], direction: str = "") -> str:
    """One bar per slice of a view, whose weights add up to 1, with an even share as a dashed line; of weights that are
    all the same a sentence in place of the bars."""
    count, most = len(weights), max(*weights, 1e-9)
    name = f"View {view}" + (f" ({direction})" if direction else "")
    if all_alike(weights):
        return paragraph(f"{name}: all {count} slices weigh the same." if count > 1 else f"{name}: one slice.")
    step, room = _WIDTH / count, _HEIGHT - _TOP - 24
    bars = "".join(
        f'<rect x="{i * step + 0.5:.2f}" y="{_TOP + room * (1 - w / most):.2f}" width="{max(step - 1, 0.5):.2f}"'
        f' height="{room * w / most:.2f}"><title>slice {i + 1}: {w:.3f}</title></rect>'
        for i, w in enumerate(weights)
    )
    even = _TOP + room * (1 - 1 / count / most)
    top = list(weights).index(max(weights)) + 1
    text = (
        f"{name}: {count} slices, the largest weight {max(weights):.3f} at slice {top}, an even share {1 / count:.3f}"
    )
    rows = [(f"{i + 1}", f"{weight:.4f}") for i, weight in enumerate(weights)]
    as_table = table(f"Weights of view {view}", ("Slice", "Weight"), rows, numbers=(1,))
    return (
        f'<figure class="attention"><figcaption>{escape(name)}</figcaption>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(text)}">'
        f'<text x="0" y="12">largest {max(weights):.3f}, slice {top}</text>{bars}'
        f'<line class="even" x1="0" x2="{_WIDTH}" y1="{even:.2f}" y2="{even:.2f}"/>'
        f'<text x="0" y="{_HEIGHT - 5}">slice 1</text>'
        f'<text x="{_WIDTH}" y="{_HEIGHT - 5}" text-anchor="end">slice {count}</text></svg>'
        f"<details><summary>Weights of view {escape(view)} as a table</summary>{as_table}</details></figure>"
    )
