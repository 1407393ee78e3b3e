"""Changes of a slice stack's values: noise, blur, brightness, contrast, low resolution and gamma.

Every function changes the (S, C, H, W) float32 tensor it is given, in place, and treats each channel on its own.
Statistics are sums over rows, added up in one order, so the number of threads changes no bit.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import interpolate

_BLUR_RADIUS = 2
"""Voxels; nnU-Net's kernel for the largest standard deviation of the paper (1 voxel)."""
_SMALLEST_RANGE = 1e-7
"""Ranges and standard deviations below this are those of a constant channel."""


def channel_minimum(slices: Tensor) -> Tensor:
    """Smallest value of each channel, (C)."""
    return slices.amin(dim=(0, 2, 3))


def channel_maximum(slices: Tensor) -> Tensor:
    """Largest value of each channel, (C)."""
    return slices.amax(dim=(0, 2, 3))


def add_noise_(slices: Tensor, *, standard_deviation: float, seed: int) -> None:
    """Add white Gaussian noise; the same seed gives the same noise on the same kind of device."""
    generator = torch.Generator(device=slices.device).manual_seed(seed)
    noise = torch.randn(slices.shape, generator=generator, device=slices.device)
    slices.add_(noise, alpha=standard_deviation)


def blur_(slices: Tensor, *, standard_deviation: float) -> None:
    """Smooth along the three axes with a Gaussian cut at two voxels; edges are continued with their own value."""
    taps = [math.exp(-0.5 * (step / standard_deviation) ** 2) for step in range(_BLUR_RADIUS + 1)]
    total = taps[0] + 2 * sum(taps[1:])
    weights = [tap / total for tap in taps]
    for axis in (3, 2, 0):
        slices.copy_(_smooth(slices, axis, weights))


def _smooth(slices: Tensor, axis: int, weights: list[float]) -> Tensor:
    """One axis of the blur, as shifted adds (a convolution with one channel is ten times slower on a CPU)."""
    radius, length = len(weights) - 1, slices.shape[axis]
    first, last = slices.narrow(axis, 0, 1), slices.narrow(axis, length - 1, 1)
    padded = torch.cat([first] * radius + [slices] + [last] * radius, dim=axis)
    out = slices * weights[0]
    for step, weight in enumerate(weights[1:], start=1):
        for start in (radius - step, radius + step):
            out.add_(padded.narrow(axis, start, length), alpha=weight)
    return out


def scale_brightness_(slices: Tensor, *, factor: float) -> None:
    """Multiply every value."""
    slices.mul_(factor)


def scale_contrast_(slices: Tensor, *, factor: float) -> None:
    """Multiply the distance from the channel's mean; values stay between the channel's old minimum and maximum."""
    low, high = channel_minimum(slices), channel_maximum(slices)
    mean = _mean(slices)
    slices.mul_(factor).add_(_broadcast(mean * (1 - factor)))
    slices.clamp_(_broadcast(low), _broadcast(high))


def lower_resolution_(slices: Tensor, *, zoom: float) -> None:
    """Sample a coarser grid (nearest neighbour) and come back to the fine one (linear along each axis)."""
    num_slices, _, height, width = slices.shape
    fine = (num_slices, height, width)
    coarse = tuple(max(1, round(side * zoom)) for side in fine)
    volume = slices.transpose(0, 1).unsqueeze(0)
    small = interpolate(volume, size=coarse, mode="nearest-exact")
    large = interpolate(small, size=fine, mode="trilinear", align_corners=False)
    slices.copy_(large[0].transpose(0, 1))


def apply_gamma_(slices: Tensor, *, exponent: float, inverted: bool) -> None:
    """Raise the values, scaled to [0, 1], to a power; each channel keeps its mean and standard deviation.

    Inverted: the power is taken of the negative image. A constant channel is left alone.
    """
    mean, deviation = _mean_and_deviation(slices)
    if inverted:
        slices.neg_()
    low, high = channel_minimum(slices), channel_maximum(slices)
    spread = (high - low).clamp_(min=_SMALLEST_RANGE)
    slices.sub_(_broadcast(low)).div_(_broadcast(spread)).pow_(exponent)
    if inverted:
        slices.neg_()
    new_mean, new_deviation = _mean_and_deviation(slices)
    gain = deviation / new_deviation.clamp_(min=_SMALLEST_RANGE)
    slices.mul_(_broadcast(gain)).add_(_broadcast(mean - new_mean * gain))


def _broadcast(per_channel: Tensor) -> Tensor:
    """(C) -> (1, C, 1, 1) float32."""
    return per_channel.to(torch.float32).view(1, -1, 1, 1)


def _mean(slices: Tensor) -> Tensor:
    """Mean of each channel, (C) float64."""
    return slices.sum(dim=3).double().mean(dim=(0, 2))


def _mean_and_deviation(slices: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel, (C) float64 each."""
    mean = _mean(slices)
    squares = torch.linalg.vector_norm(slices, dim=3).double().square().sum(dim=(0, 2))
    num_voxels = slices.numel() // slices.shape[1]
    return mean, (squares / num_voxels - mean.square()).clamp_(min=0).sqrt()
