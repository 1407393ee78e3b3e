"""M3T, slices of three planes through a 2D network and a transformer (Jang and Hwang 2022, CVPR; docs/methods.md).

Written from the description of the public code, which is under the GPL and of which nothing was copied; no weights are
published, so parameter names are our own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from anymc3d.models.zoo.entry import ZooEntry
from anymc3d.models.zoo.resnet import STAGE_WIDTHS, ResNet, ResNetConfig
from anymc3d.models.zoo.volumes import Sizes, check_whole

WIDTH, HEADS, HIDDEN = 256, 8, 512
MAP_CHANNELS = 32


class Attention(nn.Module):
    """Multi-head self-attention in which the softmax is divided by the root of the width, as the public code has it;
    with ``fix_scaling`` the scores are divided before the softmax, as everywhere else."""

    def __init__(self, *, fix_scaling: bool) -> None:
        super().__init__()
        self.fix_scaling = fix_scaling
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, tokens: Tensor) -> Tensor:
        cases, length, _ = tokens.shape
        # One row of the fused map holds (head, element of the head, query or key or value).
        parts = self.qkv(tokens).reshape(cases, length, HEADS, WIDTH // HEADS, 3)
        query, key, value = parts.permute(4, 0, 2, 1, 3)
        scores, factor = query @ key.transpose(-2, -1), 1 / math.sqrt(WIDTH)
        attention = (scores * factor).softmax(dim=-1) if self.fix_scaling else scores.softmax(dim=-1) * factor
        return self.proj((attention @ value).transpose(1, 2).reshape(cases, length, WIDTH))


class Layer(nn.Module):
    """Pre-norm attention and feed-forward part, each with a shortcut."""

    def __init__(self, *, fix_scaling: bool) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(WIDTH), Attention(fix_scaling=fix_scaling)
        self.norm2 = nn.LayerNorm(WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, WIDTH))

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attention(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))


class M3T(nn.Module):
    """Volume (B, C, S, H, W) -> logits (B, K).

    The network knows one size, a cube of 128 voxels; every other volume is resized to it (trilinear). ``side``, the
    number of layers and the 2D network can be made smaller for tests.
    """

    def __init__(
        self,
        num_logits: int,
        in_channels: int,
        *,
        side: int = 128,
        num_layers: int = 8,
        depths: Sequence[int] = (3, 4, 6, 3),
        widths: Sequence[int] = STAGE_WIDTHS,
        fix_scaling: bool = False,
    ) -> None:
        super().__init__()
        self.in_channels, self.side = in_channels, side
        self.sizes = fixed_cube(side)
        self.cnn_3d = nn.Sequential(
            nn.Conv3d(in_channels, MAP_CHANNELS, 5, padding=2),
            nn.BatchNorm3d(MAP_CHANNELS),
            nn.ReLU(),
            nn.Conv3d(MAP_CHANNELS, MAP_CHANNELS, 5, padding=2),
            nn.BatchNorm3d(MAP_CHANNELS),
            nn.ReLU(),
        )
        config = ResNetConfig(dims=2, block="bottleneck", depths=depths, in_channels=MAP_CHANNELS, widths=widths)
        self.cnn_2d = ResNet(config)
        self.project = nn.Sequential(nn.Linear(config.embed_dim, 512), nn.ReLU(), nn.Linear(512, WIDTH))
        self.class_token = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.separator = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.planes = nn.Parameter(torch.randn(3, WIDTH))
        self.positions = nn.Parameter(torch.randn(1, 3 * side + 4, WIDTH))
        self.layers = nn.Sequential(*(Layer(fix_scaling=fix_scaling) for _ in range(num_layers)))
        self.linear = nn.Linear(WIDTH, num_logits)

    def forward(self, volume: Tensor, slice_mask: Tensor) -> Tensor:
        """(B, C, S, H, W) and (B, S) -> logits (B, K); refuses padded slices."""
        check_whole(volume, slice_mask, self.in_channels)
        tokens = self.tokens(self.cnn_3d(self.sizes.fit(volume)) ** 2)
        return self.linear(self.layers(tokens)[:, 0])

    def tokens(self, maps: Tensor) -> Tensor:
        """Feature maps (B, 32, S, H, W) -> class token, coronal, separator, sagittal, separator, axial, separator.

        Of axial slices H runs from left to right and W from back to front: slices across W are coronal, across H
        sagittal. A plane's embedding is added to its slices and to the separator behind it, coronal's to the class
        token too.
        """
        parts = [self.class_token.expand(len(maps), -1, -1)]
        for axis in (4, 3, 2):
            slices = maps.movedim(axis, 1).flatten(0, 1)
            embeddings = self.project(self.cnn_2d(slices).mean(dim=(2, 3)))
            parts += [embeddings.unflatten(0, (len(maps), self.side)), self.separator.expand(len(maps), -1, -1)]
        lengths = torch.tensor([self.side + 2, self.side + 1, self.side + 1], device=maps.device)
        return torch.cat(parts, dim=1) + self.planes.repeat_interleave(lengths, dim=0) + self.positions


def fixed_cube(side: int) -> Sizes:
    """Everything is resized to a cube of this many voxels a side."""
    return Sizes(rule="resize", fixed=(side, side, side))


ENTRIES = (
    ZooEntry(
        name="m3t",
        title="M3T",
        builder=lambda logits, channels, _: M3T(logits, channels),
        kind="volume",
        weights="ResNet-50 of ImageNet except its first convolution, the rest from scratch",
        licence="GPL-3.0 (M3T; written anew from a description)",
        citation="Jang and Hwang 2022, M3T: three-dimensional medical image classifier using multi-plane and "
        "multi-slice transformer, CVPR",
        sizes=fixed_cube(128),
        notes="attention is divided after the softmax, as in the public code",
    ),
)
