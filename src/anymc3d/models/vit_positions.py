"""Where a patch stands: DINOv2's learned table at any size, and DINOv3's rotary positions.

Sources: facebookresearch/dinov2 ``models/vision_transformer.py``, facebookresearch/dinov3
``layers/rope_position_encoding.py``.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

PositionRule = Literal["official", "hf"]

ROPE_BASE = 100.0


def resize_positions(table: Tensor, rows: int, columns: int, *, grid: int, offset: float, antialias: bool) -> Tensor:
    """Resize a learned table (1, 1 + grid * grid, D) to (1, 1 + rows * columns, D), in float32.

    The official rule of DINOv2 without registers hands the scale ``(n + 0.1) / grid`` to the bicubic kernel
    (``offset`` 0.1), which samples at slightly other places than the size-based rule (0); at the native size the table
    is used as it is.
    """
    if rows == columns == grid:
        return table
    patches = table[:, 1:].float().reshape(1, grid, grid, -1).permute(0, 3, 1, 2)
    if offset:
        scale = ((rows + offset) / grid, (columns + offset) / grid)
        resized = F.interpolate(patches, scale_factor=scale, mode="bicubic", antialias=antialias)
    else:
        resized = F.interpolate(patches, size=(rows, columns), mode="bicubic", antialias=antialias)
    resized = resized.permute(0, 2, 3, 1).reshape(1, rows * columns, -1).to(table.dtype)
    return torch.cat([table[:, :1], resized], dim=1)


def rope_periods(head_dim: int, device: torch.device | None = None) -> Tensor:
    """The ``head_dim / 4`` rotary periods of DINOv3, ``100 ** (2 j / (head_dim / 2))``, in float32."""
    exponents = 2 * torch.arange(head_dim // 4, dtype=torch.float32, device=device) / (head_dim // 2)
    return ROPE_BASE**exponents


def rope_rotation(rows: int, columns: int, head_dim: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosine and sine, (N, head_dim) each in float32, of DINOv3's rotary positions of the patch tokens.

    Patch centres run from -1 to 1 along each axis on its own; angle = 2 pi centre / period, rows then columns, and
    the half twice.
    """

    def centres(count: int) -> Tensor:
        return (torch.arange(count, dtype=torch.float32, device=device) + 0.5) / count * 2 - 1

    grid = torch.stack(torch.meshgrid(centres(rows), centres(columns), indexing="ij"), dim=-1).reshape(-1, 2, 1)
    half = (2 * math.pi * grid / rope_periods(head_dim, device)).flatten(1)
    angles = torch.cat([half, half], dim=-1)
    return angles.cos(), angles.sin()


def rotate(heads: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotate the patch tokens of ``heads`` (B, heads, T, head_dim); the prefix tokens before them are untouched."""
    num_prefix = heads.shape[-2] - cosine.shape[-2]
    prefix, patches = heads[..., :num_prefix, :], heads[..., num_prefix:, :].float()
    first, second = patches.chunk(2, dim=-1)
    rotated = patches * cosine + torch.cat([-second, first], dim=-1) * sine
    return torch.cat([prefix, rotated.to(heads.dtype)], dim=-2)
