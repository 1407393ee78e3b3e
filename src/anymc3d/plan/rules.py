"""The rules of ``anymc3d plan``: numbers measured on the training scans in, one setting and its reason out.

Everything is in RAS axes (x, y, z) and millimetres; nothing here reads a file.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anymc3d.data.intensity import IntensityProfile, guess_modality
from anymc3d.data.preprocess import AXES, slice_plane
from anymc3d.size_leak import SizeLeak
from anymc3d.types import Modality, Plane

MIN_PATCHES = 7
"""Fewer patches along an in-plane axis leave a frozen 2D network little to see (98 pixels with patch 14)."""
MAX_PATCHES = 1024
"""Of one slice: 448 x 448 pixels with patch 14, about the largest size in the paper's Table 3."""
MAX_SLICES = 128
"""All but one task of the paper's Table 3 have at most 126."""
SIMILAR_EXTENTS = 0.10
"""Scans whose extents differ by no more (of the median) are resized whole."""
MAX_PADDING = 1.5
"""Without a size leak scans are padded only up to so many times the median extent."""
SOFT_TISSUE = (-150.0, 250.0)
PATCH_SIZES = {"dinov3": 16, "dinov2": 14, "patch16": 16, "patch14": 14}
CHUNK_SIZES = (64, 32, 16, 8, 4, 2, 1)
BATCH_SIZE = 2

_BYTES_PER_VALUE = 60
"""Activations kept for the backward pass, per token, block and embedding channel in float32: 45 were measured."""
_WIDTH_AND_DEPTH = {"giant": (1536, 40), "large": (1024, 24), "base": (768, 12), "small": (384, 12), "tiny": (192, 12)}
_MASK_VALUES = 64
_MAX_ACTIVATIONS = 8 * 2**30
"""Bytes; a graphics card's memory cannot be asked for here, and 12 GB are common."""


@dataclass(frozen=True, eq=False)
class Grids:
    """The grids of one image column's training scans."""

    shapes: NDArray[np.float64]
    """(n, 3) voxels along x, y, z."""
    spacings: NDArray[np.float64]
    """(n, 3) millimetres."""

    @property
    def extents_mm(self) -> NDArray[np.float64]:
        """(n, 3) millimetres along x, y, z."""
        return self.shapes * self.spacings


class SizeChoice(NamedTuple):
    """A view's size and why."""

    value: tuple[int, int, int]
    reason: str


class IntensityChoice(NamedTuple):
    """Modality, normalisation and windows, each with its reason."""

    modality: Modality
    modality_reason: str
    normalise: str
    windows: tuple[tuple[float, float], ...]
    normalise_reason: str


class MemoryChoice(NamedTuple):
    """Batch, chunk and recomputation, and why."""

    batch_size: int
    chunk_size: int
    recompute: bool
    reason: str


def patch_size_of(backbone: str) -> int:
    """Pixels of a patch, by the words in a backbone's name; 14, the default backbone's, when they do not tell."""
    name = os.path.basename(backbone.rstrip("/")).lower()
    return next((size for word, size in PATCH_SIZES.items() if word in name), 14)


def choose_plane(grids: Grids) -> tuple[Plane, str]:
    """The acquisition plane of most scans; among equal votes axial, then coronal."""
    votes = Counter(slice_plane(tuple(spacing)) for spacing in grids.spacings)
    plane = max(AXES, key=lambda name: (votes[name], -list(AXES).index(name)))
    total = len(grids.spacings)
    which = f"all {total} scans" if votes[plane] == total else f"{votes[plane]} of {total} scans"
    return plane, f"acquisition plane of {which} (largest spacing, ties axial)"


def choose_field_of_view(grids: Grids, leak: SizeLeak | None) -> tuple[tuple[float, float, float] | None, str]:
    """Millimetres along x, y, z to which all scans are padded, or None for each scan whole."""
    extents = grids.extents_mm
    largest, median = extents.max(axis=0), np.median(extents, axis=0)
    field = tuple(math.ceil(length * 10 - 1e-6) / 10 for length in largest)
    if leak:
        return field, (
            f"the scan's size alone ({leak.measure}) separates {leak.label} with AUROC {leak.auroc:.2f}: all are padded"
            " to the largest, so that they have one scale (the border can still show the size)"
        )
    spread = (largest - extents.min(axis=0)) / median
    if (spread <= SIMILAR_EXTENTS).all():
        return None, "the scans' extents differ by less than 10 %"
    ranges = " x ".join(f"{low:.0f}-{high:.0f}" for low, high in zip(extents.min(axis=0), largest, strict=True))
    if (largest <= MAX_PADDING * median).all():
        return field, f"extents differ ({ranges} mm): padded to the largest, so that all have one scale"
    return None, f"extents differ too much to pad ({ranges} mm): each scan is resized whole; consider cropping them"


def choose_size(
    grids: Grids, plane: Plane, patch_size: int, field_of_view: tuple[float, float, float] | None
) -> SizeChoice:
    """In-plane pixels as multiples of the patch, and slices: the median scan at its own resolution, within limits."""
    extent = np.median(grids.extents_mm, axis=0) if field_of_view is None else np.asarray(field_of_view)
    spacing = np.median(grids.spacings, axis=0)
    first, second, across = AXES[plane]
    pixel_mm = min(spacing[first], spacing[second])
    native = np.array([extent[first], extent[second]]) / pixel_mm
    scale, why = _in_plane_scale(native, patch_size)
    height, width = (max(1, round(float(length) * scale / patch_size)) * patch_size for length in native)
    num_slices = max(1, round(float(extent[across] / spacing[across])))
    of = "median scan" if field_of_view is None else "field of view"
    reason = f"{of} {native[0]:.0f} x {native[1]:.0f} px of {pixel_mm:.2g} mm, {num_slices} slices"
    limited = f"; at most {MAX_SLICES} slices" if num_slices > MAX_SLICES else ""
    return SizeChoice((height, width, min(num_slices, MAX_SLICES)), f"{reason}{why}{limited}; patch {patch_size}")


def choose_intensity(profiles: Sequence[IntensityProfile], dtypes: Sequence[str]) -> IntensityChoice:
    """Modality by majority of the sampled scans, and how their intensities become [0, 1]."""
    guesses = [guess_modality(profile) for profile in profiles]
    modality, votes = Counter(guess.modality for guess in guesses).most_common(1)[0]
    why = next(guess.reason for guess in guesses if guess.modality == modality)
    reason = f"{votes} of {len(guesses)} scans looked at: {why}"
    if votes < len(guesses):
        others = sorted({guess.modality for guess in guesses} - {modality})
        reason = f"MIXED: {reason}; the others look like {', '.join(others)}; check them"
    low, high = min(p.minimum for p in profiles), max(p.maximum for p in profiles)
    few_values = all(profile.distinct <= _MASK_VALUES for profile in profiles)
    eight_bit = all(dtype == "uint8" for dtype in dtypes) and low >= 0 and high <= 255
    if (few_values or eight_bit) and low < high:
        kind = "masks or label maps" if few_values else "8-bit values"
        reason = f"{kind}, {low:g} to {high:g}" if eight_bit or few_values else reason
        return IntensityChoice("other", reason, "window", ((low, high),), f"the whole range: {kind}")
    if modality == "CT":
        hint = "soft tissue (HU); lung: [[-1000, 400]], several windows: three pairs"
        return IntensityChoice("CT", reason, "window", (SOFT_TISSUE,), hint)
    return IntensityChoice(modality, reason, "percentile", (), "0.5 to 99.5 % of each scan: there is no absolute scale")


def choose_memory(
    sizes: Sequence[tuple[int, int, int]], backbone: str, patch_size: int, memory_bytes: int | None
) -> MemoryChoice:
    """Two volumes a step as in the paper; fewer slices at once, recomputed in the backward pass, when memory is short.

    Args:
        sizes: of the views of one case.
        backbone: its name tells width and depth; an unknown one counts as ViT-B.
        patch_size: pixels.
        memory_bytes: of this machine; None when it does not say.
    """
    budget = min(_MAX_ACTIVATIONS, (memory_bytes or 2 * _MAX_ACTIVATIONS) // 2)
    name = os.path.basename(backbone.rstrip("/")).lower()
    width, depth = next((shape for word, shape in _WIDTH_AND_DEPTH.items() if word in name), (768, 12))
    per_slice = [
        (math.ceil(height / patch_size) * math.ceil(across / patch_size) + 1) * width * depth * _BYTES_PER_VALUE
        for height, across, _ in sizes
    ]
    step = BATCH_SIZE * sum(bytes_ * size[2] for bytes_, size in zip(per_slice, sizes, strict=True))
    if step <= budget:
        return MemoryChoice(BATCH_SIZE, 64, False, f"two scans a step as in the paper, about {_gb(step)}")
    chunk = next((count for count in CHUNK_SIZES if count * max(per_slice) <= budget), 1)
    reason = f"two scans a step would keep {_gb(step)}, {_gb(budget)} are planned with"
    return MemoryChoice(BATCH_SIZE, chunk, True, f"{reason}; false is faster on a larger machine")


def total_memory() -> int | None:
    """Bytes of this machine's memory, or None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _in_plane_scale(native: NDArray[np.float64], patch_size: int) -> tuple[float, str]:
    """How much the median slice is enlarged or reduced, and why."""
    least, most = MIN_PATCHES * patch_size, MAX_PATCHES * patch_size**2
    scale, why = 1.0, ""
    if native.min() < least:
        scale = least / native.min()
        why = f"; enlarged {scale:.2g} times to {MIN_PATCHES} patches"
    if native.prod() * scale**2 > most:
        scale = math.sqrt(most / native.prod())
        why = f"; scaled by {scale:.2g} to {MAX_PATCHES} patches a slice"
    return float(scale), why


def _gb(count: float) -> str:
    return f"{count / 2**30:.1f} GB"
