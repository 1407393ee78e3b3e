"""What every network of the zoo is given, and how a network that takes only certain sizes is given another one.

Volumes are (B, C, S, H, W): prepared slices, the slice axis first. ``slice_mask`` (B, S) is True where a slice is real;
the real slices of a case come first, and there is at least one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from anymc3d.errors import UsageError

Size = tuple[int, int, int]
Rule = Literal["any", "pad", "resize", "resize in plane", "crop or pad"]


Axes = Literal["zxy", "zyx", "xyz"]
"""The order in which a network reads an axial volume. Prepared ones are ``zxy``: z the slices from feet to head, x the
rows from left to right, y the columns from back to front. Of another plane the slice axis stands for z, and the two
axes of its slices, in their order, for x and y."""
_PERMUTATIONS: dict[Axes, tuple[int, int, int]] = {"zxy": (2, 3, 4), "zyx": (2, 4, 3), "xyz": (3, 4, 2)}


def in_order(volume: Tensor, axes: Axes) -> Tensor:
    """(B, C, S, H, W), as prepared -> the axes in the order that a network's published weights have learned."""
    return volume.permute(0, 1, *_PERMUTATIONS[axes])


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """The sizes (S, H, W) a network computes with, and how it brings others there.

    ``rule``: ``any`` takes every size. ``pad`` adds zeros on both sides up to ``least`` and to ``multiple``. ``resize``
    interpolates to ``fixed`` (trilinear). ``resize in plane`` enlarges H and W to ``multiple`` (bilinear). ``crop or
    pad`` cuts away or adds zeros on both sides up to ``fixed``. ``fill`` is what is added: zeros, or each volume's own
    lowest value. No size is changed in another way, and :meth:`note` says what happens to a given one.
    """

    rule: Rule = "any"
    fixed: Size | None = None
    least: Size = (1, 1, 1)
    multiple: Size = (1, 1, 1)
    fill: Literal["zeros", "its lowest value"] = "zeros"

    def target(self, size: Size) -> Size:
        """The size the network computes with when given ``size``."""
        if self.fixed is not None:
            return self.fixed
        enough = zip(size, self.least, self.multiple, strict=True)
        return tuple(-(-max(side, least) // multiple) * multiple for side, least, multiple in enough)

    def note(self, size: Size) -> str | None:
        """One line for the log when volumes of ``size`` are changed; None when they are taken as they are."""
        target = self.target(size)
        if target == tuple(size):
            return None
        padded = {"pad": f"padded with {self.fill}", "crop or pad": f"cropped or padded with {self.fill}"}
        change = padded.get(self.rule, "resized")
        return (
            f"volumes of {_by(size)} (slices, rows, columns) are {change} to {_by(target)}, the size the network takes"
        )

    def fit(self, volume: Tensor) -> Tensor:
        """(B, C, S, H, W) -> the same at :meth:`target`."""
        size = tuple(volume.shape[-3:])
        target = self.target(size)
        if target == size:
            return volume
        if self.rule in ("resize", "resize in plane"):
            return nn.functional.interpolate(volume, size=target, mode="trilinear", align_corners=False)
        if self.fill == "zeros":
            return crop_or_pad(volume, target)
        lowest = volume.amin(dim=(2, 3, 4), keepdim=True)
        return crop_or_pad(volume - lowest, target) + lowest


def crop_or_pad(volume: Tensor, target: Size) -> Tensor:
    """Cut away or add zeros on both sides of S, H and W; of an odd number the larger half at the end."""
    missing = [goal - side for goal, side in zip(target, volume.shape[-3:], strict=True)]
    amounts = [amount for total in reversed(missing) for amount in (total // 2, total - total // 2)]
    return nn.functional.pad(volume, amounts)


def check_volume(volume: Tensor, slice_mask: Tensor, channels: int) -> None:
    """Refuse what is not a batch of volumes with its mask.

    Raises:
        UsageError: a wrong number of axes or channels, a mask of another shape, or a case without its first slice.
    """
    if volume.ndim != 5 or volume.shape[1] != channels:
        raise UsageError(
            f"expected volumes of shape (cases, {channels}, slices, rows, columns), got {tuple(volume.shape)}; "
            f"build the network with the number of channels the task has"
        )
    expected = (volume.shape[0], volume.shape[2])
    if tuple(slice_mask.shape) != expected or slice_mask.dtype != torch.bool:
        raise UsageError(
            f"expected a slice mask of shape {expected} and type bool, got {tuple(slice_mask.shape)} and "
            f"{slice_mask.dtype}"
        )
    if not slice_mask[:, 0].all():
        raise UsageError("expected the real slices of every case first and at least one, got a case that starts padded")


def check_whole(volume: Tensor, slice_mask: Tensor, channels: int) -> None:
    """As :func:`check_volume`, for networks that read the volume as one block: every slice must be real.

    Raises:
        UsageError: also when a slice is padding.
    """
    check_volume(volume, slice_mask, channels)
    if not slice_mask.all():
        raise UsageError(
            "this network reads the volume as one block and takes no padded slices, got a batch with some; "
            "give all cases the same number of slices (third number of views.<view>.size), or one case at a time"
        )


def packed(volume: Tensor, slice_mask: Tensor) -> tuple[Tensor, tuple[int, ...]]:
    """The real slices, one after the other: (sum(S), C, H, W), and how many belong to each case."""
    return volume.transpose(1, 2)[slice_mask], tuple(slice_mask.sum(dim=1).tolist())


def _by(size: Size) -> str:
    return " x ".join(str(side) for side in size)
