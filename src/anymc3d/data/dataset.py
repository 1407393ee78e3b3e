"""Many cases -> prepared slices in the cache, and out of it one case at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from anymc3d.data.cache import Cache
from anymc3d.data.case import Case
from anymc3d.data.case_faults import CaseFault, attempt, fault_of
from anymc3d.data.case_scans import CaseScans, PreparedCase, Segmenters, mask_hash_name
from anymc3d.data.mask_slices import Labels, check_annotated
from anymc3d.data.ood_measures import measure_case
from anymc3d.data.prefetch.queue import read_ahead, workers_for
from anymc3d.data.regions import ROI_SOURCES
from anymc3d.data.scan import named
from anymc3d.errors import AnyMC3DError, ExcludedError, ManifestError, OutputError
from anymc3d.settings.views import ViewSettings

_THREADS = 2
"""That read in this process, while one waits for the disk."""


class CaseSet:
    """The prepared slices of some cases, loaded one case at a time from the cache.

    ``prepared``: what :func:`prepare_all` returned for the same cases; a scan is not opened again while its cache
    entry is whole.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        prepared: Sequence[PreparedCase],
        views: Mapping[str, ViewSettings],
        cache: Cache,
        segmenters: Segmenters | None = None,
    ) -> None:
        self.cases, self.prepared, self.views, self.cache = tuple(cases), tuple(prepared), dict(views), cache
        self.segmenters = segmenters

    def __len__(self) -> int:
        return len(self.cases)

    def load(self, index: int) -> dict[str, np.ndarray | None]:
        """Return view -> float16 slices (S, C, H, W), or None where the case lacks the view."""
        scans = CaseScans(self.cases[index], self.cache, self.prepared[index].hashes, self.segmenters)
        return {n: None if view is None else view.slices for n, view in scans.slices(self.views).items()}

    def masks(self, index: int) -> dict[str, Labels | None]:
        """Return view -> labels (S, H, W) on the same pixels, or None where the case has no mask of that scan."""
        scans = CaseScans(self.cases[index], self.cache, self.prepared[index].hashes, self.segmenters)
        return scans.masks(self.views)


def prepare_all(
    cases: Sequence[Case],
    views: Mapping[str, ViewSettings],
    cache: Cache,
    *,
    workers: int | None = None,
    progress: Callable[[int], object] = lambda _: None,
    segmenters: Segmenters | None = None,
    with_masks: bool = False,
) -> list[PreparedCase]:
    """Read every case once, so that whatever is wrong is known before the first step.

    ``workers``: processes that read, and write the cache (by default as
    :func:`anymc3d.data.prefetch.queue.workers_for` says); with none of them, or where a segmenter draws the region of a
    view, two threads of this one do it. ``progress``: called with 1 after every case. ``with_masks``: also the masks of
    the cases that have one. Slices are not kept in memory: the returned cases have no views. A case that the settings
    leave out is returned with the reason, as ``excluded``.

    Raises:
        ManifestError: some cases cannot be read; every one is listed with its reason.
        OutputError: the cache cannot be written.
    """
    draws = any(view.roi is not None and ROI_SOURCES[view.roi.source].needs_segmenter for view in views.values())
    processes = 0 if draws else workers_for(len(cases), workers, alone=True)
    if processes:
        results = _by_processes(cases, views, cache, processes, progress, with_masks=with_masks)
    else:

        def one(case: Case) -> PreparedCase | CaseFault:
            result = prepared_or_fault(case, views, cache, segmenters, with_masks)
            progress(1)
            return result

        with ThreadPoolExecutor(max_workers=_THREADS) as pool:
            results = list(pool.map(one, cases))
    pairs = zip(cases, results, strict=True)
    problems = [f"case {case.id!r}: {result.message}" for case, result in pairs if isinstance(result, CaseFault)]
    if problems:
        raise ManifestError("scans that cannot be used", problems)
    return [result for result in results if isinstance(result, PreparedCase)]


def _by_processes(
    cases: Sequence[Case],
    views: Mapping[str, ViewSettings],
    cache: Cache,
    workers: int,
    progress: Callable[[int], object],
    *,
    with_masks: bool,
) -> list[PreparedCase | CaseFault]:
    common = {"views": dict(views), "folder": str(cache.folder), "with_masks": with_masks}
    jobs, results = [("prepare", {"case": case, **common}) for case in cases], []
    with read_ahead(jobs, workers=workers) as answers:
        for answer in answers:
            if isinstance(answer.value, OutputError):
                raise answer.value
            lost = isinstance(answer.value, Exception)
            results.append(CaseFault(str(answer.value)) if lost else answer.value)
            progress(1)
    return results


def prepared_or_fault(
    case: Case, views: Mapping[str, ViewSettings], cache: Cache, segmenters: Segmenters | None, with_masks: bool
) -> PreparedCase | CaseFault:
    """One case without its slices, which are in the cache then; or why it cannot be used.

    Raises:
        OutputError: the cache cannot be written.
    """
    scans = CaseScans(case, cache, segmenters=segmenters)

    def prepared() -> PreparedCase:
        try:
            whole = scans.prepare(views)
            without_views = replace(whole, views={}, measures=measure_case(whole))
            return _with_masks(without_views, scans, views) if with_masks else without_views
        except ExcludedError as error:
            return PreparedCase({}, {}, {}, excluded=error.what)

    return attempt(prepared, case, describe=_describe)


def _describe(error: Exception, case: Case) -> str:
    """With the path, unlike in outputs: this is shown to the author of the manifest alone."""
    return error.with_code if isinstance(error, AnyMC3DError) else fault_of(error, case)


def _with_masks(prepared: PreparedCase, scans: CaseScans, views: Mapping[str, ViewSettings]) -> PreparedCase:
    masks = {name: mask for name, mask in scans.masks(views).items() if mask is not None}
    columns = {name: str(scans.case.mask(views[name].image)) for name in masks}
    hashes = {mask_hash_name(column): scans.mask_hash(column) for column in sorted(set(columns.values()))}
    labels = {name: tuple(int(label) for label in np.unique(mask) if label) for name, mask in masks.items()}
    for name, column in columns.items():
        with named(column):
            check_annotated(labels[name], scans.case)
    return replace(prepared, hashes={**prepared.hashes, **hashes}, mask_labels=labels)
