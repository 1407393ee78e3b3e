"""Bounds of what a file may hold: a mistake, or a stranger's file, must not cost memory, time or a wrong answer.

A field states its own bounds beside its type, such as ``Annotated[int, Between(1, 256)]``; whatever states none has
those of ``GENERAL``. :func:`anymc3d.settings.plain.from_plain` checks them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from anymc3d.errors import SettingError
from anymc3d.printable import shown

MAX_NUMBER = 1e30
"""Largest number with a fraction, either sign. Single precision ends at 3e38; sums of squares must not."""
MAX_INTEGER = 2**53
"""Beyond it a float cannot hold every integer, and JSON readers disagree."""
MAX_TEXT = 4096
MAX_ITEMS = 10_000
"""Items of one list or table."""
MAX_FACT_DEPTH = 4
MAX_FACT_NODES = 10_000


class Limit:
    """What a value must keep; each answers with "" or what was expected and what came."""

    def number_fault(self, value: float) -> str:
        """What is wrong with an int or a finite float."""
        return ""

    def text_fault(self, value: str) -> str:
        """What is wrong with a text."""
        return ""

    def length_fault(self, length: int) -> str:
        """What is wrong with the length of a list or table."""
        return ""


@dataclass(frozen=True)
class Between(Limit):
    """A number from ``low`` to ``high``, both included."""

    low: float
    high: float

    def number_fault(self, value: float) -> str:
        if self.low <= value <= self.high:
            return ""
        return f"expected {_number(self.low)} to {_number(self.high)}, got {_number(value)}"


@dataclass(frozen=True)
class Length(Limit):
    """A text, list or table with at most this many characters or items."""

    most: int

    def text_fault(self, value: str) -> str:
        return "" if len(value) <= self.most else f"expected at most {self.most} characters, got {len(value)}"

    def length_fault(self, length: int) -> str:
        return "" if length <= self.most else f"expected at most {self.most} of them, got {length}"


@dataclass(frozen=True)
class Form(Limit):
    """A text of a form; ``words`` describes it."""

    pattern: str
    words: str

    def text_fault(self, value: str) -> str:
        return "" if re.fullmatch(self.pattern, value) else f"expected {self.words}, got '{shown(value)}'"


@dataclass(frozen=True)
class _General(Limit):
    """What holds for everything."""

    def number_fault(self, value: float) -> str:
        most = MAX_INTEGER if type(value) is int else MAX_NUMBER
        return "" if abs(value) <= most else f"expected a number of at most {most:g}, got {_number(value)}"

    def text_fault(self, value: str) -> str:
        if len(value) > MAX_TEXT:
            return f"expected at most {MAX_TEXT} characters, got {len(value)}"
        if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
            return f"expected text, got half a character (a lone surrogate) in '{shown(value)}'"
        return ""

    def length_fault(self, length: int) -> str:
        return "" if length <= MAX_ITEMS else f"expected at most {MAX_ITEMS} of them, got {length}"


GENERAL: tuple[Limit, ...] = (_General(),)


@dataclass(frozen=True)
class As:
    """Beside the type of a field: its plain data follow this schema, and stay plain data."""

    kind: Any


class Fact:
    """In a schema: a text, number, true, false, null, or small lists and tables of those. Recorded, never computed
    with."""


Entry = Annotated[str, Length(100)]
"""A name of one of this program's tables."""
Column = Annotated[str, Length(200)]
"""A column of a manifest."""
Reference = Annotated[str, Length(4096)]
"""A name, or a path or file of the person who wrote it."""
Label = Annotated[str, Length(200)]
"""What people call something; whatever shows it makes it printable (:mod:`anymc3d.printable`)."""
Count = Annotated[int, Between(0, 10**9)]
Seed = Annotated[int, Between(-(2**31), 2**32 - 1)]
Share = Annotated[float, Between(0, 1)]
Rate = Annotated[float, Between(0, 1e30)]
MaskLabel = Annotated[int, Between(0, 2**31 - 1)]
MAX_STRUCTURES = 512
"""Labels of one segmentation that a setting may name."""
Millimetre = Annotated[float, Between(0, 1e9)]
"""What of it fits a scan is a question of the scan, see :mod:`anymc3d.data.work_limit`."""


def require(condition: bool, message: str) -> None:
    """Raise :class:`SettingError` with ``message`` unless ``condition`` holds."""
    if not condition:
        raise SettingError(message)


def number_fault(value: float, limits: tuple[Limit, ...]) -> str:
    """Why a finite number is not within its limits; "" where it is."""
    return next((fault for limit in (*GENERAL, *limits) if (fault := limit.number_fault(value))), "")


def text_fault(value: str, limits: tuple[Limit, ...]) -> str:
    """Why a text is not within its limits; "" where it is."""
    return next((fault for limit in (*GENERAL, *limits) if (fault := limit.text_fault(value))), "")


def fact_fault(value: object) -> str:
    """Why a value is no :class:`Fact`; "" where it is one."""
    nodes, waiting = 0, [(value, 1)]
    while waiting:
        node, depth = waiting.pop()
        nodes += 1
        if depth > MAX_FACT_DEPTH or nodes > MAX_FACT_NODES:
            return f"expected at most {MAX_FACT_DEPTH} levels and {MAX_FACT_NODES} values, got more"
        fault = _leaf_fault(node)
        if fault:
            return fault
        if isinstance(node, Mapping):
            waiting += [(part, depth + 1) for pair in node.items() for part in pair]
        elif isinstance(node, list | tuple):
            waiting += [(part, depth + 1) for part in node]
    return ""


def _leaf_fault(value: object) -> str:
    if value is None or isinstance(value, bool | Mapping | list | tuple):
        return ""
    if isinstance(value, str):
        return text_fault(value, ())
    if type(value) is int or (type(value) is float and math.isfinite(value)):
        return number_fault(value, ())
    return f"expected text, a number, true, false or null, got {shown(repr(value))}"


def _number(value: float) -> str:
    """Short, also of an integer of 400 digits."""
    if type(value) is int and abs(value) > 10**15:
        return f"a number of {int(abs(value).bit_length() * math.log10(2)) + 1} digits"
    return f"{value:g}" if type(value) is not int else str(value)
