"""What every backbone of this package is built on: its sizes, and its weights in the precision of the arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from anymc3d.models.backbone_protocol import BackboneConfig
from anymc3d.models.parameter_cache import ParameterCache


class FrozenNetwork(nn.Module):
    """A network that never changes: cast weights are kept as long as the parameters do not change."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.config = config
        self._cast = ParameterCache()

    @property
    def embed_dim(self) -> int:
        return self.config.embed_dim

    @property
    def patch_size(self) -> int:
        return self.config.patch_size

    @property
    def num_prefix_tokens(self) -> int:
        return self.config.num_prefix_tokens

    def matrices(self, dtype: torch.dtype) -> dict[str, Tensor]:
        """The frozen weights and biases of all linear maps and convolutions in ``dtype``, by parameter name.

        Autocast would cast each of them again in every call; half the network's size once more in bfloat16.
        """
        cast = {}
        for path, module in self.named_modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                for leaf, parameter in module.named_parameters(prefix=path, recurse=False):
                    if not parameter.requires_grad:
                        cast[leaf] = self._cast.get((leaf, dtype), parameter, lambda weight: weight.to(dtype))
        return cast

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        self._cast.forget()
        return super()._apply(fn, recurse)
