"""What a data set holds, in numbers: the top of every report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anymc3d.data.case import SPLITS
from anymc3d.data.patients import patients_of
from anymc3d.doctor.examine import Examination
from anymc3d.doctor.facts import HISTOGRAM_BINS, HISTOGRAM_LOW, HISTOGRAM_STEP
from anymc3d.doctor.label_faults import outcomes
from anymc3d.doctor.scans import ras_grid

AXES = ("x (left-right)", "y (front-back)", "z (up-down)")
_BINS = 24
_HU_STEPS = 4


@dataclass(frozen=True)
class Histogram:
    """Counts between edges; ``unit`` of the edges, ``of`` what is counted."""

    title: str
    unit: str
    of: str
    edges: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Summary:
    """Counts and histograms."""

    num_cases: int
    num_patients: int
    num_scans: int
    num_read: int
    num_masks: int
    splits: dict[str, int]
    """Split -> cases; ``none`` where the manifest does not say."""
    labels: tuple[tuple[str, str, dict[str, int]], ...]
    """(column, class, split -> cases); the class ``missing`` comes last."""
    histograms: tuple[Histogram, ...]


def summarise(seen: Examination) -> Summary:
    """Count what was seen."""
    cases = seen.manifest.cases
    names = [case.split or "none" for case in cases]
    grids = [ras_grid(facts.grid) for facts in seen.scans.values() if facts.grid is not None]
    return Summary(
        num_cases=len(cases),
        num_patients=len(set(filter(None, patients_of(cases)))) + sum(not case.patient for case in cases),
        num_scans=sum(len(case.images) for case in cases),
        num_read=sum(facts.error is None for facts in seen.scans.values()),
        num_masks=len(seen.masks),
        splits={split: names.count(split) for split in (*SPLITS, "none") if split in names},
        labels=tuple(_label_rows(seen, names)),
        histograms=tuple(_grid_histograms(grids)) + _intensity_histograms(seen),
    )


def _label_rows(seen: Examination, names: Sequence[str]) -> list[tuple[str, str, dict[str, int]]]:
    rows = []
    for column, name, has in outcomes(seen.labels):
        rows.append((column, name, _by_split(has == 1, names)))
    settings = seen.labels.settings
    for column, values in zip(settings.columns if settings else (), seen.labels.targets.T, strict=False):
        if np.isnan(values).any():
            rows.append((column, "missing or faulty", _by_split(np.isnan(values), names)))
    return sorted(rows, key=lambda row: settings.columns.index(row[0]) if settings else 0)


def _by_split(chosen: NDArray[np.bool_], names: Sequence[str]) -> dict[str, int]:
    counts = Counter(name for name, is_one in zip(names, chosen, strict=True) if is_one)
    return {split: counts[split] for split in (*SPLITS, "none") if split in names}


def _grid_histograms(grids: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]]) -> list[Histogram]:
    if not grids:
        return []
    shapes, spacings = np.array([shape for shape, _ in grids]), np.array([spacing for _, spacing in grids])
    return [
        _histogram(f"{what}, {axis}", unit, "scans", values[:, index])
        for what, unit, values in (("Spacing", "mm", spacings), ("Field of view", "mm", shapes * spacings))
        for index, axis in enumerate(AXES)
    ]


def _histogram(title: str, unit: str, of: str, values: NDArray[np.float64]) -> Histogram:
    low, high = float(values.min()), float(values.max())
    # A set of one value gets a bar of some width, not a division by nothing.
    if high - low < 1e-9 * max(abs(high), 1.0):
        low, high = low - 0.5, high + 0.5
    counts, edges = np.histogram(values, bins=min(_BINS, max(6, len(values) // 4)), range=(low, high))
    return Histogram(title, unit, of, tuple(round(float(e), 6) for e in edges), tuple(int(c) for c in counts))


def _intensity_histograms(seen: Examination) -> tuple[Histogram, ...]:
    """Of CT all voxels in HU, of anything else the median and the 99.5 % percentile of each scan."""
    voxels = [facts.voxels for facts in seen.scans.values() if facts.voxels is not None]
    if not voxels:
        return ()
    if sum(one.profile.p005 < -50 for one in voxels) > len(voxels) / 2:
        # Each scan counts alike, however many voxels it has.
        total = np.sum([np.array(one.histogram) / sum(one.histogram) for one in voxels], axis=0)
        per_mille = np.rint(1e4 * total.reshape(-1, _HU_STEPS).sum(axis=1) / len(voxels)).astype(int)
        edges = HISTOGRAM_LOW + HISTOGRAM_STEP * _HU_STEPS * np.arange(HISTOGRAM_BINS // _HU_STEPS + 1)
        first, last = np.flatnonzero(per_mille)[[0, -1]]
        return (
            Histogram(
                "Intensities of all scans",
                "HU",
                "of 10,000 voxels",
                tuple(float(edge) for edge in edges[first : last + 2]),
                tuple(int(count) for count in per_mille[first : last + 1]),
            ),
        )
    return tuple(
        _histogram(title, "stored units", "scans", np.array([getattr(one.profile, name) for one in voxels]))
        for title, name in (("Median intensity", "p50"), ("99.5 % percentile of intensity", "p995"))
    )
