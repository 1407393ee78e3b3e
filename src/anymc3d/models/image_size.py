"""Which images a network takes: three channels, sides that are multiples of its patch size."""

from __future__ import annotations

from torch import Tensor

from anymc3d.errors import UsageError


def check_images(images: Tensor, patch_size: int) -> tuple[int, int]:
    """Return how many patches there are down and across.

    Raises:
        UsageError: ``images`` are not (B, 3, H, W), or a side is no multiple of ``patch_size``.
    """
    if images.ndim != 4 or images.shape[1] != 3:
        raise UsageError(f"the backbone expects images of shape (B, 3, H, W), got {tuple(images.shape)}")
    height, width = images.shape[-2:]
    if height % patch_size or width % patch_size or min(height, width) == 0:
        nearest = [nearest_valid_size(size, patch_size) for size in (height, width)]
        msg = (
            f"image size {height} x {width} is not a multiple of the patch size {patch_size}; "
            f"the next larger valid size is {nearest[0]} x {nearest[1]}"
        )
        raise UsageError(msg)
    return height // patch_size, width // patch_size


def nearest_valid_size(size: int, patch_size: int) -> int:
    """The next multiple of ``patch_size`` that is at least ``size`` pixels (and at least one patch)."""
    return max(1, -(-size // patch_size)) * patch_size
