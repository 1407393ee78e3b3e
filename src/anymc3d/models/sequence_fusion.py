"""Fusions that read the slices in their order by attention (docs/methods.md, supplement Table 5): small transformers.

Called as the set fusions are, see ``anymc3d.models.fusion``; real slices come first in each row of the mask. Sizes
are proportions of the embedding width, chosen so that at ViT-L (1024) the parameter counts are those of Table 5.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from anymc3d.errors import UsageError

MAX_POSITIONS = 256
"""Learned slice positions, as in MST; a case with more slices is refused."""


class Fused(NamedTuple):
    """``embedding`` (B, out_dim) and the weight of every slice, ``weights`` (B, S), rows adding up to 1."""

    embedding: Tensor
    weights: Tensor


class TransformerFusion(nn.Module):
    """A class token and the slices through pre-norm encoder layers; the normalised class token is the embedding.

    ``weights``: attention of the class token to the slices in the last layer, mean over heads, renormalised.

    Args:
        embed_dim: D of the slice embeddings.
        generator: of the initial values.
        width: of the tokens; another than ``embed_dim`` is reached by a linear map.
        hidden: width inside each layer's feed-forward part.
        num_layers, num_heads: of the encoder.
        num_positions: learned slice positions and so the largest number of slices; 0 = none, then the order of the
            slices changes nothing and any number may come.

    Raises:
        UsageError: the heads do not divide the width.
    """

    def __init__(
        self,
        embed_dim: int,
        generator: torch.Generator,
        *,
        width: int,
        hidden: int,
        num_layers: int,
        num_heads: int,
        num_positions: int,
    ) -> None:
        super().__init__()
        if width % num_heads:
            raise UsageError(f"fusion: {num_heads} heads do not divide a width of {width} (backbone: {embed_dim})")
        self.out_dim, self.num_positions = width, num_positions
        self.project = nn.Linear(embed_dim, width) if width != embed_dim else nn.Identity()
        self.class_token = nn.Parameter(torch.empty(width))
        self.positions = nn.Parameter(torch.empty(num_positions, width)) if num_positions else None
        self.layers = nn.ModuleList(EncoderLayer(width, hidden, num_heads) for _ in range(num_layers))
        self.norm = nn.LayerNorm(width)
        _initialise(self, generator)

    def forward(self, embeddings: Tensor, mask: Tensor) -> Fused:
        num_cases, num_slices, _ = embeddings.shape
        tokens = self.project(embeddings)
        if self.positions is not None:
            self._check_fits(num_slices)
            tokens = tokens + self.positions[:num_slices]
        tokens = torch.cat([self.class_token.expand(num_cases, 1, -1), tokens], dim=1)
        padding = nn.functional.pad(~mask, (1, 0), value=False)
        attention = tokens.new_zeros(0)
        for layer in self.layers:
            tokens, attention = layer(tokens, padding)
        weights = attention[:, 0, 1:]
        return Fused(self.norm(tokens[:, 0]), weights / weights.sum(dim=1, keepdim=True))

    def _check_fits(self, num_slices: int) -> None:
        if num_slices > self.num_positions:
            raise UsageError(
                f"fusion: this one has {self.num_positions} slice positions, got a case with {num_slices} slices; "
                f"set the third number of views.<view>.size to at most {self.num_positions}, or use fusion: query"
            )


class EncoderLayer(nn.Module):
    """One pre-norm transformer layer with ReLU and no dropout: ``torch.nn.TransformerEncoderLayer`` with its attention
    returned, and its parameter names."""

    def __init__(self, width: int, hidden: int, num_heads: int) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(width, num_heads, batch_first=True)
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, tokens: Tensor, padding: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, D) and where tokens are padding, (B, T) -> tokens, and attention (B, T, T) as the mean over heads."""
        normed = self.norm1(tokens)
        attended, attention = self.self_attn(normed, normed, normed, key_padding_mask=padding)
        tokens = tokens + attended
        return tokens + self.linear2(self.linear1(self.norm2(tokens)).relu()), attention


def transformer(embed_dim: int, generator: torch.Generator) -> TransformerFusion:
    """Table 5's transformer: at 1024 a linear map to 512, two layers of 8 heads and 2048 hidden, 256 positions."""
    width = embed_dim // 2
    return TransformerFusion(
        embed_dim,
        generator,
        width=width,
        hidden=4 * width,
        num_layers=2,
        num_heads=8,
        num_positions=MAX_POSITIONS,
    )


def mst(embed_dim: int, generator: torch.Generator, *, num_positions: int = 0) -> TransformerFusion:
    """The layer of MST: 12 heads where they divide the width, else 8; feed-forward as wide as the embedding."""
    return TransformerFusion(
        embed_dim,
        generator,
        width=embed_dim,
        hidden=embed_dim,
        num_layers=1,
        num_heads=8 if embed_dim % 12 else 12,
        num_positions=num_positions,
    )


def mst_positions(embed_dim: int, generator: torch.Generator) -> TransformerFusion:
    """The layer of MST with its table of slice positions."""
    return mst(embed_dim, generator, num_positions=MAX_POSITIONS)


def _initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Matrices Xavier-uniform, biases 0, norms 1; class token and positions truncated normal 0.02, as the query."""
    for name, parameter in module.named_parameters():
        if name in ("class_token", "positions"):
            nn.init.trunc_normal_(parameter, std=0.02, generator=generator)
        elif parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter, generator=generator)
        else:
            nn.init.constant_(parameter, float("norm" in name and name.endswith("weight")))
