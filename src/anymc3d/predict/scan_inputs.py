"""The inputs of a predictor: scans by their paths, and scans in memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

from anymc3d.data.in_memory import KINDS, is_path, volume_of
from anymc3d.data.volume import Millimetres, Volume
from anymc3d.errors import UsageError

Scan = Any
"""A path, or a scan in memory: :data:`anymc3d.data.in_memory.KINDS`."""
IN_MEMORY = "in_memory"
"""The reference, and so the case id, of a scan that has no path."""


def volumes_and_references(
    scan: Scan | None, views: Mapping[str, Scan] | None, spacing: Millimetres | None, affine: ArrayLike | None
) -> tuple[dict[str, Volume], dict[str, str | Path]]:
    """Volumes by image column, and references by view (the empty one: the lone scan), a word for those in memory.

    Raises:
        UsageError: neither or both of ``scan`` and ``views`` are given, or one is no scan.
        ScanError: a scan in memory cannot be used.
    """
    if (scan is None) == (not views):
        raise UsageError("expected one scan, or views of one study, and not both")
    if views and not isinstance(views, Mapping):
        raise UsageError(f"views: expected a mapping from view to scan, got {type(views).__name__}")
    scans: Mapping[str, Scan] = {"": scan} if views is None or scan is not None else views
    if affine is not None and all(is_path(view_scan) for view_scan in scans.values()):
        raise UsageError("affine: only for arrays and tensors in memory; a file has its own")
    volumes: dict[str, Volume] = {}
    references: dict[str, str | Path] = {}
    for view, view_scan in scans.items():
        if view_scan is None:
            raise UsageError(f"view {view!r}: expected {KINDS}, got None; leave out a view that is missing")
        references[view] = view_scan if is_path(view_scan) else IN_MEMORY
        if not is_path(view_scan):
            volumes[f"image.{view}" if view else "image"] = volume_of(view_scan, spacing=spacing, affine=affine)
    return volumes, references
