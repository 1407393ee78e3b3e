"""The one place where text that others wrote is made safe to show.

Names, licences, labels, notes, file names, header texts and answers of servers come from files and machines that are
not ours. On a terminal an escape sequence clears the screen, a line end makes a line of its own, and a bidirectional
mark puts letters in another order; in Markdown ``<`` and ``|`` are more than letters. What cannot be printed is shown
by its code, such as ``\\x1b``. Doing it twice changes nothing.
"""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Sequence

LONGEST = 300
"""Characters of one foreign text that a line shows."""
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories: control, format (bidirectional and zero-width marks too), half characters, private use, none,
line and paragraph separators."""
_MARKDOWN = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;"} | {letter: f"\\{letter}" for letter in ("\\", "|", "`")}
)


def printable(text: str, keep: str = "") -> str:
    """``text`` with every character that does not print, or moves others, as its code; those in ``keep`` stay."""
    if text.isprintable():
        return text
    return "".join(
        _code(letter) if unicodedata.category(letter) in _HIDDEN and letter not in keep else letter for letter in text
    )


def shown(text: object, most: int = LONGEST) -> str:
    """One foreign text on one line of a message or page, cut where it is very long."""
    whole = text if isinstance(text, str) else str(text)
    line = printable(whole[: most + 1])
    return line if len(whole) <= most else f"{line[:most]}…"


def quoted(text: object) -> str:
    """A foreign text as a quotation: the words of another, not of this program."""
    return f'"{shown(text)}"'


def markdown(text: object, most: int = 2000) -> str:
    """A foreign text in a Markdown table or list: letters only, no HTML, no new cell, no code, no link, no picture."""
    return shown(text, most).translate(_MARKDOWN).replace("](", "\\](").replace("][", "\\][")


def plotted(text: object, most: int = LONGEST) -> str:
    """A foreign text in a plot of matplotlib, where two dollar signs would be a formula."""
    return shown(text, most).replace("$", r"\$")


def escape(text: str) -> str:
    """A foreign text in HTML, between tags or as the value of an attribute in quotes; line ends stay."""
    return html.escape(printable(text, keep="\n\t"))


def listed(names: Sequence[str]) -> str:
    """``a, b and c``; at least one name."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _code(letter: str) -> str:
    number = ord(letter)
    if letter in "\n\r\t":
        return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}[letter]
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
