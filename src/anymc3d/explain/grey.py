"""Which grey values the pictures of a plugin's answer use: the plugin's own window where it has one."""

from __future__ import annotations

from anymc3d.data.volume import Volume
from anymc3d.pictures.colours import grey_window
from anymc3d.plugins.card import PluginCard


def grey_of(card: PluginCard | None, column: str, scan: Volume) -> tuple[float, float, str]:
    """What is black, what is white and how that is said: the first window of the views that show this manifest column,
    and what :func:`anymc3d.pictures.colours.grey_window` says without one."""
    views = {} if card is None else card.preprocessing
    windows = next((view.windows for view in views.values() if view.image == column and view.windows), ())
    return grey_window(scan, windows or ())
