"""Parts of a plugin that others wrote: which they are, which package offered them, and whether they are installed.

A plugin holds their names. Nothing is imported because of what a file says besides: a name is looked for among what was
registered and what is installed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from anymc3d.models.fusion import FUSIONS
from anymc3d.models.heads import HEADS
from anymc3d.plugins.card import PluginCard
from anymc3d.printable import shown
from anymc3d.registry import Registry
from anymc3d.settings.training import MethodSettings

RECORD = "own_parts"
"""Key of a card's training record: ``fusion top-half`` -> the package that offered it, "" where nobody knows."""


@dataclass(frozen=True)
class OwnPart:
    """``what`` it is and ``how`` to have it, in words; ``is_here``: registered, or offered by an installed package."""

    what: str
    how: str
    is_here: bool


def own_parts(card: PluginCard) -> list[OwnPart]:
    """Own parts that the answer of a plugin depends on, of an ensemble those of its members."""
    cards = [member.card for member in card.members] or [card]
    found_parts = [part for each in cards if each.backbone is not None for part in _parts(each)]
    return list(dict.fromkeys(found_parts))


def _parts(card: PluginCard) -> Iterator[OwnPart]:
    recorded = card.training.get(RECORD)
    for table, name, function in _named(card.fusion, card.method):
        package = recorded.get(f"{table.kind} {name}") if isinstance(recorded, Mapping) else None
        by = f"; its maker had it from the package {shown(package, 100)!r}" if package else ""
        how = f"call {table.how_to_add(function)}{by}; a plugin brings no code"
        yield OwnPart(f"the {table.kind} {shown(name)!r}, which is not this program's own", how, name in table)


def _named(fusion: str, method: MethodSettings) -> list[tuple[Registry, str, str]]:
    asked = [(FUSIONS, fusion, "anymc3d.register_fusion"), (HEADS, method.head, "anymc3d.register_head")]
    return [(table, name, how) for table, name, how in asked if name is not None and table.is_own(name)]


def own_parts_record(fusion: str, method: MethodSettings) -> dict[str, dict[str, str]]:
    """What a card's training record says of own parts; empty where there are none."""
    providers = {f"{table.kind} {name}": table.provider(name) for table, name, _ in _named(fusion, method)}
    return {RECORD: providers} if providers else {}
