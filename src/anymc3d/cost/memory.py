"""Memory in use now and at most, and the device it is of."""

from __future__ import annotations

import ctypes
import platform
import resource
import sys
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

RESIDENT, ALLOCATED = "resident memory of the process", "memory allocated on the device"

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"
"""What Linux takes in ``clear_refs`` to count the peak from here on (man 5 proc)."""


def peak_memory(device: torch.device) -> int:
    """Most bytes since :func:`forget_peak`, or since the process began where that could not be done.

    On a graphics card what was allocated there, otherwise the resident memory of the process.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    high_water = _status("VmHWM")
    if high_water is not None:
        return high_water
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def forget_peak(device: torch.device) -> None:
    """Count the peak from here on, so that what ran before in this process is not in it (Linux and graphics cards)."""
    if device.type == "cuda":
        if torch.cuda.is_initialized():  # before, nothing was allocated, and asking would raise
            torch.cuda.reset_peak_memory_stats(device)
        return
    _give_back_what_is_free()
    try:
        _CLEAR.write_text(_RESET_PEAK)
    except OSError:
        return  # another system, or not allowed here: the peak is then the whole process's, as peak_memory says


def _give_back_what_is_free() -> None:
    """glibc keeps memory that was freed, and it would count as in use."""
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries have none, and keep less
        if trim is not None:
            trim(0)


class KeptForBackward:
    """Counts the bytes that autograd keeps for the backward pass while it is entered, each storage once.

    That is what grows with the volumes of a batch; unlike the memory of a process it does not hold what was freed. An
    estimate: ``parameters`` are there anyhow, and what has the shape of one with two axes or more is taken for a copy
    of it, adapted by LoRA or in another precision, which a whole batch shares.
    """

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        self.bytes = 0
        parameters = list(parameters)
        self._seen = {tensor.untyped_storage().data_ptr() for tensor in parameters}
        self._weights = {_unordered(tensor) for tensor in parameters if tensor.ndim > 1}
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._count, lambda tensor: tensor)

    def __enter__(self) -> KeptForBackward:
        self._hooks.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hooks.__exit__(kind, error, trace)

    def _count(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._seen and _unordered(tensor) not in self._weights:
            self._seen.add(storage.data_ptr())
            self.bytes += storage.nbytes()
        return tensor


def _unordered(tensor: Tensor) -> tuple[int, ...]:
    """The shape, whichever way the tensor is turned."""
    return tuple(sorted(tensor.shape))


def device_facts(device: torch.device) -> dict[str, Any]:
    """The device by name, and which memory is counted there."""
    cuda = device.type == "cuda"
    return {
        "memory_kind": ALLOCATED if cuda else RESIDENT,
        "device": torch.cuda.get_device_name(device) if cuda else _processor(),
    }


def _status(key: str) -> int | None:
    """A line of the process's status, in bytes."""
    try:
        lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    kilobytes = next((line.split()[1] for line in lines if line.startswith(f"{key}:")), None)
    return None if kilobytes is None else int(kilobytes) * 1024


def _processor() -> str:
    """The processor's model, without anything that names this machine."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return model or platform.machine()
