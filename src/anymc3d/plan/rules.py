"""The rules of ``anymc3d plan`` for planes, fields of view and memory: measured numbers in, a setting and why out.

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

from anymc3d.data.preprocess import AXES, slice_plane
from anymc3d.plan.size_leak import SizeLeak
from anymc3d.settings.config import LabelSettings
from anymc3d.types import Plane

SIMILAR_EXTENTS = 0.10
"""Scans whose extents differ by no more (of the median) are resized whole."""
THICK_SLICES = 3.0
"""Thickness by pixel width from which nnU-Net treats a data set as anisotropic."""
NEARLY_ISOTROPIC = 1.5
MAX_PADDING = 1.5
"""Without a size leak scans are padded only up to so many times the median extent."""
ODD_SHARE, FAR_LARGER, LEAST_FOR_ODD = 0.05, 1.25, 8
"""So large a part of the scans may be left out of a field of view, being so many times larger than the rest."""
PATCH_SIZES = {"dinov3": 16, "dinov2": 14, "patch16": 16, "patch14": 14}
CHUNK_SIZES = (64, 32, 16, 8, 4, 2, 1)
BATCH_SIZE = 2

_BYTES_PER_VALUE = 60
"""Activations kept for the backward pass, per token, block and embedding channel in float32: 45 were measured."""
_WIDTH_AND_DEPTH = {"giant": (1536, 40), "large": (1024, 24), "base": (768, 12), "small": (384, 12), "tiny": (192, 12)}
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

    @property
    def anisotropy(self) -> float:
        """Largest spacing by smallest, of the median scan."""
        return float(np.median(self.spacings.max(axis=1) / self.spacings.min(axis=1)))


class MemoryChoice(NamedTuple):
    """Batch, chunk and recomputation, and why."""

    batch_size: int
    chunk_size: int
    recompute: bool
    reason: str


def patch_size_of(backbone: str) -> int:
    """Pixels of a patch, by the words in a backbone's name; 14, the default backbone's, when they do not say."""
    name = os.path.basename(backbone.rstrip("/")).lower()
    return next((size for word, size in PATCH_SIZES.items() if word in name), 14)


def choose_plane(grids: Grids) -> tuple[Plane, str]:
    """The acquisition plane of most scans; among equal votes axial, then coronal."""
    votes = Counter(slice_plane(tuple(spacing)) for spacing in grids.spacings)
    plane = max(AXES, key=lambda name: (votes[name], -list(AXES).index(name)))
    total = len(grids.spacings)
    which = f"all {total} scans" if votes[plane] == total else f"{votes[plane]} of {total} scans"
    return plane, f"acquisition plane of {which} (largest spacing, ties axial); {_other_planes(grids)}"


def reason_of_named_plane(grids: Grids, plane: Plane) -> str:
    """The reason of a plane that the user named, with what it costs where slices are thick."""
    ratio, usual_plane = grids.anisotropy, choose_plane(grids)[0]
    if plane == usual_plane or ratio < THICK_SLICES:
        return "asked for"
    thick = f"{usual_plane} slices {ratio:.1f} times as thick as a pixel is wide"
    return f"asked for; cut across {thick}: its pictures are coarse"


def _other_planes(grids: Grids) -> str:
    ratio = grids.anisotropy
    if ratio >= THICK_SLICES:
        return f"slices {ratio:.1f} times as thick as a pixel is wide: other planes would be coarse"
    if ratio <= NEARLY_ISOTROPIC:
        return f"voxels {ratio:.1f} : 1, so --views axial,coronal,sagittal shows all sides for three times the work"
    return f"voxels {ratio:.1f} : 1"


def choose_field_of_view(grids: Grids, leak: SizeLeak | None) -> tuple[tuple[float, float, float] | None, str]:
    """Millimetres along x, y, z to which all scans are padded, or None for each scan whole."""
    whole = grids.extents_mm
    inside = fitting(whole).all(axis=1)
    extents, num_odd = whole[inside], int((~inside).sum())
    largest, median = extents.max(axis=0), np.median(extents, axis=0)
    cropped = (
        f"; {num_odd} far larger {'scan is' if num_odd == 1 else 'scans are'} cropped to it, see above"
        if num_odd
        else ""
    )
    field = tuple(math.ceil(length * 10 - 1e-6) / 10 for length in largest)
    if leak:
        return field, (
            f"the scan's size alone ({leak.measure}) separates {leak.label} with AUROC {leak.auroc:.2f}: all are padded"
            f" to the largest, so that they have one scale (the border can still show the size){cropped}"
        )
    spread = (largest - extents.min(axis=0)) / median
    if (spread <= SIMILAR_EXTENTS).all() and not num_odd:
        return None, "the scans' extents differ by less than 10 %"
    ranges = " x ".join(f"{low:.0f}-{high:.0f}" for low, high in zip(extents.min(axis=0), largest, strict=True))
    if (largest <= MAX_PADDING * median).all():
        return field, (
            f"extents differ ({ranges} mm): padded to the largest, so that all have one scale; the median scan gives"
            f" the size{cropped}"
        )
    return None, f"extents differ too much to pad ({ranges} mm): each scan is resized whole; consider cropping them"


def fitting(extents: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which extents (n, 3) are not far larger than nearly all others along their axis.

    One odd scan (another unit, a whole body) must not set the field of view that all others are padded to. At most
    5 % of the scans, and one of few, can be odd, and only beyond 1.25 times the largest of the rest.
    """
    count = len(extents)
    if count < LEAST_FOR_ODD:
        return np.ones(extents.shape, dtype=bool)
    rest = np.sort(extents, axis=0)[: count - math.ceil(ODD_SHARE * count)]
    return extents <= FAR_LARGER * rest[-1]


def choose_memory(
    sizes: Sequence[tuple[int, int, int]], backbone: str, patch_size: int, memory_bytes: int | None
) -> MemoryChoice:
    """Two volumes a step as in the paper; fewer slices at once, recomputed in the backward pass, when memory is short.

    Args:
        sizes: of the views of one case.
        backbone: its name says width and depth; an unknown one counts as ViT-B.
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


def calibration_reason(labels: LabelSettings) -> str:
    """What the task file may say in place of ``calibration: none``."""
    if labels.is_number:
        return "a number has no probability to calibrate"
    choices = "temperature" if labels.one_of_classes else "f1, crg, f1_crg or youden"
    return f"the paper's plain training; {choices} makes probabilities of the logits, fitted on the val rows at the end"


def total_memory() -> int | None:
    """Bytes of this machine's memory, or None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _gb(count: float) -> str:
    return f"{count / 2**30:.1f} GB"
