"""Residual networks in two and three dimensions, with the parameter names they have everywhere.

He et al. 2016 (arXiv 1512.03385). ``conv1``, ``bn1``, ``layer{1..4}.{i}.conv{j}``, ``.bn{j}``, ``.downsample.{0,1}``,
``fc``: so published weights of 2D networks and of MedicalNet fit by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from anymc3d.models.zoo.entry import SCRATCH, ZooEntry
from anymc3d.models.zoo.volumes import Sizes, check_whole

STAGE_WIDTHS = (64, 128, 256, 512)
CONV = {2: nn.Conv2d, 3: nn.Conv3d}
NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
MAX_POOL = {2: nn.MaxPool2d, 3: nn.MaxPool3d}


@dataclass(frozen=True, kw_only=True)
class ResNetConfig:
    """The shape of a residual network; ``strides`` and ``dilations`` are those of the four stages."""

    dims: Literal[2, 3]
    block: Literal["basic", "bottleneck"]
    depths: Sequence[int]
    in_channels: int
    widths: Sequence[int] = STAGE_WIDTHS
    stem_stride: int = 2
    strides: Sequence[int] = (1, 2, 2, 2)
    dilations: Sequence[int] = (1, 1, 1, 1)
    shortcut_bias: bool = False
    """Whether the convolution in a shortcut has a bias (before its norm, where it changes nothing)."""

    @property
    def embed_dim(self) -> int:
        return self.widths[-1] * (4 if self.block == "bottleneck" else 1)


class BasicBlock(nn.Module):
    """Two convolutions of 3 and the shortcut."""

    expansion = 1

    def __init__(self, config: ResNetConfig, width_in: int, width: int, *, stride: int, dilation: int) -> None:
        super().__init__()
        conv, norm = CONV[config.dims], NORM[config.dims]
        self.conv1 = conv(width_in, width, 3, stride=stride, padding=dilation, dilation=dilation, bias=False)
        self.bn1 = norm(width)
        self.conv2 = conv(width, width, 3, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = norm(width)
        self.downsample = shortcut(config, width_in, width, stride)

    def forward(self, maps: Tensor) -> Tensor:
        out = self.bn1(self.conv1(maps)).relu()
        return (self.bn2(self.conv2(out)) + self.downsample(maps)).relu()


class Bottleneck(nn.Module):
    """Convolutions of 1, 3 and 1, four times as wide at the end, and the shortcut; the 3 has stride and dilation."""

    expansion = 4

    def __init__(self, config: ResNetConfig, width_in: int, width: int, *, stride: int, dilation: int) -> None:
        super().__init__()
        conv, norm = CONV[config.dims], NORM[config.dims]
        self.conv1, self.bn1 = conv(width_in, width, 1, bias=False), norm(width)
        self.conv2 = conv(width, width, 3, stride=stride, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = norm(width)
        self.conv3, self.bn3 = conv(width, 4 * width, 1, bias=False), norm(4 * width)
        self.downsample = shortcut(config, width_in, 4 * width, stride)

    def forward(self, maps: Tensor) -> Tensor:
        out = self.bn1(self.conv1(maps)).relu()
        out = self.bn2(self.conv2(out)).relu()
        return (self.bn3(self.conv3(out)) + self.downsample(maps)).relu()


BLOCKS = {"basic": BasicBlock, "bottleneck": Bottleneck}


def shortcut(config: ResNetConfig, width_in: int, width_out: int, stride: int) -> nn.Module:
    """What a block adds to its result: its input, through a convolution of 1 where shapes differ ("type B")."""
    if stride == 1 and width_in == width_out:
        return nn.Identity()
    conv = CONV[config.dims](width_in, width_out, 1, stride=stride, bias=config.shortcut_bias)
    return nn.Sequential(conv, NORM[config.dims](width_out))


class ResNet(nn.Module):
    """Images (B, C, H, W) or volumes (B, C, S, H, W) -> feature maps of the last stage."""

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        self.embed_dim = config.embed_dim
        stem = config.widths[0]
        self.conv1 = CONV[config.dims](config.in_channels, stem, 7, stride=config.stem_stride, padding=3, bias=False)
        self.bn1, self.relu = NORM[config.dims](stem), nn.ReLU()
        self.maxpool = MAX_POOL[config.dims](3, stride=2, padding=1)
        width_in = stem
        for stage, (depth, width) in enumerate(zip(config.depths, config.widths, strict=True)):
            layer = _stage(config, stage, depth, width_in, width)
            self.add_module(f"layer{stage + 1}", layer)
            width_in = width * BLOCKS[config.block].expansion
        for module in self.modules():
            if isinstance(module, CONV[config.dims]):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        maps = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        return self.layer4(self.layer3(self.layer2(self.layer1(maps))))


def _stage(config: ResNetConfig, stage: int, depth: int, width_in: int, width: int) -> nn.Sequential:
    block, dilation = BLOCKS[config.block], config.dilations[stage]
    blocks = [block(config, width_in, width, stride=config.strides[stage], dilation=dilation)]
    wide = width * block.expansion
    blocks += [block(config, wide, width, stride=1, dilation=dilation) for _ in range(depth - 1)]
    return nn.Sequential(*blocks)


class ResNetClassifier(ResNet):
    """A 3D residual network, the mean over space and one linear map, ``fc``. Takes every size of at least 1 voxel."""

    sizes = Sizes()

    def __init__(self, config: ResNetConfig, num_logits: int) -> None:
        super().__init__(config)
        self.in_channels = config.in_channels
        self.fc = nn.Linear(config.embed_dim, num_logits)

    def forward(self, volume: Tensor, slice_mask: Tensor) -> Tensor:
        """(B, C, S, H, W) and (B, S) -> logits (B, K); refuses padded slices."""
        check_whole(volume, slice_mask, self.in_channels)
        return self.fc(super().forward(volume).flatten(2).mean(dim=2))


def resnet18_3d(num_logits: int, in_channels: int, *, widths: Sequence[int] = STAGE_WIDTHS) -> ResNetClassifier:
    """ResNet-18 in 3D as MONAI has it (bias in the shortcuts); its first convolution has stride 2, which MONAI's
    default has not: at full resolution it would not fit a CT, and the parameters are the same (docs/methods.md)."""
    config = ResNetConfig(
        dims=3, block="basic", depths=(2, 2, 2, 2), in_channels=in_channels, widths=widths, shortcut_bias=True
    )
    return ResNetClassifier(config, num_logits)


ENTRIES = (
    ZooEntry(
        name="resnet18-3d",
        title="3D ResNet-18",
        builder=lambda logits, channels, _: resnet18_3d(logits, channels),
        kind="volume",
        weights=SCRATCH,
        licence="Apache-2.0 (MONAI)",
        citation="He et al. 2016, Deep residual learning for image recognition, CVPR, arXiv 1512.03385",
        sizes=ResNetClassifier.sizes,
        notes="first convolution with stride 2 instead of MONAI's default 1, for memory; same parameters",
    ),
)
