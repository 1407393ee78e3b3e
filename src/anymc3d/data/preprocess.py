"""From a volume to the slices of one view: orient, choose the plane, crop, normalise, pad, resize.

Training, validation and prediction all come here; there is no second way. Replication to three channels and the
backbone's mean and standard deviation are the model's business. Source: supplement A2 and Table 3 (sizes are x, y,
slices); the order of the steps is not published and is ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from anymc3d.data.percentiles import percentiles
from anymc3d.data.volume import (
    SUV,
    Affine,
    Box,
    Millimetres,
    Volume,
    Voxels,
    box_of_extent,
    crop_to,
    overhang,
    pad_by,
    permute_axes,
    resize,
    to_ras,
    whole,
)
from anymc3d.data.work_limit import check_work
from anymc3d.errors import ScanError
from anymc3d.settings.views import ViewSettings
from anymc3d.types import Plane

CODE_VERSION = 1
"""Part of every cache key. Raise it whenever a prepared view can change; the golden test says when."""

AXES: dict[Plane, tuple[int, int, int]] = {"axial": (0, 1, 2), "coronal": (0, 2, 1), "sagittal": (1, 2, 0)}
"""Of a RAS volume: which axes become H, W and the slice axis."""
_TIE = 0.01


@dataclass(frozen=True, eq=False)
class PreparedView:
    """The slices of one view of one scan, as they are cached and as the model takes them."""

    slices: NDArray[np.float16]
    """(S, C, H, W); half precision so that cached and fresh slices are the same bits."""
    affine: Affine
    """(4, 4): index (h, w, s) of the prepared grid to RAS millimetres."""
    plane: Plane
    notes: tuple[str, ...] = ()
    """One line each: what there is to know of the region that was cut out, such as an organ cut by the scan's end."""


def prepare_view(volume: Volume, view: ViewSettings, region: Box | None = None) -> PreparedView:
    """Cut one view out of a volume: float16 slices (S, C, H, W), H and W in the order of ``view.size``.

    Args:
        volume: the scan, in any orientation.
        view: how. ``view.roi`` is not looked at: the caller gives the region.
        region: voxels of the scan in RAS order to show, :class:`anymc3d.data.regions.Region`; None = the whole scan.

    Raises:
        ScanError: nothing is left to see: the field of view, or what the window lets through, is a single value; the
            view asks for far more than the scan holds; or it wants SUV and the scan has none.
    """
    if view.normalise == "suv":
        _refuse_no_suv(volume)
    oriented = to_ras(volume)
    plane = slice_plane(oriented.spacing) if view.plane == "auto" else view.plane
    stack = permute_axes(oriented, AXES[plane])
    box = whole(stack) if region is None else region.permuted(AXES[plane])
    if view.field_of_view is not None:
        box = box_of_extent(stack, view.field_of_view, within=box)
    height, width, num_slices = view.size
    size = (height, width, num_slices or box.count[2])
    check_work(stack.shape, box, size, view.num_channels)
    missing = overhang(box, stack.shape)
    stack = crop_to(stack, box)
    channels = normalise(stack.voxels, view)
    if all(channel.min() == channel.max() for channel in channels):
        low, high = float(stack.voxels.min()), float(stack.voxels.max())
        where = f"field of view {view.field_of_view or 'whole'}" + ("" if region is None else ", within the region")
        what = f"all voxels look the same after normalise: {view.normalise} (voxels from {low:g} to {high:g}"
        raise ScanError(f"{what}, windows {view.windows or 'none'}, {where})")
    resized = []
    for channel in channels:
        grid = pad_by(replace(stack, voxels=channel), missing, float(channel.min()))
        resized.append(resize(grid, size))
    slices = np.stack([grid.voxels.transpose(2, 0, 1) for grid in resized], axis=1).astype(np.float16)
    return PreparedView(slices=slices, affine=resized[0].affine, plane=plane)


def slice_plane(spacing: Millimetres) -> Plane:
    """The acquisition plane of a RAS volume: slices lie along its largest spacing; ties within 1 % go to axial."""
    _, y, z = spacing
    thickest = max(spacing) * (1 - _TIE)
    if z >= thickest:
        return "axial"
    return "coronal" if y >= thickest else "sagittal"


def normalise(voxels: Voxels, view: ViewSettings) -> list[Voxels]:
    """Channels of the same shape: one, or one per window. Statistics are of all ``voxels`` given."""
    return NORMALISERS[view.normalise](voxels, view)


def _window(voxels: Voxels, view: ViewSettings) -> list[Voxels]:
    return [_to_unit(voxels, low, high) for low, high in view.windows]


def _percentile(voxels: Voxels, view: ViewSettings) -> list[Voxels]:
    low, high = percentiles(voxels, view.percentiles)
    if low == high:
        # A scan that is background but for a few voxels: their range is all there is.
        low, high = voxels.min(), voxels.max()
    return [_to_unit(voxels, float(low), float(high))]


def _zscore(voxels: Voxels, view: ViewSettings) -> list[Voxels]:
    # One memory order for every storage of a scan: the order of a sum decides its last bits.
    ordered = np.asfortranarray(voxels).ravel(order="K")
    mean = float(ordered.mean(dtype=np.float64))
    spread = float(ordered.std(dtype=np.float64))
    return [((voxels - np.float32(mean)) / np.float32(spread or 1.0)).astype(np.float32)]


def _refuse_no_suv(volume: Volume) -> None:
    """A scan that says nothing of its units is taken at its word; one that says others is not."""
    if volume.units not in (None, SUV):
        what = f"expected SUV (normalise: suv), the scan is in raw units ({volume.units}): {volume.why_not_suv}"
        raise ScanError(f"{what}; get it from the source, or train with normalise: percentile, which needs no units")


NORMALISERS: dict[str, Callable[[Voxels, ViewSettings], list[Voxels]]] = {
    "window": _window,
    "suv": _window,
    "percentile": _percentile,
    "zscore": _zscore,
}


def _to_unit(voxels: Voxels, low: float, high: float) -> Voxels:
    """Clip to [low, high] and map to [0, 1]."""
    scaled = np.clip(voxels, np.float32(low), np.float32(high))
    scaled -= np.float32(low)
    scaled /= np.float32(max(high - low, np.finfo(np.float32).tiny))
    return scaled
