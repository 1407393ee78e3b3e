"""Where this program keeps what outlives one command: backbones and prepared scans."""

from __future__ import annotations

import os
from pathlib import Path

HOME_VARIABLE = "ANYMC3D_HOME"


def home_folder() -> Path:
    """``$ANYMC3D_HOME``, or ``anymc3d`` in the user's cache folder. Not created here."""
    chosen = os.environ.get(HOME_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "anymc3d"


def cache_folder() -> Path:
    """Prepared scans; safe to delete at any time."""
    return home_folder() / "prepared"
