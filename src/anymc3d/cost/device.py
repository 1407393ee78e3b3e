"""Where and in which number format the backbone computes."""

from __future__ import annotations

import os

import torch

from anymc3d.errors import UsageError


def choose_device(name: str) -> torch.device:
    """``auto``, ``cpu``, ``cuda``, ``cuda:N`` -> a device; under torchrun ``auto`` and ``cuda`` take the local rank's.

    Raises:
        UsageError: no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        return torch.device("cpu")
    kind, _, number = name.partition(":")
    if kind != "cuda" or (number and not number.isdigit()):
        raise UsageError(f"device: expected auto, cpu, cuda or cuda:N, got {name!r}")
    if not torch.cuda.is_available():
        raise UsageError(f"device: {name!r} was asked for, but no CUDA device can be used here; use cpu or auto")
    index = int(number or os.environ.get("LOCAL_RANK", "0"))
    if index >= torch.cuda.device_count():
        raise UsageError(f"device: {name!r} was asked for, but there are only {torch.cuda.device_count()} CUDA devices")
    return torch.device("cuda", index)


def choose_dtype(precision: str, device: torch.device) -> torch.dtype:
    """``fp32``, ``bf16`` or ``auto`` (bf16 where the processor computes it natively) -> a torch type."""
    if precision == "auto":
        precision = "bf16" if _has_native_bf16(device) else "fp32"
    return {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether a computation failed because the machine, or its graphics card, had no memory left for it."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and ("not enough memory" in text or "allocate memory" in text)


def _has_native_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    check = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(check is not None and check())
