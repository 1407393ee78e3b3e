"""Prepared views on disk: one safetensors file per entry, private to the user, checked on every read.

A damaged entry is made again, with one line in the log. Several processes may share a folder: entries appear whole
or not at all, and two makers of one entry write the same bytes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from anymc3d.data.cache_entry import DamagedEntryError, encode, read_entry
from anymc3d.data.cache_size import entry_path, hold
from anymc3d.data.preprocess import CODE_VERSION, PreparedView
from anymc3d.data.volume import Millimetres
from anymc3d.errors import OutputError
from anymc3d.files.atomic import write_bytes
from anymc3d.files.private import make_private, output_error
from anymc3d.files.regular import NotRegularError
from anymc3d.settings.views import ViewSettings

_LOG = logging.getLogger(__name__)
T = TypeVar("T")


class Cache:
    """Entries ``<key>.safetensors`` below one folder (0700); keys come from :func:`cache_key`."""

    def __init__(self, folder: Path) -> None:
        """Make the folder if need be.

        Raises:
            OutputError: the folder cannot be made.
        """
        self.folder = Path(folder)
        try:
            make_private(self.folder)
            self.folder.chmod(0o700)
            hold(self, self.folder)
        except OSError as error:
            raise cache_error(self.folder, error) from error

    def get_or_make(self, key: str, make: Callable[[], PreparedView]) -> PreparedView:
        """The entry of ``key``; where there is none, or a damaged one, ``make`` is called and its result kept.

        Raises:
            OutputError: the entry cannot be read or written (rights, full disk).
        """
        return self.get_or_make_file(
            f"{key}.safetensors", lambda path: read_entry(path, key), make, lambda view: encode(view, key)
        )

    def get_or_make_file(
        self, name: str, read: Callable[[Path], T], make: Callable[[], T], encoded: Callable[[T], bytes]
    ) -> T:
        """The same of an entry of any kind: the file ``name``, read by ``read`` and written as ``encoded``.

        ``read`` raises :class:`DamagedEntryError` of whatever is not, byte for byte, what was written.

        Raises:
            OutputError: as :meth:`get_or_make`.
        """
        path = entry_path(self.folder, name)
        try:
            entry = read(path)
            self.used(path)
            return entry
        except FileNotFoundError:
            pass
        except (DamagedEntryError, NotRegularError) as error:
            _LOG.warning("cache entry %s is damaged: made again (%s)", path.name, _why(error))
            clear_away(path)
        except OSError as error:
            raise cache_error(self.folder, error) from error
        made_new = make()
        try:
            write_bytes(path, encoded(made_new))
        except OSError as error:
            raise cache_error(self.folder, error) from error
        return made_new

    def used(self, path: Path) -> None:
        """Note that an entry was used now: what was used longest ago is the first to go when the cache is trimmed."""
        with contextlib.suppress(OSError):  # another process may have removed it; only its turn to go depends on this
            os.utime(path)


def cache_key(
    content: str,
    view: ViewSettings | None,
    code_version: int = CODE_VERSION,
    *,
    spacing: Millimetres | None = None,
    region: str | None = None,
) -> str:
    """Sha256 (hex) over all that decides a prepared view.

    ``content``: :func:`anymc3d.data.readers.content_hash`; ``spacing``: what the manifest says beside it, if anything;
    ``region``: of a view with a region, :func:`anymc3d.data.regions.region_key`, which stands for its settings too.
    The manifest column and what becomes of the slices later (``input``, ``statistics``) are left out: they change
    nothing here.
    """
    elsewhere = ("image", "input", "statistics", "roi")
    settings = None if view is None else {k: v for k, v in dataclasses.asdict(view).items() if k not in elsewhere}
    facts = {"content": content, "spacing": spacing, "view": settings, "code_version": code_version}
    if region is not None:
        facts["region"] = region
    return hashlib.sha256(json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _why(error: Exception) -> str:
    return (error.strerror or "") if isinstance(error, OSError) else str(error)


def clear_away(path: Path) -> None:
    """Remove an empty folder that stands where an entry should be; whatever else is no file is replaced by writing."""
    if path.is_dir() and not path.is_symlink():
        with contextlib.suppress(OSError):  # not empty: somebody keeps things there; writing the entry will say so
            path.rmdir()


def cache_error(folder: Path, error: OSError) -> OutputError:
    """What ends a command because the folder of a cache cannot be used."""
    return OutputError(f"{output_error(folder, error)}; or choose another folder for what is kept with ANYMC3D_HOME")
