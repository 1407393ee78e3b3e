"""``leaderboard.csv``: the blend and every candidate, out of fold, best first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anymc3d.automl.compare import Value, auroc_of, difference_of
from anymc3d.files.tables import write_table
from anymc3d.train.quick.crossval import Pool

Floats = NDArray[np.float64]

COLUMNS = (
    *("candidate", "features", "fusion", "views", "size", "lora", "members", "auroc", "ci_low", "ci_high"),
    *("minus_winner", "minus_low", "minus_high", "p", "seconds", "trained_parameters", "weight"),
)
BLEND = "auto"
"""The row of the nested estimate."""


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
    """An entry with its AUROC and its difference to the first."""

    entry: Entry
    auroc: Value
    minus: Value

    def row(self) -> dict[str, object]:
        """As the table has it."""
        one = self.entry
        names = ("candidate", "features", "fusion", "views", "size", "lora", "members")
        cells: dict[str, object] = {name: getattr(one, name) for name in names}
        cells |= {"auroc": self.auroc.value, "ci_low": self.auroc.low, "ci_high": self.auroc.high}
        cells |= {"minus_winner": self.minus.value, "minus_low": self.minus.low, "minus_high": self.minus.high}
        cells |= {"p": self.minus.p, "seconds": round(one.seconds, 2), "trained_parameters": one.trained_parameters}
        return cells | {"weight": one.weight}


def rank(entries: Sequence[Entry], pool: Pool) -> list[Ranked]:
    """Best first; of equals the order given."""
    found = [(entry, auroc_of(pool, entry.logits)) for entry in entries]
    found.sort(key=lambda pair: -1.0 if pair[1].value is None else pair[1].value, reverse=True)
    first = found[0][0]
    return [
        Ranked(entry, auroc, Value(None) if entry is first else difference_of(pool, entry.logits, first.logits))
        for entry, auroc in found
    ]


def write_leaderboard(path: Path, ranked: Sequence[Ranked]) -> None:
    """Write the table."""
    write_table(path, COLUMNS, [{k: "" if v is None else v for k, v in one.row().items()} for one in ranked])
