"""The views of a task: one per image column, or several planes of one image, each with its size, field and windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from anymc3d.data.case import view_of
from anymc3d.data.labels import encode
from anymc3d.data.preprocess import AXES
from anymc3d.data.volume import Millimetres
from anymc3d.plan.intensity import IntensityChoice
from anymc3d.plan.measure import DataSet, Measured
from anymc3d.plan.region import check_masks, propose_region
from anymc3d.plan.rules import choose_field_of_view, choose_plane, why_asked
from anymc3d.plan.size import choose_size
from anymc3d.plan.size_leak import find_size_leak
from anymc3d.settings.views import RoiSettings, ViewSettings
from anymc3d.types import Plane

ROOM = 1.1
"""A field for crops of which only some were measured: so much larger than the largest of those."""
CROPPED = (
    "asked for: the box of the mask's labels, 10 mm around; the sizes above are of such crops; new scans need masks"
)


@dataclass(frozen=True, eq=False)
class PlannedColumn:
    """One image column: what was measured, and how its intensities are taken."""

    measured: Measured
    intensity: IntensityChoice


def choose_views(
    data: DataSet, columns: Sequence[PlannedColumn], planes: Sequence[Plane], patch_size: int, *, crop: bool = False
) -> tuple[dict[str, ViewSettings], dict[str, str]]:
    """Views by name, and reasons by dotted key.

    Args:
        data: the manifest and its labels.
        columns: one or several.
        planes: those that the user asked for; none: the acquisition plane.
        patch_size: pixels.
        crop: to the masks; sizes and fields are then those of the crops.

    Raises:
        UsageError: not every case has a mask to crop to.
    """
    views, reasons = {}, {}
    single = len(columns) == 1 and len(planes) <= 1
    for column in columns:
        if crop:
            check_masks(data.manifest.cases, column.measured.name, column.measured.mask_boxes)
            column = replace(column, measured=column.measured.cropped())
        own_plane, plane_reason = choose_plane(column.measured.grids)
        field, field_reason, has_leak = _field(data, column.measured, crop=crop)
        for plane in planes or (own_plane,):
            view = "image" if single else plane if planes else view_of(column.measured.name)
            # A field that hides a size leak keeps every structure's own resolution; otherwise the median scan decides.
            size = choose_size(column.measured.grids, plane, patch_size, field if has_leak else None)
            views[view] = _settings(column, plane, size.value, field, crop=crop)
            reasons[f"views.{view}.size"] = size.reason
            reasons[f"views.{view}.plane"] = why_asked(column.measured.grids, plane) if planes else plane_reason
            if plane == (*planes, own_plane)[0]:
                reasons[f"views.{view}.field_of_view"] = field_reason
                reasons |= _reasons_of_image(view, column, CROPPED if crop else _proposal(data, column.measured))
    return views, reasons


def _field(data: DataSet, column: Measured, *, crop: bool) -> tuple[Millimetres | None, str, bool]:
    """The field of view (x, y, z) or None, why, and whether it is there to hide that sizes predict the label."""
    targets = encode(data.manifest.cases, data.labels)[list(column.rows)]
    leak = find_size_leak(column.grids.extents_mm, targets, data.labels)
    field, reason = choose_field_of_view(column.grids, leak)
    if crop:
        field, reason = _field_of_crops(field if leak else None, reason)
    return field, reason, leak is not None


def _settings(
    column: PlannedColumn, plane: Plane, size: tuple[int, int, int], field: Millimetres | None, *, crop: bool
) -> ViewSettings:
    return ViewSettings(
        size=size,
        image=column.measured.name,
        plane=plane,
        field_of_view=None if field is None else tuple(field[axis] for axis in AXES[plane]),
        normalise=column.intensity.normalise,
        windows=column.intensity.windows,
        roi=RoiSettings(source="mask") if crop else None,
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


def _proposal(data: DataSet, column: Measured) -> str | None:
    has_points = all(data.manifest.cases[row].center is not None for row in column.rows)
    return propose_region(list(column.mask_boxes.values()), column.grids.extents_mm, has_points=has_points)
