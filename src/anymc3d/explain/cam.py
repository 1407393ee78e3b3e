"""Grad-CAM of a DaViT, which has no class token that looks at patches (Selvaraju and others, 2017).

Not of the paper: docs/heatmaps.md names it as the way out for this backbone. A feature of the last stage counts as
much as the label's logit rises with its mean over the slice; what remains above 0 of the sum over features is the map.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from anymc3d.models.classifier import Encoding

METHOD = "grad-cam"
CAM_SLICES = 16
"""Slices a call; no graph is kept inside the backbone."""


def cam_weights(
    backbone: nn.Module,
    weights: Mapping[str, Tensor],
    images: Tensor,
    encoding: Encoding,
    gradients: Mapping[int, Tensor],
) -> dict[tuple[str, int | None], Tensor]:
    """(method, label) -> (S, patches), at least 0.

    Args:
        images: (S, 3, H, W), normalised.
        gradients: label -> (S, D), of its logit with respect to the class tokens.
    """
    low = encoding.dtype != torch.float32
    with torch.no_grad(), torch.autocast(images.device.type, encoding.dtype, enabled=low):
        features = functional_call(backbone, dict(weights), (images,), {"last_stage": True}).float()
    grid = tuple(length // backbone.patch_size for length in images.shape[-2:])
    with torch.enable_grad():
        leaf = features.detach().requires_grad_()
        class_tokens = backbone.pool(leaf)[:, 0]
    maps: dict[tuple[str, int | None], Tensor] = {}
    for label, outer in gradients.items():
        (slope,) = torch.autograd.grad((class_tokens * outer).sum(), leaf, retain_graph=True)
        importance = slope.mean(dim=1, keepdim=True)
        values = (features * importance).sum(dim=-1).clamp(min=0)
        maps[METHOD, label] = to_cell_centres(values.unflatten(1, grid)).flatten(1)
    return maps


def to_cell_centres(grid: Tensor) -> Tensor:
    """(S, rows, columns) at the first pixel of each cell, where strided convolutions are centred -> at its middle.

    The middle lies half way to the next cell; beyond the last one its own value goes on.
    """
    for axis in (1, 2):
        following = torch.cat([grid.narrow(axis, 1, grid.shape[axis] - 1), grid.narrow(axis, -1, 1)], dim=axis)
        grid = (grid + following) / 2
    return grid
