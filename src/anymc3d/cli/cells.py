"""Cells of tables as ``--json`` gives them: numbers as numbers, null where there is none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anymc3d.evaluate.covariates import PARTS
from anymc3d.evaluate.outputs import OOD_SCORE, VALUE

_OF_LABELS = tuple(f"{name}." for name in ("logit", "probability", "decision", VALUE, *PARTS))
_OF_METRICS = ("value", "ci_low", "ci_high", "n", "n_positive")


def prediction_record(row: Mapping[str, str]) -> dict[str, Any]:
    """A row of ``predictions.csv``; ids, messages and prediction sets stay text, as does a decision not answered."""
    return {
        name: _typed(cell) if name.startswith(_OF_LABELS) or name == OOD_SCORE else cell for name, cell in row.items()
    }


def metric_record(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of ``metrics.csv``."""
    return {name: _typed(cell) if name in _OF_METRICS else cell for name, cell in row.items()}


def _typed(cell: Any) -> Any:
    """The number that a cell is: whole where it has no point; None of an empty one; text that is none as it is."""
    if not isinstance(cell, str):
        return cell
    if not cell:
        return None
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            continue
    return cell
