"""What a job cost, as training and prediction measured it; what was not measured is empty, with a reason."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

COST = "cost.json"
COST_COLUMNS = (
    *("trainable_parameters", "total_parameters", "train_seconds", "train_seconds_per_volume"),
    *("predict_seconds_per_volume", "peak_memory_bytes", "memory_per_volume_bytes", "memory_kind", "device"),
    *("energy_joules", "energy_note", "cost_note"),
)
_OF_PREDICTION = ("predict_seconds_per_volume",)
_OF_TRAINING = tuple(key for key in COST_COLUMNS[:-1] if key not in _OF_PREDICTION)
_MAY_LACK = ("energy_joules", "energy_note")
"""What some devices do not report."""


def read_cost(run: Path, predictions: Path) -> dict[str, Any]:
    """The cost columns of one job: seconds of predicting from ``cost.json`` beside its predictions, the rest from its
    run's."""
    columns: dict[str, Any] = dict.fromkeys(COST_COLUMNS[:-1])
    notes = []
    for folder, what, keys in ((predictions, "prediction", _OF_PREDICTION), (run, "training", _OF_TRAINING)):
        record = _read(folder / COST)
        if isinstance(record, str):
            notes.append(f"{what}: {record}")
            continue
        columns |= {key: record.get(key) for key in keys}
        missing = [key for key in keys if record.get(key) is None and key not in _MAY_LACK]
        notes += [f"{what}: {', '.join(missing)} not measured"] if missing else []
    return {**columns, "cost_note": "; ".join(notes)}


def _read(path: Path) -> Mapping[str, Any] | str:
    if not path.exists():
        return "not measured"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return f"{path.name} is damaged"
    return record if isinstance(record, dict) else f"{path.name} is damaged"
