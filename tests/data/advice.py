"""What a message says to do, as a reader would do it: options of the command line, cells of the manifest."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Way:
    """One way out of an error: words of the command line, and the same as a ``series`` cell."""

    words: tuple[str, ...]
    cell: str


def ways_out(message: str) -> list[Way]:
    """Every way that a message names, in its order."""
    found: list[tuple[int, Way]] = []
    for match in re.finditer(r"((?:--allow-(?:gaps|tilt) ?)+)\(in a manifest: series '([^']+)'\)", message):
        found.append((match.start(), Way(tuple(match[1].split()), match[2])))
    for match in re.finditer(r"--series '([^']+)'", message):
        found.append((match.start(), Way(("--series", match[1]), match[1])))
    return [way for _, way in sorted(found, key=lambda one: one[0])]
