"""The text of a task file: one key a line, its reason beside it."""

from __future__ import annotations

import dataclasses
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from anymc3d.settings.config import TaskSettings

SHORTHANDS = {"backbone": "name", "method": "name", "segmentation": "decoder"}
"""Sections for which ``key: TEXT`` stands for ``key: {name: TEXT}``, and which of their keys it is."""

_ALWAYS_WRITTEN = frozenset(["data.modality", "train.epochs", "train.batch_size", "train.chunk_size", "train.seed"])
"""Keys inside a section that stand in a task file even at their default."""
_PLAIN_TEXT = re.compile(r"[A-Za-z_./][A-Za-z0-9_./-]*")
_NOT_TEXT = frozenset(["true", "false", "null", "yes", "no", "on", "off", "y", "n"])
"""Quoted for the reader's sake; the strict loader takes only the first three for something else than text."""
_WIDTH = 118


def task_text(settings: TaskSettings, reasons: Mapping[str, str], *, complete: bool) -> str:
    """YAML of ``settings``, ``format`` first; keys at their default are left out of sections unless ``complete``."""
    names = [field.name for field in dataclasses.fields(settings) if field.name != "format"]
    lines = [
        line for name in ("format", *names) for line in _key_lines(name, getattr(settings, name), reasons, complete)
    ]
    return "".join(f"{line}\n" for line in lines)


def _key_lines(place: str, value: Any, reasons: Mapping[str, str], complete: bool) -> Iterator[str]:
    key = place.rpartition(".")[2]
    items = _items(place, value, reasons, complete)
    short = SHORTHANDS.get(place)
    if items is not None and list(items) == [short]:
        value, reason, items = items[short], reasons.get(f"{place}.{short}"), None
        yield from _with_reason(place, f"{key}: {_flow(value)}", reasons.get(place, reason))
    elif items is None:
        yield from _with_reason(place, f"{key}: {_flow(value)}", reasons.get(place))
    else:
        yield from _with_reason(place, f"{key}:", reasons.get(place))
        for name, item in items.items():
            yield from _key_lines(f"{place}.{name}", item, reasons, complete)


def _items(place: str, value: Any, reasons: Mapping[str, str], complete: bool) -> dict[str, Any] | None:
    """The keys to write inside a section; None for a value that is no section."""
    if isinstance(value, Mapping):
        return dict(value)
    if not dataclasses.is_dataclass(value):
        return None
    items = {}
    for field in dataclasses.fields(value):
        dotted, item = f"{place}.{field.name}", getattr(value, field.name)
        if complete or dotted in _ALWAYS_WRITTEN or dotted in reasons or item != field.default:
            items[field.name] = item
    short = SHORTHANDS.get(place, "name")
    return items or {short: getattr(value, short)}


def _with_reason(place: str, text: str, reason: str | None) -> Iterator[str]:
    indent = "  " * place.count(".")
    reason = " ".join((reason or "").split())
    line = f"{indent}{text}  # {reason}" if reason else f"{indent}{text}"
    if len(line) <= _WIDTH or not reason:
        yield line
    else:
        yield from (f"{indent}# {part}" for part in textwrap.wrap(reason, _WIDTH - len(indent) - 2))
        yield f"{indent}{text}"


def _flow(value: Any) -> str:
    """A value on one line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(_flow(item) for item in value)}]"
    if _PLAIN_TEXT.fullmatch(value) and value.lower() not in _NOT_TEXT:
        return value
    if value.isprintable():
        return "'" + value.replace("'", "''") + "'"
    return yaml.safe_dump(value, default_style='"', width=float("inf"), allow_unicode=False).strip()
