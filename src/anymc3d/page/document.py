"""A whole HTML document and its tables, as text; every cell is escaped here."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence

from anymc3d.page.style import STYLE
from anymc3d.printable import escape

RESEARCH_ONLY = "Research use only. Not a medical device."


class Markup(str):
    """Text that is HTML already."""


def document(
    *, title: str, generator: str, identity: str, body: Iterable[str], style: str = "", script: str = ""
) -> str:
    """Return a page that loads nothing: its policy allows inline styles, inline pictures and this one script.

    Args:
        title: plain text, also of the browser's tab.
        generator: the command that wrote it.
        identity: says whose page it is, so that a later run knows whether it may replace it.
        body: HTML, from ``<header>`` to ``<footer>``.
        style: more CSS than the common style.
        script: JavaScript, or nothing.
    """
    policy = ["default-src 'none'", "style-src 'unsafe-inline'", "img-src data:"]
    if script:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        policy.append(f"script-src 'sha256-{digest}'")
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta name="generator" content="{escape(generator)}">',
            f'<meta name="identity" content="{escape(identity)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f'<meta http-equiv="Content-Security-Policy" content="{"; ".join(policy)}">',
            f"<title>{escape(title)}</title>\n<style>{STYLE}{style}</style>\n</head>\n<body>",
            *body,
            *([f"<script>{script}</script>"] if script else []),
            "</body>\n</html>\n",
        ]
    )


def table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Sequence[int] = ()) -> str:
    """Return a table whose first column heads the rows; ``numbers``: which columns are set flush right.

    Cells are plain text, unless they are :class:`Markup`.
    """

    def cell(index: int, text: str) -> str:
        kind = ' class="number"' if index in numbers else ""
        content = text if isinstance(text, Markup) else escape(text)
        return f'<th scope="row"{kind}>{content}</th>' if index == 0 else f"<td{kind}>{content}</td>"

    right = ' class="number"'
    heads = "".join(
        f'<th scope="col"{right if i in numbers else ""}>{escape(name)}</th>' for i, name in enumerate(columns)
    )
    body = "\n".join(f"<tr>{''.join(cell(i, text) for i, text in enumerate(row))}</tr>" for row in rows)
    # A wide table scrolls in its own frame, which the keyboard must be able to reach.
    return (
        f'<div class="wide" role="group" tabindex="0" aria-label="{escape(caption)}"><table>'
        f"<caption>{escape(caption)}</caption><thead><tr>{heads}</tr></thead><tbody>\n{body}</tbody></table></div>"
    )


def tiles(pairs: Iterable[tuple[str, str]]) -> str:
    """Return a row of (name, value) boxes."""
    shown = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in pairs)
    return f'<dl class="tiles">{shown}</dl>'


def section(anchor: str, title: str, *parts: str) -> str:
    """Return one section with its heading of the second level."""
    inner = "\n".join(part for part in parts if part)
    return f'<section aria-labelledby="{anchor}"><h2 id="{anchor}">{escape(title)}</h2>\n{inner}\n</section>'


def paragraph(text: str, kind: str = "") -> str:
    """Return one paragraph of plain text."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def listing(lines: Iterable[str]) -> str:
    """Return a list of plain texts."""
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"


def data_url(content: bytes, kind: str) -> str:
    """Return an inline picture; ``kind``: png or jpeg."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
