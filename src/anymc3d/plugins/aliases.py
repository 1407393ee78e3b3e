"""A plugin under another name: ``NAME=FILE``, so that two plugins of one task file can be used together."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from anymc3d.plugins.file import Plugin, load_plugin

_NAMED = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*)=(?P<path>.+)", re.DOTALL)


def load_named(place: str | Path) -> Plugin:
    """Load ``FILE``, or ``NAME=FILE`` under that name; a file that exists under the whole text is that file.

    The name stands in every table and message in place of the card's; the hash stays that of the file.

    Raises:
        PluginError: as :func:`anymc3d.plugins.load_plugin`, or a plugin cannot have this name.
    """
    match = _NAMED.fullmatch(place) if isinstance(place, str) and not Path(place).exists() else None
    if match is None:
        return load_plugin(place)
    plugin = load_plugin(match["path"])
    return replace(plugin, card=replace(plugin.card, name=match["name"]))
