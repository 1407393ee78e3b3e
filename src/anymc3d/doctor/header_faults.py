"""Faults that headers show, of each scan and against the others of its column."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from anymc3d.data.case import Case
from anymc3d.data.thick_planes import mixed_planes
from anymc3d.doctor.checks import Finding, finding_of, grouped
from anymc3d.doctor.facts import Grid
from anymc3d.doctor.label_faults import Labels
from anymc3d.doctor.scans import AXIS_NAMES, Scan, ras_grid, with_grids
from anymc3d.plan.size_leak import find_size_leak
from anymc3d.settings.config import LabelSettings

LEAST_TO_COMPARE = 8
"""Fewer scans say nothing of what is usual."""
FAR_SPACING, FAR_SIZE = 2.5, 2.0
"""Times the median; and more than :data:`FAR_SPREADS` robust standard deviations."""
FAR_SPREADS = 6.0
SMALLEST_MM, LARGEST_MM = 5.0, 2500.0
FEW_SLICES = 4
MAJORITY = 0.8
_LOST_IN_PLANE = 128
_LOST_EXTENT_MM = 500.0
_LOST_FLATNESS = 0.3
_WITHOUT_GEOMETRY = (".npy",)


def header_faults(scans: Sequence[Scan], labels: Labels) -> list[Finding]:
    """All checks of the headers of one image column."""
    findings = _reader_faults(scans)
    pairs = list(with_grids(scans))
    for scan, grid in pairs:
        findings += _single(scan, grid)
    mixed, in_odd_planes = _planes(pairs)
    alone = [pair for place, pair in enumerate(pairs) if place not in in_odd_planes]
    findings += _orientations(pairs) + _storage(pairs) + mixed + _outliers(alone)
    return grouped(findings) + _labels_by_grid(pairs, labels)


def _reader_faults(scans: Sequence[Scan]) -> list[Finding]:
    findings = []
    for scan in scans:
        facts = scan.facts
        if facts.error is not None:
            findings.append(finding_of(kind_of_error(facts.error), facts.error, [scan.case], scan.column))
        else:
            findings += [finding_of("scan-ambiguous", text, [scan.case], scan.column) for text in facts.warnings]
    return findings


def kind_of_error(text: str) -> str:
    """Which check a reader's message belongs to."""
    if "expected finite numbers only" in text or "exceed the range of float32" in text:
        return "scan-not-finite"
    return "scan-constant" if "an empty scan" in text else "scan-unreadable"


def _single(scan: Scan, grid: Grid) -> list[Finding]:
    shape, spacing = ras_grid(grid)
    extent = shape * spacing
    findings = []
    if extent.max() > LARGEST_MM or extent.max() < SMALLEST_MM:
        text = f"{_mm(extent)}: expected {SMALLEST_MM:g} to {LARGEST_MM:g} mm"
        findings.append(finding_of("size-implausible", text, [scan.case], scan.column))
    elif _looks_lost(scan, grid):
        text = f"{_count(shape)} voxels of 1 mm with an identity affine would be {_mm(extent)}"
        findings.append(finding_of("geometry-lost", text, [scan.case], scan.column))
    if shape.min() < FEW_SLICES:
        text = f"{_count(shape)} voxels along x, y, z"
        findings.append(finding_of("few-slices", text, [scan.case], scan.column))
    if scan.case.center is not None:
        findings += _center(scan.case, scan.column, grid)
    return findings


def _looks_lost(scan: Scan, grid: Grid) -> bool:
    """1 mm all over and no orientation is right for template space, never for a slab of fine slices."""
    reference = scan.case.images[scan.column]
    if reference.lower().endswith(_WITHOUT_GEOMETRY) or ".npz#" in reference:
        return False
    identity = np.allclose(np.abs(grid.matrix[:3, :3]), np.eye(3), atol=1e-6)
    sizes = sorted(grid.shape)
    flat = sizes[1] >= _LOST_IN_PLANE and sizes[1] == sizes[2] and sizes[0] < _LOST_FLATNESS * sizes[2]
    return identity and (flat or sizes[2] >= _LOST_EXTENT_MM)


def _center(case: Case, column: str, grid: Grid) -> list[Finding]:
    def is_inside(point: tuple[float, float, float]) -> bool:
        index = np.linalg.solve(grid.matrix, np.array([*point, 1.0]))[:3]
        return bool((index >= -0.5).all() and (index <= np.array(grid.shape) - 0.5).all())

    x, y, z = case.center or (0.0, 0.0, 0.0)
    if is_inside((x, y, z)):
        return []
    hint = "; with x and y negated it is inside: LPS coordinates?" if is_inside((-x, -y, z)) else ""
    return [finding_of("center-outside", f"({x:g}, {y:g}, {z:g}) mm is outside the grid{hint}", [case], column)]


def _orientations(pairs: Sequence[tuple[Scan, Grid]]) -> list[Finding]:
    votes = Counter(grid.orientation for _, grid in pairs)
    if len(pairs) < LEAST_TO_COMPARE or votes.most_common(1)[0][1] < MAJORITY * len(pairs):
        return []
    usual = votes.most_common(1)[0][0]
    return [
        finding_of(
            "orientation-differs", f"stored as {grid.orientation}, the others as {usual}", [scan.case], scan.column
        )
        for scan, grid in pairs
        if grid.orientation != usual
    ]


def _storage(pairs: Sequence[tuple[Scan, Grid]]) -> list[Finding]:
    votes = Counter(grid.dtype for _, grid in pairs)
    if len(pairs) < LEAST_TO_COMPARE or len(votes) < 2:
        return []
    usual = min(votes, key=lambda name: (-votes[name], name))
    return [
        finding_of("storage-differs", f"stored as {grid.dtype}, most others as {usual}", [scan.case], scan.column)
        for scan, grid in pairs
        if grid.dtype != usual
    ]


def _planes(pairs: Sequence[tuple[Scan, Grid]]) -> tuple[list[Finding], frozenset[int]]:
    """Thick scans of several planes in one column, and the places of those of an unusual one: reported once."""
    if not pairs:
        return [], frozenset()
    spacings = np.array([ras_grid(grid)[1] for _, grid in pairs])
    mixed = mixed_planes(spacings, [scan.case.id for scan, _ in pairs])
    if mixed is None:
        return [], frozenset()
    cases = [pairs[place][0].case for place in mixed.others]
    return [finding_of("planes-mixed", mixed.counts, cases, pairs[0][0].column)], frozenset(mixed.others)


def _outliers(pairs: Sequence[tuple[Scan, Grid]]) -> list[Finding]:
    if len(pairs) < LEAST_TO_COMPARE:
        return []
    grids = [ras_grid(grid) for _, grid in pairs]
    spacings = np.array([spacing for _, spacing in grids])
    extents = np.array([shape * spacing for shape, spacing in grids])
    findings = []
    far_spacing, far_size = _far(spacings, FAR_SPACING), _far(extents, FAR_SIZE)
    for (scan, _), spacing, extent, odd_step, odd_size in zip(
        pairs, spacings, extents, far_spacing, far_size, strict=True
    ):
        if odd_step >= 0:
            text = (
                f"{spacing[odd_step]:.4g} mm {AXIS_NAMES[odd_step]}, median {np.median(spacings[:, odd_step]):.4g} mm"
            )
            findings.append(finding_of("spacing-outlier", text, [scan.case], scan.column))
        elif odd_size >= 0:
            text = f"{extent[odd_size]:.4g} mm {AXIS_NAMES[odd_size]}, median {np.median(extents[:, odd_size]):.4g} mm"
            findings.append(finding_of("size-outlier", text, [scan.case], scan.column))
    return findings


def _far(values: NDArray[np.float64], times: float) -> NDArray[np.intp]:
    """The axis on which each row is farthest beyond the limits, or -1."""
    logs = np.log(values)
    distance = np.abs(logs - np.median(logs, axis=0))
    spread = 1.4826 * np.median(distance, axis=0)
    limit = np.maximum(np.log(times), FAR_SPREADS * spread)
    return np.where((distance > limit).any(axis=1), np.argmax(distance - limit, axis=1), -1)


def _labels_by_grid(pairs: Sequence[tuple[Scan, Grid]], labels: Labels) -> list[Finding]:
    """Whether size or spacing alone separates the classes."""
    settings: LabelSettings | None = labels.settings
    if settings is None or not pairs:
        return []
    targets = labels.targets[[scan.index for scan, _ in pairs]]
    grids = [ras_grid(grid) for _, grid in pairs]
    spacings = np.array([spacing for _, spacing in grids])
    extents = np.array([shape * spacing for shape, spacing in grids])
    findings = []
    for check, values, what in (("label-by-size", extents, "size"), ("label-by-spacing", spacings, "spacing")):
        leak = find_size_leak(values, targets, settings)
        if leak is not None:
            figures = f"AUROC {leak.auroc:.2f}, at least {leak.lower:.2f}"
            text = f"{what} ({leak.measure}) alone predicts {leak.label}: {figures}"
            findings.append(Finding(check, text, column=pairs[0][0].column))
    return findings


def exists(reference: str) -> bool:
    """Whether there is something to open; what is not there is a fault of the manifest."""
    return os.path.exists(reference.rpartition("#")[0] if ".npz#" in reference else reference)


def _mm(values: NDArray[np.float64]) -> str:
    return " x ".join(f"{value:.4g}" for value in values) + " mm"


def _count(values: NDArray[np.float64]) -> str:
    return " x ".join(f"{value:.0f}" for value in values)
