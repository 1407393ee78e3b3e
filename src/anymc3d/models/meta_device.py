"""Networks on the meta device: names and shapes without values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


@contextmanager
def without_memory() -> Iterator[None]:
    """What is built here has shapes and names, no memory for values, and takes no time to draw them."""
    with torch.device("meta"), _NothingDrawn():
        yield


_DRAWING = frozenset({Tensor.normal_, Tensor.uniform_, Tensor.erfinv_})
_MAKING = frozenset({torch.randn, torch.rand})


class _NothingDrawn(TorchFunctionMode):
    """Leaves out the drawing of initial values: without memory it does nothing, and takes seconds to do it."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func in _DRAWING or getattr(func, "__module__", None) == nn.init.__name__:
            return args[0] if args else kwargs["tensor"]
        if func in _MAKING:
            return torch.empty(*args, device="meta")
        return func(*args, **(kwargs or {}))
