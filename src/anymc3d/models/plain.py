"""THE table of plain methods: what needs no network. Numbers of a case, standardised, and one linear head.

``voxels`` is what principal components of the voxels and a logistic regression on them come to: a linear map of the
voxels of the prepared slices, which it stores as such, one weight a voxel. The others rest on measures of the scan and
its mask (:mod:`anymc3d.data.measures`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from anymc3d.errors import PluginError
from anymc3d.models.classifier import ClassifierOutput
from anymc3d.models.heads import HEADS, MIN_GAP
from anymc3d.models.strict_load import copy_into
from anymc3d.settings.config import LabelSettings
from anymc3d.settings.training import MethodSettings
from anymc3d.settings.views import ViewSettings


@dataclass(frozen=True, kw_only=True)
class PlainMethod:
    """One entry. ``groups``: of measures, entries of ``anymc3d.data.measures.case.GROUPS``; none = voxels."""

    summary: str
    groups: tuple[str, ...] = ()
    needs_mask: bool = False

    @property
    def sees_slices(self) -> bool:
        """Whether it takes prepared slices, as networks do; otherwise it measures the scan as it was stored."""
        return not self.groups


PLAIN: dict[str, PlainMethod] = {
    "scan-statistics": PlainMethod(summary="size, spacing and raw intensities of the scan", groups=("scan",)),
    "foreground": PlainMethod(
        summary="size, shape, intensity and texture of what stands out from the background", groups=("foreground",)
    ),
    "mask-size": PlainMethod(
        summary="volume, extent and thickness of the structures of the mask, their ratios and changes between views",
        groups=("size",),
        needs_mask=True,
    ),
    "mask-measures": PlainMethod(
        summary="size, shape, intensity and texture of the structures of the mask, their ratios and changes",
        groups=("size", "structure"),
        needs_mask=True,
    ),
    "voxels": PlainMethod(summary="principal components of the voxels, and a logistic regression on them"),
}


def is_plain(method: MethodSettings) -> bool:
    """Whether the method is an entry of ``PLAIN``."""
    return method.name in PLAIN


def num_voxels(views: Mapping[str, ViewSettings]) -> int:
    """Numbers of a case that is seen by its voxels.

    Raises:
        PluginError: a view has no fixed number of slices.
    """
    loose = [name for name, view in views.items() if view.size[2] is None]
    if loose:
        raise PluginError(f"views.{loose[0]}.size: voxels need a number of slices, got null")
    return sum(math.prod(int(n or 0) for n in view.size) * view.num_channels for view in views.values())


class PlainClassifier(nn.Module):
    """Standardised numbers (B, F), cut off at ``clip``, and a head. What is not known (NaN) stands at the centre.

    Args:
        num_inputs: F.
        common: whether one spread holds for all numbers, as of voxels.
        clip: None = nothing is cut off.
        labels: say how many logits there are and which head gives them.
    """

    def __init__(self, num_inputs: int, *, common: bool, clip: float | None, labels: LabelSettings) -> None:
        super().__init__()
        self.clip = clip
        self.center = nn.Parameter(torch.zeros(num_inputs))
        self.spread = nn.Parameter(torch.ones(1 if common else num_inputs))
        self.head = HEADS[labels.head](num_inputs, labels.num_logits, torch.Generator().manual_seed(0))

    def forward(self, numbers: Tensor) -> ClassifierOutput:
        """(B, F) float32 -> logits (B, K)."""
        rows = torch.nan_to_num((numbers - self.center) / self.spread, nan=0.0)
        rows = rows if self.clip is None else rows.clamp(-self.clip, self.clip)
        logits = self.head(rows)
        return ClassifierOutput(logits, {}, logits.new_zeros(len(logits), 0))

    def tensors(self) -> dict[str, Tensor]:
        """Plugin-file name -> parameter: ``numbers.center``, ``numbers.spread`` and those of the head."""
        named = {"numbers.center": self.center, "numbers.spread": self.spread}
        return named | {f"head.{name}": tensor for name, tensor in self.head.named_parameters()}

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy a plugin's tensors in; names and shapes must match exactly.

        Raises:
            PluginError: a tensor is missing, unexpected or of another shape; all are listed.
        """
        copy_into(self.tensors(), tensors)
        if not (tensors["numbers.spread"] > 0).all():
            raise PluginError("numbers.spread: expected numbers above 0")


def cut_parameters(cuts: Tensor) -> Tensor:
    """The parameters of :class:`anymc3d.models.heads.OrdinalHead` that give these rising cuts."""
    gaps = (cuts.diff() - MIN_GAP).clamp_min(1e-6)
    return torch.cat([cuts[:1], gaps.expm1().log()])
