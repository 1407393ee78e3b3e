"""A network in the spirit of DeepCNTD-Net (Yoo et al. 2025, arXiv 2502.21106): head CT by segmentation.

Neither code, weights nor sizes are published. Known is: one 3D Dense U-Net draws five kinds of haemorrhage, a second
3D U-Net with several outputs draws the left hemisphere, what lies above and below the tentorium, and the remaining
structures; the features of both enter a 3D DenseNet. Every size here is our choice, and so is that "features" are the
logits and the last maps of both. It is not a copy of the original, and a report must not call it one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate

from anymc3d.errors import UsageError
from anymc3d.models.decoders.interface import MaskTarget
from anymc3d.models.zoo.densenet import DenseNet
from anymc3d.models.zoo.entry import SCRATCH, ZooEntry
from anymc3d.models.zoo.objective import Answers, Branch, Lesson
from anymc3d.models.zoo.recipe import Recipe
from anymc3d.models.zoo.volumes import Sizes, check_whole, crop_or_pad

HAEMORRHAGES: Mapping[str, int] = MappingProxyType({"haemorrhage": 5})
"""Parenchymal, subarachnoid, intraventricular, subdural, epidural."""
ANATOMY: Mapping[str, int] = MappingProxyType({"left": 1, "tentorium": 2, "structures": 4})
"""The left hemisphere; above and below the tentorium; four remaining structures (their number is our choice)."""
STRUCTURES = (
    *(f"{kind} haemorrhage" for kind in ("parenchymal", "subarachnoid", "intraventricular", "subdural", "epidural")),
    *("left hemisphere", "above the tentorium", "below the tentorium", *(f"structure {i}" for i in range(1, 5))),
)
"""What the networks draw, in order."""
HEAD_OF_STRUCTURE = tuple(
    number for number, count in enumerate((*HAEMORRHAGES.values(), *ANATOMY.values()), start=1) for _ in range(count)
)
"""Which head draws each: structures of one head exclude each other, those of two may lie in one place."""
SMOOTH = 1e-5
WIDTHS = (32, 64, 128, 256)
STEP = (1, 2, 2)
"""Stride between levels: head scans have few thick slices."""
SLOPE = 0.01


class ConvUnit(nn.Sequential):
    """Convolution of 3, instance norm, leaky ReLU."""

    def __init__(self, width_in: int, width: int) -> None:
        conv = nn.Conv3d(width_in, width, 3, padding=1, bias=False)
        super().__init__(conv, nn.InstanceNorm3d(width, affine=True), nn.LeakyReLU(SLOPE))


class PlainBlock(nn.Sequential):
    """Two convolutions."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__(ConvUnit(width_in, width), ConvUnit(width, width))


class DenseUnit(nn.Module):
    """Two convolutions that each see all maps before them, and one of 1 that brings them to the width."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        growth = width // 2
        self.first, self.second = ConvUnit(width_in, growth), ConvUnit(width_in + growth, growth)
        self.join = nn.Conv3d(width_in + 2 * growth, width, 1)

    def forward(self, maps: Tensor) -> Tensor:
        maps = torch.cat([maps, self.first(maps)], dim=1)
        return self.join(torch.cat([maps, self.second(maps)], dim=1))


class UNet(nn.Module):
    """Volume (B, C, S, H, W) -> its last maps (B, ``widths[0]``, S, H, W) and the logits of every head.

    Four levels, down by strided pooling and up by trilinear interpolation; any size.
    """

    def __init__(self, channels: int, heads: Mapping[str, int], widths: Sequence[int], block: type[nn.Module]) -> None:
        super().__init__()
        ins = [channels, *widths[:-1]]
        self.down = nn.ModuleList(block(width_in, width) for width_in, width in zip(ins, widths, strict=True))
        self.pool = nn.MaxPool3d(STEP, stride=STEP, ceil_mode=True)
        pairs = list(zip(widths[-2::-1], widths[:0:-1], strict=True))
        self.up = nn.ModuleList(block(narrow + wide, narrow) for narrow, wide in pairs)
        self.heads = nn.ModuleDict({name: nn.Conv3d(widths[0], count, 1) for name, count in heads.items()})

    def forward(self, volume: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        levels: list[Tensor] = []
        for index, block in enumerate(self.down):
            volume = block(self.pool(volume) if index else volume)
            levels.append(volume)
        maps = levels.pop()
        for block in self.up:
            skip = levels.pop()
            maps = block(torch.cat([skip, interpolate(maps, size=skip.shape[2:], mode="trilinear")], dim=1))
        return maps, {name: head(maps) for name, head in self.heads.items()}


class DeepCNTD(nn.Module):
    """Volume (B, C, S, H, W) -> logits (B, K): the volume, both networks' logits and last maps, into a DenseNet."""

    sizes = Sizes(rule="pad", least=(32, 32, 32))
    heads = ("classifier.class_layers.",)
    """Beginnings of the names of what gives the logits; the rest of ``classifier`` does not depend on their number."""

    def __init__(
        self,
        num_logits: int,
        in_channels: int,
        *,
        widths: Sequence[int] = WIDTHS,
        depths: Sequence[int] = (6, 12, 24, 16),
        growth: int = 32,
        stem: int = 64,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.haemorrhages = UNet(in_channels, HAEMORRHAGES, widths, DenseUnit)
        self.anatomy = UNet(in_channels, ANATOMY, widths, PlainBlock)
        joined = in_channels + len(STRUCTURES) + 2 * widths[0]
        self.classifier = DenseNet(num_logits, joined, depths=depths, growth=growth, stem=stem)

    def forward(self, volume: Tensor, slice_mask: Tensor) -> Tensor:
        """(B, C, S, H, W) and (B, S) -> logits (B, K); refuses padded slices."""
        return self._classify_and_draw(volume, slice_mask)[0]

    def lesson(
        self, volume: Tensor, slice_mask: Tensor, masks: Sequence[MaskTarget | None], branch: Branch | None
    ) -> Lesson:
        """See :class:`anymc3d.models.zoo.objective.Teaching`. The task's structures are those of the two networks, in
        the order of ``HAEMORRHAGES`` and ``ANATOMY``; what padded a volume is background."""
        logits, drawn = self._classify_and_draw(volume, slice_mask)
        losses = {case: dice_and_bce(drawn[case], mask) for case, mask in enumerate(masks) if mask is not None}
        return Lesson(logits, Answers.none(logits), losses)

    def _classify_and_draw(self, volume: Tensor, slice_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, K), and those of all structures (B, ``STRUCTURES``, S, H, W) on the padded volume."""
        check_whole(volume, slice_mask, self.in_channels)
        volume = self.sizes.fit(volume)
        parts, drawn = [volume], []
        for network in (self.haemorrhages, self.anatomy):
            maps, logits = network(volume)
            parts += [maps, *logits.values()]
            drawn += logits.values()
        whole = slice_mask.new_ones(len(volume), volume.shape[2])
        return self.classifier(torch.cat(parts, dim=1), whole), torch.cat(drawn, dim=1)


class Drawing(Branch):
    """Says that masks are learned; the two networks are there without it.

    Raises:
        UsageError: more structures than they draw.
    """

    def __init__(self, num_structures: int) -> None:
        super().__init__(num_structures)
        if num_structures > len(STRUCTURES):
            raise UsageError(
                f"deepcntd draws {len(STRUCTURES)} structures ({', '.join(STRUCTURES)}), the masks have "
                f"{num_structures}; name those in segmentation.classes"
            )


def dice_and_bce(logits: Tensor, target: MaskTarget) -> Tensor:
    """The mean over the annotated structures of 1 - Dice and binary cross-entropy of one case.

    A voxel has one label, and a bleed lies in a hemisphere that lies above the tentorium: what a head draws is compared
    on the voxels alone that no other head's label has taken.

    Args:
        logits: (structures, S, H, W) on a padded volume.
        target: labels on the volume before it was padded.
    """
    labels = crop_or_pad(target.labels[None, None], tuple(logits.shape[-3:]))[0, 0]
    heads = torch.tensor([0, *HEAD_OF_STRUCTURE], device=labels.device)[labels.long()]
    losses = []
    for structure in target.annotated:
        own_head = HEAD_OF_STRUCTURE[structure - 1]
        free = (heads == 0) | (heads == own_head)
        truth, structure_logits = (labels == structure)[free].float(), logits[structure - 1][free].float()
        drawn = structure_logits.sigmoid()
        dice = (2 * (drawn * truth).sum() + SMOOTH) / (drawn.sum() + truth.sum() + SMOOTH)
        losses.append(1 - dice + binary_cross_entropy_with_logits(structure_logits, truth))
    return torch.stack(losses).mean()


ENTRIES = (
    ZooEntry(
        name="deepcntd",
        title="DeepCNTD-Net (in spirit)",
        builder=lambda logits, channels, _: DeepCNTD(logits, channels),
        kind="volume",
        weights=SCRATCH,
        licence="none: neither code nor weights are published",
        citation="Yoo et al. 2025, A non-contrast head CT foundation model for comprehensive neuro-trauma triage, "
        "MICCAI, arXiv 2502.21106",
        sizes=DeepCNTD.sizes,
        recipe=Recipe(slow={"haemorrhages.": 0.1, "anatomy.": 0.1}, structures=STRUCTURES, whole=(5, 8, 12)),
        branch=lambda _, structures: Drawing(structures),
        notes="in the spirit of the original, never a copy: all sizes are chosen, and the two segmentation networks, "
        "pretrained on masks there, start from random values and learn at a tenth of the rate, from masks beside the "
        "labels where there are some (segmentation: own)",
    ),
)
