"""Distances between the slices of a stack: even ones, and why others are not; what can be done about it.

Missing slices, two passes that overlap, and an increment that changes on purpose (head CT: thin through the base of the
skull, thicker above) look alike where only distances are measured. Here each has its own message and its own remedy.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anymc3d.data.dicom.multiframe import Frame
from anymc3d.data.dicom.rules import Rule, is_shown
from anymc3d.data.dicom.series_4d import TELL_APART
from anymc3d.data.dicom.tags import RULE_TAGS
from anymc3d.errors import SlicesError

GAP_TOLERANCE = 0.01
"""Share of the spacing between slices."""
_WRITTEN_DIGITS_MM = 0.011
"""Positions are often written with two decimals: two of them may differ by this much more than the truth."""
_PASSES = ("AcquisitionNumber", "TemporalPositionIdentifier", "EchoTime", "ImageType", "StackID", "ConvolutionKernel")
_NUMBER = "InstanceNumber"
_OTHER_PASSES = tuple(name for name in TELL_APART if name not in _PASSES)
"""What differs between two scans whose slices lie among each other."""
_MOST_PASSES, _LEAST_SLICES, _MOST_RUNS, _LEAST_STEPS = 6, 3, 4, 2
_FAR = 3.0
"""Of the usual step: from there on the two sides may be stacks of their own, such as one for each disc of a spine."""
_MOST_MADE = 20
"""So many slices are made of one at most: more would be invented, not resampled."""


@dataclass(frozen=True, eq=False)
class EvenGrid:
    """An even stack in place of an uneven one: ``places`` of its slices, counted in the slices that there are."""

    step_mm: float
    places: NDArray[np.float64]
    warning: str


class _Run(NamedTuple):
    """Steps of one length: from which slice on, how many."""

    step_mm: float
    first: int
    count: int


def even_grid(along: NDArray[np.float64], frames: Sequence[Frame], rule: Rule, reference: Path) -> EvenGrid | None:
    """None where the slices are even; with ``gaps=allow`` the grid to resample an uneven stack to.

    ``along``: millimetres along the normal, ascending; ``frames`` in the same order.

    Raises:
        ScanError: the slices are uneven, and that is not allowed, or would not help.
    """
    steps = np.diff(along)
    usual = float(np.median(steps))
    wrong = np.flatnonzero(np.abs(steps - usual) > _tolerance(usual))
    if not len(wrong):
        return None
    _refuse_passes(along, frames, rule, reference)
    runs = _without_transitions(_runs(steps))
    changes = 2 <= len(runs) <= _MOST_RUNS and all(run.count >= _LEAST_STEPS for run in runs)
    if changes:
        what, step = _changing(runs, along), min(run.step_mm for run in runs)
    else:
        what, step = _missing(steps, along, wrong, usual), usual
    if not rule.allow_gaps:
        first = "" if changes else "get the whole series again, or "
        allowed = f"allow it with {rule.allowing('gaps')}, which resamples it to an even stack"
        raise SlicesError.of(reference, f"{what}; {first}{allowed}{_part(along, frames, rule, changes)}")
    return _grid(along, step, what, reference)


def _tolerance(step: float) -> float:
    return max(GAP_TOLERANCE * step, _WRITTEN_DIGITS_MM)


def is_even(along: NDArray[np.float64]) -> bool:
    """Whether slices at these places follow each other at one distance."""
    steps = np.diff(np.sort(along))
    usual = float(np.median(steps))
    return bool((np.abs(steps - usual) <= _tolerance(usual)).all())


def _refuse_passes(along: NDArray[np.float64], frames: Sequence[Frame], rule: Rule, reference: Path) -> None:
    """Raise where the slices are several even stacks that overlap: no resampling may weave them into one."""
    passes = passes_of(along, frames)
    if passes is None:
        return
    name, groups = passes
    steps = {f"{float(np.median(np.diff(along[g]))):.4g} mm" for g in groups.values()}
    what = f"uneven slices: {len(groups)} even stacks by {name}, {' and '.join(sorted(steps))} each, which overlap"
    value = next((value for value in sorted(groups) if name in RULE_TAGS and is_shown(name, value)), None)
    advice = rule.advice("stack=1" if value is None else f"{name}={value}")
    raise SlicesError.of(reference, f"{what}: several passes in one series; choose one with {advice}")


def passes_of(along: NDArray[np.float64], frames: Sequence[Frame]) -> tuple[str, dict[str, list[int]]] | None:
    """Several even stacks whose slices lie among each other, and the tag that parts them, or ``InstanceNumber``; None
    where nothing parts the slices so. A stack may lack slices, where the others are no slices of its own grid.

    ``along``: millimetres along the normal, ascending; ``frames`` in the same order.
    """
    for name in (*_PASSES, *_OTHER_PASSES, _NUMBER):
        groups = _by_number(along, frames) if name == _NUMBER else _by_tag(frames, name)
        if not 2 <= len(groups) <= _MOST_PASSES:
            continue
        spans = sorted((along[g[0]], along[g[-1]]) for g in groups.values())
        overlap = any(later[0] < earlier[1] for earlier, later in itertools.pairwise(spans))
        if not overlap or any(len(g) < _LEAST_SLICES for g in groups.values()):
            continue
        parts = list(groups.values())
        lacking = all(_is_even_but_for_gaps(along[g]) for g in parts) and not _are_in_turns(along, parts)
        if lacking or all(is_even(along[g]) for g in parts):
            return name, groups
    return None


def _is_even_but_for_gaps(along: NDArray[np.float64]) -> bool:
    """``along`` ascending."""
    steps = np.diff(along)
    usual = float(np.median(steps))
    counts = np.round(steps / usual) if usual else np.zeros(1)
    return bool((counts >= 1).all() and (np.abs(steps - counts * usual) <= _tolerance(usual)).all())


def _are_in_turns(along: NDArray[np.float64], groups: Sequence[Sequence[int]]) -> bool:
    """Whether the slices of all groups lie on one grid, as many times as fine as there are groups."""
    first, *others = groups
    step = float(np.median(np.diff(along[first]))) if len(first) > 1 else 0.0
    between = [(along[group[0]] - along[first[0]]) / step * len(groups) for group in others] if step else [0.0]
    return all(abs(turn - round(turn)) * step <= len(groups) * _tolerance(step) for turn in between)


def _by_number(along: NDArray[np.float64], frames: Sequence[Frame]) -> dict[str, list[int]]:
    """Slices in the order of their numbers, a new group wherever the order jumps back; none where they are one scan
    whose slices were taken in turns, of which one is missing."""
    numbers = [frame.number for frame in frames]
    if None in numbers or len(set(numbers)) < len(numbers):
        return {}
    order = sorted(range(len(frames)), key=lambda index: numbers[index] or 0)
    steps = np.diff(along[order])
    forward = float(np.sign(np.median(steps)))
    starts = np.flatnonzero(np.sign(steps) != forward) + 1
    groups = {str(place): sorted(map(int, part)) for place, part in enumerate(np.split(np.array(order), starts))}
    return {} if _are_in_turns(along, list(groups.values())) else groups


def _by_tag(frames: Sequence[Frame], name: str) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = defaultdict(list)
    for index, frame in enumerate(frames):
        groups[frame.tags.get(name, "")].append(index)
    return groups


def _runs(steps: NDArray[np.float64]) -> list[_Run]:
    runs: list[_Run] = []
    for index, step in enumerate(steps):
        if runs and abs(step - runs[-1].step_mm) <= _tolerance(runs[-1].step_mm):
            runs[-1] = runs[-1]._replace(count=runs[-1].count + 1)
        else:
            runs.append(_Run(float(step), index, 1))
    return runs


def _without_transitions(runs: list[_Run]) -> list[_Run]:
    """Without the single steps from one increment to the next, which are shorter than the longer of the two: half of
    each where the slices touch, less where they overlap."""

    def is_transition(place: int) -> bool:
        if not 0 < place < len(runs) - 1 or runs[place].count > 1:
            return False
        before, after = runs[place - 1], runs[place + 1]
        differ = abs(before.step_mm - after.step_mm) > _tolerance(min(before.step_mm, after.step_mm))
        return differ and runs[place].step_mm < max(before.step_mm, after.step_mm)

    return [run for place, run in enumerate(runs) if not is_transition(place)]


def _changing(runs: Sequence[_Run], along: NDArray[np.float64]) -> str:
    changes = [
        f"from {before.step_mm:.4g} to {after.step_mm:.4g} mm at {along[after.first]:.4g} mm"
        for before, after in itertools.pairwise(runs)
    ]
    return f"uneven slices: the spacing changes {' and '.join(changes)} along the slice axis, and no slice is missing"


def _missing(steps: NDArray[np.float64], along: NDArray[np.float64], wrong: NDArray[np.intp], usual: float) -> str:
    gaps = ", ".join(f"{steps[i]:.4g} mm between {along[i]:.4g} and {along[i + 1]:.4g} mm" for i in wrong[:3])
    more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
    what = f"uneven slices: expected {usual:.4g} mm from one to the next, found {gaps}{more} along the slice axis"
    lacking = sum(max(0, round(steps[i] / usual) - 1) for i in wrong)
    return what + (f" ({lacking} missing?)" if lacking else "")


def parts_of(along: NDArray[np.float64]) -> list[NDArray[np.intp]]:
    """Even parts of a stack that lie far apart, ``along`` ascending; none where it is one, or a part is not even."""
    steps = np.diff(along)
    parts = np.split(np.arange(len(along)), np.flatnonzero(steps > _FAR * float(np.median(steps))) + 1)
    usable = len(parts) >= 2 and all(len(part) >= _LEAST_SLICES and is_even(along[part]) for part in parts)
    return parts if usable else []


def _part(along: NDArray[np.float64], frames: Sequence[Frame], rule: Rule, changes: bool) -> str:
    """The way to one even part of a stack, by the thickness of its slices or because the parts lie far apart; nothing
    where neither parts them."""
    if not changes:
        count = len(parts_of(along))
        advice = rule.advice("stack=1")
        return f", or take one of the {count} even parts with {advice} (to 'stack={count}')" if count else ""
    groups = _by_tag(frames, "SliceThickness")
    even = all(len(g) >= _LEAST_SLICES and is_even(along[g]) for g in groups.values())
    largest = max(groups, key=lambda value: len(groups[value]))
    if len(groups) < 2 or not even or not is_shown("SliceThickness", largest):
        return ""
    return f", or take one part with {rule.advice(f'SliceThickness={largest}')}"


def _grid(along: NDArray[np.float64], step: float, what: str, reference: Path) -> EvenGrid:
    extent = float(along[-1] - along[0])
    count = max(2, round(extent / step) + 1)
    if count > _MOST_MADE * len(along):
        what = f"{what}: an even stack of {step:.4g} mm would be {count} slices made of {len(along)}"
        raise SlicesError.of(reference, f"{what}; get the whole series again")
    places = np.interp(np.linspace(along[0], along[-1], count), along, np.arange(len(along)))
    step_mm = extent / (count - 1)
    how = (
        f"resampled to an even {step_mm:.4g} mm from the first slice to the last ({count} slices made of {len(along)})"
    )
    return EvenGrid(step_mm, places, f"{what}: {how}")
