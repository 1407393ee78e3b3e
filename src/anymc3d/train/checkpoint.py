"""State for resuming a run: one safetensors file, hashed, written atomically, the one before kept.

No random state is stored: every draw of a run is a function of (seed, epoch, case), see ``anymc3d.train.draws``.
"""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from anymc3d.errors import RunFolderError
from anymc3d.files import atomic
from anymc3d.models.tensor_hash import tensors_hash

logger = logging.getLogger(__name__)

LATEST, PREVIOUS = "latest.safetensors", "previous.safetensors"
OPTIMIZER = "optimizer."


@dataclass
class TrainingState:
    """Everything about the progress of a run that is not a tensor."""

    epoch: int = 0
    """Epochs finished."""
    step: int = 0
    """Optimiser steps done inside the running epoch."""
    loss_total: float = 0.0
    loss_count: int = 0
    """Of the running epoch so far."""
    mask_loss_total: float = 0.0
    mask_loss_count: int = 0
    """The same over cases with masks, where there is a decoder."""
    best_epoch: int = 0
    """1-based epoch of the best tensors; 0 = none yet."""
    best_score: float | None = None
    best_loss: float = math.inf
    """Validation loss of the best epoch; of epochs with the same score the one with the lower loss is kept."""
    start: dict[str, Any] | None = None
    """How the start was solved, where training began from a solution; see ``anymc3d.train.frozen_start``."""
    start_logits: list[list[float]] | None = None
    """(n, K) of the validation cases at epoch 0, where the start competes."""
    step_seconds: float | None = 0.0
    """Spent on the steps of all finished epochs, without their validation; None: not known of the first ones."""
    seconds: float = 0.0
    """Spent on the running epoch when the state was saved."""
    peak_memory: int = 0
    """Most bytes in the process that writes the files, of all that worked on this run one after the other."""
    memory_per_volume: int | None = None
    """Bytes that a volume of the first batch made autograd keep for the backward pass."""
    energy_joules: float | None = 0.0
    """Taken so far; None once a part of it was not measured."""
    history: list[dict[str, Any]] = field(default_factory=list)


def save_checkpoint(folder: Path, tensors: dict[str, Tensor], state: TrainingState) -> None:
    """Write ``latest``; what was ``latest`` becomes ``previous``.

    Raises:
        RunFolderError: the disk is full or the folder cannot be written; the older checkpoints are untouched.
    """
    tensors = {name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()}
    header = {"state": json.dumps(asdict(state)), "sha256": tensors_hash(tensors)}
    latest = folder / LATEST
    try:
        with atomic.replacing(latest) as temporary:
            save_file(tensors, str(temporary), metadata=header)
            if latest.exists():
                with atomic.replacing(folder / PREVIOUS) as old:
                    shutil.copyfile(latest, old)
    except (OSError, SafetensorError) as error:
        needed = sum(t.numel() * t.element_size() for t in tensors.values())
        free = shutil.disk_usage(folder).free if folder.exists() else 0
        raise RunFolderError(
            f"{latest}: cannot save the checkpoint ({error}); it needs {needed} bytes, {free} are free on that disk"
        ) from error


def clear_leftovers(folder: Path) -> None:
    """Remove what a kill inside a write left; only for the process that writes the checkpoints."""
    if folder.is_dir():
        atomic.clear_leftovers(folder)


def load_checkpoint(folder: Path) -> tuple[dict[str, Tensor], TrainingState] | None:
    """Return the newest whole checkpoint, or None when there is none at all.

    A damaged newest one is passed over with a warning.

    Raises:
        RunFolderError: checkpoints exist and all of them are damaged; the run never restarts silently.
    """
    paths = [folder / name for name in (LATEST, PREVIOUS) if (folder / name).exists()]
    for path in paths:
        try:
            return _read(path)
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("%s: damaged checkpoint (%s); trying the one before", path, error)
    if paths:
        raise RunFolderError(f"{folder}: every checkpoint is damaged; remove the folder to start from scratch")
    return None


def _read(path: Path) -> tuple[dict[str, Tensor], TrainingState]:
    if os.path.getsize(path) == 0:
        raise ValueError("the file is empty")
    with safe_open(str(path), framework="pt") as file:
        header = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    if header["sha256"] != tensors_hash(tensors):
        raise ValueError("its content does not match its hash")
    state = json.loads(header["state"])
    if state.get("epoch") or state.get("step"):
        # A version that did not measure these yet: what the run has spent before is not known.
        state = {"step_seconds": None, "energy_joules": None} | state
    return tensors, TrainingState(**state)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Flatten an optimiser's state: ``optimizer.<parameter index>.<name>`` -> tensor."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    return {
        f"{OPTIMIZER}{index}.{name}": value
        for index, parameter in enumerate(parameters)
        for name, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what :func:`optimizer_tensors` gave."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for key, value in tensors.items():
        if not key.startswith(OPTIMIZER):
            continue
        index, name = key.removeprefix(OPTIMIZER).split(".", 1)
        parameter = parameters[int(index)]
        device = value.device if name == "step" else parameter.device
        optimizer.state[parameter][name] = value.to(device).clone()
