"""ConvNeXt in two and three dimensions (Liu et al. 2022, arXiv 2201.03545; docs/methods.md), with the official names.

Every operation is the 2D one with one more axis: a stem of non-overlapping patches of 4, blocks of a depthwise
convolution, LayerNorm, two linear maps with GELU between them, a factor per channel and a shortcut; LayerNorm and a
convolution of 2 between the stages.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from anymc3d.models.zoo.entry import SCRATCH, ZooEntry
from anymc3d.models.zoo.resnet import CONV
from anymc3d.models.zoo.volumes import Sizes, check_whole

TINY_DEPTHS, SMALL_DEPTHS = (3, 3, 9, 3), (3, 3, 27, 3)
WIDTHS = (96, 192, 384, 768)
EPS = 1e-6


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of feature maps (B, C, ...)."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=EPS)

    def forward(self, maps: Tensor) -> Tensor:
        return super().forward(maps.movedim(1, -1)).movedim(-1, 1)


class Block(nn.Module):
    """Depthwise convolution, LayerNorm, wide, GELU, narrow, factor; left out at random in training (drop path)."""

    def __init__(self, dims: int, width: int, *, kernel: int, drop_path: float) -> None:
        super().__init__()
        self.drop_path = drop_path
        self.dwconv = CONV[dims](width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width, eps=EPS)
        self.pwconv1, self.pwconv2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.gamma = nn.Parameter(torch.full((width,), 1e-6))

    def forward(self, maps: Tensor) -> Tensor:
        out = self.norm(self.dwconv(maps).movedim(1, -1))
        out = self.gamma * self.pwconv2(nn.functional.gelu(self.pwconv1(out)))
        out = out.movedim(-1, 1)
        if self.training and self.drop_path:
            is_kept = torch.rand((len(maps),) + (1,) * (maps.ndim - 1), device=maps.device) >= self.drop_path
            out = out * is_kept / (1 - self.drop_path)
        return maps + out


class ConvNeXt(nn.Module):
    """Images or volumes -> embedding (B, D): feature maps, their mean over space, LayerNorm."""

    def __init__(
        self,
        dims: int,
        in_channels: int,
        *,
        depths: Sequence[int] = TINY_DEPTHS,
        widths: Sequence[int] = WIDTHS,
        kernel: int = 7,
        drop_path: float = 0.1,
    ) -> None:
        super().__init__()
        self.embed_dim = widths[-1]
        conv = CONV[dims]
        self.downsample_layers = nn.ModuleList(
            [nn.Sequential(conv(in_channels, widths[0], 4, stride=4), ChannelNorm(widths[0]))]
        )
        for narrow, wide in itertools.pairwise(widths):
            self.downsample_layers.append(nn.Sequential(ChannelNorm(narrow), conv(narrow, wide, 2, stride=2)))
        rates = iter(torch.linspace(0, drop_path, sum(depths), device="cpu").tolist())
        self.stages = nn.ModuleList(
            nn.Sequential(*(Block(dims, width, kernel=kernel, drop_path=next(rates)) for _ in range(depth)))
            for depth, width in zip(depths, widths, strict=True)
        )
        self.norm = nn.LayerNorm(self.embed_dim, eps=EPS)
        self.apply(initialise)

    def embed(self, images: Tensor) -> Tensor:
        for downsample, stage in zip(self.downsample_layers, self.stages, strict=True):
            images = stage(downsample(images))
        return self.norm(images.flatten(2).mean(dim=2))

    def forward(self, images: Tensor) -> Tensor:
        return self.embed(images)


def initialise(module: nn.Module) -> None:
    """Convolutions and linear maps truncated normal 0.02, biases 0."""
    if isinstance(module, (nn.Conv2d, nn.Conv3d, nn.Linear)):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)


class ConvNeXt3DClassifier(ConvNeXt):
    """Volume (B, C, S, H, W) -> logits (B, K).

    Sides below 32 are padded with zeros. Of longer ones the stem and the steps between the stages leave out what does
    not fill a patch, at most 31 voxels at the end of a side, as the 2D network does.
    """

    sizes = Sizes(rule="pad", least=(32, 32, 32))

    def __init__(
        self,
        num_logits: int,
        in_channels: int,
        *,
        depths: Sequence[int] = TINY_DEPTHS,
        widths: Sequence[int] = WIDTHS,
        kernel: int = 7,
    ) -> None:
        super().__init__(3, in_channels, depths=depths, widths=widths, kernel=kernel)
        self.in_channels = in_channels
        self.head = nn.Linear(self.embed_dim, num_logits)
        initialise(self.head)

    def forward(self, volume: Tensor, slice_mask: Tensor) -> Tensor:
        """(B, C, S, H, W) and (B, S) -> logits (B, K); refuses padded slices."""
        check_whole(volume, slice_mask, self.in_channels)
        return self.head(self.embed(self.sizes.fit(volume)))


ENTRIES = (
    ZooEntry(
        name="convnext-tiny-3d",
        title="3D ConvNeXt-T",
        builder=lambda logits, channels, _: ConvNeXt3DClassifier(logits, channels),
        kind="volume",
        weights=SCRATCH,
        licence="MIT (ConvNeXt)",
        citation="Liu et al. 2022, A ConvNet for the 2020s, CVPR, arXiv 2201.03545",
        sizes=ConvNeXt3DClassifier.sizes,
        notes="the paper names neither size nor kernel: Tiny with 7 x 7 x 7, drop path 0.1",
    ),
)
