"""The last check before a name that came from a file becomes a path: it must stay below the folder it belongs to."""

from __future__ import annotations

from pathlib import Path

from anymc3d.errors import UsageError
from anymc3d.printable import shown

MAX_NAME_BYTES = 240
"""Bytes of one file name; file systems take 255, and a temporary file beside it needs a few."""


def inside(folder: Path, *names: str) -> Path:
    """``folder / names…``, checked: each name is one plain name, and no link on the way leads out of ``folder``.

    Nothing needs to be there yet. Every writer of files whose names hold foreign text (views, labels, cases) asks
    this, and so does all code that opens a file which another file names.

    Raises:
        UsageError: a name is empty, too long, ``.``, ``..``, or has a separator or NUL; or the place is elsewhere.
    """
    for name in names:
        is_plain = name not in ("", ".", "..") and not any(letter in name for letter in "/\\\0")
        if not is_plain or len(name.encode(errors="surrogatepass")) > MAX_NAME_BYTES:
            raise UsageError(
                f"expected the name of a file in {shown(folder)}: one name of at most {MAX_NAME_BYTES} bytes without "
                f"/ and \\, got '{shown(name, 80)}'"
            )
    path = folder.joinpath(*names)
    try:
        is_below = path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError) as error:
        raise UsageError(f"{shown(path)}: cannot be followed ({type(error).__name__})") from None
    if not is_below:
        raise UsageError(
            f"{shown(path)}: leads out of {shown(folder)} through a link; nothing is read or written there"
        )
    return path
