"""The header of a plugin file as text: written from a card, and read back, bounded and strict."""

from __future__ import annotations

import json
import math
from typing import Any

from anymc3d.errors import PluginError
from anymc3d.plugins.card import KINDS, PLUGIN_FORMAT, PluginCard
from anymc3d.printable import shown
from anymc3d.settings.plain import from_plain, to_plain

MAX_CARD_CHARACTERS = 16 * 2**20
_MAX_DEPTH = 24
"""Levels of a header: a member's card in an ensemble's, and its deepest record."""
_MAX_DIGITS = 18


def card_to_json(card: PluginCard) -> str:
    """The header text; keys keep their order, because the views have one.

    Raises:
        PluginError: the card holds what :func:`read_card` would refuse.
    """
    problems: list[str] = []
    try:
        plain = json.loads(json.dumps(to_plain(card), allow_nan=False))
    except ValueError as error:
        raise PluginError(f"plugin '{shown(card.name)}' cannot be written: its card holds no JSON ({error})") from None
    checked = from_plain(PluginCard, plain, problems)
    if problems:
        raise PluginError(f"plugin '{shown(card.name)}' cannot be written: {'; '.join(problems[:6])}")
    return json.dumps(to_plain(checked), allow_nan=False)


def read_card(text: str, where: str) -> PluginCard:
    """Parse a header; every key must be known, of the right type and within its bounds.

    Raises:
        PluginError: the header is damaged, of a newer format, or of another kind.
    """
    raw = _parse(text, where)
    version = raw.get("format_version")
    if version != PLUGIN_FORMAT:
        raise PluginError(f"{where}: this version reads plugins of format {PLUGIN_FORMAT}, got {shown(repr(version))}")
    if raw.get("kind") not in KINDS:
        kind = shown(repr(raw.get("kind")))
        raise PluginError(f"{where}: expected kind {' or '.join(map(repr, KINDS))}, got {kind}")
    problems: list[str] = []
    card = from_plain(PluginCard, raw, problems)
    if problems:
        raise PluginError(f"{where}: the header cannot be used: {'; '.join(problems[:6])}")
    return card


def _parse(text: str, where: str) -> dict[str, Any]:
    if len(text) > MAX_CARD_CHARACTERS:
        what = f"expected at most {MAX_CARD_CHARACTERS} characters in the header, got {len(text)}"
        raise PluginError(f"{where}: {what}: not a plugin")
    try:
        raw = json.loads(
            text, object_pairs_hook=_no_duplicates, parse_int=_integer, parse_float=_finite, parse_constant=_no_constant
        )
        _check_depth(raw)
    except (ValueError, RecursionError) as error:
        raise PluginError(f"{where}: expected JSON in the header, got something else ({error})") from None
    if not isinstance(raw, dict):
        raise PluginError(f"{where}: expected a JSON object in the header, got {type(raw).__name__}")
    return raw


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a key appears twice")
    return content


def _integer(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{shown(text, 40)} is too large for a number")
    return value


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is not a JSON number")


def _check_depth(value: Any) -> None:
    """Nesting is bounded before anything walks it."""
    waiting = [(value, 1)]
    while waiting:
        node, depth = waiting.pop()
        if depth > _MAX_DEPTH:
            raise ValueError(f"nested more than {_MAX_DEPTH} levels deep")
        inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
        waiting += [(part, depth + 1) for part in inner if isinstance(part, dict | list)]
