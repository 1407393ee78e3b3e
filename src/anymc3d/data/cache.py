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

from anymc3d.data.cache_entry import DamagedEntryError, encode, read_entry
from anymc3d.data.cache_size import hold
from anymc3d.data.preprocess import CODE_VERSION, PreparedView
from anymc3d.data.volume import Millimetres
from anymc3d.errors import RunFolderError
from anymc3d.files.atomic import write_bytes
from anymc3d.settings.config import ViewSettings

_LOG = logging.getLogger(__name__)


class Cache:
    """Entries ``<key>.safetensors`` in one folder (0700); keys come from :func:`cache_key`."""

    def __init__(self, folder: Path) -> None:
        """Make the folder if need be.

        Raises:
            RunFolderError: the folder cannot be made.
        """
        self.folder = Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.folder.chmod(0o700)
            hold(self, self.folder)
        except OSError as error:
            raise _folder_error(self.folder, error) from error

    def get_or_make(self, key: str, make: Callable[[], PreparedView]) -> PreparedView:
        """The entry of ``key``; where there is none, or a damaged one, ``make`` is called and its result kept.

        Raises:
            RunFolderError: the entry cannot be read or written (rights, full disk).
        """
        path = self.folder / f"{key}.safetensors"
        try:
            found = read_entry(path, key)
            self.used(path)
            return found
        except FileNotFoundError:
            pass
        except DamagedEntryError as error:
            _LOG.warning("cache entry %s is damaged (%s): made again", path.name, error)
        except OSError as error:
            raise _folder_error(self.folder, error) from error
        made = make()
        try:
            write_bytes(path, encode(made, key))
        except OSError as error:
            raise _folder_error(self.folder, error) from error
        return made

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
    The manifest column and what becomes of the slices later (``input``) are left out: they change nothing here.
    """
    elsewhere = ("image", "input", "roi")
    settings = None if view is None else {k: v for k, v in dataclasses.asdict(view).items() if k not in elsewhere}
    facts = {"content": content, "spacing": spacing, "view": settings, "code_version": code_version}
    if region is not None:
        facts["region"] = region
    return hashlib.sha256(json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _folder_error(folder: Path, error: OSError) -> RunFolderError:
    what = f"the cache folder {folder} cannot be used ({error.strerror or error})"
    return RunFolderError(f"{what}; free space, repair its rights, or choose another with ANYMC3D_HOME")
