"""What a job cost, as training and prediction measured it; what nobody measured is empty, with a reason."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

COST = "cost.json"
COST_COLUMNS = (
    *("trainable_parameters", "total_parameters", "train_seconds", "train_seconds_per_volume"),
    *("predict_seconds_per_volume", "peak_memory_bytes", "memory_kind", "device", "energy_joules"),
    *("energy_note", "cost_note"),
)
_MEASURED = COST_COLUMNS[:-1]
MILLION = 1e6


def read_cost(run: Path, predictions: Path) -> dict[str, Any]:
    """The cost columns of one job, from ``cost.json`` of its run and of its predictions."""
    found: dict[str, Any] = {}
    notes = []
    for folder, what in ((predictions, "prediction"), (run, "training")):
        record = _read(folder / COST)
        if isinstance(record, str):
            notes.append(f"{what}: {record}")
        else:
            found |= {key: record[key] for key in _MEASURED if record.get(key) is not None}
    missing = [key for key in _MEASURED if key not in found and key not in ("energy_joules", "energy_note")]
    if not missing:
        notes = []
    return {**{key: found.get(key) for key in _MEASURED}, "cost_note": "; ".join(notes)}


def _read(path: Path) -> Mapping[str, Any] | str:
    if not path.exists():
        return "not measured"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return f"{path.name} is damaged"
    return record if isinstance(record, dict) else f"{path.name} is damaged"
