"""The four attention maps of the paper's supplement G, from attention matrices to one weight per patch.

A fifth method, Grad-CAM, is for backbones without attention maps; see :mod:`anymc3d.explain.cam`.

Every matrix here is (S, T, T): S slices, T tokens, of which the first is the class token and the first P are no patches
(class token and registers). Registers stay in the products and are dropped at the end. Rows add up to 1 at every step
and layers are multiplied from the first to the last, each with its own gradient.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from anymc3d.errors import UsageError, did_you_mean
from anymc3d.models.backbone_protocol import Backbone


@dataclass(frozen=True, kw_only=True)
class HeatMethod:
    """One entry of ``METHODS``."""

    summary: str
    gradients: bool
    """Whether the map is of one label: weighted by the gradient of its logit."""
    all_layers: bool
    """Whether the maps of all layers are multiplied (rollout); otherwise the last layer's alone."""
    attention: bool = True
    """Whether it reads attention maps; otherwise it is for backbones that have none."""

    @property
    def slice_weighted(self) -> bool:
        """Whether slices are weighted by the query's attention; a gradient has that weight in it already."""
        return not self.gradients


METHODS: dict[str, HeatMethod] = {
    "attention": HeatMethod(
        summary="last layer's attention from class token to patches", gradients=False, all_layers=False
    ),
    "rollout": HeatMethod(
        summary="attention rollout: all layers, half of each the identity", gradients=False, all_layers=True
    ),
    "grad-rollout": HeatMethod(
        summary="rollout of attention times the logit's gradient, per label", gradients=True, all_layers=True
    ),
    "grad-rollout-last": HeatMethod(
        summary="last layer's attention times the logit's gradient, per label", gradients=True, all_layers=False
    ),
    "grad-cam": HeatMethod(
        summary="last stage's features times the logit's gradient, per label; for a DaViT",
        gradients=True,
        all_layers=False,
        attention=False,
    ),
}
DEFAULTS = {True: "grad-rollout", False: "grad-cam"}
"""Whether the backbone has attention maps -> the method to take where none is asked for."""


def check_method(name: str) -> HeatMethod:
    """Look up one entry.

    Raises:
        UsageError: no method has this name.
    """
    if name not in METHODS:
        raise UsageError(f"--method: unknown heatmap {name!r}{did_you_mean(name, METHODS)}; have {', '.join(METHODS)}")
    return METHODS[name]


def methods_of(backbone: Backbone) -> tuple[str, ...]:
    """The methods that this backbone can be explained by."""
    return tuple(name for name, method in METHODS.items() if method.attention == has_attention(backbone))


def has_attention(backbone: Backbone) -> bool:
    """Whether its class token looks at patches in some block."""
    return bool(backbone.config.depth > 0)


def check_backbone(names: Iterable[str], backbone: Backbone) -> None:
    """Raise :class:`UsageError` if a method is not for this backbone."""
    has = methods_of(backbone)
    for name in names:
        if name not in has:
            reason = "reads attention maps, and there are none in" if METHODS[name].attention else "is not for"
            raise UsageError(f"--method: {name} {reason} {backbone.config}; it has {', '.join(has)}")


def patch_weights(
    attention: Mapping[int, Tensor],
    gradient: Mapping[int, Tensor] | None,
    method: HeatMethod,
    *,
    num_prefix_tokens: int,
    discard: float = 0.0,
) -> Tensor:
    """What the class token takes from every patch: (S, T - P), at least 0.

    Args:
        attention: layer -> (S, heads, T, T) after softmax; all layers for a rollout, else at least the last.
        gradient: the same shapes: of the label's logit with respect to each map; None for methods without.
        discard: the share of each layer's smallest entries that are set to 0; the published code uses 0.9, the paper
            does not mention it. Entries of the class token's column stay.
    """
    layers = sorted(attention) if method.all_layers else [max(attention)]
    row: Tensor | None = None
    for layer in reversed(layers):
        fused = fuse_heads(attention[layer], None if gradient is None else gradient[layer])
        fused = drop_smallest(fused, discard)
        if not method.all_layers:
            row = fused[:, 0]
            break
        mixed = with_identity(fused)
        # Only the class token's row of the product is wanted: a row times a matrix per layer, from the last one down.
        row = mixed[:, 0] if row is None else torch.bmm(row.unsqueeze(1), mixed).squeeze(1)
    if row is None:
        raise ValueError("expected the attention of at least one layer, got none")
    return row[:, num_prefix_tokens:]


def fuse_heads(attention: Tensor, gradient: Tensor | None = None) -> Tensor:
    """(S, heads, T, T) -> (S, T, T): the mean over heads; with a gradient the positive part of their mean product."""
    if gradient is None:
        return attention.mean(dim=1)
    return (attention * gradient).mean(dim=1).clamp(min=0)


def with_identity(fused: Tensor) -> Tensor:
    """Half the map and half the identity (the residual path), each row divided by its sum: (S, T, T) -> (S, T, T)."""
    mixed = 0.5 * fused + 0.5 * torch.eye(fused.shape[-1], device=fused.device, dtype=fused.dtype)
    return mixed / mixed.sum(dim=-1, keepdim=True)


def drop_smallest(fused: Tensor, discard: float) -> Tensor:
    """Set the smallest ``discard`` share of each slice's entries to 0, but none of the class token's column."""
    count = int(discard * fused[0].numel())
    if count == 0:
        return fused
    flat = fused.flatten(1)
    index = flat.topk(count, dim=1, largest=False).indices
    dropped = flat.scatter(1, index, 0.0).view_as(fused)
    dropped[..., 0] = fused[..., 0]
    return dropped
