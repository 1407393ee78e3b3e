"""Changes of a slice stack's values: noise, blur, brightness, contrast, low resolution and gamma.

Every function changes the (S, C, H, W) float32 tensor it is given, in place. Statistics are of one channel over all
its slices; they are means of rows, averaged in a fixed order, so that the number of threads changes no bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from anymc3d.data.augmentation.chunks import slice_chunks

_BLUR_RADIUS = 2
"""Voxels; nnU-Net's kernel for the largest standard deviation of the paper (1 voxel)."""
_SMALLEST_RANGE = 1e-7
"""A channel whose values differ by less than this is constant."""


def channel_bounds(slices: Tensor) -> list[tuple[float, float]]:
    """Smallest and largest value of each channel."""
    low, high = slices.amin(dim=(0, 2, 3)), slices.amax(dim=(0, 2, 3))
    return list(zip(low.tolist(), high.tolist(), strict=True))


def add_noise_(slices: Tensor, *, standard_deviation: float, seed: int) -> None:
    """Add white Gaussian noise; the same seed gives the same noise on the same kind of device."""
    generator = torch.Generator(device=slices.device).manual_seed(seed)
    noise = torch.empty_like(slices[0])
    for plane in slices:
        plane.add_(noise.normal_(generator=generator), alpha=standard_deviation)


def blur_(slices: Tensor, *, standard_deviation: float) -> None:
    """Smooth along the three axes with a Gaussian cut at two voxels; edges are continued with their own value."""
    taps = [math.exp(-0.5 * (step / standard_deviation) ** 2) for step in range(-_BLUR_RADIUS, _BLUR_RADIUS + 1)]
    weights = [tap / sum(taps) for tap in taps]
    for start, stop in slice_chunks(slices):
        block = pad(slices[start:stop], [_BLUR_RADIUS] * 4, mode="replicate")
        slices[start:stop] = _shifted_adds(_shifted_adds(block, 3, weights), 2, weights)
    before = slices[:1].clone().expand(_BLUR_RADIUS, -1, -1, -1)
    last = len(slices) - 1
    for start, stop in slice_chunks(slices):
        after = [slices[min(stop + step, last)].unsqueeze(0) for step in range(_BLUR_RADIUS)]
        block = torch.cat([before, slices[start:stop], *after])
        before = block[stop - start : stop - start + _BLUR_RADIUS]
        slices[start:stop] = _shifted_adds(block, 0, weights)


def _shifted_adds(block: Tensor, axis: int, weights: Sequence[float]) -> Tensor:
    """Weighted sum of neighbours along ``axis``, where they exist (a 1-channel convolution is ten times slower)."""
    length = block.shape[axis] - len(weights) + 1
    out = block.narrow(axis, 0, length) * weights[0]
    for start, weight in enumerate(weights[1:], start=1):
        out.add_(block.narrow(axis, start, length), alpha=weight)
    return out


def scale_brightness_(slices: Tensor, *, factor: float) -> None:
    """Multiply every value."""
    slices.mul_(factor)


def scale_contrast_(slices: Tensor, *, factor: float) -> None:
    """Multiply the distance from the channel's mean; values stay between the channel's old minimum and maximum."""
    bounds, means = channel_bounds(slices), _means(slices)
    for channel, part in _channel_parts(slices):
        part.mul_(factor).add_(means[channel] * (1 - factor)).clamp_(*bounds[channel])


def lower_resolution_(slices: Tensor, *, zoom: float) -> None:
    """Sample a coarser grid (nearest neighbour) and come back to the fine one (linear along each axis)."""
    num_slices, num_channels, height, width = slices.shape
    few, rows, columns = (_nearest(side, max(1, round(side * zoom)), slices.device) for side in slices[:, 0].shape)
    upper, lower, part = _linear(len(rows), height, slices.device)
    part = part.float().view(-1, 1)
    planes = slices.new_empty((len(few), num_channels, height, width))
    for start, stop in slice_chunks(planes):
        block = slices.index_select(0, few[start:stop]).index_select(2, rows)[..., columns]
        # Only the one-dimensional interpolation takes the same path whatever the number of threads.
        wide = interpolate(block.view(1, -1, len(columns)), size=width, mode="linear", align_corners=False)
        wide = wide.view(stop - start, num_channels, len(rows), width)
        planes[start:stop] = wide.index_select(2, upper).lerp_(wide.index_select(2, lower), part)
    between = [numbers.tolist() for numbers in _linear(len(few), num_slices, torch.device("cpu"))]
    for plane, before, after, weight in zip(slices, *between, strict=True):
        torch.lerp(planes[before], planes[after], weight, out=plane)


def _nearest(fine: int, coarse: int, device: torch.device) -> Tensor:
    """The voxels of ``fine`` at the centres of ``coarse`` equal parts."""
    return ((torch.arange(coarse, dtype=torch.float64, device=device) + 0.5) * (fine / coarse)).long()


def _linear(coarse: int, fine: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """For each fine voxel: the coarse ones before and after its centre, and how far it is from the one before."""
    position = (torch.arange(fine, dtype=torch.float64, device=device) + 0.5) * (coarse / fine) - 0.5
    position.clamp_(0, coarse - 1)
    before = position.long()
    return before, (before + 1).clamp_(max=coarse - 1), position - before


def apply_gamma_(slices: Tensor, *, exponent: float, inverted: bool) -> None:
    """Raise the values, scaled to [0, 1], to a power; each channel keeps its mean and standard deviation.

    Inverted: the power is taken of the negative image. A constant channel is left alone.
    """
    bounds, means = channel_bounds(slices), _means(slices)
    deviations = _deviations(slices, means)
    for channel, part in _channel_parts(slices):
        low, high = bounds[channel]
        if _is_constant(low, high):
            continue
        # Quicker than pow, 0 stays 0; unlike pow and exp2 no bit depends on how torch splits it over threads.
        torch.sub(high, part, out=part) if inverted else part.sub_(low)
        part.mul_(1 / (high - low)).log_().mul_(exponent).exp_()
    new_means = _means(slices)
    new_deviations = _deviations(slices, new_means)
    for channel, part in _channel_parts(slices):
        if _is_constant(*bounds[channel]):
            continue
        gain = deviations[channel] / new_deviations[channel] * (-1 if inverted else 1)
        part.mul_(gain).add_(means[channel] - new_means[channel] * gain)


def _channel_parts(slices: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield (channel, some of its slices), a view each, until all are done."""
    for start, stop in slice_chunks(slices):
        for channel in range(slices.shape[1]):
            yield channel, slices[start:stop, channel]


def _is_constant(low: float, high: float) -> bool:
    """True also where a bound is not finite: such values have no mean to keep and stay as they are."""
    return not _SMALLEST_RANGE <= high - low < math.inf


def _means(slices: Tensor) -> list[float]:
    return slices.mean(dim=3).double().mean(dim=(0, 2)).tolist()


def _deviations(slices: Tensor, means: Sequence[float]) -> list[float]:
    squares = torch.linalg.vector_norm(slices, dim=3).double().square().sum(dim=(0, 2)).tolist()
    num_voxels = slices.numel() // slices.shape[1]
    return [math.sqrt(max(0.0, total / num_voxels - mean**2)) for total, mean in zip(squares, means, strict=True)]
