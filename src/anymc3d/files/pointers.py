"""Files that stand for their content: what Git LFS and git-annex leave where nothing was fetched, and dangling links.

DataLad, Git LFS and their like put a name on the disk at once and the content when it is asked for. A reader that does
not know would call such a file damaged, or say that it does not exist although ``ls`` shows it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

LONGEST = 1024
"""Bytes of the longest pointer; a larger file is none."""
_ANNEX = re.compile(rb"\s*([A-Za-z]:)?[./\\\w-]*[/\\]annex[/\\]objects[/\\]")
_POINTERS = (
    (re.compile(rb"version https?://(git-lfs|hawser)\.github\.com/"), "a Git LFS pointer", "git lfs pull"),
    (_ANNEX, "a git-annex pointer", "datalad get, or git annex get"),
    (re.compile(rb"# xet version"), "a pointer of Xet", "git xet, or the hub's own download"),
)


def pointer_in(start: bytes) -> str | None:
    """What a small file is instead of its content, and how that is fetched; ``start``: all its bytes."""
    for pattern, what, how in _POINTERS:
        if pattern.match(start):
            return f"{what}, not the file itself: fetch it ({how})"
    return None


def absent(path: str | Path) -> str:
    """Why a path that does not exist does not."""
    return broken_link(path) or (
        "a symbolic link that leads back to itself" if os.path.islink(path) else "no such file"
    )


def broken_link(path: str | Path) -> str | None:
    """What is wrong with a path that is a link to nothing; None where it is no such link.

    A link that leads back to itself is none: opening it says what it is.
    """
    try:
        os.stat(path)
        return None
    except FileNotFoundError:
        pass
    except (OSError, ValueError):
        return None
    try:
        target = os.readlink(path)
    except OSError:
        return None
    if _ANNEX.match(os.fsencode(target)):
        return "a link to a file that is not there: it was not fetched (datalad get, or git annex get)"
    return "a link to a file that is not there; was it fetched (datalad get), or was the data moved?"
