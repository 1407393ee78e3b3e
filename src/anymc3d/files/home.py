"""Where this program keeps what outlives one command: backbones, prepared scans, and tokens made of them."""

from __future__ import annotations

import os
from pathlib import Path

from anymc3d.errors import UsageError

HOME_VARIABLE = "ANYMC3D_HOME"


def home_folder() -> Path:
    """``$ANYMC3D_HOME``, or ``anymc3d`` in the user's cache folder. Not created here.

    Raises:
        UsageError: neither is set and the user, as in many containers, has no home.
    """
    chosen = os.environ.get(HOME_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    caches = os.environ.get("XDG_CACHE_HOME")
    if caches:
        return Path(caches) / "anymc3d"
    try:
        return Path.home() / ".cache" / "anymc3d"
    except RuntimeError:
        raise UsageError(f"this user has no home folder: set {HOME_VARIABLE} to a folder for what is kept") from None


def feature_folder() -> Path:
    """Features of frozen backbones; safe to delete at any time."""
    return home_folder() / "features"


def token_folder() -> Path:
    """Trunk tokens of training slices; safe to delete at any time."""
    return home_folder() / "tokens"


def cache_folder() -> Path:
    """Prepared scans; safe to delete at any time."""
    return home_folder() / "prepared"
