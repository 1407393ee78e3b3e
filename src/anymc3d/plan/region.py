"""A proposal for the region of a view, where the manifest has masks or points of interest; never taken unasked.

A region that rests on masks needs one for every new scan as well, and a mask of a lesion would show the answer. So the
plan measures and says what ``roi`` would do; ``--roi mask`` takes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from anymc3d.data.case import Case
from anymc3d.data.readers import read_volume
from anymc3d.data.volume import to_ras
from anymc3d.errors import ScanError, UsageError

MARGIN_MM = 10.0
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


def check_masks(cases: Sequence[Case], column: str, boxes: Mapping[int, np.ndarray | None]) -> None:
    """Refuse a region from masks that not every case has.

    Raises:
        UsageError: cases without a mask, or masks without a region.
    """
    without = [case for case in cases if mask_of(case, column) is None]
    if without:
        raise UsageError(
            f"--roi mask: {len(without)} of {len(cases)} cases have no mask (row {without[0].row} is the first); "
            "fill the manifest's 'mask' column, or leave --roi out"
        )
    empty = sum(box is None for box in boxes.values())
    if empty:
        raise UsageError(
            f"--roi mask: {empty} of {len(boxes)} masks looked at are empty or unreadable; leave --roi out"
        )


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
        return "the whole scan; every case has a point of interest: {source: point, size_mm: [64, 64, 64]} shows a box"
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
