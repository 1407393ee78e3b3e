"""DenseNet-121 in 3D (Huang et al. 2017, arXiv 1608.06993; docs/methods.md), with MONAI's parameter names."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from anymc3d.models.zoo.entry import SCRATCH, ZooEntry
from anymc3d.models.zoo.volumes import Sizes, check_whole

DEPTHS_121 = (6, 12, 24, 16)
BOTTLENECK = 4


class DenseLayer(nn.Module):
    """BN, ReLU, convolution of 1, BN, ReLU, convolution of 3; the result is appended to the input."""

    def __init__(self, width_in: int, growth: int) -> None:
        super().__init__()
        inner = BOTTLENECK * growth
        self.layers = nn.Sequential(
            OrderedDict(
                norm1=nn.BatchNorm3d(width_in),
                relu1=nn.ReLU(),
                conv1=nn.Conv3d(width_in, inner, 1, bias=False),
                norm2=nn.BatchNorm3d(inner),
                relu2=nn.ReLU(),
                conv2=nn.Conv3d(inner, growth, 3, padding=1, bias=False),
            )
        )

    def forward(self, maps: Tensor) -> Tensor:
        return torch.cat([maps, self.layers(maps)], dim=1)


class DenseNet(nn.Module):
    """Volume (B, C, S, H, W) -> logits (B, K).

    Sides below 32 are padded with zeros on both sides: the network halves five times. Larger ones may have any length.
    """

    sizes = Sizes(rule="pad", least=(32, 32, 32))

    def __init__(
        self,
        num_logits: int,
        in_channels: int,
        *,
        depths: Sequence[int] = DEPTHS_121,
        growth: int = 32,
        stem: int = 64,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        features: OrderedDict[str, nn.Module] = OrderedDict(
            conv0=nn.Conv3d(in_channels, stem, 7, stride=2, padding=3, bias=False),
            norm0=nn.BatchNorm3d(stem),
            relu0=nn.ReLU(),
            pool0=nn.MaxPool3d(3, stride=2, padding=1),
        )
        width = stem
        for stage, depth in enumerate(depths, start=1):
            layers = {f"denselayer{i + 1}": DenseLayer(width + i * growth, growth) for i in range(depth)}
            features[f"denseblock{stage}"] = nn.Sequential(OrderedDict(layers))
            width += depth * growth
            if stage < len(depths):
                features[f"transition{stage}"] = _transition(width)
                width //= 2
        features["norm5"] = nn.BatchNorm3d(width)
        self.features = nn.Sequential(features)
        self.class_layers = nn.Sequential(OrderedDict(relu=nn.ReLU(), out=nn.Linear(width, num_logits)))
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight)
        nn.init.zeros_(self.class_layers.out.bias)

    def forward(self, volume: Tensor, slice_mask: Tensor) -> Tensor:
        """(B, C, S, H, W) and (B, S) -> logits (B, K); refuses padded slices."""
        check_whole(volume, slice_mask, self.in_channels)
        maps = self.class_layers.relu(self.features(self.sizes.fit(volume)))
        return self.class_layers.out(maps.flatten(2).mean(dim=2))


def _transition(width: int) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            norm=nn.BatchNorm3d(width),
            relu=nn.ReLU(),
            conv=nn.Conv3d(width, width // 2, 1, bias=False),
            pool=nn.AvgPool3d(2, stride=2),
        )
    )


ENTRIES = (
    ZooEntry(
        name="densenet121-3d",
        title="3D DenseNet-121",
        builder=lambda logits, channels, _: DenseNet(logits, channels),
        kind="volume",
        weights=SCRATCH,
        licence="Apache-2.0 (MONAI)",
        citation="Huang et al. 2017, Densely connected convolutional networks, CVPR, arXiv 1608.06993",
        sizes=DenseNet.sizes,
    ),
)
