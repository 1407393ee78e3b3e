"""Slices of several plugins in one call of the backbone: a frozen product for all, thin products for each.

With W' = W + s B A of plugin g, x_g W'^T = x_g W^T + s (x_g A^T) B^T. The first product does not know plugins, so the
slices of all go through it as one batch; the others have r columns. No merged weight is made. The numbers are those of
separate calls but for rounding.

``benchmarks/many_tasks.md`` says where that is faster.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anymc3d.models.classifier import Encoding, compute_weights, run_backbone
from anymc3d.models.lora import LoRA
from anymc3d.models.seam import TrunkTokens


@dataclass(frozen=True)
class Pairs:
    """Of one module, stacked over G plugins: ``a`` (G, r, in…), ``b`` (G, out, r), the scale in it. Plugins of a lower
    rank, or without LoRA in this module, have zeros."""

    a: Tensor
    b: Tensor


class MixedWeight(Tensor):
    """A frozen weight whose product with a batch of G equal parts adds what the plugin of each part adds.

    Only linear maps and convolutions know it; anything else that is done with it is an error.
    """

    only_products = True
    base: Tensor
    pairs: Pairs

    @classmethod
    def of(cls, base: Tensor, pairs: Pairs) -> MixedWeight:
        weight = base.detach().as_subclass(cls)
        weight.base, weight.pairs = base.detach(), pairs
        return weight

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        inputs, weight, *others = args
        if func is F.linear and not kwargs:
            return _linear(inputs, weight, *others)
        if func in (torch.conv2d, F.conv2d) and not kwargs:
            return _conv2d(inputs, weight, *others)
        raise TypeError(f"a weight of several plugins cannot be used by {func}")


def _parts(values: Tensor, number: int) -> Tensor:
    """(G * n, …) -> (G, n * … , last)."""
    return values.reshape(number, -1, values.shape[-1])


def _linear(inputs: Tensor, weight: MixedWeight, bias: Tensor | None = None) -> Tensor:
    whole = F.linear(inputs, weight.base, bias)
    a, b = weight.pairs.a, weight.pairs.b
    thin = torch.bmm(_parts(inputs, len(a)), a.transpose(1, 2))
    flat = _parts(whole, len(a))
    return torch.baddbmm(flat, thin.to(flat.dtype), b.transpose(1, 2).to(flat.dtype)).view_as(whole)


def _conv2d(inputs: Tensor, weight: MixedWeight, bias: Tensor | None = None, *where: Any) -> Tensor:
    whole = F.conv2d(inputs, weight.base, bias, *where)
    a, b = weight.pairs.a, weight.pairs.b
    added = [
        F.conv2d(F.conv2d(part, own_a, None, *where), own_b[:, :, None, None])
        for part, own_a, own_b in zip(inputs.chunk(len(a)), a, b, strict=True)
    ]
    return whole + torch.cat(added)


def mixed_weights(backbone: nn.Module, loras: Sequence[LoRA], dtype: torch.dtype) -> dict[str, Tensor]:
    """Parameter name -> weight for one call of ``backbone`` with the slices of all ``loras``, equally many of each."""
    named = [dict(zip(lora.paths, zip(lora.a, lora.b, strict=True), strict=True)) for lora in loras]
    rank = max(lora.a[0].shape[0] for lora in loras)
    weights: dict[str, Tensor] = {}
    for path in dict.fromkeys(path for lora in loras for path in lora.paths):
        base = backbone.get_submodule(path).weight
        shape_a, shape_b = (len(loras), rank, *base.shape[1:]), (len(loras), base.shape[0], rank)
        a, b = base.new_zeros(shape_a), base.new_zeros(shape_b)
        for number, (lora, pairs) in enumerate(zip(loras, named, strict=True)):
            if path in pairs:
                own_a, own_b = pairs[path]
                a[number, : len(own_a)] = own_a
                b[number, :, : len(own_a)] = lora.scale * own_b.flatten(1)
        weights[f"{path}.weight"] = MixedWeight.of(base.to(dtype), Pairs(a.to(dtype), b.to(dtype)))
    return compute_weights(backbone, {}, dtype) | weights


def mixed_tokens(
    backbone: nn.Module, loras: Sequence[LoRA], start: Tensor | TrunkTokens, encoding: Encoding
) -> list[Tensor]:
    """Class tokens (S, D) in float32 of the same images (S, 3, H, W), or trunk tokens, as each plugin sees them, in one
    call."""
    weights = mixed_weights(backbone, loras, encoding.dtype)
    times = len(loras)
    if isinstance(start, TrunkTokens):
        several: Tensor | TrunkTokens = start._replace(tokens=start.tokens.repeat(times, 1, 1))
    else:
        several = start.repeat(times, 1, 1, 1)
    tokens = run_backbone(backbone, weights, several, encoding, class_token_only=True).tokens[:, 0].float()
    return list(tokens.chunk(times))
