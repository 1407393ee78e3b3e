"""State for resuming a run: one safetensors file, hashed, written atomically, the one before kept.

No random state is stored: every draw of a run is a function of (seed, epoch, case), see ``anymc3d.train.draws``.
"""

from __future__ import annotations

import json
import logging
import math
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from anymc3d.errors import RunFolderError
from anymc3d.files import atomic, regular
from anymc3d.models.tensor_hash import tensors_hash

logger = logging.getLogger(__name__)

LATEST, PREVIOUS = "latest.safetensors", "previous.safetensors"
OPTIMIZER = "optimizer."


VERSION = "2"
"""Of the file; since 2 its hash is over the state and the run too."""


@dataclass
class TrainingState:
    """Everything about the progress of a run that is not a tensor."""

    epoch: int = 0
    """Epochs finished."""
    step: int = 0
    """Optimiser steps done inside the running epoch."""
    loss_total: float = 0.0
    loss_count: int = 0
    """Sum and number of the losses in the running epoch so far."""
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


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_finite(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_spent(value: object) -> bool:
    return value is None or (_is_finite(value) and value >= 0)  # type: ignore[operator]


def _are_finite(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_finite, value))


_HOLDS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("epoch", "step", "loss_count", "mask_loss_count", "best_epoch", "peak_memory"), _is_count),
    **dict.fromkeys(("loss_total", "mask_loss_total"), _is_finite),
    "seconds": lambda value: value is not None and _is_spent(value),
    **dict.fromkeys(("step_seconds", "energy_joules"), _is_spent),
    "memory_per_volume": lambda value: value is None or _is_count(value),
    "best_score": lambda value: value is None or _is_finite(value),
    "best_loss": lambda value: _is_finite(value) or value == math.inf,
    "start": lambda value: value is None or isinstance(value, dict),
    "start_logits": lambda value: value is None or (isinstance(value, list) and all(map(_are_finite, value))),
    "history": lambda value: isinstance(value, list) and all(isinstance(row, dict) for row in value),
}
"""What every value of a state must be."""


def checked(plain: dict[str, Any]) -> TrainingState:
    """The state that a checkpoint holds.

    Raises:
        ValueError, TypeError: a value is of another type, or none that a run can have.
    """
    wrong = [name for name, holds in _HOLDS.items() if name in plain and not holds(plain[name])]
    if wrong:
        raise ValueError(f"its state cannot be: {', '.join(f'{name} {str(plain[name])[:40]}' for name in wrong)}")
    return TrainingState(**plain)


def _check_consistent(state: TrainingState) -> None:
    """What an old checkpoint's own hash does not say: that its numbers fit each other."""
    # A run that starts from the frozen solution logs it as epoch 0.
    logged = len(state.history) - state.epoch
    if (state.history and logged not in (0, 1)) or state.best_epoch > state.epoch:
        counts = f"{len(state.history)} epochs in the log, best epoch {state.best_epoch}"
        raise ValueError(f"its state cannot be: {state.epoch} epochs are finished, with {counts}")


def save_checkpoint(folder: Path, tensors: dict[str, Tensor], state: TrainingState, *, run: str = "") -> None:
    """Write ``latest``; what was ``latest`` becomes ``previous``. ``run``: hash of what makes it the same run.

    Raises:
        OutputError: the disk is full or the folder cannot be written; the older checkpoints are untouched.
    """
    tensors = {name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()}
    facts = {"version": VERSION, "run": run, "state": json.dumps(asdict(state))}
    header = facts | {"sha256": tensors_hash(tensors, *facts.values())}
    needed = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    latest = folder / LATEST
    with atomic.replacing(latest, needed=needed, what="cannot save the checkpoint") as temporary:
        save_file(tensors, str(temporary), metadata=header)
        if latest.exists():
            with atomic.replacing(folder / PREVIOUS, needed=needed) as old:
                shutil.copyfile(latest, old)


def clear_leftovers(folder: Path) -> None:
    """Remove what a kill inside a write left; only for the process that writes the checkpoints."""
    if folder.is_dir():
        atomic.clear_leftovers(folder)


def load_checkpoint(folder: Path, *, run: str | None = None) -> tuple[dict[str, Tensor], TrainingState] | None:
    """Return the newest whole checkpoint, or None when there is none at all.

    A damaged newest one, or one of another run than ``run`` (its hash; None: of any), is passed over with a warning.

    Raises:
        RunFolderError: checkpoints exist and all of them are damaged; the run never restarts silently.
    """
    paths = [folder / name for name in (LATEST, PREVIOUS) if (folder / name).exists()]
    for path in paths:
        try:
            return _read(path, run)
        except (SafetensorError, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            logger.warning("%s: damaged checkpoint (%s); trying the one before", path, error)
    if paths:
        raise RunFolderError(f"{folder}: every checkpoint is damaged; remove the folder to start from scratch")
    return None


def _read(path: Path, run: str | None) -> tuple[dict[str, Tensor], TrainingState]:
    with regular.opened(path) as file:
        if not file.read(1):
            raise ValueError("the file is empty")
    with safe_open(str(path), framework="pt") as file:
        header = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    version = header.get("version")
    if version not in (VERSION, None):
        raise ValueError(f"expected a checkpoint of version {VERSION}, got {version!r}")
    # Checkpoints without a version have a hash over their tensors alone.
    hashed = (header["version"], header["run"], header["state"]) if version else ()
    if header["sha256"] != tensors_hash(tensors, *hashed):
        raise ValueError("its content does not match its hash")
    if version and run is not None and header["run"] != run:
        raise ValueError("it belongs to another run")
    state = json.loads(header["state"])
    if state.get("epoch") or state.get("step"):
        # A version that did not measure these yet: what the run has spent before is not known.
        state = {"step_seconds": None, "energy_joules": None} | state
    training_state = checked(state)
    if version is None:
        _check_consistent(training_state)
    return tensors, training_state


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
