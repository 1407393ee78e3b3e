"""The seam between the blocks that no plugin changes, the trunk, and the last K blocks, which a plugin adapts.

Tokens are rounded to float16 there, always: in training and validation, in prediction, for heatmaps and decoders, kept
on disk or not. So tokens that are read from a cache are those that would be computed, and a plugin answers in
``predict`` what it answered in training. Beside the tokens the seam needs only the patch grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from anymc3d.errors import BackboneError

SEAM_DTYPE = torch.float16


class TrunkTokens(NamedTuple):
    """``tokens`` (B, T, D) as they go into block ``block``, and the patch ``grid`` (rows, columns) that they stand for.

    A network goes on from them as from images.
    """

    tokens: Tensor
    block: int
    grid: tuple[int, int]


def rounded(tokens: Tensor) -> Tensor:
    """The same tokens as float16 can hold them, in the precision that they had; a gradient passes as if unchanged."""
    nearest = tokens.detach().to(SEAM_DTYPE).to(tokens.dtype)
    if not tokens.requires_grad:
        return nearest
    # The sum is exact: the difference of two numbers this close is.
    return tokens + (nearest - tokens.detach())


def check_blocks(backbone: nn.Module, blocks: int) -> None:
    """Check that the last ``blocks`` blocks of a backbone can be adapted alone.

    Raises:
        BackboneError: the backbone cannot be cut between blocks, or has fewer.
    """
    paths: Sequence[str] = backbone.block_paths
    if not paths:
        raise BackboneError(
            f"method.blocks: {backbone.config} has no blocks that pass on one set of tokens, so its last {blocks} "
            "cannot be adapted alone; leave method.blocks out (null: the whole backbone), or take a ViT or SigLIP"
        )
    if blocks > len(paths):
        raise BackboneError(
            f"method.blocks: expected 1 to {len(paths)}, the blocks of {backbone.config}, got {blocks}; "
            "leave it out (null) to adapt all of them and the patch embedding"
        )


def first_adapted(backbone: nn.Module, blocks: int | None) -> int | None:
    """The block before which the seam lies; None where the whole backbone is adapted.

    Raises:
        BackboneError: as :func:`check_blocks`.
    """
    if blocks is None:
        return None
    check_blocks(backbone, blocks)
    return len(backbone.block_paths) - blocks
