"""What every segmentation decoder is given and gives; the table of decoders is ``anymc3d.models.decoders.table``.

A decoder works on one case and one view at a time. It reads what the backbone computed for the classifier and never
changes it: the class token does not see the decoder, so a plugin answers the same with and without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

ReadBlock = Callable[[int, Tensor, Tensor | None], Tensor]
"""(block, queries (S, Q, D), allowed (S, Q, T) or None) -> queries after the block, with each slice's tokens as they
went into the block beside them. ``allowed``: which tokens of the slice a query may look at."""


@dataclass(frozen=True)
class CaseTokens:
    """What the backbone made of the slices of one view of one case."""

    patches: Tensor
    """(S, D, gh, gw): the patch tokens of the last block after the final norm, without class token and registers."""
    size: tuple[int, int]
    """(H, W) of the prepared slices, on which the map is to lie."""
    before: Mapping[int, Tensor]
    """Block -> the patch tokens (S, D, gh, gw) before it after the final norm; empty where no block is read."""
    read: ReadBlock
    norm: Callable[[Tensor], Tensor]
    """The backbone's final norm, for queries (S, Q, D)."""
    num_prefix_tokens: int
    """Class token and registers; they stand before the patches of a slice."""


class MaskTarget(NamedTuple):
    """The truth of one view of one case: ``labels`` (S, H, W), 0 background, 1 to C the structures in the task's order;
    ``annotated``: which of these structures were looked for in this case."""

    labels: Tensor
    annotated: tuple[int, ...]


@dataclass(frozen=True)
class Schedule:
    """Where training stands: ``progress`` 0 at the first step, 1 at the last; ``draws``: of this case's visit."""

    progress: float
    draws: torch.Generator


class Decoder(Protocol):
    """Of one view. ``blocks``: the backbone's blocks whose input it reads."""

    blocks: tuple[int, ...]

    def __call__(self, tokens: CaseTokens, schedule: Schedule | None = None) -> Any:
        """What the other two methods need. ``schedule``: in training; None = as it is used."""

    def loss(self, output: Any, target: MaskTarget, schedule: Schedule) -> Tensor:
        """The loss of one case, a scalar; what was not annotated costs nothing and gets no gradient."""

    def probabilities(self, output: Any, size: tuple[int, int]) -> Tensor:
        """(1 + C, S, H, W): of background and every structure, adding up to 1."""
