"""Random changes of a card or task file: of its tree, of its text, and of the file around a card.

Everything follows from a number, so that what was found can be looked at again.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

NUMBERS = (0, -1, 1, 2, 3, 0.5, 1e-9, 1e9, 1e30, 1e308, -1e308, 2**31, 2**53, 10**400, float("nan"), float("inf"), -0.0)
TEXTS = (
    *("", " ", "x", "../../victim", "/etc/passwd", "~/x", "C:\\x", "http://127.0.0.1:9/x", "file:///etc/passwd", "a/b"),
    *("\x1b[2J\x1b]0;t\x07", "a\nb", "\0", "\ud800", "\u202e", "<script>alert(1)</script>", "=cmd|' C'!A0", "é" * 99),
    *("x" * 300, "x" * 5000, "0", "1e3", "nan", "null", "none", "random", "./bin/segment.sh", "TotalSegmentator"),
    *("image", "fused", "axial", "zscore", "window", "platt", "isotonic", "binary", "multiclass", "ordinal", "bf16"),
    *("sha256:" + "0" * 64, "eomt-3d", "concat", "mask", "point", "resnet18-3d", "densenet121", "mst", "lstm"),
)
OTHERS = (None, True, False, [], {}, [[]], {"a": {"b": [1]}}, [0] * 40, {"": 0}, ["x", "x"])
Place = tuple[Any, Any]
"""A list or table, and the index or key of one of its values."""


def changed(value: Any, rng: random.Random) -> Any:
    """A copy of a tree of plain data with one to three changes."""
    holder = [copy.deepcopy(value)]
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        place = rng.choice(list(places(holder)))
        rng.choice((_replace, _replace, _tweak, _tweak, _tweak, _swap, _remove, _add))(place, holder, rng)
    return holder[0]


def places(node: Any) -> Iterator[Place]:
    """All places of a tree, in order."""
    keys = range(len(node)) if isinstance(node, list) else list(node) if isinstance(node, dict) else ()
    for key in keys:
        yield node, key
        yield from places(node[key])


def _replace(place: Place, holder: list[Any], rng: random.Random) -> None:
    node, key = place
    node[key] = copy.deepcopy(rng.choice(rng.choice((NUMBERS, TEXTS, OTHERS))))


def _tweak(place: Place, holder: list[Any], rng: random.Random) -> None:
    """Another value of the same kind: what a schema is most likely to let through."""
    node, key = place
    value = node[key]
    if isinstance(value, bool):
        node[key] = not value
    elif isinstance(value, int):
        node[key] = rng.choice((value + 1, value - 1, -value, value * 10, value * 1000, rng.choice(NUMBERS)))
    elif isinstance(value, float):
        node[key] = rng.choice((value * 10, -value, value / 1000, value + 1, 1 - value, rng.choice(NUMBERS)))
    elif isinstance(value, str):
        node[key] = rng.choice((value + "x", value[:-1], value.upper(), value * 50, "\x1b" + value, rng.choice(TEXTS)))
    elif isinstance(value, list):
        node[key] = rng.choice((value[::-1], value[:-1], value + value, value * 200, sorted(value, key=str)))
    elif isinstance(value, dict):
        node[key] = rng.choice((dict(reversed(value.items())), dict(list(value.items())[1:]), [value]))


def _swap(place: Place, holder: list[Any], rng: random.Random) -> None:
    other, where = rng.choice(list(places(holder)))
    node, key = place
    node[key] = copy.deepcopy(other[where])


def _remove(place: Place, holder: list[Any], rng: random.Random) -> None:
    node, key = place
    if node is not holder:
        del node[key]


def _add(place: Place, holder: list[Any], rng: random.Random) -> None:
    node, key = place
    value = node[key]
    if isinstance(value, dict):
        value[rng.choice((*TEXTS, *map(str, range(3)), 7))] = copy.deepcopy(rng.choice((*value.values(), *OTHERS)))
    elif isinstance(value, list):
        value.insert(rng.randrange(len(value) + 1), copy.deepcopy(rng.choice((*value, *NUMBERS))))


def changed_text(text: str, rng: random.Random) -> str:
    """A text with one to three pieces changed, cut out, repeated or put in."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        start = rng.randrange(len(text) + 1)
        end = min(len(text), start + rng.choice((0, 1, 1, 5, 50, 5000)))
        put = rng.choice(
            (
                *("", text[start:end] * 2, chr(rng.randrange(1, 300)), "NaN", "Infinity", "9" * 400, "[" * 2000, '"'),
                *("{", "}", "\n", "\t", ": ", "- ", "&a ", "*a", "!!python/object:os.system ", "<<: "),
                *("\x85", "\ufeff"),
            )
        )
        text = text[:start] + put + text[end:]
    return text


def changed_bytes(content: bytes, rng: random.Random) -> bytes:
    """A container with bits changed, mostly in its header, or cut."""
    if rng.random() < 0.2:
        return content[: rng.randrange(len(content))]
    found = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8))):
        found[rng.randrange(rng.choice((8, 2000, len(found))))] ^= 1 << rng.randrange(8)
    return bytes(found)


def changed_tensors(tensors: dict[str, Tensor], rng: random.Random) -> dict[str, Tensor]:
    """One tensor less, more, or of another name, shape, kind or value."""
    made = dict(tensors)
    name = rng.choice(sorted(made))
    tensor = made[name]
    ways: tuple[Callable[[], Any], ...] = (
        lambda: made.pop(name),
        lambda: made.update({rng.choice((name + "x", "\x1b[2J", "../x", "x" * 5000)): made.pop(name)}),
        lambda: made.update({f"more{i}": torch.zeros(1) for i in range(rng.choice((1, 300)))}),
        lambda: made.update({name: tensor.reshape(-1)}),
        lambda: made.update({name: torch.cat([tensor, tensor])}),
        lambda: made.update({name: tensor[:0].clone()}),
        lambda: made.update({name: torch.full_like(tensor, rng.choice((float("nan"), float("inf"), 6e4, 0.0)))}),
        lambda: made.update({name: tensor.to(rng.choice((torch.int8, torch.bool, torch.float64, torch.bfloat16)))}),
    )
    rng.choice(ways)()
    return {key: value.contiguous() for key, value in made.items()}


def as_json(tree: Any) -> str:
    """As Python writes it, NaN and infinity too."""
    return json.dumps(tree)
