"""Plain data (dict, list, text, number) to frozen settings classes and back, with every fault in one pass.

Types are exact: text is not a number, 3.0 is not an integer, true is not 1. A fault names the key, what was expected
and what came.
"""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from anymc3d.errors import UsageError, did_you_mean

_INVALID = object()
"""Stands for a value whose fault has been reported."""


def to_plain(settings: Any) -> Any:
    """Settings as JSON-ready data: dict, list, text, number, bool, None."""
    if dataclasses.is_dataclass(settings):
        return {field.name: to_plain(getattr(settings, field.name)) for field in dataclasses.fields(settings)}
    if isinstance(settings, Mapping):
        return {key: to_plain(value) for key, value in settings.items()}
    if isinstance(settings, tuple | list):
        return [to_plain(value) for value in settings]
    return settings


def from_plain(cls: type, value: Any, problems: list[str]) -> Any:
    """Build ``cls`` from plain data; faults are added to ``problems``, and then the result means nothing."""
    return _convert(cls, value, "", problems)


def _convert(kind: Any, value: Any, place: str, problems: list[str]) -> Any:
    if kind is Any:
        return value
    origin = get_origin(kind)
    if dataclasses.is_dataclass(kind):
        return _convert_class(kind, value, place, problems)
    if origin is tuple:
        return _convert_tuple(kind, value, place, problems)
    if origin in (Union, types.UnionType):
        return _convert_optional(kind, value, place, problems)
    if origin is not None and _is_mapping(origin):
        return _convert_mapping(get_args(kind)[1], value, place, problems)
    if _is_exact(kind, value):
        return float(value) if kind is float else value
    hint = f"; write it in quotes: '{value}'" if kind is str and isinstance(value, int | float) else ""
    hint = hint or (did_you_mean(value, get_args(kind)) if origin is Literal and isinstance(value, str) else "")
    problems.append(f"{place}: expected {_in_words(kind)}, got {_shown(value)}{hint}")
    return _INVALID


def _is_mapping(origin: Any) -> bool:
    return isinstance(origin, type) and issubclass(origin, Mapping)


def _is_exact(kind: Any, value: Any) -> bool:
    if get_origin(kind) is Literal:
        return any(value == choice and type(value) is type(choice) for choice in get_args(kind))
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return type(value) is kind


def _convert_class(cls: type, value: Any, place: str, problems: list[str]) -> Any:
    if not isinstance(value, Mapping):
        problems.append(f"{place or 'the file'}: expected keys and values, got {_shown(value)}")
        return _INVALID
    hints = get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    before = len(problems)
    for key in value:
        if key not in fields:
            problems.append(f"{_join(place, key)}: unknown key{did_you_mean(str(key), fields)}")
    arguments = {}
    for name, field in fields.items():
        if name in value:
            arguments[name] = _convert(hints[name], value[name], _join(place, name), problems)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            problems.append(f"{_join(place, name)}: missing; expected {_in_words(hints[name])}")
    if len(problems) > before:
        return _INVALID
    try:
        return cls(**arguments)
    except UsageError as error:
        text = str(error)
        problems.append(text if not place or text.startswith(f"{place}.") else f"{place}.{text}")
        return _INVALID


def _convert_tuple(kind: Any, value: Any, place: str, problems: list[str]) -> Any:
    items = get_args(kind)
    if not isinstance(value, list | tuple) or (items[-1] is not Ellipsis and len(value) != len(items)):
        problems.append(f"{place}: expected {_in_words(kind)}, got {_shown(value)}")
        return _INVALID
    item_kinds = [items[0]] * len(value) if items[-1] is Ellipsis else items
    pairs = enumerate(zip(item_kinds, value, strict=True))
    return tuple(_convert(item_kind, item, f"{place}[{index}]", problems) for index, (item_kind, item) in pairs)


def _convert_mapping(item_kind: Any, value: Any, place: str, problems: list[str]) -> Any:
    if not isinstance(value, Mapping):
        problems.append(f"{place}: expected keys and values, got {_shown(value)}")
        return _INVALID
    return {key: _convert(item_kind, item, _join(place, key), problems) for key, item in value.items()}


def _convert_optional(kind: Any, value: Any, place: str, problems: list[str]) -> Any:
    """``X | None``, the only union the settings use."""
    if value is None:
        return None
    (inner,) = [choice for choice in get_args(kind) if choice is not types.NoneType]
    faults: list[str] = []
    converted = _convert(inner, value, place, faults)
    expected = f"expected {_in_words(inner)}"
    problems += [fault.replace(expected, f"expected {_in_words(kind)}", 1) for fault in faults]
    return converted


def _join(place: str, key: object) -> str:
    return f"{place}.{key}" if place else str(key)


def _in_words(kind: Any) -> str:
    simple = {int: "an integer", float: "a number", str: "text", bool: "true or false"}
    if kind in simple:
        return simple[kind]
    origin, args = get_origin(kind), get_args(kind)
    if origin is Literal:
        return f"one of {', '.join(str(choice) for choice in args)}" if len(args) > 1 else str(args[0])
    if origin in (Union, types.UnionType):
        return " or ".join("null" if choice is types.NoneType else _in_words(choice) for choice in args)
    if origin is tuple and args[-1] is Ellipsis:
        return f"a list, each {_in_words(args[0])}"
    if origin is tuple:
        return f"a list of {len(args)} ({', '.join(_in_words(item) for item in args)})"
    return "keys and values"


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return repr(value)
    kind = "text" if isinstance(value, str) else "a list" if isinstance(value, list | tuple) else "keys and values"
    text = repr(value)
    return f"{kind} {text}" if len(text) <= 60 else f"{kind} {text[:57]}..."
