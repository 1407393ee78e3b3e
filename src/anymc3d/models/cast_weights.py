"""Frozen weights in another precision, cast once and remembered while the parameters do not change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class CastWeights(nn.Module):
    """A network whose matrices are kept in the precision of its arithmetic; see ``Backbone.matrices``."""

    def __init__(self) -> None:
        super().__init__()
        self._cast: dict[tuple[str, torch.dtype], tuple[Tensor, int, Tensor]] = {}

    def matrices(self, dtype: torch.dtype) -> dict[str, Tensor]:
        """The frozen weights and biases of all linear maps and convolutions in ``dtype``, by parameter name.

        Autocast would cast each of them again in every call; half the network's size once more in bfloat16.
        """
        cast = {}
        for path, module in self.named_modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                for leaf, parameter in module.named_parameters(prefix=path, recurse=False):
                    if not parameter.requires_grad:
                        cast[leaf] = self._cast_once(leaf, parameter, dtype)
        return cast

    def _cast_once(self, name: str, parameter: Tensor, dtype: torch.dtype) -> Tensor:
        remembered = self._cast.get((name, dtype))
        if remembered is not None and remembered[0] is parameter and remembered[1] == parameter._version:
            return remembered[2]
        # Not an inference tensor, even when first asked for in inference mode: a later call may need gradients.
        with torch.inference_mode(False), torch.no_grad():
            cast = parameter.to(dtype)
        self._cast[name, dtype] = (parameter, parameter._version, cast)
        return cast

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        self._cast.clear()  # .to(), .half() and so on change the numbers behind the same parameter
        return super()._apply(fn, recurse)
