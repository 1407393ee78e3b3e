"""What speaks against a plugin itself, whatever the scan: every command that answers with one says it once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from anymc3d.cli.say import warn

if TYPE_CHECKING:
    from anymc3d.plugins.card import PluginCard


def warn_of_doubts(cards: Iterable[PluginCard]) -> None:
    """One warning for each doubt of each plugin."""
    from anymc3d.plugins.evidence import doubts_of

    for line in dict.fromkeys(f"plugin {card.name}: {doubt}" for card in cards for doubt in doubts_of(card)):
        warn(line)
