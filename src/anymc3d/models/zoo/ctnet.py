"""CT-Net (Draelos et al. 2021, Medical image analysis; docs/methods.md), with its published parameter names.

Triplets of slices through ResNet-18; the feature maps of all triplets are one volume, with a channel for each triplet,
that three 3D convolutions make small; three linear maps.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from anymc3d.models.zoo.entry import ZooEntry
from anymc3d.models.zoo.recipe import Recipe
from anymc3d.models.zoo.resnet import STAGE_WIDTHS, ResNet, ResNetConfig
from anymc3d.models.zoo.volumes import Size, Sizes, check_whole

SIZE: Size = (402, 420, 420)
IMAGENET_GRAY_MEAN = 0.449


class CTNet(nn.Module):
    """Volume (B, 1, S, H, W) of a window from -1000 to 200 HU -> logits (B, K).

    Every volume is cropped or padded to ``size`` around its centre, padded with its lowest value. The published size
    gives 134 triplets and 7200 features; ``size`` (a multiple of three slices, at least 161 pixels) and ``widths`` (the
    last at least 53) can be made smaller for tests.
    """

    def __init__(self, num_logits: int, *, size: Size = SIZE, widths: Sequence[int] = STAGE_WIDTHS) -> None:
        super().__init__()
        self.sizes = fixed_size(size)
        self.num_triplets = size[0] // 3
        config = ResNetConfig(dims=2, block="basic", depths=(2, 2, 2, 2), in_channels=3, widths=widths)
        self.features = nn.Sequential(*ResNet(config).children())
        self.reducingconvs = nn.Sequential(
            nn.Conv3d(self.num_triplets, 64, (3, 3, 3), stride=(3, 1, 1)),
            nn.ReLU(),
            nn.Conv3d(64, 32, (3, 3, 3), stride=(3, 1, 1)),
            nn.ReLU(),
            nn.Conv3d(32, 16, (3, 2, 2), stride=(3, 2, 2)),
            nn.ReLU(),
        )
        rows, columns = (reduced_side(side) for side in size[1:])
        self.classifier = nn.Sequential(
            nn.Linear(16 * (widths[-1] // 27) * rows * columns, 128),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(128, 96),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(96, num_logits),
        )

    def forward(self, volume: Tensor, slice_mask: Tensor) -> Tensor:
        """(B, 1, S, H, W) and (B, S) -> logits (B, K); refuses padded slices."""
        check_whole(volume, slice_mask, 1)
        slices = self.sizes.fit(volume)[:, 0] - IMAGENET_GRAY_MEAN
        maps = self.features(slices.unflatten(1, (self.num_triplets, 3)).flatten(0, 1))
        reduced = self.reducingconvs(maps.unflatten(0, (len(volume), self.num_triplets)))
        return self.classifier(reduced.flatten(1))


def reduced_side(side: int) -> int:
    """Pixels left of a side: ResNet halves five times (up), two convolutions take 2 each, the last halves."""
    return (-(-side // 32) - 4) // 2


def fixed_size(size: Size) -> Sizes:
    """Everything is cropped or padded to this size."""
    return Sizes(rule="crop or pad", fixed=size, fill="its lowest value")


ENTRIES = (
    ZooEntry(
        name="ct-net",
        title="CT-Net",
        builder=lambda logits, _, __: CTNet(logits),
        kind="volume",
        weights="ResNet-18 of ImageNet, the rest from scratch",
        licence="MIT (CT-Net)",
        citation="Draelos et al. 2021, Machine-learning-based multiple abnormality prediction with large-scale chest "
        "computed tomography volumes, Medical Image Analysis, arXiv 2002.04752",
        channels=(1,),
        sizes=fixed_size(SIZE),
        recipe=Recipe(optimizer="sgd", lr=1e-3, momentum=0.99, weight_decay=1e-7, loss="cross-entropy"),
        notes="made for a window from -1000 to 200 HU",
    ),
)
