"""The method of a plugin in words."""

from __future__ import annotations

from anymc3d.models.plain import PLAIN
from anymc3d.plugins.card import PluginCard


def method_of(card: PluginCard) -> str:
    """What was trained, on one line; of an ensemble ask it of each member."""
    if card.plain is not None:
        count = len(card.plain.measures)
        what = f"linear in {count} measures" if count else "linear in the voxels"
        return f"{card.method.name}, {what}, {PLAIN[card.method.name].summary}"
    if card.backbone is None:
        return f"{card.method.name}, started from {card.training.get('start_weights', 'unknown weights')}"
    seen = "" if card.features == "class" else f", features {card.features}"
    return f"{card.method.name}{rank_of(card)}{_last_blocks(card)}, fusion {card.fusion}{seen}"


def rank_of(card: PluginCard) -> str:
    """Of what LoRA adapts; a frozen backbone has none."""
    return "" if card.method.name == "frozen" else f", rank {card.method.rank}, alpha {card.method.alpha:g}"


def _last_blocks(card: PluginCard) -> str:
    """Of a plugin that leaves a trunk as it is: where it adapts, and the trunk's fingerprint."""
    if card.method.blocks is None or card.backbone is None:
        return ""
    last = "block" if card.method.blocks == 1 else f"{card.method.blocks} blocks"
    return f", in the last {last} (trunk {card.backbone.trunk})"
