"""Which number format a network may be computed in: bfloat16 only where the device computes it right.

On a CPU (torch 2.13 with oneDNN, measured) the gradient of a 3D convolution in bfloat16 is wrong, not finite or a write
beyond its memory, without any error, where the kernel reaches over a volume of few slices from both sides: kernel 3
over 2 slices, kernel 5 over 2 to 4, kernel 7 over 2 or 3. In float32 it is right, and so are 2D convolutions.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

ENOUGH_SLICES = 3
"""From so many slices on kernels of 3 are right in bfloat16."""


def autocast_for(network: nn.Module, device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Autocast to ``dtype``; on a CPU networks with deep 3D convolutions stay in float32, whose volumes get shallow on
    the way."""
    right = device.type != "cpu" or not any(
        max(module.kernel_size) > 1 for module in network.modules() if isinstance(module, nn.Conv3d)
    )
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32 and right)


def exact_where_shallow(volume: Tensor) -> tuple[AbstractContextManager[object], Tensor]:
    """For kernels of 3 on (B, C, S, H, W): on a CPU with fewer than three slices float32 without autocast, otherwise as
    it is."""
    if volume.device.type != "cpu" or volume.shape[2] >= ENOUGH_SLICES:
        return nullcontext(), volume
    return torch.autocast("cpu", enabled=False), volume.float()
