"""Memory in use now and at most, and the device it is of."""

from __future__ import annotations

import platform
import resource
import sys
from pathlib import Path
from typing import Any

import torch

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
    told = _status("VmHWM")
    if told is not None:
        return told
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def current_memory(device: torch.device) -> int | None:
    """Bytes in use now, counted as :func:`peak_memory` counts them; None where the system does not say."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else _status("VmRSS")


def forget_peak(device: torch.device) -> None:
    """Count the peak from here on, so that what ran before in this process is not in it (Linux and graphics cards)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        _CLEAR.write_text(_RESET_PEAK)
    except OSError:
        return  # another system, or not allowed here: the peak is then the whole process's, as peak_memory says


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
    found = next((line.split()[1] for line in lines if line.startswith(f"{key}:")), None)
    return None if found is None else int(found) * 1024


def _processor() -> str:
    """The processor's model, without anything that names this machine."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    found = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return found or platform.machine()
