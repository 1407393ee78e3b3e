"""The numbers of all cases that a plain method learns from: measures, or voxels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from anymc3d.data.cache import Cache
from anymc3d.data.case import Case
from anymc3d.data.case_scans import CaseScans, PreparedCase, Segmenters
from anymc3d.data.dataset import CaseSet
from anymc3d.data.mask_slices import annotated_labels
from anymc3d.data.measures.case import as_numbers, completed
from anymc3d.data.measures.measure_cache import measured
from anymc3d.errors import ManifestError, ScanError
from anymc3d.models.plain import PLAIN, num_voxels
from anymc3d.predict.plain_numbers import voxels_of, wanted_measures
from anymc3d.settings.config import LabelSettings
from anymc3d.settings.views import ViewSettings
from anymc3d.train.ridge.learner import RidgeLearner
from anymc3d.types import Modality

MOST_VOXELS = 40_000
"""Of a view that a plain method sees by its voxels; a finer grid has more noise to fit and little more to see."""
LEAST_SHARE = 0.1
"""Of the cases: a measure that fewer have is left out."""


@dataclass(frozen=True, eq=False)
class PlainNumbers:
    """``values`` (n, F) float32, NaN where not there; ``names``: of measures, none of voxels; ``structures``: labels of
    the masks that were measured."""

    values: NDArray[np.float32]
    names: tuple[str, ...] = ()
    structures: tuple[int, ...] = ()


def measure_cases(
    cases: Sequence[Case],
    views: Mapping[str, ViewSettings],
    method: str,
    modality: Modality,
    *,
    cache: Cache | None = None,
    prepared: Sequence[PreparedCase] = (),
    progress: Callable[[], object] = lambda: None,
) -> PlainNumbers:
    """The measures of every case, as :func:`anymc3d.data.measures.case.as_numbers` gives them.

    Raises:
        ManifestError: cases that cannot be measured, each with its reason; or nothing differs between cases.
    """
    wanted = wanted_measures(method, views, (), modality)
    measures: list[dict[str, float]] = []
    problems = []
    for number, case in enumerate(cases):
        hashes = prepared[number].hashes if prepared else None
        try:
            measures.append(measured(CaseScans(case, cache, hashes), wanted))
        except ScanError as error:
            problems.append(f"case {case.id!r}: {error}")
        progress()
    if problems:
        raise ManifestError(f"scans that {method} cannot measure", problems)
    return choose_measures(measures, cases, method)


def choose_measures(measures: Sequence[Mapping[str, float]], cases: Sequence[Case], method: str) -> PlainNumbers:
    """A table of the measures that enough cases have and that differ between them.

    Raises:
        ManifestError: there is none.
    """
    names = list(dict.fromkeys(name for of_case in measures for name in of_case))
    rows = [
        as_numbers(completed(of_case, names, annotated_labels(case)), names)
        for of_case, case in zip(measures, cases, strict=True)
    ]
    values = np.array(rows, dtype=np.float32).reshape(len(measures), len(names))
    is_known = np.isfinite(values)
    low = np.where(is_known, values, np.inf).min(axis=0, initial=np.inf)
    high = np.where(is_known, values, -np.inf).max(axis=0, initial=-np.inf)
    is_kept = (is_known.mean(axis=0) >= LEAST_SHARE) & (high > low)
    if not is_kept.any():
        raise ManifestError(method, ["no measure differs between the cases"])
    values = np.where(is_known, values, np.nan)[:, is_kept]
    chosen = tuple(name for name, keep in zip(names, is_kept, strict=True) if keep)
    structures = {int(what) for name in chosen for what in name.rsplit("/", 2)[-2].split(":") if what.isdecimal()}
    return PlainNumbers(values, chosen, tuple(sorted(structures)) if PLAIN[method].needs_mask else ())


def voxels_of_cases(
    cases: Sequence[Case],
    prepared: Sequence[PreparedCase],
    views: Mapping[str, ViewSettings],
    cache: Cache,
    segmenters: Segmenters | None = None,
    *,
    progress: Callable[[], object] = lambda: None,
) -> PlainNumbers:
    """The voxels of the prepared slices of every case."""
    source = CaseSet(cases, prepared, views, cache, segmenters)
    values = np.empty((len(cases), num_voxels(views)), dtype=np.float32)
    for index in range(len(cases)):
        values[index] = voxels_of(source.load(index), views)
        progress()
    return PlainNumbers(values)


def plain_learner(
    numbers: PlainNumbers, targets: NDArray[np.float64], labels: LabelSettings, patients: Sequence[str]
) -> RidgeLearner:
    """What learns from them: measures robustly standardised, voxels as they are."""
    return RidgeLearner(numbers.values, targets, labels, patients, scaling="robust" if numbers.names else "common")


def voxel_views(views: Mapping[str, ViewSettings]) -> dict[str, ViewSettings]:
    """The same views with no more than ``MOST_VOXELS`` each, every side made smaller by one factor."""
    return {name: _coarser(view) for name, view in views.items()}


def _coarser(view: ViewSettings) -> ViewSettings:
    first, second, slices = view.size[0], view.size[1], view.size[2] or 64
    factor = min(1.0, (MOST_VOXELS / (first * second * slices)) ** (1 / 3))
    size = tuple(max(1, round(side * factor)) for side in (first, second, slices))
    return replace(view, size=size, input="replicate")
