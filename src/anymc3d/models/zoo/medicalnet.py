"""MedicalNet's 3D ResNet-50 (Chen et al. 2019, arXiv 1904.00625; docs/methods.md), with its published parameter names.

Stages 3 and 4 keep the resolution and dilate instead. Libraries that load the same weights into a ResNet whose last
stages have stride 2 have the same parameters and another function.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from anymc3d.models.zoo.entry import ZooEntry
from anymc3d.models.zoo.pretrained import FROZEN, STRATEGIES, PretrainedClassifier, Strategy
from anymc3d.models.zoo.resnet import STAGE_WIDTHS, ResNet, ResNetConfig
from anymc3d.models.zoo.volumes import Axes, Sizes, in_order

TARGETS = ("conv1", "conv2", "conv3")
"""Every convolution but those of the four shortcuts: only so the adapters have the printed 1.14 M with the head."""


class MedicalNet(ResNet):
    """Volumes (B, 1, S, H, W) of any size -> embeddings (B, 2048), the mean over space.

    The published weights saw depth, height, width: slices first, then y, then x.
    """

    sizes = Sizes()
    axes: Axes = "zyx"

    def __init__(self, *, depths: Sequence[int] = (3, 4, 6, 3), widths: Sequence[int] = STAGE_WIDTHS) -> None:
        super().__init__(
            ResNetConfig(
                dims=3,
                block="bottleneck",
                depths=depths,
                in_channels=1,
                widths=widths,
                strides=(1, 2, 1, 1),
                dilations=(1, 1, 2, 4),
            )
        )

    def forward(self, volume: Tensor) -> Tensor:
        return super().forward(in_order(volume, self.axes)).flatten(2).mean(dim=2)


def medicalnet(
    num_logits: int, generator: torch.Generator, *, strategy: Strategy, encoder: MedicalNet | None = None
) -> PretrainedClassifier:
    """MedicalNet ResNet-50 with a head; ``encoder`` for tests."""
    encoder = MedicalNet() if encoder is None else encoder
    return PretrainedClassifier(encoder, num_logits, strategy=strategy, targets=TARGETS, generator=generator)


def _entry(strategy: Strategy) -> ZooEntry:
    return ZooEntry(
        name=f"medicalnet-{strategy}",
        title=f"MedicalNet ResNet-50, {STRATEGIES[strategy]}",
        builder=lambda logits, _, generator: medicalnet(logits, generator, strategy=strategy),
        kind="volume",
        weights="MedicalNet resnet_50_23dataset.pth",
        licence="MIT (MedicalNet)",
        citation="Chen et al. 2019, Med3D: transfer learning for 3D medical image analysis, arXiv 1904.00625",
        channels=(1,),
        sizes=MedicalNet.sizes,
        axes=MedicalNet.axes,
        axes_source='Tencent/MedicalNet, datasets/brains18.py: "transposed the data from WHD format to DHW"',
        revision=2,
        notes=f"dilated last stages, as official; {FROZEN}",
    )


ENTRIES = tuple(_entry(strategy) for strategy in STRATEGIES)
