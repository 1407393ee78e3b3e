"""Order and geometry of slices, from their positions and orientations alone.

Slice location, slice thickness, spacing between slices, instance numbers and file names may lie and are not used (a
lone slice takes its thickness, with a warning). Source: DICOM PS3.3 C.7.6.2.1.1, the affine of one slice.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anymc3d.data.dicom.increments import EvenGrid, even_grid, is_even
from anymc3d.data.dicom.multiframe import Frame
from anymc3d.data.dicom.resample import Resampling
from anymc3d.data.dicom.rules import Rule, is_shown
from anymc3d.data.dicom.series_4d import SAME_PLACE_MM, crowds, positions_along_normal
from anymc3d.data.formats.nifti_header import VOXEL_CEILING, spacing_fault
from anymc3d.data.volume import Affine
from anymc3d.errors import SlicesError

_TILT_DEGREES = 0.1
_SIDEWAYS = 0.1  # of a pixel
_MOST_GROWTH = 3
"""A straightened stack has at most this many times the rows and columns of its slices."""
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_INTERLEAVED = ("TemporalPositionIdentifier", "AcquisitionNumber", "EchoTime", "ImageType", "ConvolutionKernel", "KVP")
"""Two scans that differ in one of these do not belong into one stack, even if their slices take turns."""


@dataclass(frozen=True, eq=False)
class Stack:
    """``order``: indices of the frames, from the first slice on along the normal; affine of (column, row, slice)."""

    order: tuple[int, ...]
    affine: Affine
    warnings: tuple[str, ...] = ()
    resampling: Resampling | None = None
    """What makes a straight and even stack of the slices in that order, where they are none."""


@dataclass(frozen=True, eq=False)
class Plane:
    """Unit vectors along a row, down a column, and their normal; spacing between rows and between columns."""

    row: NDArray[np.float64]
    column: NDArray[np.float64]
    normal: NDArray[np.float64]
    spacing: tuple[float, float]


def stack(
    frames: Sequence[Frame], reference: Path, rule: Rule | None = None, *, size: tuple[int, int] = (1, 1)
) -> Stack:
    """Order slices along their common normal and find the affine, RAS millimetres.

    Args:
        frames: of one orientation and pixel spacing, one at each place.
        reference: of the scan, for messages.
        rule: whether uneven slices and a tilted gantry are allowed, and so resampled.
        size: columns and rows of a slice.

    Raises:
        ScanError: two slices are at one place, one is missing, the spacing is uneven, or the gantry was tilted.
    """
    rule = rule or Rule()
    plane = plane_of(frames, reference)
    along = positions_along_normal(frames, plane.normal)
    order = np.argsort(along, kind="stable")
    if len(frames) == 1:
        step, warnings = _lone_step(frames[0], plane, reference)
        return _placed(
            order, _affine(plane, step, np.asarray(frames[0].position, dtype=np.float64)), warnings, reference
        )
    if max(map(len, crowds(along))) > 1:
        raise SlicesError.of(reference, "two different slices at one place: two scans mixed; keep the files of one")
    ordered = [frames[i] for i in order]
    positions, along = np.array([frame.position for frame in ordered], dtype=np.float64), along[order]
    shifts, tilt = _shifts(positions, along, plane)
    if tilt and not rule.allow_tilt:
        options = ("tilt",) if rule.allow_gaps or is_even(along) else ("tilt", "gaps")
        advice = f"allow it with {rule.allowing(*options)}, which makes a straight stack of it"
        raise SlicesError.of(reference, f"{tilt[0]}; {advice}")
    _refuse_sideways(positions, along, plane, reference)
    even = even_grid(along, ordered, rule, reference)
    corner, resampling = _resampling(shifts if tilt else None, even, size, len(frames), reference)
    step = plane.normal * even.step_mm if even else (positions[-1] - positions[0]) / (len(frames) - 1)
    if tilt:
        step = plane.normal * float(step @ plane.normal)
    origin = positions[0] + corner[0] * plane.spacing[1] * plane.row + corner[1] * plane.spacing[0] * plane.column
    sheared = tuple(f"{text}: sheared to a straight stack, linearly within each slice" for text in tilt)
    warnings = sheared + ((even.warning,) if even else _interleaved(ordered, rule))
    return _placed(order, _affine(plane, step, origin), warnings, reference, resampling)


def plane_of(frames: Sequence[Frame], reference: Path) -> Plane:
    """The plane that all frames share.

    Raises:
        ScanError: their orientation or pixel spacing is not a usable geometry.
    """
    spacing = np.array([frame.pixel_spacing for frame in frames], dtype=np.float64)
    if (spacing <= 0).any():
        raise SlicesError.of(reference, "PixelSpacing must be above 0; repair the header")
    row, column = np.split(np.asarray(frames[0].orientation, dtype=np.float64), 2)
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if min(lengths) < 0.9 or max(lengths) > 1.1 or abs(float(row @ column)) > 0.01:
        raise SlicesError.of(
            reference, "ImageOrientationPatient is not a pair of perpendicular directions; repair the header"
        )
    row, column = row / lengths[0], column / lengths[1]
    normal = np.cross(row, column)
    normal /= np.linalg.norm(normal)
    return Plane(row, column, normal, (float(spacing[0, 0]), float(spacing[0, 1])))


def _lone_step(frame: Frame, plane: Plane, reference: Path) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    if not frame.thickness or frame.thickness <= 0:
        raise SlicesError.of(reference, "one slice without a thickness; expected a series of two slices or more")
    warning = f"the series has one slice only; its thickness of {frame.thickness:.4g} mm is taken as the spacing"
    return plane.normal * frame.thickness, (warning,)


def _shifts(
    positions: NDArray[np.float64], along: NDArray[np.float64], plane: Plane
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Columns and rows from the first pixel of the first slice to that of each, and what is said of a tilt."""
    off = positions - positions[0] - np.outer(along - along[0], plane.normal)
    pixels = np.stack([off @ plane.row / plane.spacing[1], off @ plane.column / plane.spacing[0]], axis=1)
    degrees = math.degrees(math.atan(float(np.linalg.norm(off[-1])) / float(along[-1] - along[0])))
    if degrees <= _TILT_DEGREES:
        return pixels, ()
    return pixels, (f"the slices are shifted against each other by {degrees:.3g} degrees (a tilted gantry)",)


def _refuse_sideways(positions: NDArray[np.float64], along: NDArray[np.float64], plane: Plane, reference: Path) -> None:
    """Raise where slices lie beside the line from the first to the last."""
    line = (positions[-1] - positions[0]) / (along[-1] - along[0])
    off = positions - positions[0] - np.outer(along - along[0], line)
    most = float(np.linalg.norm(off, axis=1).max())
    if most > max(_SIDEWAYS * min(plane.spacing), SAME_PLACE_MM):
        shift = f"some slices are shifted sideways by up to {most:.3g} mm"
        raise SlicesError.of(reference, f"{shift}; expected one straight stack, resample the series first")


def _resampling(
    shifts: NDArray[np.float64] | None, even: EvenGrid | None, size: tuple[int, int], count: int, reference: Path
) -> tuple[NDArray[np.float64], Resampling | None]:
    """The corner of the stack in pixels of the first slice, and the way from the slices to it."""
    if shifts is None and even is None:
        return np.zeros(2), None
    corner, shape = np.zeros(2), np.array(size)
    if shifts is not None:
        corner = np.floor(np.round(shifts.min(axis=0), 6))
        shifts = np.round(shifts - corner, 6)
        shape = shape + np.ceil(shifts.max(axis=0)).astype(int)
    columns, rows = int(shape[0]), int(shape[1])
    slices = count if even is None else len(even.places)
    if columns > _MOST_GROWTH * max(size[0], 8) or rows > _MOST_GROWTH * max(size[1], 8):
        what = f"straightened, a slice of {size[0]} x {size[1]} would become {columns} x {rows}"
        raise SlicesError.of(reference, f"{what}: not a tilted gantry; resample the series first")
    if columns * rows * slices > VOXEL_CEILING:
        raise SlicesError.of(reference, f"resampled, the series would have more voxels than the limit {VOXEL_CEILING}")
    return corner, Resampling((columns, rows, slices), shifts, None if even is None else even.places)


def _affine(plane: Plane, step: NDArray[np.float64], origin: NDArray[np.float64]) -> Affine:
    affine = np.eye(4)
    affine[:3, 0] = plane.row * plane.spacing[1]
    affine[:3, 1] = plane.column * plane.spacing[0]
    affine[:3, 2] = step
    affine[:3, 3] = origin
    return affine


def _placed(
    order: NDArray[np.intp],
    affine: Affine,
    warnings: tuple[str, ...],
    reference: Path,
    resampling: Resampling | None = None,
) -> Stack:
    if fault := spacing_fault(affine):
        raise SlicesError.of(reference, f"{fault}; check PixelSpacing and the positions")
    return Stack(tuple(int(index) for index in order), LPS_TO_RAS @ affine, warnings, resampling)


def _interleaved(frames: Sequence[Frame], rule: Rule) -> tuple[str, ...]:
    """A warning where an even stack alternates between two or more scans; one after the other, as in step-and-shoot
    CT, or another value in each slice, is usual."""
    for keyword in _INTERLEAVED:
        values = [frame.tags.get(keyword, "") for frame in frames]
        kinds, changes = len(set(values)), sum(before != after for before, after in itertools.pairwise(values))
        if 2 <= kinds <= len(values) // 2 and changes >= 2 * kinds:
            what = f"the slices alternate between {kinds} values of {keyword}: several scans in one stack?"
            value = next((value for value in sorted(set(values)) if is_shown(keyword, value)), None)
            advice = f"a condition on {keyword} in --series" if value is None else rule.advice(f"{keyword}={value}")
            return (f"{what} choose one with {advice}",)
    return ()
