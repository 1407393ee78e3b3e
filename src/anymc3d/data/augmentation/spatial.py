"""Flip, rotation, zoom and translation of a slice stack, in one resampling.

Coordinates are voxel indices in the order of the array (S, H, W), zero at the centre of the first voxel; turning and
zooming is about the centre of the stack and in voxels, as in nnU-Net, whatever the spacing. A slice's surroundings are
filled with a constant; beyond the first and the last slice that slice is continued, because a stack of a few slices
has its ends in view after every turn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from anymc3d.data.augmentation.chunks import slice_chunks


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where each output voxel is read: input = matrix @ output + offset, in voxel indices (S, H, W)."""

    matrix: tuple[tuple[float, float, float], ...]
    offset: tuple[float, float, float]


def flip(volume: Tensor, flips: Sequence[bool], axes: Sequence[int]) -> Tensor:
    """Return a copy of ``volume``, reversed along those ``axes`` whose entry in ``flips`` is true."""
    return torch.flip(volume, [axis for axis, flipped in zip(axes, flips, strict=True) if flipped])


def rotation_matrix(degrees: Sequence[float]) -> Tensor:
    """Return R = R_S R_H R_W (3, 3) float64: turns about the W, then the H, then the slice axis, right-handed."""
    matrix = torch.eye(3, dtype=torch.float64)
    for axis, angle in enumerate(degrees):
        cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        first, second = (axis + 1) % 3, (axis + 2) % 3
        turn = torch.eye(3, dtype=torch.float64)
        turn[first, first], turn[first, second] = cosine, -sine
        turn[second, first], turn[second, second] = sine, cosine
        matrix = matrix @ turn
    return matrix


def placement(
    size: tuple[int, int, int],
    *,
    flips: Sequence[bool],
    rotation: Sequence[float] | None,
    zoom: float | None,
    translation: Sequence[float] | None,
) -> Placement:
    """Return where each voxel of the changed stack comes from.

    The content is turned and enlarged about the centre, then moved, then flipped; the placement is the inverse.

    Args:
        size: S, H, W.
        flips: per axis.
        rotation: degrees about each axis.
        zoom: above 1 = the content grows.
        translation: voxels along each axis, of the changed stack.
    """
    centre = (torch.tensor(size, dtype=torch.float64) - 1) / 2
    inverse = rotation_matrix(rotation or (0.0, 0.0, 0.0)).T / (zoom or 1.0)
    mirror = torch.diag(torch.tensor([-1.0 if flipped else 1.0 for flipped in flips], dtype=torch.float64))
    matrix = inverse @ mirror
    move = torch.tensor(translation or (0.0, 0.0, 0.0), dtype=torch.float64)
    offset = centre - matrix @ centre - inverse @ move
    return Placement(matrix=tuple(map(tuple, matrix.tolist())), offset=tuple(offset.tolist()))


def resample_slices(slices: Tensor, where: Placement, *, fill: Sequence[float]) -> Tensor:
    """Read (S, C, H, W) float32 slices at ``where``, trilinear; ``fill`` is the value around a slice, per channel."""
    num_slices, num_channels, height, width = slices.shape
    padded = _pad(slices, fill)
    sources = [padded[:, channel].reshape(-1) for channel in range(num_channels)]
    row, plane = width + 2, (height + 2) * (width + 2)
    next_slice = plane if num_slices > 1 else 0
    out = torch.empty_like(slices)
    for start, stop, (z, y, x) in _read_positions(where, slices[:, 0]):
        z0, z_part = _split(z, max(num_slices - 2, 0))
        y0, y_part = _split(y, height)
        x0, x_part = _split(x, width)
        index = _flat_index(z0, y0, x0, row, plane)
        for channel, source in enumerate(sources):

            def corners(step: int, source: Tensor = source, index: Tensor = index) -> Tensor:
                return source[step:].index_select(0, index)

            near = _interpolate(corners, 0, row, y_part, x_part)
            far = _interpolate(corners, next_slice, row, y_part, x_part)
            out[start:stop, channel] = near.lerp_(far, z_part).view(stop - start, height, width)
    return out


def resample_mask(mask: Tensor, where: Placement) -> Tensor:
    """Read a (S, H, W) integer or boolean mask at ``where``, nearest neighbour; 0 around a slice."""
    num_slices, height, width = mask.shape
    padded = mask.new_zeros((num_slices, height + 2, width + 2))
    padded[:, 1:-1, 1:-1] = mask
    source = padded.view(-1)
    out = torch.empty_like(mask)
    for start, stop, coordinates in _read_positions(where, mask):
        z, y, x = (axis.add_(0.5).floor_() for axis in coordinates)
        index = _flat_index(z, y, x, width + 2, (height + 2) * (width + 2))
        out[start:stop] = source.index_select(0, index).view(stop - start, height, width)
    return out


def _pad(slices: Tensor, fill: Sequence[float]) -> Tensor:
    """Surround each slice with one pixel of ``fill``."""
    num_slices, num_channels, height, width = slices.shape
    padded = slices.new_empty((num_slices, num_channels, height + 2, width + 2))
    for channel, value in enumerate(fill):
        padded[:, channel].fill_(value)
    padded[:, :, 1:-1, 1:-1] = slices
    return padded


def _read_positions(where: Placement, stack: Tensor) -> Iterator[tuple[int, int, list[Tensor]]]:
    """Yield (start, stop, [z, y, x]): where the output slices start..stop of a (S, H, W) stack are read, flat.

    Positions are those of the padded stack, clamped to its first and last slice and to the border around each slice.
    """
    num_slices, height, width = size = stack.shape
    s, h, w = (torch.arange(side, dtype=torch.float64, device=stack.device) for side in size)
    shifts, limits = (0.0, 1.0, 1.0), (num_slices - 1, height + 1, width + 1)
    planes = [
        (row[1] * h[:, None] + row[2] * w + (offset + shift)).flatten().float()
        for row, offset, shift in zip(where.matrix, where.offset, shifts, strict=True)
    ]
    along = [(row[0] * s)[:, None].float() for row in where.matrix]
    for start, stop in slice_chunks(stack):
        positions = zip(planes, along, limits, strict=True)
        yield start, stop, [(plane + steps[start:stop]).clamp_(0, limit).flatten() for plane, steps, limit in positions]


def _split(coordinate: Tensor, last: int) -> tuple[Tensor, Tensor]:
    """Split into the lower neighbour (at most ``last``, so that the upper one exists) and the part beyond it."""
    lower = coordinate.floor().clamp_(max=last)
    return lower, coordinate.sub_(lower)


def _flat_index(z: Tensor, y: Tensor, x: Tensor, row: int, plane: int) -> Tensor:
    """Combine whole-numbered float coordinates to an index; in integers, as float32 counts only to 2**24."""
    return z.int().mul_(plane).add_(y.int(), alpha=row).add_(x.int())


def _interpolate(corners: Callable[[int], Tensor], first: int, row: int, y_part: Tensor, x_part: Tensor) -> Tensor:
    """Bilinear value within the slice that begins ``first`` elements further on."""
    upper = corners(first).lerp_(corners(first + 1), x_part)
    lower = corners(first + row).lerp_(corners(first + row + 1), x_part)
    return upper.lerp_(lower, y_part)
