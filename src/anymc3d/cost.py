"""What computing cost: memory, device, seconds. One definition for training and prediction."""

from __future__ import annotations

import platform
import resource
import sys
from pathlib import Path
from typing import Any

import torch

RESIDENT, ALLOCATED = "resident memory of the process", "memory allocated on the device"
NO_ENERGY = "not measured: no energy counter is read on {}"


def peak_memory(device: torch.device) -> int:
    """Most bytes so far: on a graphics card what was allocated there, otherwise the resident memory of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def device_facts(device: torch.device) -> dict[str, Any]:
    """The device by name, which memory is counted there, and why there is no energy."""
    cuda = device.type == "cuda"
    return {
        "memory_kind": ALLOCATED if cuda else RESIDENT,
        "device": torch.cuda.get_device_name(device) if cuda else _processor(),
        "energy_joules": None,
        "energy_note": NO_ENERGY.format(device.type),
    }


def _processor() -> str:
    """The processor's model, without anything that names this machine."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    found = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return found or platform.machine()
