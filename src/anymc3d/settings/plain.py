"""Plain data (dict, list, text, number) to frozen settings classes and back, with every fault in one pass.

Types are exact: text is not a number, 3.0 is not an integer, true is not 1. Every number, text and list has bounds:
those that its field states (``Annotated[int, Between(1, 16)]``), else the general ones of
:mod:`anymc3d.settings.limits`. A fault names the key, what was expected and what came.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import reprlib
import types
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from anymc3d.errors import UsageError, did_you_mean
from anymc3d.settings.limits import GENERAL, As, Fact, Limit, fact_fault, number_fault, text_fault

_INVALID = object()
"""Stands for a value whose fault has been reported."""
_MOST_UNKNOWN = 20
"""Unknown keys that are reported, and compared with the known ones, one by one."""
_LONGEST_KEY = 100
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 200
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = 30


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


def _convert(kind: Any, value: Any, place: str, problems: list[str], limits: tuple[Limit, ...] = ()) -> Any:
    if get_origin(kind) is Annotated:
        inner, *more = get_args(kind)
        return _convert_annotated(inner, more, value, place, problems, limits)
    if kind is Any:
        return value
    origin = get_origin(kind)
    if kind is Fact:
        return _checked(value, fact_fault(value), place, problems)
    if dataclasses.is_dataclass(kind):
        return _convert_class(kind, value, place, problems)
    if origin is tuple:
        return _convert_tuple(kind, value, place, problems, limits)
    if origin in (Union, types.UnionType):
        return _convert_optional(kind, value, place, problems, limits)
    if origin is not None and _is_mapping(origin):
        return _convert_mapping(get_args(kind), value, place, problems, limits)
    if _is_exact(kind, value):
        return _convert_simple(kind, value, place, problems, limits)
    hint = f"; write it in quotes: '{value}'" if kind is str and isinstance(value, int | float) else ""
    hint = hint or (did_you_mean(value, get_args(kind)) if origin is Literal and _is_short(value) else "")
    problems.append(f"{place}: expected {_in_words(kind)}, got {_shown(value)}{hint}")
    return _INVALID


def _convert_annotated(
    kind: Any, more: list[Any], value: Any, place: str, problems: list[str], limits: tuple[Limit, ...]
) -> Any:
    """A field with limits, or with a schema that its value follows while it stays plain data."""
    schema = next((note.kind for note in more if isinstance(note, As)), None)
    if schema is not None:
        before = len(problems)
        converted = _convert(schema, value, place, problems)
        return to_plain(converted) if len(problems) == before else _INVALID
    limits_here = tuple(note for note in more if isinstance(note, Limit))
    return _convert(kind, value, place, problems, limits_here + limits)


def _checked(value: Any, fault: str, place: str, problems: list[str]) -> Any:
    if fault:
        problems.append(f"{place}: {fault}")
        return _INVALID
    return value


def _is_mapping(origin: Any) -> bool:
    return isinstance(origin, type) and issubclass(origin, Mapping)


def _is_short(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= _LONGEST_KEY


def _is_exact(kind: Any, value: Any) -> bool:
    if get_origin(kind) is Literal:
        return any(value == choice and type(value) is type(choice) for choice in get_args(kind))
    if kind is float:
        return type(value) is int or (type(value) is float and math.isfinite(value))
    return type(value) is kind


def _convert_simple(kind: Any, value: Any, place: str, problems: list[str], limits: tuple[Limit, ...]) -> Any:
    if kind is str:
        return _checked(value, text_fault(value, limits), place, problems)
    if kind is int or kind is float:
        value = _checked(value, number_fault(value, limits), place, problems)
        # -0.0 is 0.0 here, so that equal numbers are equal text.
        return value if value is _INVALID or kind is int else float(value) + 0.0
    return value


@functools.cache
def _fields(cls: type) -> dict[str, tuple[Any, bool]]:
    """Name -> (kind, whether it must be given)."""
    hints = get_type_hints(cls, include_extras=True)
    missing = dataclasses.MISSING
    return {
        field.name: (hints[field.name], field.default is missing and field.default_factory is missing)
        for field in dataclasses.fields(cls)
    }


def _convert_class(cls: type, value: Any, place: str, problems: list[str]) -> Any:
    if not isinstance(value, Mapping):
        # Of a whole file that is something else nothing is repeated: any file may have been named.
        came = _shown(value) if place else f"{type(value).__name__}, not a table of them"
        problems.append(f"{place or 'the file'}: expected keys and values, got {came}")
        return _INVALID
    fields = _fields(cls)
    before = len(problems)
    problems += _unknown_keys(value, fields, place)
    arguments = {}
    for name, (kind, needed) in fields.items():
        if name in value:
            arguments[name] = _convert(kind, value[name], _join(place, name), problems)
        elif needed:
            problems.append(f"{_join(place, name)}: missing; expected {_in_words(kind)}")
    if len(problems) > before:
        return _INVALID
    try:
        return cls(**arguments)
    except UsageError as error:
        text = str(error)
        problems.append(text if not place or text.startswith(f"{place}.") else f"{place}.{text}")
        return _INVALID


def _unknown_keys(value: Mapping[Any, Any], fields: Mapping[str, Any], place: str) -> list[str]:
    """One line each; of very many, or very long ones, no nearest known key is looked for."""
    unknown = [key for key in value if key not in fields]
    lines = [
        f"{_join(place, key)}: unknown key{did_you_mean(key, fields) if _is_short(key) else ''}"
        for key in unknown[:_MOST_UNKNOWN]
    ]
    return [f"{place or 'the file'}: {len(unknown)} unknown keys", *lines] if len(unknown) > len(lines) else lines


def _convert_tuple(kind: Any, value: Any, place: str, problems: list[str], limits: tuple[Limit, ...]) -> Any:
    items = get_args(kind)
    if not isinstance(value, list | tuple) or (items[-1] is not Ellipsis and len(value) != len(items)):
        problems.append(f"{place}: expected {_in_words(kind)}, got {_shown(value)}")
        return _INVALID
    if _checked(value, _length_fault(value, limits), place, problems) is _INVALID:
        return _INVALID
    item_kinds = [items[0]] * len(value) if items[-1] is Ellipsis else items
    pairs = enumerate(zip(item_kinds, value, strict=True))
    return tuple(_convert(item_kind, item, f"{place}[{index}]", problems) for index, (item_kind, item) in pairs)


def _convert_mapping(
    kinds: tuple[Any, ...], value: Any, place: str, problems: list[str], limits: tuple[Limit, ...]
) -> Any:
    if not isinstance(value, Mapping):
        problems.append(f"{place}: expected keys and values, got {_shown(value)}")
        return _INVALID
    if _checked(value, _length_fault(value, limits), place, problems) is _INVALID:
        return _INVALID
    before = len(problems)
    for key in value:
        _convert(kinds[0], key, f"{_join(place, key)} (the key)", problems)
    if len(problems) > before:
        return _INVALID
    return {key: _convert(kinds[1], item, _join(place, key), problems) for key, item in value.items()}


def _length_fault(value: Any, limits: tuple[Limit, ...]) -> str:
    return next((fault for limit in (*limits, *GENERAL) if (fault := limit.length_fault(len(value)))), "")


def _convert_optional(kind: Any, value: Any, place: str, problems: list[str], limits: tuple[Limit, ...]) -> Any:
    """``X | None``, the only union the settings use."""
    if value is None:
        return None
    (inner,) = [choice for choice in get_args(kind) if choice is not types.NoneType]
    faults: list[str] = []
    converted = _convert(inner, value, place, faults, limits)
    expected = f"expected {_in_words(inner)}"
    problems += [fault.replace(expected, f"expected {_in_words(kind)}", 1) for fault in faults]
    return converted


def _join(place: str, key: object) -> str:
    return f"{place}.{_short_key(key)}" if place else _short_key(key)


def _short_key(key: object) -> str:
    text = key if isinstance(key, str) else _SHORT.repr(key)
    return text if len(text) <= _LONGEST_KEY else f"{text[:40]}…"


def _in_words(kind: Any) -> str:
    simple = {int: "an integer", float: "a number", str: "text", bool: "true or false"}
    if kind in simple:
        return simple[kind]
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _in_words(args[0])
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
        return _SHORT.repr(value)
    kind = "text" if isinstance(value, str) else "a list" if isinstance(value, list | tuple) else "keys and values"
    text = _SHORT.repr(value)
    return f"{kind} {text}" if len(text) <= 60 else f"{kind} {text[:57]}..."
