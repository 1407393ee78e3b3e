"""The vision tower of SigLIP, as MedSigLIP and MedGemma have it: a ViT whose last layer is an attention pool.

Source: Zhai et al., "Sigmoid Loss for Language Image Pre-Training", 2023, and docs/methods.md. Parameter names are
those of ``vision_model.*`` in the published files. There is no class token among the patches: a learned probe looks at
the normalised patch tokens once, at the end, and what it sees is the class token here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anymc3d.errors import UsageError
from anymc3d.models.backbone_protocol import BackboneOutput
from anymc3d.models.frozen_network import FrozenNetwork
from anymc3d.models.image_size import check_images
from anymc3d.models.parameter_cache import ParameterCache
from anymc3d.models.seam import SEAM_DTYPE, TrunkTokens, rounded
from anymc3d.models.vit import REMEMBERED_SIZES, attend


@dataclass(frozen=True, kw_only=True)
class SiglipConfig:
    """Everything that decides the forward pass, apart from the weights; the default is So400m/14 at 448 pixels."""

    embed_dim: int = 1152
    """D."""
    layers: int = 27
    """Layers of the encoder, without the pooling head."""
    num_heads: int = 16
    mlp_dim: int = 4304
    patch_size: int = 14
    grid: int = 32
    """Positions along each side of the learned table."""
    norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        if min(self.embed_dim, self.layers, self.num_heads, self.grid) < 1 or self.embed_dim % self.num_heads:
            msg = f"expected embed_dim to be a multiple of the heads, got {self.embed_dim} and {self.num_heads} heads"
            raise UsageError(msg)

    def __str__(self) -> str:
        return (
            f"a SigLIP vision tower of width {self.embed_dim}, {self.layers} layers, patch {self.patch_size}, "
            f"{self.grid} x {self.grid} positions"
        )

    @property
    def num_prefix_tokens(self) -> int:
        return 1

    @property
    def depth(self) -> int:
        """Blocks with an attention map: the layers of the encoder, then the pooling head."""
        return self.layers + 1


class Embeddings(nn.Module):
    """One token per patch with its position: (B, 3, H, W) -> (B, N, D), rows first."""

    def __init__(self, config: SiglipConfig) -> None:
        super().__init__()
        self.grid = config.grid
        self.patch_embedding = nn.Conv2d(3, config.embed_dim, config.patch_size, stride=config.patch_size)
        self.position_embedding = nn.Embedding(config.grid**2, config.embed_dim)
        self._resized = ParameterCache(REMEMBERED_SIZES)

    def forward(self, images: Tensor, rows: int, columns: int) -> Tensor:
        return self.patch_embedding(images).flatten(2).transpose(1, 2) + self.positions(rows, columns)

    def positions(self, rows: int, columns: int) -> Tensor:
        """The table at this size, (N, D), bicubic as in transformers; remembered while the table does not change."""
        table = self.position_embedding.weight
        if rows == columns == self.grid:
            return table
        if table.requires_grad and torch.is_grad_enabled():
            return self._resize(table, rows, columns)
        return self._resized.get((rows, columns), table, lambda frozen: self._resize(frozen, rows, columns))

    def _resize(self, table: Tensor, rows: int, columns: int) -> Tensor:
        grid = table.float().view(1, self.grid, self.grid, -1).permute(0, 3, 1, 2)
        resized = F.interpolate(grid, size=(rows, columns), mode="bicubic", align_corners=False)
        return resized.flatten(2)[0].transpose(0, 1).to(table.dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        self._resized.forget()
        return super()._apply(fn, recurse)


class SelfAttention(nn.Module):
    def __init__(self, config: SiglipConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.q_proj = nn.Linear(config.embed_dim, config.embed_dim)
        self.k_proj = nn.Linear(config.embed_dim, config.embed_dim)
        self.v_proj = nn.Linear(config.embed_dim, config.embed_dim)
        self.out_proj = nn.Linear(config.embed_dim, config.embed_dim)

    def forward(self, tokens: Tensor, keep_map: bool) -> tuple[Tensor, Tensor | None]:
        """(B, N, D) -> the same, and where asked for the map of the protocol (B, heads, 1 + N, 1 + N)."""
        query, key, value = (
            split_heads(projection(tokens), self.num_heads) for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        if not keep_map:
            return self.out_proj(merge_heads(attend(query, key, value))), None
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
        attention = F.pad(scores.float().softmax(dim=-1), (1, 0, 1, 0))
        attention[..., 0, 0] = 1.0  # the class token does not exist yet: it keeps to itself
        return self.out_proj(merge_heads(attention[..., 1:, 1:].to(value.dtype) @ value)), attention


class Mlp(nn.Module):
    def __init__(self, config: SiglipConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.embed_dim, config.mlp_dim)
        self.fc2 = nn.Linear(config.mlp_dim, config.embed_dim)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(tokens), approximate="tanh"))


class Layer(nn.Module):
    """x + attn(norm1(x)), then x + mlp(norm2(x))."""

    def __init__(self, config: SiglipConfig) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(config.embed_dim, eps=config.norm_eps)
        self.self_attn = SelfAttention(config)
        self.layer_norm2 = nn.LayerNorm(config.embed_dim, eps=config.norm_eps)
        self.mlp = Mlp(config)

    def forward(self, tokens: Tensor, keep_map: bool) -> tuple[Tensor, Tensor | None]:
        mixed, attention = self.self_attn(self.layer_norm1(tokens), keep_map)
        tokens = tokens + mixed
        return tokens + self.mlp(self.layer_norm2(tokens)), attention


class Encoder(nn.Module):
    def __init__(self, config: SiglipConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))


class ProbeAttention(nn.Module):
    """One query for all patch tokens; queries, keys and values share one matrix, as in ``nn.MultiheadAttention``."""

    def __init__(self, config: SiglipConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.in_proj_weight = nn.Parameter(torch.zeros(3 * config.embed_dim, config.embed_dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * config.embed_dim))
        self.out_proj = nn.Linear(config.embed_dim, config.embed_dim)

    def forward(self, probe: Tensor, tokens: Tensor, keep_map: bool) -> tuple[Tensor, Tensor | None]:
        """(1, 1, D) and (B, N, D) -> (B, 1, D), and where asked for the map of the protocol."""
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        inputs = (probe.expand(len(tokens), -1, -1), tokens, tokens)
        query, key, value = (
            split_heads(F.linear(i, w, b), self.num_heads) for i, w, b in zip(inputs, weights, biases, strict=True)
        )
        if not keep_map:
            return self.out_proj(merge_heads(attend(query, key, value))), None
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
        attention = F.pad(scores.float().softmax(dim=-1), (1, 0, 0, tokens.shape[1]))
        return self.out_proj(merge_heads(attention[..., :1, 1:].to(value.dtype) @ value)), attention


class PoolingHead(nn.Module):
    """Normalised patch tokens (B, N, D) -> the class token (B, 1, D)."""

    def __init__(self, config: SiglipConfig) -> None:
        super().__init__()
        self.probe = nn.Parameter(torch.zeros(1, 1, config.embed_dim))
        self.attention = ProbeAttention(config)
        self.layernorm = nn.LayerNorm(config.embed_dim, eps=config.norm_eps)
        self.mlp = Mlp(config)

    def forward(self, tokens: Tensor, keep_map: bool) -> tuple[Tensor, Tensor | None]:
        pooled, attention = self.attention(self.probe, tokens, keep_map)
        return pooled + self.mlp(self.layernorm(pooled)), attention


class SiglipVision(FrozenNetwork):
    """The vision tower; tokens come as class token (the pooled one), then patches, rows first."""

    def __init__(self, config: SiglipConfig) -> None:
        super().__init__(config)
        self.embeddings = Embeddings(config)
        self.encoder = Encoder(config)
        self.post_layernorm = nn.LayerNorm(config.embed_dim, eps=config.norm_eps)
        self.head = PoolingHead(config)

    @property
    def block_paths(self) -> tuple[str, ...]:
        """Paths of the layers, in order; the pooling head behind them is part of every tail."""
        return tuple(f"encoder.layers.{index}" for index in range(self.config.layers))

    @property
    def closing_paths(self) -> tuple[str, ...]:
        """The norm of the patch tokens and the pooling head."""
        return ("post_layernorm", "head")

    @overload
    def forward(
        self,
        start: Tensor | TrunkTokens,
        *,
        attention_blocks: Collection[int] = (),
        class_token_only: bool = False,
        seam: int | None = None,
    ) -> BackboneOutput: ...

    @overload
    def forward(self, start: Tensor | TrunkTokens, *, stop: int) -> TrunkTokens: ...

    def forward(
        self,
        start: Tensor | TrunkTokens,
        *,
        attention_blocks: Collection[int] = (),
        class_token_only: bool = False,
        seam: int | None = None,
        stop: int | None = None,
    ) -> BackboneOutput | TrunkTokens:
        """Encode normalised images (B, 3, H, W), or go on from tokens of the trunk, which here are the patches alone;
        see :class:`anymc3d.models.backbone_protocol.Backbone`.

        The block after the last layer is the pooling head; its map has the probe's attention in the first row.

        Raises:
            UsageError: H or W is not a multiple of the patch size, or a block does not exist.
        """
        unknown = sorted(set(attention_blocks) - set(range(self.config.depth)))
        if unknown:
            raise UsageError(f"attention blocks are 0 to {self.config.depth - 1} in this backbone, got {unknown}")
        tokens, first, grid = start if isinstance(start, TrunkTokens) else self._before_layers(start)
        tokens = tokens.float() if tokens.dtype == SEAM_DTYPE else tokens
        attention: dict[int, Tensor] = {}
        for index in range(first, self.config.layers if stop is None else stop):
            if index == seam:
                tokens = rounded(tokens)
            tokens, probabilities = self.encoder.layers[index](tokens, index in attention_blocks)
            if probabilities is not None:
                attention[index] = probabilities
        if stop is not None:
            return TrunkTokens(tokens, stop, grid)
        tokens = self.post_layernorm(tokens)
        pooled, probabilities = self.head(tokens, self.config.layers in attention_blocks)
        if probabilities is not None:
            attention[self.config.layers] = probabilities
        return BackboneOutput(
            pooled if class_token_only else torch.cat([pooled.to(tokens.dtype), tokens], dim=1), attention
        )

    def _before_layers(self, images: Tensor) -> TrunkTokens:
        rows, columns = check_images(images, self.patch_size)
        return TrunkTokens(self.embeddings(images, rows, columns), 0, (rows, columns))


def split_heads(tokens: Tensor, num_heads: int) -> Tensor:
    """(B, T, D) -> (B, heads, T, D / heads)."""
    return tokens.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def merge_heads(heads: Tensor) -> Tensor:
    """(B, heads, T, D / heads) -> (B, T, D)."""
    return heads.transpose(1, 2).flatten(2)
