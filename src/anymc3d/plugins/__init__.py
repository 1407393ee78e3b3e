"""Plugins: the file, its card, several as one, probabilities for another site, and PEFT's folders."""

from anymc3d.plugins.aliases import load_named
from anymc3d.plugins.card import BackboneRecord, Member, PluginCard
from anymc3d.plugins.card_text import card_to_json, read_card
from anymc3d.plugins.file import (
    Plugin,
    load_plugin,
    plugin_bytes,
    save_plugin,
    stored,
    to_half,
    without_decoders,
)

__all__ = [
    "BackboneRecord",
    "Member",
    "Plugin",
    "PluginCard",
    "card_to_json",
    "load_named",
    "load_plugin",
    "plugin_bytes",
    "read_card",
    "save_plugin",
    "stored",
    "to_half",
    "without_decoders",
]
