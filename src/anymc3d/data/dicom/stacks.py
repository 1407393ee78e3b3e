"""Several stacks in one series: slices that are turned against each other, side by side, or of other sizes, as in scans
of spines (a stack for each disc) and of joints (a stack for each side)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anymc3d.data.dicom.increments import is_even, parts_of, passes_of
from anymc3d.data.dicom.rules import Rule
from anymc3d.data.dicom.series import ChosenFrame
from anymc3d.data.dicom.series_4d import SAME_PLACE_MM, crowds, positions_along_normal
from anymc3d.errors import SeriesError

SAME_DIRECTION = 1e-3
_SAME_SPACING = 1e-3
_SIDE_BY_SIDE_MM, _SAME_CORNER_MM = 2.0, 0.1
"""In the plane of the slices the corners of two stacks differ by more than the one, those of one stack by less than the
other."""
_MOST_SIDES = 12

Stack = tuple[int, ...]
"""Indices of frames."""


def chosen_stack(frames: Sequence[ChosenFrame], rule: Rule, reference: Path) -> Stack | None:
    """The frames of the stack that the rule names; None where it names none and there is one only.

    Raises:
        ScanError: there is no such stack, or there are several and none was chosen.
    """
    stacks = stacks_of(frames)
    if rule.stack is not None and len(stacks) == 1:
        stacks = _passes(frames) or stacks
    if rule.stack is not None:
        if rule.stack > len(stacks):
            what = f"series: stack={rule.stack}, but the series has {len(stacks)}"
            raise SeriesError.of(reference, f"{what}; choose among those, or leave 'stack=' out")
        return stacks[rule.stack - 1]
    if len(stacks) == 1:
        return None
    sizes = [len(stack) for stack in stacks]
    of = f"of {sizes[0]} slices" if len(set(sizes)) == 1 else f"of {' and '.join(map(str, sizes[:6]))} slices"
    what = f"one series holds {len(stacks)} stacks {of}, which differ in {_difference(frames, stacks)}"
    largest = sizes.index(max(sizes)) + 1
    advice = f"choose one with {rule.advice(f'stack={largest}')} (of 'stack=1' to 'stack={len(stacks)}')"
    raise SeriesError.of(reference, f"{what}; {advice}, or leave out what is not a scan")


def _passes(frames: Sequence[ChosenFrame]) -> list[Stack]:
    """The passes of one stack whose slices lie among each other, or its parts that lie far apart; none where it is
    one."""
    normal = np.cross(*np.split(np.asarray(frames[0].frame.orientation, dtype=np.float64), 2))
    along = positions_along_normal([chosen.frame for chosen in frames], normal)
    order = np.argsort(along, kind="stable")
    if is_even(along) or max(map(len, crowds(along))) > 1:
        return []
    passes = passes_of(along[order], [frames[i].frame for i in order])
    groups = list(passes[1].values()) if passes else parts_of(along[order])
    stacks = [tuple(int(order[i]) for i in group) for group in groups]
    return sorted(stacks, key=lambda stack: _first_of(stack, frames))


def stacks_of(frames: Sequence[ChosenFrame]) -> list[Stack]:
    """Slices of one orientation, size and spacing, and within each those above each other; in the order in which they
    were acquired, by their lowest InstanceNumber."""
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    orientations: list[NDArray[np.float64]] = []
    spacings: list[NDArray[np.float64]] = []
    for index, chosen in enumerate(frames):
        turn = _place_in(orientations, np.asarray(chosen.frame.orientation, dtype=np.float64), SAME_DIRECTION)
        step = _place_in(spacings, _log_spacing(chosen), _SAME_SPACING)
        groups[turn, step, chosen.file.rows, chosen.file.columns].append(index)
    stacks = [part for group in groups.values() for part in _side_by_side(group, frames)]
    return sorted(stacks, key=lambda stack: _first_of(stack, frames))


def _place_in(known: list[NDArray[np.float64]], value: NDArray[np.float64], tolerance: float) -> int:
    """Which of the known values this is; it is added where it is none of them."""
    for place, other in enumerate(known):
        if np.abs(value - other).max() <= tolerance:
            return place
    known.append(value)
    return len(known) - 1


def _side_by_side(group: list[int], frames: Sequence[ChosenFrame]) -> list[Stack]:
    """Slices whose first pixels lie above a few points of their plane are as many stacks; a gantry that was tilted
    moves them all along."""
    whole = [tuple(group)]
    positions = np.array([frames[i].frame.position for i in group], dtype=np.float64)
    row, column = np.split(np.asarray(frames[group[0]].frame.orientation, dtype=np.float64), 2)
    in_plane = np.stack([positions @ row, positions @ column], axis=1)
    if len(group) < 4 or np.ptp(in_plane, axis=0).max() <= _SIDE_BY_SIDE_MM:
        return whole
    corners: list[NDArray[np.float64]] = []
    where = [_place_in(corners, point, _SAME_CORNER_MM) for point in in_plane]
    parts = [tuple(i for i, at in zip(group, where, strict=True) if at == place) for place in range(len(corners))]
    if len(parts) > _MOST_SIDES or min(map(len, parts)) < 2:
        return whole
    # Volumes of a tilted gantry: what shares a corner lies at one place, so it is no stack.
    along = positions @ np.cross(row, column)
    reaches = [np.ptp([along[group.index(i)] for i in part]) for part in parts]
    return whole if min(reaches) < SAME_PLACE_MM else parts


def _first_of(stack: Stack, frames: Sequence[ChosenFrame]) -> tuple[float, ...]:
    numbers = [frames[i].frame.number for i in stack]
    number = math.inf if None in numbers else float(min(n for n in numbers if n is not None))
    return (number, *(float(v) for v in frames[stack[0]].frame.position or ()))


def _log_spacing(chosen: ChosenFrame) -> NDArray[np.float64]:
    return np.log(np.maximum(chosen.frame.pixel_spacing or (1.0, 1.0), 1e-6))


def _difference(frames: Sequence[ChosenFrame], stacks: Sequence[Stack]) -> str:
    firsts = [frames[stack[0]] for stack in stacks]
    normals = [np.cross(*np.split(np.asarray(first.frame.orientation, dtype=np.float64), 2)) for first in firsts]
    turns = [math.degrees(math.acos(min(1.0, abs(float(normals[0] @ normal))))) for normal in normals[1:]]
    if any(turn > 0.05 for turn in turns):
        degrees = " and ".join(f"{turn:.3g}" for turn in turns[:6])
        return (
            f"orientation (turned by {degrees} degrees against the first: angled stacks, localizers, or several views)"
        )
    turned = [np.abs(np.subtract(first.frame.orientation, firsts[0].frame.orientation)).max() for first in firsts]
    if max(turned) > SAME_DIRECTION:
        return "orientation (turned or mirrored within their plane)"
    if len({(first.file.rows, first.file.columns) for first in firsts}) > 1:
        return "image sizes"
    if any(np.abs(_log_spacing(first) - _log_spacing(firsts[0])).max() > _SAME_SPACING for first in firsts):
        spacings = [spacing for first in firsts for spacing in first.frame.pixel_spacing or ()]
        return f"pixel spacing: the pixel spacing differs, from {min(spacings):.4g} to {max(spacings):.4g} mm"
    return "place: they lie side by side"
