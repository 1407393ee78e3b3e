"""The encoder of MONAI's Swin UNETR, version 2, on which VoCo publishes its weights (docs/methods.md).

Hatamizadeh et al. 2022 (arXiv 2201.01266), Wu et al. 2024 (arXiv 2402.17300). Maps are (B, S, H, W, C) inside. Names
are the published ones: ``swinViT.*`` and ``encoder10.*``.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from anymc3d.models.zoo.entry import ZooEntry
from anymc3d.models.zoo.pretrained import FROZEN, STRATEGIES, PretrainedClassifier, Strategy
from anymc3d.models.zoo.volumes import Axes, Size, Sizes, in_order

WINDOW = 7
TARGETS = ("attn.qkv", "attn.proj")
"""The attention of all blocks, not the patch embedding: 69,120 parameters."""


class Attention(nn.Module):
    """Self-attention inside windows, with a learned bias for every offset of two voxels."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * WINDOW - 1) ** 3, num_heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.register_buffer("relative_position_index", relative_positions())
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, windows: Tensor, mask: Tensor | None) -> Tensor:
        """(B * windows, N, C) and what is added to the scores, (windows, N, N) -> the same shape as the windows."""
        total, length, width = windows.shape
        qkv = self.qkv(windows).reshape(total, length, 3, self.num_heads, width // self.num_heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        # Windows smaller than 7 (at the coarse stages) take the first rows of the index of 7, as published.
        index = self.relative_position_index[:length, :length].flatten()
        bias = self.relative_position_bias_table[index].view(1, length, length, -1).permute(0, 3, 1, 2)
        if mask is not None:
            bias = bias + mask.repeat(total // len(mask), 1, 1).unsqueeze(1)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=bias.to(query.dtype))
        return self.proj(mixed.transpose(1, 2).reshape(total, length, width))


class Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear1, self.linear2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, maps: Tensor) -> Tensor:
        return self.linear2(nn.functional.gelu(self.linear1(maps)))


class Block(nn.Module):
    """Pre-norm window attention and feed-forward part; every second block shifts its windows by half of one."""

    def __init__(self, width: int, num_heads: int, *, is_shifted: bool) -> None:
        super().__init__()
        self.is_shifted = is_shifted
        self.norm1, self.attn = nn.LayerNorm(width), Attention(width, num_heads)
        self.norm2, self.mlp = nn.LayerNorm(width), Mlp(width)

    def forward(self, maps: Tensor) -> Tensor:
        maps = maps + self.attend(self.norm1(maps))
        return maps + self.mlp(self.norm2(maps))

    def attend(self, maps: Tensor) -> Tensor:
        size = tuple(maps.shape[1:4])
        window = tuple(min(side, WINDOW) for side in size)
        # An axis that is no longer than a window is one window and cannot be shifted.
        shift = tuple(WINDOW // 2 if self.is_shifted and side > WINDOW else 0 for side in size)
        whole = tuple(-(-side // length) * length for side, length in zip(size, window, strict=True))
        pads = [amount for side, goal in zip(size[::-1], whole[::-1], strict=True) for amount in (0, goal - side)]
        maps = nn.functional.pad(maps, [0, 0, *pads])
        mask = None
        if any(shift):
            maps = torch.roll(maps, [-step for step in shift], dims=(1, 2, 3))
            mask = shifted_mask(whole, window, shift, maps.device)
        windows = self.attn(split(maps, window), mask)
        maps = join(windows, len(maps), whole, window)
        if any(shift):
            maps = torch.roll(maps, shift, dims=(1, 2, 3))
        return maps[:, : size[0], : size[1], : size[2]]


class Merging(nn.Module):
    """Half the resolution, twice the channels: eight neighbours side by side, norm, one linear map.

    The offsets (slice, row, column) are those the published weights were trained with: two come twice and two of the
    eight are left out. Later releases of MONAI take all eight, so the same weights give other answers there.
    """

    OFFSETS = ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (0, 1, 0), (0, 0, 1), (1, 1, 1))

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.reduction = nn.LayerNorm(8 * width), nn.Linear(8 * width, 2 * width, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        pads = [amount for side in reversed(maps.shape[1:4]) for amount in (0, side % 2)]
        maps = nn.functional.pad(maps, [0, 0, *pads])
        return self.reduction(self.norm(torch.cat([maps[:, s::2, h::2, w::2] for s, h, w in self.OFFSETS], dim=-1)))


class Stage(nn.Module):
    """Blocks, then merging."""

    def __init__(self, width: int, depth: int, num_heads: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, num_heads, is_shifted=index % 2 == 1) for index in range(depth))
        self.downsample = Merging(width)

    def forward(self, maps: Tensor) -> Tensor:
        for block in self.blocks:
            maps = block(maps)
        return self.downsample(maps)


class _Conv(nn.Module):
    """A convolution one level deeper, where the published names have it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(width, width, 3, padding=1, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        return self.conv(maps)


class _ResidualLayer(nn.Module):
    """Two convolutions of 3, each with an instance norm without parameters, and a shortcut; leaky ReLU of 0.01."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = _Conv(width), _Conv(width)

    def forward(self, maps: Tensor) -> Tensor:
        leaky, norm = nn.functional.leaky_relu, nn.functional.instance_norm
        out = leaky(norm(self.conv1(maps)), 0.01)
        return leaky(norm(self.conv2(out)) + maps, 0.01)


class ResidualBlock(nn.Module):
    """Feature maps (B, C, S, H, W) -> the same shape."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = _ResidualLayer(width)

    def forward(self, maps: Tensor) -> Tensor:
        return self.layer(maps)


class _PatchEmbed(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv3d(1, width, 2, stride=2)

    def forward(self, volume: Tensor) -> Tensor:
        return self.proj(volume)


class SwinTransformer(nn.Module):
    """Volumes (B, 1, X, Y, Z) -> feature maps of the last stage, (B, 16 width, X / 32, Y / 32, Z / 32)."""

    def __init__(self, width: int, depths: Sequence[int], num_heads: Sequence[int]) -> None:
        super().__init__()
        self.patch_embed = _PatchEmbed(width)
        for index, (depth, heads) in enumerate(zip(depths, num_heads, strict=True)):
            self.add_module(f"layers{index + 1}", nn.ModuleList([Stage(width << index, depth, heads)]))
        for index in range(len(depths)):
            self.add_module(f"layers{index + 1}c", nn.ModuleList([ResidualBlock(width << index)]))
        self.num_stages = len(depths)

    def forward(self, volume: Tensor) -> Tensor:
        maps = self.patch_embed(volume)
        for index in range(1, self.num_stages + 1):
            maps = self.get_submodule(f"layers{index}c.0")(maps)
            maps = self.get_submodule(f"layers{index}.0")(maps.movedim(1, -1)).movedim(-1, 1)
        return nn.functional.layer_norm(maps.movedim(1, -1), (maps.shape[1],)).movedim(-1, 1)


class VoCoEncoder(nn.Module):
    """Volumes (B, 1, S, H, W) -> embeddings (B, 768): Swin, a residual block, the mean over space.

    The published weights saw (B, 1, X, Y, Z) of volumes in RAS orientation, as MONAI reads them: the slice axis last,
    and so it is put here. Sides that are not multiples of 32 are padded with zeros on both sides; ``sizes`` are (S, H,
    W). The residual block's instance norm needs more than one place, so the least size is 32 x 64 x 64.
    """

    axes: Axes = "xyz"

    sizes = Sizes(rule="pad", least=(32, 64, 64), multiple=(32, 32, 32))

    def __init__(
        self, *, width: int = 48, depths: Sequence[int] = (2, 2, 2, 2), num_heads: Sequence[int] = (3, 6, 12, 24)
    ) -> None:
        super().__init__()
        self.embed_dim = width << len(depths)
        self.swinViT = SwinTransformer(width, depths, num_heads)
        self.encoder10 = ResidualBlock(self.embed_dim)

    def forward(self, volume: Tensor) -> Tensor:
        fitted = in_order(self.sizes.fit(volume), self.axes)
        return self.encoder10(self.swinViT(fitted)).flatten(2).mean(dim=2)


def voco(
    num_logits: int, generator: torch.Generator, *, strategy: Strategy, encoder: VoCoEncoder | None = None
) -> PretrainedClassifier:
    """VoCo's encoder with a head; ``encoder`` for tests. The residual block is used, frozen or not."""
    encoder = VoCoEncoder() if encoder is None else encoder
    return PretrainedClassifier(encoder, num_logits, strategy=strategy, targets=TARGETS, generator=generator)


def relative_positions() -> Tensor:
    """(N, N) with N = 343 voxels of a window: which entry of the table belongs to two of them."""
    axis = torch.arange(WINDOW, device="cpu")
    places = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij")).flatten(1)
    offsets = places[:, :, None] - places[:, None, :] + WINDOW - 1
    span = 2 * WINDOW - 1
    return (offsets[0] * span + offsets[1]) * span + offsets[2]


def split(maps: Tensor, window: Size) -> Tensor:
    """(B, S, H, W, C) -> (B * windows, N, C)."""
    cases, slices, rows, columns, width = maps.shape
    grid = (slices // window[0], window[0], rows // window[1], window[1], columns // window[2], window[2])
    parts = maps.reshape(cases, *grid, width).permute(0, 1, 3, 5, 2, 4, 6, 7)
    return parts.reshape(-1, window[0] * window[1] * window[2], width)


def join(windows: Tensor, cases: int, size: Size, window: Size) -> Tensor:
    """The inverse of :func:`split`: (B * windows, N, C) -> (B, S, H, W, C)."""
    counts = [side // length for side, length in zip(size, window, strict=True)]
    parts = windows.reshape(cases, *counts, *window, -1).permute(0, 1, 4, 2, 5, 3, 6, 7)
    return parts.reshape(cases, *size, -1)


def shifted_mask(size: Size, window: Size, shift: Size, device: torch.device) -> Tensor:
    """(windows, N, N): -100 between voxels that the shift brought into one window from two sides of the volume."""
    regions = torch.zeros(1, *size, 1, device=device)
    cuts = [
        (slice(0, -length), slice(-length, -step), slice(-step, None)) if step else (slice(None),)
        for length, step in zip(window, shift, strict=True)
    ]
    for number, (slices, rows, columns) in enumerate(itertools.product(*cuts)):
        regions[:, slices, rows, columns, :] = number
    of_voxel = split(regions, window).squeeze(-1)
    return (of_voxel[:, None, :] != of_voxel[:, :, None]).float() * -100.0


def _entry(strategy: Strategy) -> ZooEntry:
    return ZooEntry(
        name=f"voco-{strategy}",
        title=f"VoCo Swin encoder, {STRATEGIES[strategy]}",
        builder=lambda logits, _, generator: voco(logits, generator, strategy=strategy),
        kind="volume",
        weights="VoCo VoComni_B.pt",
        licence="Apache-2.0 (Large-Scale-Medical)",
        citation="Wu et al. 2024, VoCo: a volume contrastive learning framework, CVPR, arXiv 2402.17300",
        channels=(1,),
        sizes=VoCoEncoder.sizes,
        axes=VoCoEncoder.axes,
        axes_source="Luffy03/Large-Scale-Medical, Downstream/monai/BTCV/utils/data_utils.py: Orientationd RAS, no "
        "permutation",
        revision=2,
        notes=f"with the residual block encoder10, without the decoder; {FROZEN}",
    )


ENTRIES = tuple(_entry(strategy) for strategy in STRATEGIES)
