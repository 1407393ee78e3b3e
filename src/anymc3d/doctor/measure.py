"""One scan or mask in, its facts out; whatever is wrong with the file is a fact too, never an exception."""

from __future__ import annotations

import base64
import hashlib
import zlib

import numpy as np
from nibabel.orientations import io_orientation
from numpy.typing import NDArray

from anymc3d.data.intensity import profile
from anymc3d.data.readers import read_header, read_volume
from anymc3d.data.volume import ScanHeader, Volume, resize, to_ras
from anymc3d.doctor.facts import (
    HISTOGRAM_BINS,
    HISTOGRAM_LOW,
    HISTOGRAM_STEP,
    SIGNATURE_SIDE,
    SIGNATURE_STEPS,
    Grid,
    Job,
    MaskFacts,
    ScanFacts,
    VoxelFacts,
)
from anymc3d.errors import ScanError

MAX_MASK_VALUES = 300
CUT_SHARE = 0.2
"""A region whose cross-section at the grid's border is at least so large a part of its largest one is cut there."""
_FAINT = 0.1
_SIDES = (("left", "right"), ("posterior", "anterior"), ("inferior", "superior"))


def measure(job: Job) -> ScanFacts:
    """Read the header, and the voxels unless the job says not to."""
    grid, warnings = None, ()
    try:
        header = read_header(job.reference, spacing=job.spacing, series=job.series)
        grid, warnings = grid_of(header), header.warnings
        if job.headers_only:
            return ScanFacts(grid=grid, warnings=warnings)
        volume = read_volume(job.reference, spacing=job.spacing, series=job.series)
    except ScanError as error:
        return ScanFacts(error=error.what, grid=grid, warnings=warnings)
    if job.kind == "mask":
        return ScanFacts(grid=grid, warnings=volume.warnings, mask=mask_facts(volume))
    return ScanFacts(grid=grid, modality=volume.modality, warnings=volume.warnings, voxels=voxel_facts(volume))


def grid_of(header: ScanHeader) -> Grid:
    """Shape and affine of a header, in plain numbers."""
    rows = tuple(tuple(round(float(value), 9) for value in row) for row in header.affine)
    return Grid(header.shape, rows, header.dtype)


def voxel_facts(volume: Volume) -> VoxelFacts:
    """Measure the voxels of a scan."""
    voxels = volume.voxels
    stack = np.moveaxis(voxels, slice_axis(volume), 0)
    constant, duplicate = _odd_slices(stack)
    intensities = profile(volume)
    return VoxelFacts(
        profile=intensities,
        histogram=_histogram(voxels),
        is_integer=all(bool((part == np.rint(part)).all()) for part in stack),
        lowest_share=float(sum(int((part == intensities.minimum).sum()) for part in stack) / voxels.size),
        constant_slices=constant,
        duplicate_slices=duplicate,
        num_slices=len(stack),
        hashes=_hashes(volume),
        signature=_signature(volume),
    )


def mask_facts(volume: Volume) -> MaskFacts:
    """Measure the voxels of a mask."""
    values, counts = np.unique(volume.voxels, return_counts=True)
    most_common = zip(values[:MAX_MASK_VALUES].tolist(), counts[:MAX_MASK_VALUES].tolist(), strict=True)
    return MaskFacts(
        values={f"{value:g}": int(count) for value, count in most_common},
        is_integer=bool((values == np.rint(values)).all() and values.min() >= 0),
        cut_sides=_cut_sides(to_ras(volume).voxels != 0),
    )


def slice_axis(volume: Volume) -> int:
    """The stored axis with the largest spacing; among equal ones the one that runs along the body."""
    spacing = np.array(volume.spacing)
    widest = np.flatnonzero(spacing >= spacing.max() * 0.99)
    world = io_orientation(volume.affine)[:, 0]
    return int(max(widest, key=lambda axis: world[axis]))


def _odd_slices(stack: NDArray[np.float32]) -> tuple[int, int]:
    """How many inner slices hold one value, and how many equal an earlier slice."""
    spreads = np.array([float(part.std()) if part.min() < part.max() else 0.0 for part in stack])
    shows = np.flatnonzero(spreads)
    # Faint traces beyond the body do not make the empty slices before them inner ones.
    body = np.flatnonzero(spreads >= _FAINT * spreads.max())
    constant = int((spreads[body[0] : body[-1] + 1] == 0).sum())
    first: dict[int, int] = {}
    duplicates = 0
    for index in map(int, shows):
        key = zlib.crc32(np.ascontiguousarray(stack[index]))
        known = first.setdefault(key, index)
        duplicates += known != index and bool((stack[known] == stack[index]).all())
    return constant, duplicates


def _histogram(voxels: NDArray[np.float32]) -> tuple[int, ...]:
    counts = np.zeros(HISTOGRAM_BINS, dtype=np.int64)
    for k in range(voxels.shape[2]):
        places = np.floor((voxels[:, :, k].ravel() - HISTOGRAM_LOW) / HISTOGRAM_STEP)
        counts += np.bincount(np.clip(places, 0, HISTOGRAM_BINS - 1).astype(np.intp), minlength=HISTOGRAM_BINS)
    return tuple(int(count) for count in counts)


def _hashes(volume: Volume) -> tuple[str, ...]:
    """The same anatomy has the same first hash however it is stored; a rewritten affine keeps the second one."""
    both = (_hash(to_ras(volume).voxels), _hash(volume.voxels))
    return tuple(dict.fromkeys(both))


def _hash(voxels: NDArray[np.float32]) -> str:
    digest = hashlib.sha256(str(voxels.shape).encode())
    for k in range(voxels.shape[2]):
        # Adding zero makes -0.0 and 0.0 the same bytes.
        digest.update(np.ascontiguousarray(voxels[:, :, k]) + np.float32(0))
    return digest.hexdigest()


def _signature(volume: Volume) -> str:
    small = resize(to_ras(volume), (SIGNATURE_SIDE,) * 3).voxels
    spread = float(small.std())
    steps = (small - small.mean()) / (spread or 1.0) * SIGNATURE_STEPS
    return base64.b64encode(np.clip(np.rint(steps), -32767, 32767).astype("<i2").tobytes()).decode()


def _cut_sides(region: NDArray[np.bool_]) -> tuple[str, ...]:
    cut = []
    for axis, names in enumerate(_SIDES):
        areas = region.sum(axis=tuple(other for other in range(3) if other != axis))
        if areas.max() > 0 and len(areas) > 1:
            cut += [name for name, place in zip(names, (0, -1), strict=True) if areas[place] >= CUT_SHARE * areas.max()]
    return tuple(cut)
