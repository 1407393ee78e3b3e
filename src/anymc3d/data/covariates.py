"""Clinical columns beside the image: from the cells of a manifest to numbers, measured on the training rows alone.

A number becomes two columns, its standardised value and whether it is missing; a category one for each of its values
and whether it is missing. Nothing is guessed of a new case: what is not known says so.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray

from anymc3d.data.label_words import says_not_known
from anymc3d.data.labels import canonical, natural_order
from anymc3d.errors import CovariatesError, ScanError
from anymc3d.settings.limits import Between, Column, Count, Label, Length

CATEGORY, MEASURE = "category:", "measure:"
"""What a name in ``covariates`` may begin with: a column of numbers that are names, or a measure of the scan itself."""
MAX_LEVELS = 50
"""Different values of a category; more look like an identifier."""
MAX_NUMBERS = 1000
"""Columns that all covariates of a task become."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")

Value = Annotated[float, Between(-1e15, 1e15)]
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Covariate:
    """One covariate as the training rows showed it; in the card of a plugin."""

    name: Column
    """The manifest's column; of a measure with ``measure:`` before it."""
    kind: Literal["number", "category"]
    center: Value = 0.0
    """Mean of the training rows."""
    spread: Annotated[float, Between(1e-15, 1e15)] = 1.0
    """Standard deviation of the training rows."""
    low: Value = 0.0
    high: Value = 0.0
    """Smallest and largest number of the training rows."""
    levels: Annotated[tuple[Label, ...], Length(MAX_LEVELS)] = ()
    """Values of a category, in order."""
    missing: Count = 0
    """Training rows that lack it."""

    def __post_init__(self) -> None:
        if (self.kind == "category") != bool(self.levels):
            raise CovariatesError(f"levels: a category has some and a number none, got {len(self.levels)}")
        if len(set(self.levels)) < len(self.levels) or self.low > self.high:
            raise CovariatesError("levels, low, high: expected different values, and low not above high")

    @property
    def width(self) -> int:
        """Columns it becomes."""
        return 2 if self.kind == "number" else len(self.levels) + 1

    def numbers(self, cell: str) -> tuple[list[float], str]:
        """The columns of one case, and what there is to say of it, or "".

        Raises:
            ScanError: a number is expected and the cell holds something else.
        """
        text = known(cell)
        if self.kind == "category":
            return self._category(text)
        if not text:
            return [0.0, 1.0], f"covariate {self.name} is missing"
        value = number(text)
        if value is None:
            raise ScanError(f"covariate {self.name}: expected a number or an empty cell, got {text[:40]!r}")
        standard = (value - self.center) / self.spread
        outside = "" if self.low <= value <= self.high else self._outside(value)
        return [standard, 0.0], outside

    def _category(self, text: str) -> tuple[list[float], str]:
        value = canonical(text)
        is_level = [float(value == level) for level in self.levels]
        if any(is_level):
            return [*is_level, 0.0], ""
        several = ", ".join(self.levels[:6]) + (", …" if len(self.levels) > 6 else "")
        problem = f"covariate {self.name} is {text[:40]!r}, which no training case has ({several}): taken as missing"
        return [*is_level, 1.0], problem if text else f"covariate {self.name} is missing"

    def _outside(self, value: float) -> str:
        return f"covariate {self.name} is {value:g}, the training cases have {self.low:g} to {self.high:g}"


def known(cell: str) -> str:
    """The cell without blanks around it; empty where it says that the value is not known."""
    text = cell.strip()
    return "" if says_not_known(text) else text


def number(text: str) -> float | None:
    """The number of a cell, or None where it holds none (or one without end)."""
    if not _NUMBER.fullmatch(text):
        return None
    value = float(text)
    return value if math.isfinite(value) and abs(value) <= 1e15 else None


def column_of(name: str) -> str:
    """The key under which a case's cells hold a covariate of the task file."""
    return name.removeprefix(CATEGORY)


def fit_covariates(names: Sequence[str], rows: Sequence[Mapping[str, str]]) -> tuple[Covariate, ...]:
    """What the training rows show of each covariate.

    Raises:
        UsageError: a category has too many values.
    """
    return tuple(_fit(name, [known(row.get(column_of(name), "")) for row in rows]) for name in names)


def with_kinds(names: Sequence[str], rows: Sequence[Mapping[str, str]]) -> tuple[str, ...]:
    """The names, with ``category:`` before each that is one among ``rows``: a part of them in which only numbers are
    left must not take it for a number, and stop at the text of another part."""

    def holds_text(name: str) -> bool:
        cells = [known(row.get(column_of(name), "")) for row in rows]
        return any(cell and number(cell) is None for cell in cells)

    return tuple(name if name.startswith(CATEGORY) or not holds_text(name) else CATEGORY + name for name in names)


def _fit(name: str, cells: Sequence[str]) -> Covariate:
    filled = [cell for cell in cells if cell]
    missing = len(cells) - len(filled)
    values = [number(cell) for cell in filled]
    if not name.startswith(CATEGORY) and None not in values:
        array = np.array([value for value in values if value is not None] or [0.0])
        spread = float(array.std()) or 1.0
        return Covariate(
            name=name,
            kind="number",
            center=float(array.mean()),
            spread=max(spread, 1e-12),
            low=float(array.min()),
            high=float(array.max()),
            missing=missing,
        )
    levels = natural_order({canonical(cell) for cell in filled})
    if len(levels) > MAX_LEVELS:
        no_number = next((cell for cell in filled if number(cell) is None), filled[0])
        raise CovariatesError(
            f"covariates: {column_of(name)} has {len(levels)} different values, at most {MAX_LEVELS} are a category; "
            f"if it holds numbers, {no_number[:40]!r} is none"
        )
    return Covariate(name=column_of(name), kind="category", levels=tuple(levels), missing=missing)


def numbers_of(columns: Sequence[Covariate], cells: Mapping[str, str]) -> tuple[Floats, list[str]]:
    """The numbers (F,) of one case, and one line for whatever is missing or unlike the training rows.

    Raises:
        ScanError: a cell holds no number where one is expected.
    """
    parts = [column.numbers(cells.get(column.name, "")) for column in columns]
    values = [value for numbers, _ in parts for value in numbers]
    return np.array(values, dtype=np.float64), [note for _, note in parts if note]


def matrix_of(columns: Sequence[Covariate], rows: Sequence[Mapping[str, str]]) -> Floats:
    """The numbers (n, F) of many cases.

    Raises:
        ScanError: as :func:`numbers_of`.
    """
    width = sum(column.width for column in columns)
    return np.array([numbers_of(columns, row)[0] for row in rows], dtype=np.float64).reshape(len(rows), width)
