"""One scan of a case: decoded at most once, and only when the cache lacks something that is made of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from anymc3d.data.cache import Cache, cache_key
from anymc3d.data.cache_entry import DamagedEntryError
from anymc3d.data.in_memory import content_hash_of
from anymc3d.data.intensity import IntensityProfile, profile
from anymc3d.data.preprocess import CODE_VERSION, PreparedView, prepare_view
from anymc3d.data.readers import content_hash, read_hashed, read_header, read_volume
from anymc3d.data.regions import RegionSources, find_region, region_key
from anymc3d.data.time_limit import TooSlowError
from anymc3d.data.volume import ScanHeader, Volume, to_ras
from anymc3d.errors import ExcludedError, ScanError
from anymc3d.files import regular
from anymc3d.settings.plain import to_plain
from anymc3d.settings.views import ViewSettings

T = TypeVar("T")


@dataclass(frozen=True)
class ScanFacts:
    """What is remembered of a scan besides its slices: intensities in raw units, spacing in mm and shape along x, y, z
    (RAS), warnings, and the modality that its header says, if it says one."""

    intensities: IntensityProfile
    spacing: tuple[float, float, float]
    shape: tuple[int, int, int]
    warnings: tuple[str, ...]
    modality: str | None = None


def scan_facts(volume: Volume) -> ScanFacts:
    """Measure one scan."""
    oriented = to_ras(volume)
    right, front, up = (float(step) for step in oriented.spacing)
    return ScanFacts(profile(volume), (right, front, up), oriented.shape, volume.warnings, volume.modality)


FACTS_SUFFIX = ".v2.facts.json"
"""Entries that end in ``.facts.json`` alone are older, without key and checksum; they are not read."""


def encode_facts(facts: ScanFacts, key: str) -> bytes:
    """The cache entry of a scan's facts."""
    plain = asdict(facts)
    return json.dumps({"key": key, "facts": plain, "sha256": _facts_hash(key, plain)}, indent=2).encode()


def read_facts(path: Path, key: str) -> ScanFacts:
    """The facts in a cache entry.

    Raises:
        DamagedEntryError: changed in any value, or the entry of another scan.
        OSError: the file is not there or cannot be read.
    """
    content = regular.read_bytes(path)
    try:
        entry = json.loads(content)
        plain = entry["facts"]
        if entry["key"] != key:
            raise DamagedEntryError("it belongs to another key")
        if entry["sha256"] != _facts_hash(key, plain):
            raise DamagedEntryError("its checksum is wrong")
        return ScanFacts(
            IntensityProfile(**plain["intensities"]),
            tuple(plain["spacing"]),
            tuple(plain["shape"]),
            tuple(plain["warnings"]),
            plain["modality"],
        )
    except DamagedEntryError:
        raise
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedEntryError(f"{type(error).__name__}: {error}") from error


def _facts_hash(key: str, plain: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps([key, plain], sort_keys=True).encode()).hexdigest()


Known = Mapping[str, Any]
"""What another process found of a case, by its name: a value, or the exception that came in its place."""


def known_or_made(known: Known, name: str, make: Callable[[], T]) -> T:
    """What is known under a name, else what ``make`` finds now.

    Raises:
        Exception: the one that came in place of what is asked for.
    """
    if name not in known:
        return make()
    if isinstance(known[name], Exception):
        raise known[name]
    return known[name]  # type: ignore[no-any-return]


def view_name(view: ViewSettings) -> str:
    """The name of a view's slices among what is known: views that are made alike have one."""
    return f"view {json.dumps(to_plain(replace(view, input='replicate')), sort_keys=True)}"


class Scan:
    """One scan, decoded at most once and only when the cache lacks something.

    ``known``: what another process found of it, which is not looked for again.
    """

    def __init__(
        self,
        column: str,
        reference: str,
        spacing: tuple[float, float, float] | None,
        series: str | None,
        cache: Cache | None,
        known_hash: str | None,
        known: Known | None = None,
    ) -> None:
        self.column, self.reference, self.spacing, self.series, self.cache = column, reference, spacing, series, cache
        self._hash, self._volume, self._is_held, self._known = known_hash, None, False, known or {}
        self._facts: ScanFacts | None = None
        self._fault: ScanError | None = None
        self._views: dict[ViewSettings, PreparedView] = {}

    def hold(self, volume: Volume) -> None:
        """Take a volume that is in memory for the scan; nothing is read then."""
        self._volume, self._is_held = volume, True

    @property
    def hash(self) -> str:
        if self._hash is None:
            self._hash = known_or_made(self._known, f"hash {self.column}", self._hashed)
        return self._hash

    def hashed(self, *, decode: bool) -> str:
        """The hash; with ``decode`` the voxels are kept, which come from the same pass of the file's bytes."""
        alone = self._hash is None and self._volume is None and self._fault is None
        if decode and alone and not self._known and self.cache is None:
            try:
                with named(self.column):
                    self._volume, self._hash = read_hashed(self.reference, spacing=self.spacing, series=self.series)
            except TooSlowError:
                raise
            except ScanError as error:
                self._fault = error  # the hash may be had all the same
        return self.hash

    def _hashed(self) -> str:
        with named(self.column):
            held = self._volume if self._is_held else None
            return content_hash(self.reference, series=self.series) if held is None else content_hash_of(held)

    def header(self) -> ScanHeader:
        """As it is stored; of a volume in memory as it is there."""
        if self._is_held:
            volume = self.volume()
            return ScanHeader(volume.shape, volume.affine, volume.voxels.dtype.name, volume.warnings)
        return read_header(self.reference, spacing=self.spacing, series=self.series)

    def volume(self) -> Volume:
        if self._fault is not None:
            raise self._fault
        if self._volume is None:
            self._volume = known_or_made(self._known, f"volume {self.column}", self._read)
        return self._volume

    def _read(self) -> Volume:
        with named(self.column):
            return read_volume(self.reference, spacing=self.spacing, series=self.series)

    def view(self, view: ViewSettings, sources: RegionSources | None) -> PreparedView:
        """``sources``: of a view with a region. Without a cache each view is made once, however many plugins ask for
        it: two views that are made alike are the same object."""
        if self.cache is None:
            made_like = replace(view, input="replicate")
            if made_like not in self._views:
                self._views[made_like] = known_or_made(
                    self._known, view_name(view), lambda: self._prepare(view, sources)
                )
            return self._views[made_like]
        return self.cache.get_or_make(self.key(view, sources), lambda: self._prepare(view, sources))

    def _prepare(self, view: ViewSettings, sources: RegionSources | None) -> PreparedView:
        if view.roi is None or sources is None:
            return prepare_view(self.volume(), view)
        scan = to_ras(self.volume())
        with named(f"region of {self.column}"):
            region = find_region(scan, self.hash, view.roi, sources)
        return replace(prepare_view(scan, view, region.box), notes=region.notes)

    def facts(self) -> ScanFacts:
        if self.cache is None:
            if self._facts is None:
                self._facts = known_or_made(self._known, f"facts {self.column}", lambda: scan_facts(self.volume()))
            return self._facts
        key = self.key(None)
        return self.cache.get_or_make_file(
            f"{key}{FACTS_SUFFIX}",
            lambda path: read_facts(path, key),
            lambda: scan_facts(self.volume()),
            lambda facts: encode_facts(facts, key),
        )

    def key(self, view: ViewSettings | None, sources: RegionSources | None = None) -> str:
        """Of the cache entry of a view, or of the scan itself."""
        region = None
        if view is not None and view.roi is not None and sources is not None:
            with named(f"region of {self.column}"):
                region = region_key(view.roi, sources)
        return cache_key(f"{self.hash}|{self.spacing}", view, CODE_VERSION, region=region)


@contextmanager
def named(column: str) -> Iterator[None]:
    """Errors name the scan by its manifest column: together with the case id that is enough, and its path may say who
    the patient is."""
    try:
        yield
    except ExcludedError as error:
        raise ExcludedError(f"{column}: {error.what}") from error
    except ScanError as error:
        raise ScanError(f"{column}: {error.what}", code=error.code) from error
