"""Rows that come chunk by chunk, gathered in one tensor."""

from __future__ import annotations

import torch
from torch import Tensor


class ChunkedRows:
    """``total`` rows (total, D), added some at a time.

    Without gradients the memory of all is taken with the first, and no part is kept: many small parts that stay between
    the large tensors that come and go break up the process's memory, and it grows with the number of chunks.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._parts: list[Tensor] = []
        self._rows: Tensor | None = None
        self._done = 0

    def add(self, part: Tensor) -> None:
        """The next rows (n, D)."""
        if part.requires_grad or self._parts:
            self._parts.append(part)
            return
        if self._rows is None:
            self._rows = part.new_empty(self._total, *part.shape[1:])
        self._rows[self._done : self._done + len(part)] = part
        self._done += len(part)

    def whole(self) -> Tensor:
        """All of them."""
        if self._rows is None:
            return torch.cat(self._parts)
        return self._rows
