"""``leaderboard.csv``: the blend and every candidate, out of fold, best first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anymc3d.automl.compare import NUMBERS, Value, auroc_of, difference_of, numbers_of
from anymc3d.evaluate.regression.scale import NumberScale
from anymc3d.files.tables import write_table
from anymc3d.train.quick.crossval import Pool

Floats = NDArray[np.float64]

ENDS = ("", "_low", "_high")

_WHAT = ("candidate", "features", "fusion", "views", "size", "lora", "members")
_BESIDE = ("minus_winner", "minus_low", "minus_high", "p", "seconds", "trained_parameters", "weight")
COLUMNS = (*_WHAT, "auroc", "ci_low", "ci_high", *_BESIDE)
NUMBER_COLUMNS = (*_WHAT, "r2", "ci_low", "ci_high", *(f"{n}{end}" for n in NUMBERS for end in ENDS), *_BESIDE)
"""Where the label is a number."""
BLEND = "auto"
"""The row of the nested estimate."""
CLINICAL = "clinical columns"


@dataclass(frozen=True, eq=False)
class Entry:
    """One row; ``logits`` (n, K) out of fold; ``weight``: share in the deployed blend, None of the blend itself."""

    candidate: str
    logits: Floats
    features: str = ""
    fusion: str = ""
    views: str = ""
    size: str = ""
    lora: str = ""
    members: int = 1
    seconds: float = 0.0
    trained_parameters: int = 0
    weight: float | None = None


@dataclass(frozen=True, eq=False)
class Ranked:
    """An entry with its AUROC (of a number R², and ``numbers`` besides) and its difference to the first."""

    entry: Entry
    auroc: Value
    minus: Value
    numbers: Mapping[str, Value] = field(default_factory=dict)

    def row(self) -> dict[str, object]:
        """As the table has it."""
        entry = self.entry
        cells: dict[str, object] = {name: getattr(entry, name) for name in _WHAT}
        for name, value in self.numbers.items():
            cells |= {
                f"{name}{end}": number for end, number in zip(ENDS, (value.value, value.low, value.high), strict=True)
            }
        cells |= {
            "r2" if self.numbers else "auroc": self.auroc.value,
            "ci_low": self.auroc.low,
            "ci_high": self.auroc.high,
        }
        cells |= {"minus_winner": self.minus.value, "minus_low": self.minus.low, "minus_high": self.minus.high}
        cells |= {"p": self.minus.p, "seconds": round(entry.seconds, 2), "trained_parameters": entry.trained_parameters}
        return cells | {"weight": entry.weight}


def rank(entries: Sequence[Entry], pool: Pool, scale: NumberScale | None = None) -> list[Ranked]:
    """Best first; of equals the order given. ``scale``: of a number."""
    by_auroc = [(entry, auroc_of(pool, entry.logits)) for entry in entries]
    by_auroc.sort(key=lambda pair: -math.inf if pair[1].value is None else pair[1].value, reverse=True)
    first = by_auroc[0][0]
    return [
        Ranked(
            entry,
            auroc,
            Value(None) if entry is first else difference_of(pool, entry.logits, first.logits),
            {} if scale is None else numbers_of(pool, entry.logits, scale),
        )
        for entry, auroc in by_auroc
    ]


def write_leaderboard(path: Path, ranked: Sequence[Ranked]) -> None:
    """Write the table."""
    columns = NUMBER_COLUMNS if ranked[0].numbers else COLUMNS
    write_table(path, columns, [{k: "" if v is None else v for k, v in place.row().items()} for place in ranked])
