"""EfficientNetV2-S (Tan and Le 2021, arXiv 2104.00298) as converted from TensorFlow, with timm's parameter names.

timm calls it ``tf_efficientnetv2_s``: padding as TensorFlow does it (more at the end), batch norm with epsilon 1e-3,
SiLU. 20,177,488 parameters without classifier, embeddings of 1280.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

EPS = 1e-3
STEM, HEAD_WIDTH = 24, 1280


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Blocks of one kind: ``conv`` one convolution, ``edge`` expansion by a convolution of 3, ``inverted`` expansion by
    1, a depthwise convolution of 3 and squeeze-and-excitation."""

    kind: Literal["conv", "edge", "inverted"]
    depth: int
    stride: int
    expansion: int
    width: int


STAGES = (
    Stage(kind="conv", depth=2, stride=1, expansion=1, width=24),
    Stage(kind="edge", depth=4, stride=2, expansion=4, width=48),
    Stage(kind="edge", depth=4, stride=2, expansion=4, width=64),
    Stage(kind="inverted", depth=6, stride=2, expansion=4, width=128),
    Stage(kind="inverted", depth=9, stride=1, expansion=6, width=160),
    Stage(kind="inverted", depth=15, stride=2, expansion=6, width=256),
)


class SameConv(nn.Conv2d):
    """A convolution without bias padded as TensorFlow's "same": the result has ceil(length / stride) pixels, and of an
    odd number of padded pixels the larger half comes at the end."""

    def __init__(self, width_in: int, width_out: int, kernel: int, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__(width_in, width_out, kernel, stride=stride, groups=groups, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        pads: list[int] = []
        for length, kernel, stride in zip(maps.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            total = max((-(-length // stride) - 1) * stride + kernel - length, 0)
            pads += [total // 2, total - total // 2]
        return super().forward(nn.functional.pad(maps, pads) if any(pads) else maps)


class SqueezeExcite(nn.Module):
    """Each channel times a factor in (0, 1) that two small maps make from the means of all channels."""

    def __init__(self, width: int, reduced: int) -> None:
        super().__init__()
        self.conv_reduce, self.conv_expand = nn.Conv2d(width, reduced, 1), nn.Conv2d(reduced, width, 1)

    def forward(self, maps: Tensor) -> Tensor:
        means = nn.functional.silu(self.conv_reduce(maps.mean(dim=(2, 3), keepdim=True)))
        return maps * self.conv_expand(means).sigmoid()


class ConvBlock(nn.Module):
    """Convolution, norm, SiLU."""

    def __init__(self, width_in: int, stage: Stage, stride: int) -> None:
        super().__init__()
        self.conv, self.bn1 = SameConv(width_in, stage.width, 3, stride=stride), _norm(stage.width)

    def forward(self, maps: Tensor) -> Tensor:
        return _with_shortcut(maps, nn.functional.silu(self.bn1(self.conv(maps))))


class EdgeBlock(nn.Module):
    """Wide by a convolution of 3, narrow by one of 1."""

    def __init__(self, width_in: int, stage: Stage, stride: int) -> None:
        super().__init__()
        wide = width_in * stage.expansion
        self.conv_exp, self.bn1 = SameConv(width_in, wide, 3, stride=stride), _norm(wide)
        self.conv_pwl, self.bn2 = SameConv(wide, stage.width, 1), _norm(stage.width)

    def forward(self, maps: Tensor) -> Tensor:
        wide = nn.functional.silu(self.bn1(self.conv_exp(maps)))
        return _with_shortcut(maps, self.bn2(self.conv_pwl(wide)))


class InvertedBlock(nn.Module):
    """Wide, depthwise, squeeze-and-excitation with a quarter of the block's own width, narrow."""

    def __init__(self, width_in: int, stage: Stage, stride: int) -> None:
        super().__init__()
        wide = width_in * stage.expansion
        self.conv_pw, self.bn1 = SameConv(width_in, wide, 1), _norm(wide)
        self.conv_dw, self.bn2 = SameConv(wide, wide, 3, stride=stride, groups=wide), _norm(wide)
        self.se = SqueezeExcite(wide, width_in // 4)
        self.conv_pwl, self.bn3 = SameConv(wide, stage.width, 1), _norm(stage.width)

    def forward(self, maps: Tensor) -> Tensor:
        wide = nn.functional.silu(self.bn1(self.conv_pw(maps)))
        wide = self.se(nn.functional.silu(self.bn2(self.conv_dw(wide))))
        return _with_shortcut(maps, self.bn3(self.conv_pwl(wide)))


BLOCKS = {"conv": ConvBlock, "edge": EdgeBlock, "inverted": InvertedBlock}


class EfficientNet(nn.Module):
    """Images (B, C, H, W) -> embeddings (B, D)."""

    def __init__(
        self,
        in_channels: int = 3,
        *,
        stages: Sequence[Stage] = STAGES,
        stem: int = STEM,
        embed_dim: int = HEAD_WIDTH,
    ) -> None:
        super().__init__()
        self.embed_dim = embed_dim
        self.conv_stem, self.bn1 = SameConv(in_channels, stem, 3, stride=2), _norm(stem)
        blocks, width = [], stem
        for stage in stages:
            block = BLOCKS[stage.kind]
            first = block(width, stage, stage.stride)
            blocks.append(nn.Sequential(first, *(block(stage.width, stage, 1) for _ in range(stage.depth - 1))))
            width = stage.width
        steps = [stage.stride > 1 for stage in stages[1:]]
        self._ends = [*steps, True]
        self.widths = [stage.width for stage, is_last in zip(stages, self._ends, strict=True) if is_last]
        self.blocks = nn.Sequential(*blocks)
        self.conv_head, self.bn2 = SameConv(width, embed_dim, 1), _norm(embed_dim)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        return self.pool(self.blocks(nn.functional.silu(self.bn1(self.conv_stem(images)))))

    def pool(self, maps: Tensor) -> Tensor:
        """The last feature maps (B, width, h, w) -> embeddings (B, D)."""
        return nn.functional.silu(self.bn2(self.conv_head(maps))).mean(dim=(2, 3))

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """The last feature maps at each resolution, at 1/2, 1/4, ... of the image; ``widths`` are their channels."""
        maps, pyramid = nn.functional.silu(self.bn1(self.conv_stem(images))), []
        for block, is_last in zip(self.blocks, self._ends, strict=True):
            maps = block(maps)
            if is_last:
                pyramid.append(maps)
        return pyramid


def repeated_stem(weight: Tensor, channels: int) -> Tensor:
    """Published weights of the first convolution (O, 3, k, k) for another number of channels (O, channels, k, k).

    They are repeated and divided so that equal channels give the answer that three equal ones gave, as timm does.
    """
    repeated = weight.repeat(1, -(-channels // weight.shape[1]), 1, 1)[:, :channels]
    return repeated * (weight.shape[1] / channels)


def _norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, eps=EPS)


def _with_shortcut(maps: Tensor, out: Tensor) -> Tensor:
    return maps + out if maps.shape == out.shape else out
