"""Names of a table and names on the disk: another system's separators, and other codes of the same letters.

Windows writes ``scans\\a.nii``. macOS writes an umlaut as letter and accent, Linux mostly as one sign, and copying out
of a page brings signs of no width. A person sees the same name.
"""

from __future__ import annotations

import os
import re
import unicodedata

_DRIVE = re.compile(r"[A-Za-z]:[\\/]|\\\\[^\\]+\\")


def is_of_windows(path: str) -> bool:
    """Whether a path begins with a drive or a share of Windows, which leads nowhere here."""
    return os.sep == "/" and _DRIVE.match(path) is not None


def on_disk(path: str) -> str:
    """The path as the disk spells it, where exactly one name there looks the same; else as it was given.

    Only a name with a backslash or a letter beyond ASCII is looked for at all.
    """
    if ("\\" not in path and path.isascii()) or os.path.lexists(path):
        return path
    for candidate in dict.fromkeys((path, path.replace("\\", "/"))):
        if os.path.lexists(candidate):
            return candidate
        walked = _walked(candidate)
        if walked is not None:
            return walked
    return path.replace("\\", "/")


def _walked(path: str) -> str | None:
    """Part by part, each as it is or as the only entry that looks the same."""
    at = "/" if path.startswith("/") else "."
    for part in filter(None, path.split("/")):
        straight = os.path.join(at, part)
        if part in (".", "..") or os.path.lexists(straight):
            at = straight
            continue
        try:
            candidates = [name for name in os.listdir(at) if _looks(name) == _looks(part)]
        except OSError:
            return None
        if len(candidates) != 1:
            return None
        at = os.path.join(at, candidates[0])
    return os.path.normpath(at)


def _looks(name: str) -> str:
    seen = "".join(sign for sign in name if unicodedata.category(sign) != "Cf")
    return unicodedata.normalize("NFC", seen)
