"""The frozen 2D network: one Vision Transformer that is DINOv2 (learned positions) or DINOv3 (rotary positions), and
without their additions a plain ViT (DINO, DeiT, MAE) or the image tower of CLIP.

Parameter names are those of the official DINO code, so official weights load as they are and a LoRA target has one
name for ever: ``patch_embed.proj``, ``blocks.{i}.attn.qkv``, ``blocks.{i}.attn.proj``. Sources: facebookresearch/dinov2
and facebookresearch/dinov3, ``models/vision_transformer.py``. There is no dropout and no random rescaling of positions,
so ``train()`` and ``eval()`` compute the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anymc3d.errors import UsageError
from anymc3d.models.first_token import first_token_mixed, has_parts
from anymc3d.models.frozen_network import FrozenNetwork
from anymc3d.models.image_size import check_images
from anymc3d.models.parameter_cache import ParameterCache
from anymc3d.models.seam import SEAM_DTYPE, TrunkTokens, rounded
from anymc3d.models.vit_positions import PositionRule, resize_positions, rope_rotation, rotate

Rotation = tuple[Tensor, Tensor]
"""Cosine and sine of the patch tokens' rotary positions."""

MLP_RATIO = 4
REMEMBERED_SIZES = 16


@dataclass(frozen=True, kw_only=True)
class ViTConfig:
    """Everything that decides the forward pass, apart from the weights."""

    embed_dim: int
    """D."""
    depth: int
    num_heads: int
    patch_size: int
    """Pixels along each side of a patch."""
    positions: Literal["learned", "rope"] = "learned"
    """``learned``: a table of ``grid * grid`` positions (DINOv2). ``rope``: rotary, no table (DINOv3)."""
    num_registers: int = 0
    grid: int = 37
    """Patches along each side of the learned table; not used with ``rope``."""
    norm_eps: float = 1e-6
    position_rule: PositionRule = "official"
    """How the learned table is resized: by the official code's rule, or by that of Hugging Face transformers."""
    layer_scale: bool = True
    """Whether each block has a learned factor per channel behind attention and MLP; a plain ViT and CLIP have none."""
    clip: bool = False
    """As OpenAI's CLIP has it: a norm before the first block, no bias of the patches, and the "quick" GELU,
    x sigmoid(1.702 x)."""

    def __post_init__(self) -> None:
        if self.embed_dim % self.num_heads or (self.embed_dim // self.num_heads) % 4:
            msg = (
                f"expected embed_dim to be num_heads times a multiple of 4, "
                f"got embed_dim {self.embed_dim} and {self.num_heads} heads"
            )
            raise UsageError(msg)

    def __str__(self) -> str:
        positions = f"{self.grid} x {self.grid} positions" if self.positions == "learned" else "rotary positions"
        kind = "a CLIP image tower" if self.clip else "a ViT" if self.layer_scale else "a plain ViT"
        return (
            f"{kind} of width {self.embed_dim}, {self.depth} blocks, patch {self.patch_size}, "
            f"{positions}, {self.num_registers} registers"
        )

    @property
    def head_dim(self) -> int:
        return self.embed_dim // self.num_heads

    @property
    def num_prefix_tokens(self) -> int:
        """P: the class token and the registers; they stand before the patch tokens."""
        return 1 + self.num_registers

    @property
    def register_name(self) -> str:
        """The official name of the registers: DINOv3 calls them storage tokens."""
        return "storage_tokens" if self.positions == "rope" else "register_tokens"

    @property
    def antialias(self) -> bool:
        """Both rules resize the table without antialiasing, and with it where the model has registers."""
        return self.num_registers > 0

    @property
    def offset(self) -> float:
        """Added to the number of patches before it becomes a scale; only the official rule of DINO and DINOv2 without
        registers. The authors of CLIP, DeiT and MAE give no rule: CLIP has that of transformers, the others DINO's."""
        return 0.1 if self.position_rule == "official" and self.num_registers == 0 and not self.clip else 0.0


class ViTOutput(NamedTuple):
    """``tokens`` (B, T, D) after the final norm; ``attention`` maps a block to its (B, heads, T, T) probabilities,
    ``inputs`` one to the tokens (B, T, D) that went into it."""

    tokens: Tensor
    attention: dict[int, Tensor]
    inputs: dict[int, Tensor]


class PatchEmbed(nn.Module):
    """One token per patch: (B, 3, H, W) -> (B, N, D), rows first."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        patch = config.patch_size
        self.proj = nn.Conv2d(3, config.embed_dim, kernel_size=patch, stride=patch, bias=not config.clip)

    def forward(self, images: Tensor) -> Tensor:
        return self.proj(images).flatten(2).transpose(1, 2)


class Attention(nn.Module):
    """Multi-head self-attention with one fused projection for queries, keys and values."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.qkv = nn.Linear(config.embed_dim, 3 * config.embed_dim)
        self.proj = nn.Linear(config.embed_dim, config.embed_dim)

    def forward(
        self,
        tokens: Tensor,
        rotation: Rotation | None,
        keep_map: bool,
        num_queries: int,
        allowed: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """The first ``num_queries`` tokens (B, Q, D) after looking at all T tokens, or where ``allowed`` (B, 1, Q, T).

        Where asked with the attention map (B, heads, Q, T), in float32 and with its graph.
        """
        batch, length, width = tokens.shape
        if num_queries == 1 and allowed is None and not keep_map and has_parts(self.qkv):
            return self.proj(first_token_mixed(tokens, self.qkv, self.num_heads, rotation)), None
        qkv = self.qkv(tokens).reshape(batch, length, 3, self.num_heads, width // self.num_heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        if rotation is not None:
            query, key = rotate(query, *rotation), rotate(key, *rotation)
        query = query[:, :, :num_queries]
        if keep_map:
            scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
            scores = scores if allowed is None else scores.masked_fill(~allowed, -math.inf)
            attention = scores.float().softmax(dim=-1)
            mixed = attention.to(value.dtype) @ value
        else:
            attention = None
            mixed = attend(query, key, value, allowed)
        return self.proj(mixed.transpose(1, 2).reshape(batch, num_queries, width)), attention


def attend(query: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None = None) -> Tensor:
    """Softmax attention, (B, heads, Q, head_dim), with the fused kernel; only where ``allowed``, if given.

    bfloat16 on a CPU is computed in float32: more exact, and torch's bfloat16 kernel is slower there, in the backward
    pass several times (``benchmarks/speed.md``).
    """
    if query.device.type != "cpu" or query.dtype != torch.bfloat16:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=allowed)
    with torch.autocast("cpu", enabled=False):
        mixed = F.scaled_dot_product_attention(query.float(), key.float(), value.float(), attn_mask=allowed)
    return mixed.to(query.dtype)


class Mlp(nn.Module):
    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.embed_dim, MLP_RATIO * config.embed_dim)
        self.fc2 = nn.Linear(MLP_RATIO * config.embed_dim, config.embed_dim)
        self.activation = quick_gelu if config.clip else F.gelu

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc2(self.activation(self.fc1(tokens)))


def quick_gelu(values: Tensor) -> Tensor:
    """CLIP's approximation of the GELU."""
    return values * torch.sigmoid(1.702 * values)


class LayerScale(nn.Module):
    """One learned factor per channel."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(config.embed_dim))

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens * self.gamma


class Block(nn.Module):
    """x + ls1(attn(norm1(x))), then x + ls2(mlp(norm2(x))), of the first ``num_queries`` tokens."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.embed_dim, eps=config.norm_eps)
        self.attn = Attention(config)
        self.ls1 = LayerScale(config) if config.layer_scale else nn.Identity()
        self.norm2 = nn.LayerNorm(config.embed_dim, eps=config.norm_eps)
        self.mlp = Mlp(config)
        self.ls2 = LayerScale(config) if config.layer_scale else nn.Identity()

    def forward(
        self,
        tokens: Tensor,
        rotation: Rotation | None,
        keep_map: bool,
        num_queries: int,
        allowed: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        mixed, attention = self.attn(self.norm1(tokens), rotation, keep_map, num_queries, allowed)
        tokens = tokens[:, :num_queries] + self.ls1(mixed)
        return tokens + self.ls2(self.mlp(self.norm2(tokens))), attention


class VisionTransformer(FrozenNetwork):
    """DINOv2, DINOv3, a plain ViT or CLIP, by its :class:`ViTConfig`. Tokens come as class token, registers, patches
    (rows first)."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__(config)
        width = config.embed_dim
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        if config.positions == "learned":
            self.pos_embed = nn.Parameter(torch.zeros(1, 1 + config.grid**2, width))
        if config.num_registers:
            self.register_parameter(config.register_name, nn.Parameter(torch.zeros(1, config.num_registers, width)))
        self.patch_embed = PatchEmbed(config)
        self.ln_pre = nn.LayerNorm(width, eps=config.norm_eps) if config.clip else nn.Identity()
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width, eps=config.norm_eps)
        self._resized = ParameterCache(REMEMBERED_SIZES)

    @property
    def block_paths(self) -> tuple[str, ...]:
        """Paths of the blocks, in order."""
        return tuple(f"blocks.{index}" for index in range(self.config.depth))

    @property
    def closing_paths(self) -> tuple[str, ...]:
        """The final norm."""
        return ("norm",)

    @overload
    def forward(
        self,
        start: Tensor | TrunkTokens,
        *,
        attention_blocks: Collection[int] = (),
        input_blocks: Collection[int] = (),
        class_token_only: bool = False,
        seam: int | None = None,
    ) -> ViTOutput: ...

    @overload
    def forward(self, start: Tensor | TrunkTokens, *, stop: int) -> TrunkTokens: ...

    def forward(
        self,
        start: Tensor | TrunkTokens,
        *,
        attention_blocks: Collection[int] = (),
        input_blocks: Collection[int] = (),
        class_token_only: bool = False,
        seam: int | None = None,
        stop: int | None = None,
    ) -> ViTOutput | TrunkTokens:
        """Encode normalised images, or go on from tokens of the trunk.

        Args:
            start: (B, 3, H, W), already normalised with the backbone's mean and standard deviation; or what a call with
                ``stop`` gave, in any precision.
            attention_blocks: blocks (from 0) whose attention maps are returned; those blocks compute the softmax
                explicitly, with the same tokens and with gradients with respect to the maps.
            input_blocks: blocks whose input is returned, for what reads the image without being read by it.
            class_token_only: return tokens (B, 1, D): the same class token, but what the last block would compute for
                the other tokens is left out (its attention map, where asked for, is whole).
            seam: a block whose input is rounded to float16.
            stop: return the tokens as they go into this block instead.

        Raises:
            UsageError: H or W is not a multiple of the patch size, or a block does not exist.
        """
        unknown = sorted({*attention_blocks, *input_blocks} - set(range(self.config.depth)))
        if unknown:
            raise UsageError(f"blocks are 0 to {self.config.depth - 1} in this backbone, got {unknown}")
        tokens, first, (rows, columns) = start if isinstance(start, TrunkTokens) else self._before_blocks(start)
        tokens = tokens.float() if tokens.dtype == SEAM_DTYPE else tokens
        rotation = self.rotation(rows, columns, tokens.device)
        attention: dict[int, Tensor] = {}
        inputs: dict[int, Tensor] = {}
        for index in range(first, self.config.depth if stop is None else stop):
            if index == seam:
                tokens = rounded(tokens)
            if index in input_blocks:
                inputs[index] = tokens
            keep_map = index in attention_blocks
            narrow = class_token_only and not keep_map and index == self.config.depth - 1
            tokens, probabilities = self.blocks[index](tokens, rotation, keep_map, 1 if narrow else tokens.shape[1])
            if probabilities is not None:
                attention[index] = probabilities
        if stop is not None:
            return TrunkTokens(tokens, stop, (rows, columns))
        return ViTOutput(self.norm(tokens[:, :1] if class_token_only else tokens), attention, inputs)

    def rotation(self, rows: int, columns: int, device: torch.device) -> Rotation | None:
        """What the blocks turn the patch tokens of a grid by; None with a learned table."""
        if self.config.positions != "rope":
            return None
        return rope_rotation(rows, columns, self.config.head_dim, device)

    def _before_blocks(self, images: Tensor) -> TrunkTokens:
        rows, columns = check_images(images, self.patch_size)
        return TrunkTokens(self.ln_pre(self._embed(images, rows, columns)), 0, (rows, columns))

    def _embed(self, images: Tensor, rows: int, columns: int) -> Tensor:
        """(B, 3, H, W) -> (B, T, D): patches and class token with their positions, registers without."""
        batch = images.shape[0]
        tokens = torch.cat([self.cls_token.expand(batch, -1, -1), self.patch_embed(images)], dim=1)
        if self.config.positions == "learned":
            tokens = tokens + self._positions(rows, columns)
        if not self.config.num_registers:
            return tokens
        registers = getattr(self, self.config.register_name).expand(batch, -1, -1)
        return torch.cat([tokens[:, :1], registers, tokens[:, 1:]], dim=1)

    def _positions(self, rows: int, columns: int) -> Tensor:
        """The table at this size, (1, 1 + rows * columns, D)."""
        table = self.pos_embed
        if (table.requires_grad and torch.is_grad_enabled()) or torch.compiler.is_compiling():
            return self._resize(table, rows, columns)
        return self._resized.get((rows, columns), table, lambda frozen: self._resize(frozen, rows, columns))

    def _resize(self, table: Tensor, rows: int, columns: int) -> Tensor:
        config = self.config
        rule = {"grid": config.grid, "offset": config.offset, "antialias": config.antialias}
        return resize_positions(table, rows, columns, **rule)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        self._resized.forget()
        return super()._apply(fn, recurse)


def empty_vit(config: ViTConfig) -> VisionTransformer:
    """The module without memory for its weights, for ``load_state_dict(..., assign=True)``; draws nothing at random."""
    with torch.device("meta"):
        return VisionTransformer(config)


def random_vit(config: ViTConfig, seed: int = 0) -> VisionTransformer:
    """A network of random float32 weights that depend on ``config`` and ``seed`` alone, not on the global generator.

    Every tensor is random, so that a test notices when one is left out; the key bias of DINOv3 is zero, as released.
    """
    generator = torch.Generator().manual_seed(seed)
    module = empty_vit(config)
    norms = {f"{path}.weight" for path, part in module.named_modules() if isinstance(part, nn.LayerNorm)}
    weights: dict[str, Tensor] = {}
    for name, parameter in module.named_parameters():
        is_factor = name in norms or name.endswith("gamma")
        noise = 0.02 * torch.randn(parameter.shape, generator=generator)
        weights[name] = 1 + noise if is_factor else noise
        if config.positions == "rope" and name.endswith("attn.qkv.bias"):
            weights[name][config.embed_dim : 2 * config.embed_dim] = 0
    module.load_state_dict(weights, assign=True)
    return module
