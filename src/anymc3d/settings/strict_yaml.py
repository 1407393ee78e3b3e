"""YAML as plain data, read strictly.

What PyYAML's safe loader lets pass is refused here: duplicate keys (it keeps the last), tags, aliases (the bomb),
keys that are not text, several documents, deep nesting, large files. Scalars follow YAML 1.2 and not 1.1: ``1e-3`` is
a number, ``yes``, ``no``, ``on``, ``off`` and ``1:30`` stay text, and there is no NaN or infinity.
"""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

from anymc3d.errors import UsageError

MAX_YAML_BYTES = 128 * 2**10
"""A task file is one screen. PyYAML in pure Python takes seconds for so much, and minutes for megabytes."""
MAX_DEPTH = 50


def load_yaml(text: str) -> Any:
    """Return the one document of ``text`` as dict, list, text, int, float, bool or None.

    Raises:
        UsageError: naming the line and what is wrong there.
    """
    if len(text) > MAX_YAML_BYTES:
        raise UsageError(f"{len(text)} characters of YAML, the limit is {MAX_YAML_BYTES}")
    try:
        _check_events(text)
        return yaml.load(text, Loader=_StrictLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise UsageError(f"{where}not valid YAML ({error.problem})") from error
    except yaml.YAMLError as error:
        raise UsageError(f"not valid YAML ({' '.join(str(error).split())})") from error


def _check_events(text: str) -> None:
    """Everything that can be refused before a tree is built."""
    depth = documents = 0
    for event in yaml.parse(text, Loader=_StrictLoader):
        line = f"line {event.start_mark.line + 1}: "
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise UsageError(f"{line}anchors (&) and aliases (*) are not used here; write the value out, or quote it")
        if getattr(event, "tag", None):
            raise UsageError(f"{line}tags ({event.tag}) are not used here; the file is plain data")
        documents += isinstance(event, yaml.DocumentStartEvent)
        if documents > 1:
            raise UsageError(f"{line}a second document starts (---); one is expected")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise UsageError(f"{line}nested more than {MAX_DEPTH} levels deep")


class _StrictLoader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict = {}  # noqa: RUF012 - PyYAML's own interface; filled once, below

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen: set[str] = set()
        for key_node, _ in node.value:
            line = f"line {key_node.start_mark.line + 1}: "
            if not isinstance(key_node, yaml.ScalarNode) or not key_node.tag.endswith(":str"):
                raise UsageError(f"{line}a key must be text, got {_short(key_node.value)}; quote it")
            if key_node.value in seen:
                raise UsageError(f"{line}key {key_node.value!r} appears twice; keep one")
            seen.add(key_node.value)
        return super().construct_mapping(node, deep=deep)


def _construct_int(loader: _StrictLoader, node: yaml.ScalarNode) -> int:
    if len(node.value) > 20:
        raise UsageError(f"line {node.start_mark.line + 1}: a number of {len(node.value)} digits")
    return int(node.value)


def _construct_float(loader: _StrictLoader, node: yaml.ScalarNode) -> float:
    value = float(node.value)
    if not math.isfinite(value):
        raise UsageError(f"line {node.start_mark.line + 1}: {node.value} is too large for a number")
    return value


def _short(value: object) -> str:
    text = repr(value) if isinstance(value, str) else "a list or mapping"
    return text if len(text) < 40 else f"{text[:40]}..."


for _tag, _pattern, _starts in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
):
    _StrictLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})$"), _starts)
_StrictLoader.add_constructor("tag:yaml.org,2002:int", _construct_int)
_StrictLoader.add_constructor("tag:yaml.org,2002:float", _construct_float)
