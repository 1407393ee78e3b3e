"""Cases -> prepared slices: each scan is read once, its views are cut from that one read and kept in the cache.

Training and prediction both go through :class:`CaseScans`, so the same raw file gives the same slices in both.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace

import numpy as np

from anymc3d.data.cache import Cache, cache_key
from anymc3d.data.in_memory import content_hash_of
from anymc3d.data.intensity import IntensityProfile, profile
from anymc3d.data.manifest import Case
from anymc3d.data.mask_slices import Labels, annotated_labels, check_annotated, cut_mask, get_or_make, mask_key
from anymc3d.data.preprocess import CODE_VERSION, PreparedView, prepare_view
from anymc3d.data.readers import content_hash, read_header, read_volume
from anymc3d.data.regions import ROI_SOURCES, Beside, Region, find_region, region_key
from anymc3d.data.segmentation import Segmenter
from anymc3d.data.volume import ScanHeader, Volume, to_ras
from anymc3d.errors import AnyMC3DError, ExcludedError, ManifestError, ScanError
from anymc3d.files import atomic
from anymc3d.settings.config import RoiSettings, ViewSettings

logger = logging.getLogger(__name__)

Segmenters = Mapping[RoiSettings, Segmenter]
"""What draws the segmentations of regions that come from a program or network."""


@dataclass(frozen=True)
class ScanFacts:
    """What is remembered of a scan besides its slices: intensities in raw units, spacing in mm (RAS), warnings, and the
    modality that its header says, if it says one."""

    intensities: IntensityProfile
    spacing: tuple[float, float, float]
    shape: tuple[int, int, int]
    warnings: tuple[str, ...]
    modality: str | None = None


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
    mask_labels: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """View -> labels above 0 in the cut mask, where masks were asked for and the case has one."""
    excluded: str | None = None
    """Why the settings leave the case out; then it has nothing else."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """All warnings of all scans and notes of all regions, each once."""
        of_scans = [w for facts in self.scans.values() for w in facts.warnings]
        return tuple(dict.fromkeys([*of_scans, *self.notes]))


def scan_facts(volume: Volume) -> ScanFacts:
    """Measure one scan."""
    x, y, z = volume.shape
    spacing = tuple(float(s) for s in volume.spacing)
    return ScanFacts(profile(volume), spacing, (x, y, z), volume.warnings, volume.modality)


class CaseScans:
    """The scans of one case; each is decoded at most once, however many views and plugins ask for it.

    Args:
        case: its scans.
        cache: where prepared slices are kept, or None.
        hashes: column -> content hash where already known; saves reading the file.
        segmenters: for views whose region a program or network draws.
        volumes: column -> scan that is in memory; the case's reference for it is not looked at.
    """

    def __init__(
        self,
        case: Case,
        cache: Cache | None = None,
        hashes: Mapping[str, str] | None = None,
        segmenters: Segmenters | None = None,
        volumes: Mapping[str, Volume] | None = None,
    ) -> None:
        self.case = case
        self._known, self._segmenters = dict(hashes or {}), segmenters or {}
        self._scans = {
            column: _Scan(column, reference, case.spacing, case.series(column), cache, self._known.get(column))
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
        wanted = dict.fromkeys(view.image for view in views.values())
        here = [column for column in wanted if column in self._scans]
        if not here:
            raise ScanError(
                f"case {self.case.id!r}: expected a scan in at least one of the columns {', '.join(wanted)}, "
                f"got {', '.join(self._scans) or 'none'}"
            )
        slices = self.slices(views)
        return PreparedCase(
            views=slices,
            scans={column: self._scans[column].facts() for column in here},
            hashes={column: self._scans[column].hash for column in here} | self._mask_hashes(views.values()),
            notes=tuple(f"view {n}: {note}" for n, view in slices.items() if view is not None for note in view.notes),
        )

    def slices(self, views: Mapping[str, ViewSettings]) -> dict[str, PreparedView | None]:
        """Prepare all views without measuring the scans; None where the case lacks a view."""
        return {n: self._view(v) if v.image in self._scans else None for n, v in views.items()}

    def _view(self, view: ViewSettings) -> PreparedView:
        scan = self._scans[view.image]
        return scan.view(view, None if view.roi is None else self._beside(view.image, view.roi))

    def _beside(self, column: str, roi: RoiSettings) -> Beside:
        mask = self.case.mask(column) if ROI_SOURCES[roi.source].needs_mask else None
        # Of a folder with a file per organ the hash is over the organs of one view: it is not a column's.
        known = self._known.get(mask) if mask and roi.source == "mask" else None
        return Beside(
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
        return {n: None if column is None else self._mask(views[n], column) for n, column in columns.items()}

    def _mask(self, view: ViewSettings, column: str) -> Labels:
        scan, reference = self._scans[view.image], self.case.masks[column]
        beside = None if view.roi is None else self._beside(view.image, view.roi)

        def make() -> Labels:
            like = scan.view(view, beside)
            with _named(column):
                return cut_mask(reference, self.header(view.image), like, self.case)

        if scan.cache is None:
            return make()
        return get_or_make(scan.cache, mask_key(scan.key(view, beside), self.mask_hash(column)), make)

    def mask_hash(self, column: str) -> str:
        """SHA-256 of the content of the segmentation in a mask column.

        Raises:
            ScanError: it cannot be read.
        """
        name = mask_hash_name(column)
        if name not in self._known:
            with _named(column):
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
        return find_region(to_ras(scan.volume()), scan.hash, view.roi, self._beside(view.image, view.roi))

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

    def hashes(self, views: Iterable[ViewSettings] = ()) -> dict[str, str]:
        """Image column -> SHA-256 of the scan's content; also of the mask columns that the regions of views need.

        Raises:
            ScanError: one of them cannot be read.
        """
        return {column: scan.hash for column, scan in self._scans.items()} | self._mask_hashes(views)

    def _mask_hashes(self, views: Iterable[ViewSettings]) -> dict[str, str]:
        found = {}
        for view in views:
            column = self.case.mask(view.image)
            if view.roi is None or column is None or view.image not in self._scans:
                continue
            source = ROI_SOURCES[view.roi.source]
            if source.needs_mask:
                name = column if view.roi.source == "mask" else f"{column} {' '.join(view.roi.organs)}"
                with _named(f"region of {view.image}"):
                    found[name] = source.key(view.roi, self._beside(view.image, view.roi))
        return found


def mask_hash_name(column: str) -> str:
    """Of a mask column among the hashes of a case; the region of a view may have a hash of its own by that column."""
    return f"{column} segmentation"


class _Scan:
    """One scan, decoded at most once and only when the cache lacks something."""

    def __init__(
        self,
        column: str,
        reference: str,
        spacing: tuple[float, float, float] | None,
        series: str | None,
        cache: Cache | None,
        known_hash: str | None,
    ) -> None:
        self.column, self.reference, self.spacing, self.series, self.cache = column, reference, spacing, series, cache
        self._hash, self._volume, self._is_held = known_hash, None, False

    def hold(self, volume: Volume) -> None:
        """Take a volume that is in memory for the scan; nothing is read then."""
        self._volume, self._is_held = volume, True

    @property
    def hash(self) -> str:
        if self._hash is None:
            with _named(self.column):
                held = self._volume if self._is_held else None
                self._hash = content_hash(self.reference, series=self.series) if held is None else content_hash_of(held)
        return self._hash

    def header(self) -> ScanHeader:
        """As it is stored; of a volume in memory as it is there."""
        if self._is_held:
            held = self.volume()
            return ScanHeader(held.shape, held.affine, held.voxels.dtype.name, held.warnings)
        return read_header(self.reference, spacing=self.spacing, series=self.series)

    def volume(self) -> Volume:
        if self._volume is None:
            with _named(self.column):
                self._volume = read_volume(self.reference, spacing=self.spacing, series=self.series)
        return self._volume

    def view(self, view: ViewSettings, beside: Beside | None) -> PreparedView:
        """``beside``: of a view with a region."""
        if self.cache is None:
            return self._prepare(view, beside)
        return self.cache.get_or_make(self.key(view, beside), lambda: self._prepare(view, beside))

    def _prepare(self, view: ViewSettings, beside: Beside | None) -> PreparedView:
        if view.roi is None or beside is None:
            return prepare_view(self.volume(), view)
        scan = to_ras(self.volume())
        with _named(f"region of {self.column}"):
            region = find_region(scan, self.hash, view.roi, beside)
        return replace(prepare_view(scan, view, region.box), notes=region.notes)

    def facts(self) -> ScanFacts:
        if self.cache is None:
            return scan_facts(self.volume())
        path = self.cache.folder / f"{self.key(None)}.facts.json"
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            self.cache.used(path)
            return ScanFacts(
                IntensityProfile(**stored["intensities"]),
                tuple(stored["spacing"]),
                tuple(stored["shape"]),
                tuple(stored["warnings"]),
                stored["modality"],
            )
        except FileNotFoundError:
            pass
        except (ValueError, KeyError, TypeError) as error:
            logger.warning("%s: damaged cache entry (%s); measured again", path.name, error)
        facts = scan_facts(self.volume())
        atomic.write_json(path, asdict(facts))
        return facts

    def key(self, view: ViewSettings | None, beside: Beside | None = None) -> str:
        """Of the cache entry of a view, or of the scan itself."""
        region = None
        if view is not None and view.roi is not None and beside is not None:
            with _named(f"region of {self.column}"):
                region = region_key(view.roi, beside)
        return cache_key(f"{self.hash}|{self.spacing}", view, CODE_VERSION, region=region)


@contextmanager
def _named(column: str) -> Iterator[None]:
    """Errors name the scan by its manifest column: together with the case id that is enough, and its path may tell who
    the patient is."""
    try:
        yield
    except ExcludedError as error:
        raise ExcludedError(f"{column}: {error.what}") from error
    except ScanError as error:
        raise ScanError(f"{column}: {error.what}") from error


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
    workers: int = 2,
    progress: Callable[[int], object] = lambda _: None,
    segmenters: Segmenters | None = None,
    with_masks: bool = False,
) -> list[PreparedCase]:
    """Read every case once, so that whatever is wrong is known before the first step.

    ``progress``: called with 1 after every case. ``with_masks``: also the masks of the cases that have one. Slices are
    not kept in memory: the returned cases have no views. A case that the settings leave out is returned with the
    reason, as ``excluded``.

    Raises:
        ManifestError: some cases cannot be read; every one is listed with its reason.
    """

    def one(case: Case) -> PreparedCase | str:
        try:
            scans = CaseScans(case, cache, segmenters=segmenters)
            prepared = replace(scans.prepare(views), views={})
            return _with_masks(prepared, scans, views) if with_masks else prepared
        except ExcludedError as error:
            return PreparedCase({}, {}, {}, excluded=error.what)
        except AnyMC3DError as error:
            return f"case {case.id!r}: {error}"
        finally:
            progress(1)

    with ThreadPoolExecutor(max_workers=workers) as pool:
        results = list(pool.map(one, cases))
    problems = [result for result in results if isinstance(result, str)]
    if problems:
        raise ManifestError("scans that cannot be used", problems)
    return [result for result in results if isinstance(result, PreparedCase)]


def _with_masks(prepared: PreparedCase, scans: CaseScans, views: Mapping[str, ViewSettings]) -> PreparedCase:
    masks = {name: mask for name, mask in scans.masks(views).items() if mask is not None}
    columns = {name: str(scans.case.mask(views[name].image)) for name in masks}
    hashes = {mask_hash_name(column): scans.mask_hash(column) for column in sorted(set(columns.values()))}
    labels = {name: tuple(int(label) for label in np.unique(mask) if label) for name, mask in masks.items()}
    for name, column in columns.items():
        with _named(column):
            check_annotated(labels[name], scans.case)
    return replace(prepared, hashes={**prepared.hashes, **hashes}, mask_labels=labels)
