"""DaViT, the image encoder of MedImageInsight: four stages that halve the grid, windows and channels in turn.

Source: MedImageInsight's published code (docs/methods.md) and Ding et al., "DaViT: Dual Attention Vision Transformers",
2022. Parameter names are those of ``image_encoder.*`` in the published file. The network is fully convolutional:
there are no positions, windows are padded where the grid is no multiple of them, and there is no class token: the class
token of the protocol is the feature that upstream classifies with, the normalised mean over the last stage.

Here ``patch_size`` is 32, the stride of the last stage, so that every token of it stands for 32 x 32 whole pixels; at
other sizes the network would run too, but its last row and column would stand for less than the others.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anymc3d.errors import UsageError
from anymc3d.models.backbone_protocol import BackboneOutput
from anymc3d.models.frozen_network import FrozenNetwork
from anymc3d.models.image_size import check_images
from anymc3d.models.vit import attend

MLP_RATIO = 4
STRIDES = (4, 2, 2, 2)
KERNELS = (7, 3, 3, 3)


@dataclass(frozen=True, kw_only=True)
class DaViTConfig:
    """Everything that decides the forward pass, apart from the weights; the default is MedImageInsight."""

    dims: tuple[int, int, int, int] = (256, 512, 1024, 2048)
    """Channels of each stage; the last is D."""
    depths: tuple[int, int, int, int] = (1, 1, 9, 1)
    """Pairs of a spatial and a channel block in each stage."""
    head_dim: int = 32
    """Channels of one head of the window attention, and of one group of the channel attention."""
    window: int = 12
    """Tokens along each side of a window."""

    def __post_init__(self) -> None:
        if min(*self.dims, *self.depths) < 1 or any(dim % self.head_dim for dim in self.dims):
            msg = f"expected at least one pair of blocks a stage and widths that are multiples of {self.head_dim}, "
            raise UsageError(msg + f"got widths {self.dims} and depths {self.depths}")

    def __str__(self) -> str:
        dims, depths = ("-".join(map(str, values)) for values in (self.dims, self.depths))
        return f"a DaViT of widths {dims}, {depths} pairs of blocks, window {self.window}"

    @property
    def embed_dim(self) -> int:
        return self.dims[-1]

    @property
    def patch_size(self) -> int:
        """The stride of the last stage, in pixels."""
        return 32

    @property
    def num_prefix_tokens(self) -> int:
        return 1

    @property
    def depth(self) -> int:
        """No block has a class token that looks at patches."""
        return 0


class ConvEmbed(nn.Module):
    """A strided convolution to the next stage's grid and width: (B, H, W, C) -> (B, H', W', C')."""

    def __init__(self, config: DaViTConfig, stage: int) -> None:
        super().__init__()
        before, after = (3, *config.dims)[stage : stage + 2]
        kernel = KERNELS[stage]
        self.proj = nn.Conv2d(before, after, kernel, stride=STRIDES[stage], padding=kernel // 2)
        self.norm_first = stage > 0
        self.norm = nn.LayerNorm(before if self.norm_first else after)

    def forward(self, grid: Tensor) -> Tensor:
        if self.norm_first:
            grid = self.norm(grid)
        grid = _convolve(self.proj, grid)
        if torch.is_autocast_enabled(grid.device.type):
            grid = grid.float()  # the residual stream keeps full precision
        return grid if self.norm_first else self.norm(grid)


class DepthwiseConv(nn.Module):
    """A 3 x 3 convolution of every channel on its own: how this network knows where a token stands."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dw = nn.Conv2d(width, width, 3, padding=1, groups=width)

    def forward(self, grid: Tensor) -> Tensor:
        return _convolve(self.dw, grid)


class WindowAttention(nn.Module):
    """Self-attention inside windows of ``window`` x ``window`` tokens, without shift and without relative positions."""

    def __init__(self, config: DaViTConfig, width: int) -> None:
        super().__init__()
        self.window, self.head_dim = config.window, config.head_dim
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, grid: Tensor) -> Tensor:
        batch, rows, columns, width = grid.shape
        size = self.window
        # Zeros to the right and below, after the norm; they take part in the attention, as upstream.
        grid = F.pad(grid, (0, 0, 0, -columns % size, 0, -rows % size))
        down, across = grid.shape[1] // size, grid.shape[2] // size
        windows = grid.view(batch, down, size, across, size, width).transpose(2, 3).reshape(-1, size**2, width)
        heads = self.qkv(windows).unflatten(-1, (3, -1, self.head_dim)).permute(2, 0, 3, 1, 4)
        mixed = attend(*heads.unbind(0)).transpose(1, 2).flatten(2)
        merged = self.proj(mixed).view(batch, down, across, size, size, width).transpose(2, 3)
        return merged.reshape(batch, down * size, across * size, width)[:, :rows, :columns]


class ChannelAttention(nn.Module):
    """Attention between the channels of a group, each described by its values at all N tokens; scale N ** -0.5."""

    def __init__(self, config: DaViTConfig, width: int) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, grid: Tensor) -> Tensor:
        qkv = self.qkv(grid.flatten(1, 2)).unflatten(-1, (3, -1, self.head_dim))
        query, key, value = qkv.permute(2, 0, 3, 4, 1).unbind(0)  # each (B, groups, channels, N)
        mixed = attend(query, key, value)
        return self.proj(mixed.permute(0, 3, 1, 2).flatten(2)).view_as(grid)


class Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.ModuleDict(
            {"fc1": nn.Linear(width, MLP_RATIO * width), "fc2": nn.Linear(MLP_RATIO * width, width)}
        )

    def forward(self, grid: Tensor) -> Tensor:
        return self.net["fc2"](F.gelu(self.net["fc1"](grid)))


class Residual(nn.Module):
    """x + fn(norm(x)), or x + fn(x)."""

    def __init__(self, fn: nn.Module, width: int | None = None) -> None:
        super().__init__()
        self.norm = nn.Identity() if width is None else nn.LayerNorm(width)
        self.fn = fn

    def forward(self, grid: Tensor) -> Tensor:
        return grid + self.fn(self.norm(grid))


class SpatialBlock(nn.Module):
    """Convolution, window attention, convolution, MLP."""

    def __init__(self, config: DaViTConfig, width: int) -> None:
        super().__init__()
        self.conv1 = Residual(DepthwiseConv(width))
        self.window_attn = Residual(WindowAttention(config, width), width)
        self.conv2 = Residual(DepthwiseConv(width))
        self.ffn = Residual(Mlp(width), width)

    def forward(self, grid: Tensor) -> Tensor:
        return self.ffn(self.conv2(self.window_attn(self.conv1(grid))))


class ChannelBlock(nn.Module):
    """Convolution, channel attention, convolution, MLP."""

    def __init__(self, config: DaViTConfig, width: int) -> None:
        super().__init__()
        self.conv1 = Residual(DepthwiseConv(width))
        self.channel_attn = Residual(ChannelAttention(config, width), width)
        self.conv2 = Residual(DepthwiseConv(width))
        self.ffn = Residual(Mlp(width), width)

    def forward(self, grid: Tensor) -> Tensor:
        return self.ffn(self.conv2(self.channel_attn(self.conv1(grid))))


class BlockPair(nn.Module):
    def __init__(self, config: DaViTConfig, width: int) -> None:
        super().__init__()
        self.spatial_block = SpatialBlock(config, width)
        self.channel_block = ChannelBlock(config, width)

    def forward(self, grid: Tensor) -> Tensor:
        return self.channel_block(self.spatial_block(grid))


class DaViT(FrozenNetwork):
    """The image encoder; tokens come as class token (the pooled feature), then the last stage, rows first."""

    def __init__(self, config: DaViTConfig) -> None:
        super().__init__(config)
        self.convs = nn.ModuleList(ConvEmbed(config, stage) for stage in range(len(config.dims)))
        self.blocks = nn.ModuleList(
            nn.Sequential(*(BlockPair(config, width) for _ in range(depth)))
            for width, depth in zip(config.dims, config.depths, strict=True)
        )
        self.norms = nn.LayerNorm(config.embed_dim)

    @property
    def block_paths(self) -> tuple[str, ...]:
        """None: each stage has another grid and width, so no one set of tokens is passed from block to block."""
        return ()

    @property
    def closing_paths(self) -> tuple[str, ...]:
        return ()

    @overload
    def forward(
        self, images: Tensor, *, attention_blocks: Collection[int] = (), class_token_only: bool = False
    ) -> BackboneOutput: ...

    @overload
    def forward(self, images: Tensor, *, last_stage: Literal[True]) -> Tensor: ...

    def forward(
        self,
        images: Tensor,
        *,
        attention_blocks: Collection[int] = (),
        class_token_only: bool = False,
        last_stage: bool = False,
    ) -> BackboneOutput | Tensor:
        """Encode normalised images (B, 3, H, W); see :class:`anymc3d.models.backbone_protocol.Backbone`.

        With ``last_stage`` return the tokens of the last stage before mean and norm instead, (B, N, D), rows first.

        Raises:
            UsageError: H or W is not a multiple of 32, or attention maps are asked for.
        """
        check_images(images, self.patch_size)
        if len(attention_blocks):
            raise UsageError("a DaViT has no class token that looks at patches, so it has no attention maps")
        grid = images.permute(0, 2, 3, 1)
        for embed, blocks in zip(self.convs, self.blocks, strict=True):
            grid = blocks(embed(grid))
        tokens = grid.flatten(1, 2)
        if last_stage:
            return tokens
        pooled = self.pool(tokens)
        return BackboneOutput(pooled if class_token_only else torch.cat([pooled, self.norms(tokens)], dim=1), {})

    def pool(self, tokens: Tensor) -> Tensor:
        """Tokens of the last stage (B, N, D) -> the class token (B, 1, D)."""
        return self.norms(tokens.mean(dim=1, keepdim=True))


def _convolve(convolution: nn.Conv2d, grid: Tensor) -> Tensor:
    """A convolution on channels-last data: (B, H, W, C) -> (B, H', W', C')."""
    return convolution(grid.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
