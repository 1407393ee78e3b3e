"""The first product of plugins that enter one block with the same tokens: a frozen one for all, thin ones beside it.

The norm before a block's queries, keys and values is frozen, so plugins of one seam multiply the same x. With
W' = W + s B A of each, x W'^T = x W^T + s (x A^T) B^T: the first product is computed once, the others have r columns.
The numbers are those of merged weights but for rounding (float32; in bfloat16 the rounding of W' would be missed).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anymc3d.models.lora import LoRA

FIRST_MAPS: dict[str, tuple[str, ...]] = {
    "VisionTransformer": ("attn.qkv",),
    "SiglipVision": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
}
"""Class of the backbone -> adapted maps of a block whose input no plugin changes; of other backbones none is known."""


class FirstProducts:
    """Of the same tokens on their way into ``block``; what is computed once is kept as long as this."""

    def __init__(self, backbone: nn.Module, block: int) -> None:
        self._backbone = backbone
        self._paths = [f"{backbone.block_paths[block]}.{leaf}" for leaf in FIRST_MAPS.get(type(backbone).__name__, ())]
        self._made: dict[str, Tensor] = {}

    def weights(self, lora: LoRA) -> dict[str, Tensor]:
        """Parameter name -> what stands in for the merged weight of one plugin."""
        pairs = dict(zip(lora.paths, zip(lora.a, lora.b, strict=True), strict=True))
        adapted = {path: pairs[path] for path in self._paths if path in pairs}
        return {
            f"{path}.weight": _SharedWeight.of(self._backbone.get_submodule(path).weight, a, lora.scale * b, self, path)
            for path, (a, b) in adapted.items()
        }

    def product(self, path: str, make: Callable[[], Tensor]) -> Tensor:
        """The frozen product of one map."""
        if path not in self._made:
            self._made[path] = make()
        return self._made[path]


class _SharedWeight(Tensor):
    """A frozen weight whose product with the tokens is the common one and, beside it, what one plugin adds."""

    only_products = True
    base: Tensor
    a: Tensor
    b: Tensor
    common: FirstProducts
    path: str

    @classmethod
    def of(cls, base: Tensor, a: Tensor, b: Tensor, common: FirstProducts, path: str) -> _SharedWeight:
        weight = base.detach().as_subclass(cls)
        weight.base, weight.a, weight.b, weight.common, weight.path = base.detach(), a, b, common, path
        return weight

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is not F.linear or kwargs:
            raise TypeError(f"a weight of several plugins cannot be used by {func}")
        inputs, weight, *bias = args
        whole = weight.common.product(weight.path, lambda: F.linear(inputs, weight.base, *bias))
        rows = inputs.flatten(0, -2)
        return torch.addmm(whole.flatten(0, -2), rows @ weight.a.t(), weight.b.t()).view_as(whole)
