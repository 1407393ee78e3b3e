"""Tensors computed from frozen parameters, kept as long as the parameter does not change."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import torch
from torch import Tensor


class ParameterCache:
    """Tensors by key. ``most``: when this many are kept, all are dropped before the next; None = no limit."""

    def __init__(self, most: int | None = None) -> None:
        self.most = most
        self._kept: dict[Hashable, tuple[Tensor, int, Tensor]] = {}

    def get(self, key: Hashable, parameter: Tensor, make: Callable[[Tensor], Tensor]) -> Tensor:
        """``make(parameter)``, without a graph; computed again when it is another parameter or has changed."""
        entry = self._kept.get(key)
        if entry is not None and entry[0] is parameter and entry[1] == parameter._version:
            return entry[2]
        # Not an inference tensor, even when first asked for in inference mode: a later call may need gradients.
        with torch.inference_mode(False), torch.no_grad():
            computed = make(parameter)
        if self.most is not None and len(self._kept) >= self.most:
            self._kept.clear()
        self._kept[key] = (parameter, parameter._version, computed)
        return computed

    def forget(self) -> None:
        """``.to()``, ``.half()`` and so on change the numbers behind the same parameter: call it then."""
        self._kept.clear()
