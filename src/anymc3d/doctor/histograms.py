"""Histograms of grids and intensities: the bars show what most scans are, and words what lies far outside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anymc3d.doctor.examine import Examination
from anymc3d.doctor.facts import HISTOGRAM_BINS, HISTOGRAM_LOW, HISTOGRAM_STEP, VoxelFacts
from anymc3d.doctor.scans import ras_grid

AXES = ("x (left-right)", "y (front-back)", "z (up-down)")
_BINS = 24
_HU_STEPS = 4
_FENCE = 5.0
"""Quartile ranges beyond the quartiles: what lies farther is left out of the bars."""
_SQUEEZED = 3.0
"""...where it would squeeze the rest into a third of the bars or less."""
_MOST_BEYOND = 0.25
_SHOWN = 5


@dataclass(frozen=True)
class Histogram:
    """Counts between edges; ``unit`` of the edges, ``of`` what is counted."""

    title: str
    unit: str
    of: str
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    beyond: str = ""
    """What lies so far outside that the bars leave it out: how many, from where to where, and which cases."""


def histograms(seen: Examination) -> tuple[Histogram, ...]:
    """Histograms of the spacing and field of view along each axis, and of the intensities."""
    return (*_of_grids(seen), *_of_intensities(seen))


def _of_grids(examination: Examination) -> list[Histogram]:
    known = [(index, facts.grid) for (index, _), facts in examination.scans.items() if facts.grid is not None]
    if not known:
        return []
    names = [examination.manifest.cases[index].id for index, _ in known]
    grids = [ras_grid(grid) for _, grid in known]
    shapes, spacings = np.array([shape for shape, _ in grids]), np.array([spacing for _, spacing in grids])
    return [
        histogram(f"{what}, {axis}", "mm", values[:, index], names)
        for what, values in (("Spacing", spacings), ("Field of view", shapes * spacings))
        for index, axis in enumerate(AXES)
    ]


def _of_intensities(examination: Examination) -> list[Histogram]:
    """All voxels in HU of CT; the median and the 99.5 % percentile of each scan of anything else."""
    known = [(index, facts.voxels) for (index, _), facts in examination.scans.items() if facts.voxels is not None]
    voxels = [entry for _, entry in known]
    if not voxels:
        return []
    if sum(entry.profile.p005 < -50 for entry in voxels) > len(voxels) / 2:
        return [_of_hounsfield(voxels)]
    names = [examination.manifest.cases[index].id for index, _ in known]
    return [
        histogram(title, "stored units", np.array([getattr(entry.profile, name) for entry in voxels]), names)
        for title, name in (("Median intensity", "p50"), ("99.5 % percentile of intensity", "p995"))
    ]


def _of_hounsfield(voxels: Sequence[VoxelFacts]) -> Histogram:
    # Each scan counts alike, however many voxels it has.
    total = np.sum([np.array(entry.histogram) / sum(entry.histogram) for entry in voxels], axis=0)
    per_mille = np.rint(1e4 * total.reshape(-1, _HU_STEPS).sum(axis=1) / len(voxels)).astype(int)
    edges = HISTOGRAM_LOW + HISTOGRAM_STEP * _HU_STEPS * np.arange(HISTOGRAM_BINS // _HU_STEPS + 1)
    first, last = np.flatnonzero(per_mille)[[0, -1]]
    return Histogram(
        "Intensities of all scans",
        "HU",
        "of 10,000 voxels",
        tuple(float(edge) for edge in edges[first : last + 2]),
        tuple(int(count) for count in per_mille[first : last + 1]),
    )


def histogram(title: str, unit: str, values: NDArray[np.float64], names: Sequence[str]) -> Histogram:
    """One value per scan; ``names`` are their cases."""
    is_inside = _inside(values)
    low, high = float(values[is_inside].min()), float(values[is_inside].max())
    # A set of one value gets a bar of some width, not a division by nothing.
    if high - low < 1e-9 * max(abs(high), 1.0):
        low, high = low - 0.5, high + 0.5
    counts, edges = np.histogram(values[is_inside], bins=min(_BINS, max(6, len(values) // 4)), range=(low, high))
    rounded = tuple(round(float(edge), 6) for edge in edges)
    return Histogram(
        title, unit, "scans", rounded, tuple(int(count) for count in counts), _beyond(values, is_inside, names)
    )


def _inside(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which values the bars show: all, or all but a few far ones that would squeeze the rest into one bar."""
    everything = np.ones(len(values), dtype=bool)
    first, third = np.quantile(values, [0.25, 0.75])
    reach = _FENCE * (third - first)
    inside = (values >= first - reach) & (values <= third + reach)
    if reach == 0 or inside.mean() < 1 - _MOST_BEYOND:
        return everything
    squeezed = np.ptp(values) > _SQUEEZED * np.ptp(values[inside])
    return inside if squeezed else everything


def _beyond(values: NDArray[np.float64], is_inside: NDArray[np.bool_], names: Sequence[str]) -> str:
    far = np.flatnonzero(~is_inside)
    if not far.size:
        return ""
    low, high = (f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}" for value in np.sort(values[far])[[0, -1]])
    where = low if low == high else f"{low} to {high}"
    listed = ", ".join(names[place] for place in far[:_SHOWN]) + (", …" if far.size > _SHOWN else "")
    noun = "scan" if far.size == 1 else "scans"
    return f"not shown: {far.size} {noun} at {where} ({listed})"
