"""What a frozen 2D network must offer to be a backbone; nothing outside ``models`` may ask for more.

A backbone is an ``nn.Module`` besides. Its forward pass is pure (no dropout, no state), so that ``train()`` and
``eval()`` compute the same, and it works under ``torch.func.functional_call`` with any of its weights replaced.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from anymc3d.models.seam import TrunkTokens


class BackboneConfig(Protocol):
    """Everything that decides the forward pass, apart from the weights: a frozen dataclass that prints in words."""

    @property
    def embed_dim(self) -> int:
        """D, the width of the class token."""

    @property
    def patch_size(self) -> int:
        """Pixels along each side of what one patch token stands for; images are enlarged to a multiple of it."""

    @property
    def num_prefix_tokens(self) -> int:
        """P, tokens before the patch tokens: the class token, and registers where there are any."""

    @property
    def depth(self) -> int:
        """Blocks with an attention map in which the class token looks at patches; 0: this network has none."""


class BackboneOutput(NamedTuple):
    """``tokens`` (B, P + N, D): class token, other prefix tokens, patch tokens with the rows first; normalised.

    ``attention``: block -> (B, heads, P + N, P + N) probabilities, of the blocks asked for, with their graph. A class
    token that a head makes in the end stands alone in the maps of earlier blocks. ``ViTOutput`` has the same fields.
    """

    tokens: Tensor
    attention: dict[int, Tensor]


class Backbone(Protocol):
    """A frozen 2D network: images (B, 3, H, W) -> tokens.

    Where it has ``block_paths``, the call also takes ``seam`` (a block whose input is rounded to float16, see
    ``anymc3d.models.seam``), ``stop`` (a block before which to stop: :class:`TrunkTokens` come back, unrounded), and
    such tokens in place of images.
    """

    config: Any
    """A :class:`BackboneConfig`."""

    @property
    def embed_dim(self) -> int: ...

    @property
    def patch_size(self) -> int: ...

    @property
    def num_prefix_tokens(self) -> int: ...

    @property
    def block_paths(self) -> tuple[str, ...]:
        """Paths of the blocks that tokens pass one after the other, and between which the network can be cut; none
        where it cannot."""

    @property
    def closing_paths(self) -> tuple[str, ...]:
        """Paths of what stands behind the last block, where there are ``block_paths``."""

    def __call__(
        self, start: Tensor | TrunkTokens, *, attention_blocks: Collection[int] = (), class_token_only: bool = False
    ) -> BackboneOutput:
        """Encode normalised images whose sides are multiples of the patch size.

        With ``class_token_only`` the tokens are (B, 1, D), the same class token.

        Raises:
            UsageError: H or W is not a multiple of the patch size, or a block has no attention map.
        """

    def matrices(self, dtype: torch.dtype) -> dict[str, Tensor]:
        """The frozen weights of linear maps and convolutions in ``dtype``, by parameter name."""

    def named_modules(self) -> Iterator[tuple[str, nn.Module]]: ...
