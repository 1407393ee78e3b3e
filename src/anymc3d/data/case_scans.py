"""The scans of one case -> prepared slices: each scan is read once, its views are cut from that one read.

Training and prediction both go through :class:`CaseScans`, so the same raw file gives the same slices in both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymc3d.data.cache import Cache
from anymc3d.data.case import Case
from anymc3d.data.mask_slices import Labels, annotated_labels, cut_mask, get_or_make, mask_key
from anymc3d.data.prefetch.needs import Needs
from anymc3d.data.preprocess import PreparedView
from anymc3d.data.readers import content_hash
from anymc3d.data.regions import ROI_SOURCES, Region, RegionSources, find_region
from anymc3d.data.scan import Known, Scan, ScanFacts, known_or_made, named, view_name
from anymc3d.data.segmentation import Segmenter
from anymc3d.data.volume import ScanHeader, Volume, to_ras
from anymc3d.errors import OutputError, ScanError
from anymc3d.settings.views import RoiSettings, ViewSettings

Segmenters = Mapping[RoiSettings, Segmenter]
"""What draws the segmentations of regions that come from a program or network."""


@dataclass(frozen=True)
class PreparedCase:
    """One case, ready for the model. ``views``: view -> prepared slices, or None where the case lacks the view.

    ``scans``: manifest image column -> facts of the scan; ``hashes``: the same, and mask columns that views need ->
    SHA-256 of the content. ``notes``: what there is to know of the regions, each with its view.
    """

    views: Mapping[str, PreparedView | None]
    scans: Mapping[str, ScanFacts]
    hashes: Mapping[str, str]
    notes: tuple[str, ...] = ()
    measures: Mapping[str, NDArray[np.float64]] = field(default_factory=dict, compare=False)
    """By :func:`anymc3d.data.ood_measures.measure_case`, of cases of a data set, whose slices are not kept."""
    mask_labels: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """View -> labels above 0 in the cut mask, where masks were asked for and the case has one."""
    excluded: str | None = None
    """Why the settings leave the case out; then it has nothing else."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """All warnings of all scans and notes of all regions, each once."""
        of_scans = [w for facts in self.scans.values() for w in facts.warnings]
        return tuple(dict.fromkeys([*of_scans, *self.notes]))


class CaseScans:
    """The scans of one case; each is decoded at most once, however many views and plugins ask for it.

    Args:
        case: its scans.
        cache: where prepared slices are kept, or None.
        hashes: column -> content hash where already known; saves reading the file.
        segmenters: for views whose region a program or network draws.
        volumes: column -> scan that is in memory; the case's reference for it is not looked at.
        known: what another process found of the case (:mod:`anymc3d.data.prefetch`), which is not looked for again.
    """

    def __init__(
        self,
        case: Case,
        cache: Cache | None = None,
        hashes: Mapping[str, str] | None = None,
        segmenters: Segmenters | None = None,
        volumes: Mapping[str, Volume] | None = None,
        known: Known | None = None,
    ) -> None:
        self.case, self._answers = case, known or {}
        self._known, self._segmenters = dict(hashes or {}), segmenters or {}
        self._scans = {
            column: Scan(column, reference, case.spacing, case.series(column), cache, self._known.get(column), known)
            for column, reference in case.images.items()
        }
        for column, volume in (volumes or {}).items():
            self._scans[column].hold(volume)

    def prepare(self, views: Mapping[str, ViewSettings]) -> PreparedCase:
        """Prepare all views.

        Raises:
            ScanError: a scan cannot be read or used, or the case has none of the views.
            ExcludedError: a view's settings leave the case out.
        """
        columns = self._here(views)
        slices = self.slices(views)
        return PreparedCase(
            views=slices,
            scans={column: self._scans[column].facts() for column in columns},
            hashes={column: self._scans[column].hash for column in columns} | self._mask_hashes(views.values()),
            notes=tuple(f"view {n}: {note}" for n, view in slices.items() if view is not None for note in view.notes),
        )

    def measured(self, views: Mapping[str, ViewSettings]) -> PreparedCase:
        """What is known of the scans that views show, without slices.

        Raises:
            ScanError: a scan cannot be read, or the case has none of them.
        """
        columns = self._here(views)
        return PreparedCase(
            views={},
            scans={column: self._scans[column].facts() for column in columns},
            hashes={column: self._scans[column].hash for column in columns},
        )

    def _here(self, views: Mapping[str, ViewSettings]) -> list[str]:
        """The image columns of views that the case has."""
        wanted = dict.fromkeys(view.image for view in views.values())
        columns = [column for column in wanted if column in self._scans]
        if not columns:
            raise ScanError(
                f"case {self.case.id!r}: expected a scan in at least one of the columns {', '.join(wanted)}, "
                f"got {', '.join(self._scans) or 'none'}"
            )
        return columns

    def slices(self, views: Mapping[str, ViewSettings]) -> dict[str, PreparedView | None]:
        """Prepare all views without measuring the scans; None where the case lacks a view."""
        return {n: self._view(v) if v.image in self._scans else None for n, v in views.items()}

    def _view(self, view: ViewSettings) -> PreparedView:
        scan = self._scans[view.image]
        return scan.view(view, None if view.roi is None else self._region_sources(view.image, view.roi))

    def _region_sources(self, column: str, roi: RoiSettings) -> RegionSources:
        mask = self.case.mask(column) if ROI_SOURCES[roi.source].needs_mask else None
        # Of a folder with a file per organ the hash is over the organs of one view: it is not a column's.
        known = self._known.get(mask) if mask and roi.source == "mask" else None
        return RegionSources(
            mask=None if mask is None else self.case.masks[mask],
            spacing=self.case.spacing,
            center=self.case.center,
            segmenter=self._segmenters.get(roi),
            mask_hash=known,
        )

    def masks(self, views: Mapping[str, ViewSettings]) -> dict[str, Labels | None]:
        """View -> its segmentation cut like its slices, (S, H, W); None where the case has none of that scan.

        Raises:
            ScanError: a segmentation cannot be used, see :func:`anymc3d.data.mask_slices.cut_mask`.
        """
        columns = {n: self.case.mask(v.image) if v.image in self._scans else None for n, v in views.items()}
        if any(columns.values()):
            annotated_labels(self.case)
        return {n: None if c is None else self._known_mask(views[n], c) for n, c in columns.items()}

    def _known_mask(self, view: ViewSettings, column: str) -> Labels:
        return known_or_made(self._answers, f"mask of {view_name(view)}", lambda: self._mask(view, column))

    def _mask(self, view: ViewSettings, column: str) -> Labels:
        scan, reference = self._scans[view.image], self.case.masks[column]
        sources = None if view.roi is None else self._region_sources(view.image, view.roi)

        def make() -> Labels:
            like = scan.view(view, sources)
            with named(column):
                return cut_mask(reference, self.header(view.image), like, self.case)

        if scan.cache is None:
            return make()
        return get_or_make(scan.cache, mask_key(scan.key(view, sources), self.mask_hash(column)), make)

    def mask_hash(self, column: str) -> str:
        """SHA-256 of the content of the segmentation in a mask column.

        Raises:
            ScanError: it cannot be read.
        """
        name = mask_hash_name(column)
        if name not in self._known:
            with named(column):
                self._known[name] = content_hash(self.case.masks[column])
        return self._known[name]

    def region(self, view: ViewSettings) -> Region:
        """Where a view looks, in voxels of its scan in RAS order.

        Raises:
            ScanError, ExcludedError: as :func:`anymc3d.data.regions.find_region`.
        """
        if view.roi is None:
            return Region(None)
        scan = self._scans[view.image]
        return find_region(to_ras(scan.volume()), scan.hash, view.roi, self._region_sources(view.image, view.roi))

    def volume(self, column: str) -> Volume:
        """The scan of one image column, decoded.

        Raises:
            ScanError: it cannot be read.
        """
        return self._scans[column].volume()

    def changed(self, volumes: Mapping[str, Volume]) -> CaseScans:
        """The same case had its scans looked like ``volumes`` (image column -> scan); nothing of it is cached."""
        other = CaseScans(self.case, hashes=self.hashes(), segmenters=self._segmenters)
        for column, volume in volumes.items():
            other._scans[column].hold(volume)
        return other

    def header(self, column: str) -> ScanHeader:
        """Shape and affine of one scan as it is stored: the grid to which what was found on its slices returns.

        Raises:
            ScanError: the scan cannot be read.
        """
        return self._scans[column].header()

    def hashes(self, views: Iterable[ViewSettings] = (), *, decode: bool = False) -> dict[str, str]:
        """Image column -> SHA-256 of the scan's content; also of the mask columns that the regions of views need.

        ``decode``: the scans of the views will be looked at, too, and their files are read once for both.

        Raises:
            ScanError: one of them cannot be read.
        """
        views = tuple(views)
        shown_columns = {view.image for view in views} if decode else set()
        digests = {column: scan.hashed(decode=column in shown_columns) for column, scan in self._scans.items()}
        return digests | self._mask_hashes(views)

    def answers(self, needs: Needs, within: Callable[[Callable[[], Any]], Any]) -> dict[str, Any]:
        """What ``needs`` names, by the names of :data:`~anymc3d.data.scan.Known`, or the exceptions that came in its
        place; ``within`` bounds the time of each.

        Raises:
            OutputError: something cannot be written; no other case would fare better.
        """
        results: dict[str, Any] = {}
        for name, make in self._makers(needs).items():
            try:
                results[name] = within(make)
            except OutputError:
                raise
            except Exception as error:  # noqa: BLE001 (it is raised again where its answer is asked for)
                results[name] = error
        return results

    def _makers(self, needs: Needs) -> dict[str, Callable[[], Any]]:
        makers: dict[str, Callable[[], Any]] = {}
        shown_columns = {view.image for view in needs.views}
        for column, scan in self._scans.items():
            makers[f"hash {column}"] = partial(scan.hashed, decode=needs.slices and column in shown_columns)
        makers |= {f"key {name}": make for name, make in self._mask_keys(needs.views).items()}
        for view in needs.views if needs.slices else ():
            column, mask = view.image, self.case.mask(view.image)
            if column not in self._scans:
                continue
            makers[f"facts {column}"] = self._scans[column].facts
            # What draws a region (a network or a program) stays in the parent process: one copy is enough.
            is_drawn = view.roi is not None and ROI_SOURCES[view.roi.source].needs_segmenter
            if is_drawn or needs.volumes:
                makers[f"volume {column}"] = self._scans[column].volume
            if not is_drawn:
                makers[view_name(view)] = partial(self._view, view)
                if needs.masks and mask is not None:
                    makers[f"mask of {view_name(view)}"] = partial(self._mask, view, mask)
        return makers

    def _mask_hashes(self, views: Iterable[ViewSettings]) -> dict[str, str]:
        return {
            name: known_or_made(self._answers, f"key {name}", make) for name, make in self._mask_keys(views).items()
        }

    def _mask_keys(self, views: Iterable[ViewSettings]) -> dict[str, Callable[[], str]]:
        """Name among the hashes of a case -> what makes the hash, of the masks that the regions of views need."""
        keys: dict[str, Callable[[], str]] = {}
        for view in views:
            column = self.case.mask(view.image)
            if view.roi is None or column is None or view.image not in self._scans:
                continue
            if ROI_SOURCES[view.roi.source].needs_mask:
                name = column if view.roi.source == "mask" else f"{column} {' '.join(view.roi.organs)}"
                keys[name] = partial(self._mask_key, view.image, view.roi)
        return keys

    def _mask_key(self, column: str, roi: RoiSettings) -> str:
        with named(f"region of {column}"):
            return ROI_SOURCES[roi.source].key(roi, self._region_sources(column, roi))


def mask_hash_name(column: str) -> str:
    """Of a mask column among the hashes of a case; the region of a view may have a hash of its own by that column."""
    return f"{column} segmentation"
