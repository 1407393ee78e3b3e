"""The views of a task: one per image column, or several planes of one image, each with its size, field and windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from anymc3d.data.case import view_of
from anymc3d.data.case_scans import Segmenters
from anymc3d.data.labels import encode
from anymc3d.data.preprocess import AXES
from anymc3d.data.volume import Millimetres
from anymc3d.plan.intensity import IntensityChoice
from anymc3d.plan.measure import DataSet, MeasuredColumn
from anymc3d.plan.region import check_has_region, crop_extents, propose_region
from anymc3d.plan.rules import choose_field_of_view, choose_plane, reason_of_named_plane
from anymc3d.plan.size import choose_size
from anymc3d.plan.size_leak import find_size_leak
from anymc3d.settings.views import RoiSettings, ViewSettings
from anymc3d.types import Plane

ROOM = 1.1
"""A field for crops of which only some were measured: so much larger than the largest of those."""
CROPPED: Mapping[str, str] = {
    "mask": "asked for: the box of the mask's labels, {margin:.0f} mm around; the sizes above are of such crops; new "
    "scans need masks",
    "point": "asked for: a box about each case's point of interest; new scans need one",
}
DRAWN = "asked for: drawn by {source}; the sizes above are of the crops of {count} scans"


@dataclass(frozen=True, eq=False)
class PlannedColumn:
    """One image column: what was measured, and how its intensities are taken."""

    measured: MeasuredColumn
    intensity: IntensityChoice


def choose_views(
    data: DataSet,
    columns: Sequence[PlannedColumn],
    planes: Sequence[Plane],
    patch_size: int,
    *,
    roi: RoiSettings | None = None,
    segmenters: Segmenters | None = None,
) -> tuple[dict[str, ViewSettings], dict[str, str]]:
    """Views by name, and reasons by dotted key.

    Args:
        data: the manifest and its labels.
        columns: one or several.
        planes: those that the user asked for; none: the acquisition plane.
        patch_size: pixels.
        roi: the region to crop to; sizes and fields are then those of the crops.
        segmenters: what draws the region, where something does.

    Raises:
        UsageError: not every case has what the region rests on.
    """
    views, reasons = {}, {}
    single = len(columns) == 1 and len(planes) <= 1
    for column in columns:
        if roi is not None:
            column = _cropped(data, column, roi, segmenters or {})
        own_plane, plane_reason = choose_plane(column.measured.grids)
        field, field_reason, has_leak = _field(data, column.measured, crop=roi is not None)
        for plane in planes or (own_plane,):
            view = "image" if single else plane if planes else view_of(column.measured.name)
            # A field that hides a size leak keeps every structure's own resolution; otherwise the median scan decides.
            size = choose_size(column.measured.grids, plane, patch_size, field if has_leak else None)
            views[view] = _settings(column, plane, size.value, field, roi)
            reasons[f"views.{view}.size"] = size.reason
            named = reason_of_named_plane(column.measured.grids, plane) if planes else None
            reasons[f"views.{view}.plane"] = named or plane_reason
            if plane == (*planes, own_plane)[0]:
                reasons[f"views.{view}.field_of_view"] = field_reason
                region = _proposal(data, column.measured) if roi is None else _asked(column.measured, roi)
                reasons |= _reasons_of_image(view, column, region)
    return views, reasons


def _cropped(data: DataSet, column: PlannedColumn, roi: RoiSettings, segmenters: Segmenters) -> PlannedColumn:
    """With the crops of the scans that were looked at in place of all scans.

    Raises:
        UsageError: not every case has what the region rests on.
    """
    measured = column.measured
    check_has_region(data.manifest.cases, measured.name, roi, is_drawn=roi in segmenters)
    cases = {row: data.manifest.cases[row] for row in measured.rows}
    boxes = crop_extents(cases, measured.name, roi, segmenters, measured.mask_boxes)
    return replace(column, measured=measured.cropped(boxes))


def _asked(measured: MeasuredColumn, roi: RoiSettings) -> str:
    """Why the region is what it is, and what it asks of new scans."""
    text = CROPPED.get(roi.source, DRAWN)
    return text.format(margin=roi.margin_mm[0], source=roi.source, count=len(measured.rows))


def _field(data: DataSet, column: MeasuredColumn, *, crop: bool) -> tuple[Millimetres | None, str, bool]:
    """The field of view (x, y, z) or None, why, and whether it is there to hide that sizes predict the label."""
    targets = encode(data.manifest.cases, data.labels)[list(column.rows)]
    leak = find_size_leak(column.grids.extents_mm, targets, data.labels)
    field, reason = choose_field_of_view(column.grids, leak)
    if crop:
        field, reason = _field_of_crops(field if leak else None, reason)
    return field, reason, leak is not None


def _settings(
    column: PlannedColumn, plane: Plane, size: tuple[int, int, int], field: Millimetres | None, roi: RoiSettings | None
) -> ViewSettings:
    return ViewSettings(
        size=size,
        image=column.measured.name,
        plane=plane,
        field_of_view=None if field is None else tuple(field[axis] for axis in AXES[plane]),
        normalise=column.intensity.normalise,
        windows=column.intensity.windows,
        roi=roi,
    )


def _reasons_of_image(view: str, column: PlannedColumn, region: str | None) -> dict[str, str]:
    """What is said once per image, with its first view: its other planes have the same."""
    key = "windows" if column.intensity.windows else "normalise"
    reasons = {f"views.{view}.{key}": column.intensity.normalise_reason}
    return reasons if region is None else {f"views.{view}.roi": region} | reasons


def _field_of_crops(field: Millimetres | None, reason: str) -> tuple[Millimetres | None, str]:
    """Only some masks were looked at, so the largest crop is not known: without a leak nothing is padded or cut."""
    if field is None:
        return None, "each crop is resized whole, as in the paper"
    x, y, z = (round(length * ROOM, 1) for length in field)
    return (x, y, z), f"{reason}; of the masks looked at, and 10 % more for the others"


def _proposal(data: DataSet, column: MeasuredColumn) -> str | None:
    has_points = all(data.manifest.cases[row].center is not None for row in column.rows)
    return propose_region(list(column.mask_boxes.values()), column.grids.extents_mm, has_points=has_points)
