"""Frozen weights in another precision, cast once and remembered while the parameters do not change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from anymc3d.models.parameter_cache import ParameterCache


class CastWeights(nn.Module):
    """A network whose matrices are kept in the precision of its arithmetic; see ``Backbone.matrices``."""

    def __init__(self) -> None:
        super().__init__()
        self._cast = ParameterCache()

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
