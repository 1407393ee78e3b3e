"""``cost.json`` of a run: parameters, seconds, memory, energy. Written after every epoch, from what the checkpoint
knows, so a resumed run adds to what was spent before it was stopped."""

from __future__ import annotations

from typing import Any

from anymc3d.cost.energy import energy_facts
from anymc3d.cost.memory import device_facts
from anymc3d.files import atomic
from anymc3d.train.checkpoint import TrainingState
from anymc3d.train.loop_parts import Parts
from anymc3d.train.run_folder import RunFolder


def parameter_counts(parts: Parts) -> dict[str, int]:
    """Numbers that are trained, and all that answering needs: the frozen backbone's, and none of a decoder."""
    parameters = list(parts.classifier.parameters())
    frozen = [] if parts.backbone is None else list(parts.backbone.parameters())
    decoder = sum(p.numel() for p in parts.classifier.decoder.parameters())
    return {
        "trainable_parameters": sum(p.numel() for p in parameters if p.requires_grad),
        "total_parameters": sum(p.numel() for p in (*parameters, *frozen)) - decoder,
    }


def training_cost(parts: Parts, state: TrainingState) -> dict[str, Any]:
    """What the run has cost so far, without reading the scans first. ``train_seconds`` are of training and validation,
    those per volume of training alone; a volume counts once for every epoch in which it was trained."""
    seconds = sum(row["seconds"] for row in state.history)
    volumes = state.epoch * len(parts.train)
    return {
        **parameter_counts(parts),
        "train_seconds": round(seconds, 2),
        "train_seconds_per_volume": None
        if state.step_seconds is None or not volumes
        else round(state.step_seconds / volumes, 4),
        "peak_memory_bytes": state.peak_memory,
        "memory_per_volume_bytes": state.memory_per_volume,
        **device_facts(parts.device),
        **energy_facts(state.energy_joules, parts.meter.note),
    }


def write_cost(folder: RunFolder, parts: Parts, state: TrainingState) -> None:
    """Write ``RUN/cost.json``."""
    atomic.write_json(folder.cost, training_cost(parts, state))
