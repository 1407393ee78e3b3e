"""Order and geometry of slices, from their positions and orientations alone.

Slice location, slice thickness, spacing between slices, instance numbers and file names may lie and are not used (a
lone slice takes its thickness, with a warning). Source: DICOM PS3.3 C.7.6.2.1.1, the affine of one slice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anymc3d.data.dicom.multiframe import Frame
from anymc3d.data.dicom.phases import SAME_PLACE_MM, interleaved_warnings, refuse_crowded
from anymc3d.data.nifti_header import PLAUSIBLE_SPACING_MM
from anymc3d.data.scan_file import scan_error
from anymc3d.data.volume import Affine

GAP_TOLERANCE = 0.01
"""Of the spacing between slices."""
_WRITTEN_DIGITS_MM = 0.011
"""Positions are often written with two decimals: two of them may differ by this much more than the truth."""
_TILT_DEGREES = 0.1
_SAME_DIRECTION = 1e-3
_SAME_SPACING = 1e-3
_SIDEWAYS = 0.1  # of a pixel
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Stack:
    """``order``: indices of the frames, from the first slice on along the normal; affine of (column, row, slice)."""

    order: tuple[int, ...]
    affine: Affine
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class _Plane:
    """Unit vectors along a row, down a column, and their normal; spacing between rows and between columns."""

    row: NDArray[np.float64]
    column: NDArray[np.float64]
    normal: NDArray[np.float64]
    spacing: tuple[float, float]


def stack(frames: Sequence[Frame], reference: Path, *, allow_gaps: bool = False) -> Stack:
    """Order slices along their common normal and find the affine, RAS millimetres.

    ``allow_gaps``: uneven spacing is a warning; the slices are then taken as even, by the median spacing.

    Raises:
        ScanError: the slices differ in orientation or pixel spacing, two are at one place, one is missing, the
            spacing is uneven, or the gantry was tilted.
    """
    plane = _common_plane(frames, reference)
    positions = np.array([frame.position for frame in frames], dtype=np.float64)
    along = positions @ plane.normal
    order = np.argsort(along, kind="stable")
    positions, along = positions[order], along[order]
    if len(frames) == 1:
        step, warnings = _lone_step(frames[0], plane, reference)
    else:
        refuse_crowded(frames, plane.normal, reference)
        _refuse_tilt(positions, plane, reference)
        warnings = _uneven(along, reference, allow_gaps)
        step = (positions[-1] - positions[0]) / (len(frames) - 1)
        if warnings:
            step = plane.normal * float(np.median(np.diff(along)))
        else:
            _refuse_sideways(positions, step, plane, reference)
        warnings += interleaved_warnings(frames, plane.normal)
    affine = np.eye(4)
    affine[:3, 0] = plane.row * plane.spacing[1]
    affine[:3, 1] = plane.column * plane.spacing[0]
    affine[:3, 2] = step
    affine[:3, 3] = positions[0]
    _check_spacing(affine, reference)
    return Stack(tuple(int(index) for index in order), LPS_TO_RAS @ affine, warnings)


def _common_plane(frames: Sequence[Frame], reference: Path) -> _Plane:
    orientations = np.array([frame.orientation for frame in frames], dtype=np.float64)
    spacings = np.array([frame.pixel_spacing for frame in frames], dtype=np.float64)
    other = np.abs(orientations - orientations[0]).max(axis=1) > _SAME_DIRECTION
    if other.any():
        what = f"{int(other.sum())} of {len(frames)} slices have another orientation than the rest"
        raise scan_error(reference, f"{what} (localizers, or several views?); put each scan in its own folder")
    if (spacings <= 0).any():
        raise scan_error(reference, "PixelSpacing must be above 0; repair the header")
    if (np.abs(spacings / spacings[0] - 1) > _SAME_SPACING).any():
        low, high = spacings.min(), spacings.max()
        what = f"the pixel spacing differs between slices, from {low:.4g} to {high:.4g} mm"
        raise scan_error(reference, f"{what}; put each scan in its own folder")
    row, column = np.split(orientations[0], 2)
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if min(lengths) < 0.9 or max(lengths) > 1.1 or abs(float(row @ column)) > 0.01:
        raise scan_error(reference, "ImageOrientationPatient is no pair of perpendicular directions; repair the header")
    row, column = row / lengths[0], column / lengths[1]
    normal = np.cross(row, column)
    normal /= np.linalg.norm(normal)
    return _Plane(row, column, normal, (float(spacings[0, 0]), float(spacings[0, 1])))


def _lone_step(frame: Frame, plane: _Plane, reference: Path) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    if not frame.thickness or frame.thickness <= 0:
        raise scan_error(reference, "one slice without a thickness; expected a series of two slices or more")
    warning = f"the series has one slice only; its thickness of {frame.thickness:.4g} mm is taken as the spacing"
    return plane.normal * frame.thickness, (warning,)


def _refuse_tilt(positions: NDArray[np.float64], plane: _Plane, reference: Path) -> None:
    drift = positions[-1] - positions[0]
    along = float(drift @ plane.normal)
    degrees = math.degrees(math.atan2(float(np.linalg.norm(drift - along * plane.normal)), abs(along)))
    if degrees > _TILT_DEGREES:
        what = f"the slices are shifted against each other by {degrees:.3g} degrees (a tilted gantry)"
        raise scan_error(reference, f"{what}; resample the series to a straight grid first, for instance with dcm2niix")


def _uneven(along: NDArray[np.float64], reference: Path, allow_gaps: bool) -> tuple[str, ...]:
    """Warnings where uneven spacing is allowed; the message names each place along the normal, in millimetres."""
    steps = np.diff(along)
    usual = float(np.median(steps))
    wrong = np.flatnonzero(np.abs(steps - usual) > max(GAP_TOLERANCE * usual, _WRITTEN_DIGITS_MM))
    if not len(wrong):
        return ()
    shown = ", ".join(f"{steps[i]:.4g} mm between {along[i]:.4g} and {along[i + 1]:.4g} mm" for i in wrong[:3])
    more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
    what = f"uneven slices: expected {usual:.4g} mm from one to the next, found {shown}{more} along the slice axis"
    lacking = sum(max(0, round(steps[i] / usual) - 1) for i in wrong)
    what += f" ({lacking} missing?)" if lacking else ""
    if not allow_gaps:
        raise scan_error(reference, f"{what}; get the whole series again, or allow it with --allow-gaps")
    return (f"{what}: stacked as if even",)


def _refuse_sideways(positions: NDArray[np.float64], step: NDArray[np.float64], plane: _Plane, reference: Path) -> None:
    expected = positions[0] + np.arange(len(positions))[:, None] * step
    off = positions - expected
    off -= (off @ plane.normal)[:, None] * plane.normal
    most = float(np.linalg.norm(off, axis=1).max())
    if most > max(_SIDEWAYS * min(plane.spacing), SAME_PLACE_MM):
        what = f"some slices are shifted sideways by up to {most:.3g} mm"
        raise scan_error(reference, f"{what}; expected one straight stack, resample the series first")


def _check_spacing(affine: Affine, reference: Path) -> None:
    low, high = PLAUSIBLE_SPACING_MM
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if not ((spacing >= low) & (spacing <= high)).all():
        what = f"expected a spacing of {low:g} to {high:g} mm, the header gives {[round(float(s), 6) for s in spacing]}"
        raise scan_error(reference, f"{what} mm; check PixelSpacing and the positions")
