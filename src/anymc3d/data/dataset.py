"""Cases -> prepared slices: each scan is read once, its views are cut from that one read and kept in the cache.

Training and prediction both go through :class:`CaseScans`, so the same raw file gives the same slices in both.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import numpy as np

from anymc3d import atomic
from anymc3d.config import ViewSettings
from anymc3d.data.cache import Cache, cache_key
from anymc3d.data.intensity import IntensityProfile, profile
from anymc3d.data.manifest import Case
from anymc3d.data.preprocess import CODE_VERSION, PreparedView, prepare_view
from anymc3d.data.readers import content_hash, read_header, read_volume
from anymc3d.data.volume import ScanHeader, Volume
from anymc3d.errors import AnyMC3DError, ManifestError, ScanError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScanFacts:
    """What is remembered of a scan besides its slices: intensities in raw units, spacing in mm (RAS), warnings."""

    intensities: IntensityProfile
    spacing: tuple[float, float, float]
    shape: tuple[int, int, int]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class PreparedCase:
    """One case, ready for the model. ``views``: view -> prepared slices, or None where the case lacks the view.

    ``scans``: manifest image column -> facts of the scan; ``hashes``: the same -> SHA-256 of its content.
    """

    views: Mapping[str, PreparedView | None]
    scans: Mapping[str, ScanFacts]
    hashes: Mapping[str, str]

    @property
    def warnings(self) -> tuple[str, ...]:
        """All warnings of all scans, each once."""
        return tuple(dict.fromkeys(w for facts in self.scans.values() for w in facts.warnings))


def scan_facts(volume: Volume) -> ScanFacts:
    """Measure one scan."""
    x, y, z = volume.shape
    return ScanFacts(profile(volume), tuple(float(s) for s in volume.spacing), (x, y, z), volume.warnings)


class CaseScans:
    """The scans of one case; each is decoded at most once, however many views and plugins ask for it.

    Args:
        case: its scans.
        cache: where prepared slices are kept, or None.
        hashes: image column -> content hash where already known; saves reading the file.
    """

    def __init__(self, case: Case, cache: Cache | None = None, hashes: Mapping[str, str] | None = None) -> None:
        self.case = case
        known = hashes or {}
        self._scans = {
            column: _Scan(column, reference, case.spacing, case.series(column), cache, known.get(column))
            for column, reference in case.images.items()
        }

    def prepare(self, views: Mapping[str, ViewSettings]) -> PreparedCase:
        """Prepare all views.

        Raises:
            ScanError: a scan cannot be read or used, or the case has none of the views.
        """
        wanted = dict.fromkeys(view.image for view in views.values())
        here = [column for column in wanted if column in self._scans]
        if not here:
            raise ScanError(
                f"case {self.case.id!r}: expected a scan in at least one of the columns {', '.join(wanted)}, "
                f"got {', '.join(self._scans) or 'none'}"
            )
        return PreparedCase(
            views=self.slices(views),
            scans={column: self._scans[column].facts() for column in here},
            hashes={column: self._scans[column].hash for column in here},
        )

    def slices(self, views: Mapping[str, ViewSettings]) -> dict[str, PreparedView | None]:
        """Prepare all views without measuring the scans; None where the case lacks a view."""
        return {n: self._scans[v.image].view(v) if v.image in self._scans else None for n, v in views.items()}

    def volume(self, column: str) -> Volume:
        """The scan of one image column, decoded.

        Raises:
            ScanError: it cannot be read.
        """
        return self._scans[column].volume()

    def changed(self, volumes: Mapping[str, Volume]) -> CaseScans:
        """The same case had its scans looked like ``volumes`` (image column -> scan); nothing of it is cached."""
        other = CaseScans(self.case, hashes=self.hashes())
        for column, volume in volumes.items():
            other._scans[column]._volume = volume
        return other

    def header(self, column: str) -> ScanHeader:
        """Shape and affine of one scan as it is stored: the grid to which what was found on its slices returns.

        Raises:
            ScanError: the scan cannot be read.
        """
        scan = self._scans[column]
        return read_header(scan.reference, spacing=scan.spacing, series=scan.series)

    def hashes(self) -> dict[str, str]:
        """Image column -> SHA-256 of the scan's content."""
        return {column: scan.hash for column, scan in self._scans.items()}


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
        self._hash, self._volume = known_hash, None

    @property
    def hash(self) -> str:
        if self._hash is None:
            with _named(self.column):
                self._hash = content_hash(self.reference, series=self.series)
        return self._hash

    def volume(self) -> Volume:
        if self._volume is None:
            with _named(self.column):
                self._volume = read_volume(self.reference, spacing=self.spacing, series=self.series)
        return self._volume

    def view(self, view: ViewSettings) -> PreparedView:
        if self.cache is None:
            return prepare_view(self.volume(), view)
        return self.cache.get_or_make(self._key(view), lambda: prepare_view(self.volume(), view))

    def facts(self) -> ScanFacts:
        if self.cache is None:
            return scan_facts(self.volume())
        path = self.cache.folder / f"{self._key(None)}.facts.json"
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            return ScanFacts(
                IntensityProfile(**stored["intensities"]),
                tuple(stored["spacing"]),
                tuple(stored["shape"]),
                tuple(stored["warnings"]),
            )
        except FileNotFoundError:
            pass
        except (ValueError, KeyError, TypeError) as error:
            logger.warning("%s: damaged cache entry (%s); measured again", path.name, error)
        facts = scan_facts(self.volume())
        atomic.write_json(path, asdict(facts))
        return facts

    def _key(self, view: ViewSettings | None) -> str:
        return cache_key(f"{self.hash}|{self.spacing}", view, CODE_VERSION)


@contextmanager
def _named(column: str) -> Iterator[None]:
    """Errors name the scan by its manifest column: together with the case id that is enough, and its path may tell who
    the patient is."""
    try:
        yield
    except ScanError as error:
        raise ScanError(f"{column}: {error.what}") from error


class CaseSet:
    """The prepared slices of some cases, loaded one case at a time from the cache.

    ``prepared``: what :func:`prepare_all` returned for the same cases; a scan is not opened again while its cache
    entry is whole.
    """

    def __init__(
        self, cases: Sequence[Case], prepared: Sequence[PreparedCase], views: Mapping[str, ViewSettings], cache: Cache
    ) -> None:
        self.cases, self.prepared, self.views, self.cache = tuple(cases), tuple(prepared), dict(views), cache

    def __len__(self) -> int:
        return len(self.cases)

    def load(self, index: int) -> dict[str, np.ndarray | None]:
        """Return view -> float16 slices (S, C, H, W), or None where the case lacks the view."""
        scans = CaseScans(self.cases[index], self.cache, self.prepared[index].hashes)
        return {n: None if view is None else view.slices for n, view in scans.slices(self.views).items()}


def prepare_all(
    cases: Sequence[Case],
    views: Mapping[str, ViewSettings],
    cache: Cache,
    *,
    workers: int = 2,
    progress: Callable[[int], object] = lambda _: None,
) -> list[PreparedCase]:
    """Read every case once, so that whatever is wrong is known before the first step.

    ``progress``: called with 1 after every case. Slices are not kept in memory: the returned cases have no views.

    Raises:
        ManifestError: some cases cannot be read; every one is listed with its reason.
    """

    def one(case: Case) -> PreparedCase | str:
        try:
            prepared = CaseScans(case, cache).prepare(views)
            return PreparedCase({}, prepared.scans, prepared.hashes)
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
