"""A piece of HTML that a notebook shows in place of a ``repr``: it brings its own look and changes nothing else."""

from __future__ import annotations

from collections.abc import Iterable

from anymc3d.page.document import RESEARCH_ONLY
from anymc3d.printable import escape

_STYLE = """
.anymc3d { max-width: 40rem; line-height: 1.4; } .anymc3d p { margin: .2rem 0; }
.anymc3d .quiet { opacity: .75; font-size: .875em; } .anymc3d .warning { font-weight: 600; color: #b42318; }
.anymc3d table { border-collapse: collapse; } .anymc3d caption { text-align: left; font-weight: 600; }
.anymc3d th, .anymc3d td { text-align: left; padding: .2rem .6rem; vertical-align: middle; }
.anymc3d .number { text-align: right; font-variant-numeric: tabular-nums; }
.anymc3d .meter { width: 8rem; height: 1.1rem; display: block; }
.anymc3d svg rect { fill: #2f6fb3; } .anymc3d .meter .frame { fill: none; stroke: currentColor; opacity: .5; }
.anymc3d .mark { stroke: currentColor; stroke-width: 1.5; fill: none; }
.anymc3d .even { stroke: currentColor; stroke-dasharray: 3 3; }
.anymc3d figure { margin: .4rem 0; max-width: 22rem; } .anymc3d figcaption { font-weight: 600; }
.anymc3d svg text { fill: currentColor; font-size: 12px; }
"""


def cell(title: str, parts: Iterable[str]) -> str:
    """Return one piece: a title in plain text, HTML below it, and what it may be used for."""
    inner = "\n".join(part for part in parts if part)
    foot = f'<p class="quiet">{RESEARCH_ONLY}</p>'
    return f'<div class="anymc3d"><style>{_STYLE}</style><p><strong>{escape(title)}</strong></p>\n{inner}\n{foot}</div>'
