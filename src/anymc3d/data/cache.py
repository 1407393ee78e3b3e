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
from typing import get_args

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from anymc3d.atomic import write_bytes
from anymc3d.config import ViewSettings
from anymc3d.data.cache_size import hold
from anymc3d.data.preprocess import CODE_VERSION, PreparedView
from anymc3d.data.volume import Millimetres
from anymc3d.errors import RunFolderError
from anymc3d.types import Plane

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
            found = _decode(path.read_bytes(), key)
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
            write_bytes(path, _encode(made, key))
        except OSError as error:
            raise _folder_error(self.folder, error) from error
        return made

    def used(self, path: Path) -> None:
        """Note that an entry was used now: what was used longest ago is the first to go when the cache is trimmed."""
        with contextlib.suppress(OSError):  # another process may have removed it; only its turn to go depends on this
            os.utime(path)


class DamagedEntryError(ValueError):
    """A cache entry that is not, byte for byte, what was written."""


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


def _encode(view: PreparedView, key: str) -> bytes:
    slices = np.ascontiguousarray(view.slices)
    affine = np.ascontiguousarray(view.affine)
    facts = {"key": key, "plane": view.plane, "sha256": _payload_hash(slices, affine, view.plane, view.notes)}
    if view.notes:
        facts["notes"] = json.dumps(view.notes)
    return save({"slices": slices, "affine": affine}, metadata=facts)


def _decode(content: bytes, key: str) -> PreparedView:
    try:
        tensors = load(content)
        facts = _metadata(content)
        slices, affine, plane = tensors["slices"], tensors["affine"], facts["plane"]
        notes = tuple(map(str, json.loads(facts.get("notes", "[]"))))
        if facts["key"] != key:
            raise DamagedEntryError("it belongs to another key")
        if facts["sha256"] != _payload_hash(slices, affine, plane, notes):
            raise DamagedEntryError("its checksum is wrong")
    except DamagedEntryError:
        raise
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedEntryError(f"{type(error).__name__}: {error}") from error
    if plane not in get_args(Plane):
        raise DamagedEntryError(f"unknown plane {plane!r}")
    return PreparedView(slices=slices, affine=affine, plane=plane, notes=notes)


def _metadata(content: bytes) -> dict[str, str]:
    """The texts in a safetensors header: 8 bytes of length, then JSON. ``load`` has checked the frame."""
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length])["__metadata__"]


def _payload_hash(slices: np.ndarray, affine: np.ndarray, plane: str, notes: tuple[str, ...]) -> str:
    told = f" {json.dumps(notes)}" if notes else ""
    digest = hashlib.sha256(f"{slices.dtype} {slices.shape} {affine.dtype} {affine.shape} {plane}{told}\n".encode())
    digest.update(np.ascontiguousarray(slices).data)
    digest.update(np.ascontiguousarray(affine).data)
    return digest.hexdigest()


def _folder_error(folder: Path, error: OSError) -> RunFolderError:
    what = f"the cache folder {folder} cannot be used ({error.strerror or error})"
    return RunFolderError(f"{what}; free space, repair its rights, or choose another with ANYMC3D_HOME")
