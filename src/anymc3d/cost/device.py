"""Where and in which number format the backbone computes."""

from __future__ import annotations

import os

import torch

from anymc3d.cost.allocator import keep_freed_memory
from anymc3d.errors import DeviceError

DTYPES: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}
"""The number formats of the backbone's arithmetic, by name."""


def choose_device(name: str) -> torch.device:
    """``auto``, ``cpu``, ``cuda``, ``cuda:N`` -> a device; under torchrun ``auto`` and ``cuda`` take the local rank's.
    A processor is made ready for large tensors (:mod:`anymc3d.cost.allocator`).

    Raises:
        UsageError: no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        keep_freed_memory()
        return torch.device("cpu")
    kind, _, number = name.partition(":")
    if kind != "cuda" or (number and not number.isdigit()):
        raise DeviceError(f"device: expected auto, cpu, cuda or cuda:N, got {name!r}")
    if not torch.cuda.is_available():
        raise DeviceError(f"device: {name!r} was asked for, but no CUDA device can be used here; use cpu or auto")
    index = int(number or os.environ.get("LOCAL_RANK", "0"))
    if index >= torch.cuda.device_count():
        raise DeviceError(
            f"device: {name!r} was asked for, but there are only {torch.cuda.device_count()} CUDA devices"
        )
    return torch.device("cuda", index)


def number_format(precision: str, device: torch.device) -> str:
    """What ``precision`` means on this device: ``fp32``, ``bf16``, or for ``auto`` bf16 where it is native."""
    if precision != "auto":
        return precision
    return "bf16" if has_native_bf16(device) else "fp32"


def choose_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The torch type of :func:`number_format`."""
    return DTYPES[number_format(precision, device)]


def format_of(dtype: torch.dtype) -> str:
    """The name of a torch type that :func:`choose_dtype` gave."""
    return next(name for name, known in DTYPES.items() if known == dtype)


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether a computation failed because the machine, or its graphics card, had no memory left for it."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and ("not enough memory" in text or "allocate memory" in text)


def has_native_bf16(device: torch.device) -> bool:
    """Whether bf16 is computed by instructions of its own; where it is emulated it is many times slower than fp32.

    Of a processor what torch and oneDNN make use of counts, so the variables that limit them (ATEN_CPU_CAPABILITY,
    ONEDNN_MAX_CPU_ISA) count too.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    check = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    if check is None or not check() or not torch.backends.cpu.get_cpu_capability().startswith("AVX512"):
        return False
    return _onednn_has_bf16()


def _onednn_has_bf16() -> bool:
    try:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):  # a torch without oneDNN, which alone computes bf16 natively
        return False
