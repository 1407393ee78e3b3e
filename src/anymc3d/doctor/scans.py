"""The scans of one image column with their cases: what the checks of headers, voxels and duplicates look at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from nibabel.orientations import io_orientation
from numpy.typing import NDArray

from anymc3d.data.case import Case
from anymc3d.doctor.facts import Grid, ScanFacts, VoxelFacts

AXIS_NAMES = ("left-right", "posterior-anterior", "inferior-superior")


@dataclass(frozen=True)
class Scan:
    """One cell of an image column and what its file says."""

    index: int
    """Position of the case in the manifest."""
    case: Case
    column: str
    facts: ScanFacts


@dataclass(frozen=True)
class Readable:
    """A scan whose voxels are known."""

    scan: Scan
    voxels: VoxelFacts


def of_column(cases: Sequence[Case], facts: Mapping[tuple[int, str], ScanFacts], column: str) -> list[Scan]:
    """The scans of one column, in the order of the manifest."""
    return [Scan(i, case, column, facts[i, column]) for i, case in enumerate(cases) if (i, column) in facts]


def with_grids(scans: Sequence[Scan]) -> Iterator[tuple[Scan, Grid]]:
    """Those whose header is known."""
    return ((scan, scan.facts.grid) for scan in scans if scan.facts.grid is not None)


def with_voxels(scans: Sequence[Scan]) -> list[Readable]:
    """Those whose voxels are known."""
    return [Readable(scan, scan.facts.voxels) for scan in scans if scan.facts.voxels is not None]


def ras_grid(grid: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Voxels and millimetres along x, y, z (right, anterior, superior), whatever the order in which they are stored."""
    matrix = grid.matrix
    world = io_orientation(matrix)[:, 0].astype(int)
    shape, spacing = np.empty(3), np.empty(3)
    shape[world] = grid.shape
    spacing[world] = np.round(np.linalg.norm(matrix[:3, :3], axis=0), 6)
    return shape, spacing
