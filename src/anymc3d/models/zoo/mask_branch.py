"""What the RSNA 2023 winner draws masks with beside the classifier: two 2D U-Nets on its encoders' feature maps, and
their loss (docs/methods.md).

A branch is called with the pyramid of an encoder (finest first) and the size of the slices, and gives one map per
structure; structures may overlap. It exists in training alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from anymc3d.models.decoders.interface import MaskTarget
from anymc3d.models.zoo.objective import Branch

EPS = 1e-7
Size = tuple[int, int]


class _DrawingBranch(Branch):
    """Learns from the structures that are on a slice."""

    def learns_from(self, target: MaskTarget) -> bool:
        annotated = torch.tensor(target.annotated, device=target.labels.device)
        return bool(torch.isin(target.labels, annotated).any())


class UNetBranch(_DrawingBranch):
    """Beside EfficientNetV2-S: the decoder of segmentation_models_pytorch, with its widths.

    Each step enlarges by nearest neighbours, joins the encoder's maps of that size, and convolves twice; the last step
    has none to join.

    Args:
        encoder_widths: channels of the pyramid, finest first.
        num_structures: maps to draw.
        widths: of the steps, coarsest first.
    """

    def __init__(
        self, encoder_widths: Sequence[int], num_structures: int, *, widths: Sequence[int] = (256, 128, 64, 32, 16)
    ) -> None:
        super().__init__(num_structures)
        skips = [*encoder_widths[-2::-1], 0]
        used = widths[len(widths) - len(skips) :]
        ins = [encoder_widths[-1], *used[:-1]]
        self.steps = nn.ModuleList(
            nn.Sequential(*_conv_unit(width_in + skip, width), *_conv_unit(width, width))
            for width_in, skip, width in zip(ins, skips, used, strict=True)
        )
        self.score = nn.Conv2d(used[-1], num_structures, 3, padding=1)

    def forward(self, pyramid: Sequence[Tensor], size: Size) -> Tensor:
        """Logits (N, structures, H, W)."""
        maps = pyramid[-1]
        for step, skip in zip(self.steps, [*pyramid[-2::-1], None], strict=True):
            maps = interpolate(maps, size=size if skip is None else skip.shape[-2:], mode="nearest")
            maps = step(maps if skip is None else torch.cat([maps, skip], dim=1))
        return self.score(maps)


class FeaturePyramidBranch(_DrawingBranch):
    """Beside CoaT-Lite: steps of 384, 192 and 96 channels; the maps before each of them, brought to 32 channels and the
    finest size, are joined with the last.

    A step enlarges by pixel shuffle to half the channels, joins the encoder's normalised maps of that size, and
    convolves twice. The inside of a step is our choice, and the LSTM blocks on the deep maps, which the winner's code
    builds and does not call, are not there.
    """

    def __init__(
        self,
        encoder_widths: Sequence[int],
        num_structures: int,
        *,
        widths: Sequence[int] = (384, 192, 96),
        side: int = 32,
    ) -> None:
        super().__init__(num_structures)
        skips = encoder_widths[-2::-1]
        used = widths[len(widths) - len(skips) :]
        levels = [encoder_widths[-1], *used]
        self.steps = nn.ModuleList(
            _ShuffleStep(width_in, skip, width) for (width_in, width), skip in zip(pairwise(levels), skips, strict=True)
        )
        self.sides = nn.ModuleList(nn.Sequential(*_conv_unit(width, side)) for width in levels[:-1])
        joined = levels[-1] + side * len(self.sides)
        self.score = nn.Sequential(_enlarge(joined, joined // 2), nn.ReLU(), nn.Conv2d(joined // 2, num_structures, 1))

    def forward(self, pyramid: Sequence[Tensor], size: Size) -> Tensor:
        """Logits (N, structures, H, W)."""
        levels = [pyramid[-1]]
        for step, skip in zip(self.steps, pyramid[-2::-1], strict=True):
            levels.append(step(levels[-1], skip))
        finest = levels[-1]
        sides = [
            interpolate(side(maps), size=finest.shape[-2:], mode="bilinear")
            for side, maps in zip(self.sides, levels[:-1], strict=True)
        ]
        return interpolate(self.score(torch.cat([*sides, finest], dim=1)), size=size, mode="bilinear")


class _ShuffleStep(nn.Module):
    """Twice as fine, joined with the encoder's maps, two convolutions."""

    def __init__(self, width_in: int, skip: int, width: int) -> None:
        super().__init__()
        self.enlarge, self.norm = _enlarge(width_in, width_in // 2), nn.BatchNorm2d(skip)
        self.convs = nn.Sequential(*_conv_unit(width_in // 2 + skip, width), *_conv_unit(width, width))

    def forward(self, maps: Tensor, skip: Tensor) -> Tensor:
        return self.convs(torch.cat([self.enlarge(maps), self.norm(skip)], dim=1).relu())


def _enlarge(width_in: int, width: int) -> nn.Sequential:
    """Twice as fine in both directions, by pixel shuffle."""
    return nn.Sequential(nn.Conv2d(width_in, 4 * width, 1), nn.PixelShuffle(2))


def _conv_unit(width_in: int, width: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(width_in, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()


def multilabel_dice_loss(logits: Tensor, target: MaskTarget) -> Tensor:
    """The mean over the annotated structures of 1 - Dice, over all slices of a case together.

    A structure that is on no slice costs 0, as in segmentation_models_pytorch, so a map is never punished alone.

    Args:
        logits: (T, structures, H, W).
        target: labels (T, H, W).
    """
    losses = []
    for structure in target.annotated:
        truth = (target.labels == structure).float()
        drawn = logits[:, structure - 1].float().sigmoid()
        dice = 2 * (drawn * truth).sum() / (drawn.sum() + truth.sum()).clamp_min(EPS)
        losses.append((1 - dice) * truth.amax())
    return torch.stack(losses).mean()
