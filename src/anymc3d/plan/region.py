"""The region of a view: a proposal where the manifest has masks or points of interest, and what was asked for.

A region that rests on masks needs one for every new scan as well, and a mask of a lesion would show the answer. So the
plan measures and says what ``roi`` would do; ``--roi mask``, ``--roi point`` or a file with a ``roi`` section takes it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from anymc3d.data.case import Case
from anymc3d.data.case_scans import Segmenters
from anymc3d.data.readers import content_hash, read_volume
from anymc3d.data.regions import ROI_SOURCES, RegionSources, check_roi, find_region
from anymc3d.data.volume import to_ras
from anymc3d.errors import ScanError, UsageError
from anymc3d.settings.roi_file import read_roi
from anymc3d.settings.views import RoiSettings

logger = logging.getLogger(__name__)

MARGIN_MM = 10.0
POINT_MM = 64.0
"""Side of the box about a point of interest, where no other is given."""
MOST_DRAWN = 3
"""Scans on which a network or program draws the region, to see how large it is; it may take minutes for each."""
DRAWN_BY: Mapping[str, str] = {"totalsegmentator": ", name the program that draws it (--segmenter TotalSegmentator)"}
NAMED: Mapping[str, RoiSettings] = {
    "mask": RoiSettings(source="mask", margin_mm=(MARGIN_MM,) * 3),
    "point": RoiSettings(source="point", size_mm=(POINT_MM,) * 3),
}
"""What ``--roi`` calls by a word."""
WORTHWHILE = 0.5
"""A region of more of the scan's volume than this is hardly worth the masks."""


def mask_of(case: Case, column: str) -> str | None:
    """The mask beside an image column: ``mask.<view>``, else ``mask``."""
    return case.masks.get("mask" + column.removeprefix("image")) or case.masks.get("mask")


def mask_extents(cases: Mapping[int, Case], column: str) -> dict[int, np.ndarray | None]:
    """By row, for each case with a mask, its box (3,) in mm along x, y, z, margin included; None: empty, or unreadable.

    What is wrong with a mask that cannot be read is for the doctor to say; an empty one is constant, and refused too.
    """
    boxes: dict[int, np.ndarray | None] = {}
    for row, case in cases.items():
        reference = mask_of(case, column)
        if reference is None:
            continue
        try:
            mask = to_ras(read_volume(reference, spacing=case.spacing))
        except ScanError:
            boxes[row] = None
            continue
        boxes[row] = _box_mm(mask.voxels > 0, np.asarray(mask.spacing), np.asarray(mask.extent_mm))
    return boxes


def check_has_region(cases: Sequence[Case], column: str, roi: RoiSettings, *, is_drawn: bool) -> None:
    """Refuse a region that rests on what not every case has; ``is_drawn``: something draws it where no mask is there.

    Raises:
        UsageError: cases without a mask, or without a point.
    """
    what, columns, without = "mask", "'mask' column", []
    if roi.source == "point":
        what, columns = "point of interest", "center_x, center_y, center_z (RAS mm)"
        without = [case for case in cases if case.center is None]
    elif ROI_SOURCES[roi.source].needs_mask and not is_drawn:
        without = [case for case in cases if mask_of(case, column) is None]
    if without:
        raise UsageError(
            f"--roi {roi.source}: {len(without)} of {len(cases)} cases have no {what} (row {without[0].row} is the "
            f"first); fill the manifest's {columns}{DRAWN_BY.get(roi.source, '')}, or leave --roi out"
        )


def asked_region(roi: str | Path | RoiSettings | None) -> RoiSettings | None:
    """What ``--roi`` means: ``mask``, ``point``, or a YAML file with the keys of a task file's ``roi`` section.

    Raises:
        UsageError: it is none of these, or the file has faults.
    """
    if roi is None or isinstance(roi, RoiSettings):
        return roi
    region = NAMED[str(roi)] if str(roi) in NAMED else read_roi(Path(roi))
    check_roi(region)
    return region


def crop_extents(
    cases: Mapping[int, Case],
    column: str,
    roi: RoiSettings,
    segmenters: Segmenters,
    boxes: Mapping[int, np.ndarray | None],
) -> dict[int, np.ndarray]:
    """By row, the box (3,) in mm along x, y, z that a region cuts out of the scans that are looked at.

    Args:
        cases: by row, those that were measured.
        column: the image column.
        roi: the region.
        segmenters: what draws it, where something does.
        boxes: of the masks that were looked at, as :func:`mask_extents` gives them.

    Raises:
        UsageError: masks without a region, or it was found in none of the scans looked at.
    """
    if roi.source == "point":
        return {row: np.asarray(roi.size_mm) for row in cases}
    if roi == NAMED["mask"]:
        boxes_there = {row: box for row, box in boxes.items() if box is not None}
        if len(boxes_there) < len(boxes):
            empty = len(boxes) - len(boxes_there)
            raise UsageError(
                f"--roi mask: {empty} of {len(boxes)} masks looked at are empty or unreadable; leave --roi out"
            )
        return boxes_there
    looked_at = list(boxes) if roi.source == "mask" else list(cases)[:MOST_DRAWN]
    if roi in segmenters:
        logger.info("drawing the region on %d scans, to see how large it is", len(looked_at))
    found, why = {}, ""
    for row in looked_at:
        try:
            found[row] = _region_mm(cases[row], column, roi, segmenters)
        except ScanError as error:
            why = error.what
    if not found:
        raise UsageError(f"--roi: no region in any of the {len(looked_at)} scans looked at; the last: {why}")
    return found


def _region_mm(case: Case, column: str, roi: RoiSettings, segmenters: Segmenters) -> np.ndarray:
    """(3,) mm along x, y, z of one case's region."""
    reference = case.images[column]
    scan = to_ras(read_volume(reference, spacing=case.spacing, series=case.series(column)))
    mask = mask_of(case, column) if ROI_SOURCES[roi.source].needs_mask else None
    sources = RegionSources(mask=mask, spacing=case.spacing, center=case.center, segmenter=segmenters.get(roi))
    box = find_region(scan, content_hash(reference), roi, sources).box
    return np.asarray(scan.extent_mm if box is None else np.multiply(box.count, scan.spacing), dtype=float)


def propose_region(boxes: Sequence[np.ndarray | None], extents_mm: np.ndarray, *, has_points: bool) -> str | None:
    """What a region would do, in one line; None where the manifest has neither masks nor points.

    Args:
        boxes: of the masks that were looked at, as :func:`mask_extents` gives them.
        extents_mm: (n, 3), of the training scans.
        has_points: every training case has a point of interest.
    """
    if not boxes:
        if not has_points:
            return None
        return (
            f"the whole scan; every case has a point of interest: --roi point shows a box of {POINT_MM:.0f} mm about it"
        )
    empty = sum(box is None for box in boxes)
    if empty:
        return (
            f"the whole scan; {empty} of {len(boxes)} masks looked at are empty or unreadable: no region for every case"
        )
    median = np.median([box for box in boxes if box is not None], axis=0)
    share = float(median.prod() / np.median(extents_mm, axis=0).prod())
    size_text = " x ".join(f"{length:.0f}" for length in median)
    what = f"masks with {MARGIN_MM:.0f} mm around are {size_text} mm, {share:.0%} of the scan"
    if share > WORTHWHILE:
        return f"the whole scan; {what}: little to gain"
    return f"the whole scan; {what}: --roi mask crops to them (new scans then need masks; never masks of the lesion)"


def _box_mm(inside: np.ndarray, spacing: np.ndarray, extent: np.ndarray) -> np.ndarray | None:
    if not inside.any():
        return None
    sides = []
    for axis in range(3):
        occupied = np.flatnonzero(inside.any(axis=tuple(other for other in range(3) if other != axis)))
        sides.append((occupied[-1] - occupied[0] + 1) * spacing[axis])
    return np.minimum(np.asarray(sides) + 2 * MARGIN_MM, extent)
