"""The paper's decoder: nnU-Net's blocks on the patch tokens of the last block as a pseudo-3D volume.

The slices are at full resolution already, so only the plane is enlarged: four stages of a transposed convolution
(1, 2, 2) and two blocks of 3 x 3 x 3 convolution, instance norm and leaky ReLU, as nnU-Net orders them, at widths 256,
128, 64, 32, 32. The widths are ours (not published). No skip connections, no deep supervision.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from anymc3d.models.decoders.dice_ce import annotated_only, dice_and_cross_entropy
from anymc3d.models.decoders.interface import CaseTokens, MaskTarget, Schedule
from anymc3d.models.number_format import exact_where_shallow

WIDTHS = (256, 128, 64, 32, 32)
SLOPE = 0.01


class NnUNetDecoder(nn.Module):
    """``num_classes``: structures, without the background."""

    blocks: tuple[int, ...] = ()

    def __init__(self, width: int, num_classes: int, generator: torch.Generator) -> None:
        super().__init__()
        self.reduce = nn.Conv3d(width, WIDTHS[0], kernel_size=1)
        self.stages = nn.ModuleList(_Stage(*pair) for pair in pairwise(WIDTHS))
        self.score = nn.Conv3d(WIDTHS[-1], 1 + num_classes, kernel_size=1)
        for module in self.modules():
            if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
                nn.init.kaiming_normal_(module.weight, a=SLOPE, generator=generator)
                nn.init.zeros_(module.bias)

    def forward(self, tokens: CaseTokens, schedule: Schedule | None = None) -> Tensor:
        """Logits (1 + C, S, H, W)."""
        as_it_is, volume = exact_where_shallow(tokens.patches.transpose(0, 1).unsqueeze(0))
        with as_it_is:
            volume = self.reduce(volume)
            for stage in self.stages[:-1]:
                volume = stage(volume, None)
            return self.score(self.stages[-1](volume, tokens.size))[0].float()

    def loss(self, output: Tensor, target: MaskTarget, schedule: Schedule) -> Tensor:
        return dice_and_cross_entropy(*annotated_only(output, target.labels, target.annotated))

    def probabilities(self, output: Tensor, size: tuple[int, int]) -> Tensor:
        return output.softmax(dim=0)


class _Stage(nn.Module):
    """Twice as fine in the plane, then two blocks. Those of the last stage work on the slices' own grid (S, H, W), to
    which four doublings do not lead where the patch is not 16 or does not divide the slices."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.enlarge = nn.ConvTranspose3d(before, after, kernel_size=(1, 2, 2), stride=(1, 2, 2))
        self.blocks = nn.Sequential(*(layer for _ in range(2) for layer in _block(after)))

    def forward(self, volume: Tensor, size: tuple[int, int] | None) -> Tensor:
        volume = self.enlarge(volume)
        return self.blocks(volume if size is None else fit(volume, size))


def _block(width: int) -> tuple[nn.Module, ...]:
    return (
        nn.Conv3d(width, width, kernel_size=3, padding=1),
        nn.InstanceNorm3d(width, eps=1e-5, affine=True),
        nn.LeakyReLU(SLOPE, inplace=True),
    )


def fit(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps (1, K, S, h, w) on the slices (1, K, S, H, W): slice by slice, for between slices is nothing to fill in."""
    if maps.shape[-2:] == size:
        return maps
    slices = interpolate(maps[0].transpose(0, 1), size=size, mode="bilinear", align_corners=False)
    return slices.transpose(0, 1).unsqueeze(0)
