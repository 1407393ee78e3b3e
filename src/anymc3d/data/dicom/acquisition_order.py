"""Volumes at the same places that no tag distinguishes: by the order in which their slices were numbered or acquired.

Only an order that says of every slice to which volume it belongs is taken. Of complete volumes the first slice of every
place is of the first volume, and the numbers of all places rise alike. Where slices are missing, the numbers must run
through the places in a fixed step, so that a missing slice leaves its number free; or else one volume would go on with
slices of the next.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

from anymc3d.data.dicom.multiframe import Frame

Group = tuple[int, ...]
"""Indices of frames."""
NUMBER, TIME = "InstanceNumber", "AcquisitionTime"
_FEWEST_PLACES = 4
"""Of volumes that lack slices, or may: numbers at fewer places fit too many orders."""
_LEAST_PLACES = 6
"""Fewer, in whatever order they are taken, may look as if they ran from one end to the other."""
_MIDNIGHT_S = 12 * 3600.0
"""Times that are further apart are of two days, and nobody knows which is the first."""


def volumes_in_order(frames: Sequence[Frame], places: Sequence[Group]) -> tuple[tuple[Group, ...], str]:
    """The volumes, and by what they are in order; none where that would be a guess.

    Args:
        frames: all slices.
        places: those of each place, in order along the normal.
    """
    is_even = len(set(map(len, places))) == 1
    numbers = [frame.number for frame in frames]
    if None not in numbers:
        known = [int(number or 0) for number in numbers]
        volumes = _in_even_steps(known, places) if is_even else _by_step(known, places)
        if volumes:
            return volumes, NUMBER
    times = [_seconds(frame.tags.get(TIME, "")) for frame in frames]
    if is_even and None not in times:
        volumes = _one_after_the_other([time or 0.0 for time in times], places)
        if volumes:
            return volumes, TIME
    return (), ""


def _in_even_steps(numbers: Sequence[int], places: Sequence[Group]) -> tuple[Group, ...]:
    """As many slices of each place: from volume to volume the numbers of all places rise by the same, or else each may
    lack a slice of another volume. At few places that may be chance: there no number from 1 on may be lacking."""
    volumes = _each_in_order(numbers, places)
    rises = [{numbers[i] - numbers[first] for i, first in zip(volume, volumes[0], strict=True)} for volume in volumes]
    if any(len(rise) > 1 for rise in rises):
        return ()
    is_whole = sorted(numbers) == list(range(1, len(numbers) + 1))
    return volumes if is_whole or len(places) >= _FEWEST_PLACES else ()


def _each_in_order(numbers: Sequence[int], places: Sequence[Group]) -> tuple[Group, ...]:
    """The first of every place, the second of every place …; none where two of a place have one number."""
    if any(len({numbers[i] for i in place}) < len(place) for place in places):
        return ()
    return tuple(zip(*(sorted(place, key=lambda i: numbers[i]) for place in places), strict=True))


def _by_step(numbers: Sequence[int], places: Sequence[Group]) -> tuple[Group, ...]:
    """Volumes that lack slices: numbered one after the other, or place after place."""
    if len(set(numbers)) < len(numbers) or len(places) < _FEWEST_PLACES:
        return ()
    orders = [order for order in (_volume_after_volume(numbers, places), _place_after_place(numbers, places)) if order]
    return orders[0] if len(orders) == 1 else ()


def _volume_after_volume(numbers: Sequence[int], places: Sequence[Group]) -> tuple[Group, ...]:
    """As many numbers a volume as it has places, those that all volumes lack among them: by that step each place has a
    remainder of its own. Of twice the step nobody would notice; so fewer than half of the places may be lacking."""
    sorted_numbers = [sorted(numbers[i] for i in place) for place in places]
    step = math.gcd(
        *(later - earlier for of_place in sorted_numbers for earlier, later in itertools.pairwise(of_place))
    )
    if not len(places) <= step < 2 * len(places):
        return ()
    place_at = {of_place[0] % step: place for place, of_place in enumerate(sorted_numbers)}
    start = None if len(place_at) < len(places) else _first_remainder(place_at, min(numbers), step)
    return () if start is None else _grouped([(number - start) // step for number in numbers])


def _first_remainder(place_at: Mapping[int, int], lowest: int, step: int) -> int | None:
    """With which remainder a volume begins: where the places, by remainder, jump back to the other end; where they do
    not run from one end to the other, with number 1, if that is there and at an end: where the slice numbered 0 is
    lacking, number 1 is at another place."""
    remainders = sorted(place_at)
    following = [*remainders[1:], remainders[0]]
    jumps = [place_at[later] - place_at[earlier] for earlier, later in zip(remainders, following, strict=True)]
    starts = {
        later
        for forward in (1, -1)
        if sum(jump * forward < 0 for jump in jumps) == 1
        for later, jump in zip(following, jumps, strict=True)
        if jump * forward < 0
    }
    runs_through = len(place_at) >= _LEAST_PLACES and len(starts) == 1
    if lowest == 1:
        first = 1 % step
        is_first = first in starts if runs_through else place_at.get(first) in (0, len(place_at) - 1)
        return first if is_first else None
    return starts.pop() if runs_through else None


def _place_after_place(numbers: Sequence[int], places: Sequence[Group]) -> tuple[Group, ...]:
    """As many numbers a place as there are volumes: each place has a range of its own, without one between them that
    nobody has, and most of them are full."""
    count = max(map(len, places))
    full = [sorted(numbers[i] for i in place) for place in places if len(place) == count]
    if (
        2 * len(full) <= len(places)
        or any(of_place[-1] - of_place[0] != count - 1 for of_place in full)
        or len({of_place[0] % count for of_place in full}) > 1
    ):
        return ()
    start = full[0][0] % count
    ranges = [{(numbers[i] - start) // count for i in place} for place in places]
    used = set.union(*ranges)
    if any(len(of_place) > 1 for of_place in ranges) or not len(places) == len(used) == max(used) - min(used) + 1:
        return ()
    return _grouped([(number - start) % count for number in numbers])


def _one_after_the_other(times: Sequence[float], places: Sequence[Group]) -> tuple[Group, ...]:
    """Volumes of which each was acquired whole before the next."""
    volumes = _each_in_order([round(1e6 * time) for time in times], places)
    spans = [(min(times[i] for i in volume), max(times[i] for i in volume)) for volume in volumes]
    is_one_day = max(times) - min(times) < _MIDNIGHT_S
    in_turn = all(later[0] > earlier[1] for earlier, later in itertools.pairwise(spans))
    return volumes if volumes and is_one_day and in_turn else ()


def _grouped(volumes: Sequence[int]) -> tuple[Group, ...]:
    groups: dict[int, list[int]] = defaultdict(list)
    for index, volume in enumerate(volumes):
        groups[volume].append(index)
    return tuple(tuple(groups[volume]) for volume in sorted(groups))


def _seconds(text: str) -> float | None:
    """``HHMMSS.ffffff`` -> seconds of the day; None for anything else."""
    whole = text.partition(".")[0]
    if len(whole) != 6 or not whole.isdecimal() or not whole.isascii():
        return None
    try:
        return 3600.0 * int(whole[:2]) + 60.0 * int(whole[2:4]) + float(text[4:])
    except ValueError:
        return None
