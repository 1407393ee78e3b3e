"""Several slices at one place: the volumes of a 4D series (phases, echoes, b values, time points), and what sets them
apart."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anymc3d.data.dicom.acquisition_order import Group, volumes_in_order
from anymc3d.data.dicom.multiframe import Frame
from anymc3d.data.dicom.rules import Rule, is_shown
from anymc3d.data.dicom.tags import RULE_TAGS
from anymc3d.errors import SeriesError

SAME_PLACE_MM = 0.01
TELL_APART = (
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "AcquisitionNumber",
    "EchoTime",
    "EchoNumbers",
    "DiffusionBValue",
    "TriggerTime",
    "InversionTime",
    "FlipAngle",
    "RepetitionTime",
    "StackID",
    "ImageType",
    "ComplexImageComponent",
    "SequenceName",
    "DiffusionGradientOrientation",
    "NominalCardiacTriggerDelayTime",
    "KVP",
    "ContrastBolusAgent",
    "SequenceVariant",
    "ScanOptions",
    "ConvolutionKernel",
    "AcquisitionTime",
    "ContentTime",
    "SeriesNumber",
    "SeriesDescription",
    "ProtocolName",
    "ScanningSequence",
    "SliceThickness",
)
"""Asked in this order, alone, then in pairs and threes, for what leaves one slice at each place."""
_MOST_TOGETHER = 3
_SHOWN_VALUES = 8


@dataclass(frozen=True)
class Volumes:
    """Frames at the same places, as volumes with one slice at each: ``tags`` distinguish them, or ``order``, by the
    name of what says it; ``groups`` is empty where nothing does."""

    groups: tuple[Group, ...]
    tags: tuple[str, ...]
    places: int
    is_even: bool
    """Every place has as many slices."""
    order: str = ""

    @property
    def first_whole(self) -> int:
        """Which is the first that lacks nothing, or least."""
        sizes = [len(group) for group in self.groups]
        return sizes.index(max(sizes))


def positions_along_normal(frames: Sequence[Frame], normal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Millimetres along the normal."""
    return np.array([frame.position for frame in frames], dtype=np.float64) @ normal


def crowds(along: NDArray[np.float64]) -> list[Group]:
    """The frames of each place, places in order along the normal."""
    order = np.argsort(along, kind="stable")
    starts = np.flatnonzero(np.diff(along[order]) >= SAME_PLACE_MM) + 1
    return [tuple(int(i) for i in part) for part in np.split(order, starts)]


def volumes_of(frames: Sequence[Frame], normal: NDArray[np.float64]) -> Volumes | None:
    """The volumes at the same places; None where each place has one slice."""
    along = positions_along_normal(frames, normal)
    places = crowds(along)
    most = max(map(len, places))
    if most == 1:
        return None
    is_even = all(len(place) == most for place in places)
    for names in _candidates(frames, most):
        groups = _grouped(frames, names)
        if len(groups) == most and all(_one_each(along[list(group)]) for group in groups.values()):
            ordered = sorted(groups.items(), key=lambda item: _rank(item[0], [frames[i] for i in item[1]]))
            return Volumes(tuple(tuple(group) for _, group in ordered), names, len(places), is_even)
    in_order, how = volumes_in_order(frames, places)
    return Volumes(in_order, (), len(places), is_even, how)


def chosen_volume(frames: Sequence[Frame], normal: NDArray[np.float64], rule: Rule, reference: Path) -> Group | None:
    """The frames of the volume that the rule names by its number; None where it names none.

    Raises:
        ScanError: there is no such volume, or several are at the same places and none was chosen.
    """
    volumes = volumes_of(frames, normal)
    if rule.volume is None:
        if volumes is not None:
            refuse_several(volumes, frames, rule, reference)
        return None
    count = 1 if volumes is None else len(volumes.groups)
    if rule.volume > max(count, 1) or (volumes is not None and not count):
        what_there_is = f"series: volume={rule.volume}, but {count} volumes can be distinguished"
        what = what_there_is if volumes else "there is one volume"
        raise SeriesError.of(reference, f"{what}; choose among those, or leave 'volume=' out")
    return None if volumes is None else volumes.groups[rule.volume - 1]


def refuse_several(volumes: Volumes, frames: Sequence[Frame], rule: Rule, reference: Path) -> None:
    """Raise: a series of several volumes, of which none was chosen; the message says how to choose one.

    Raises:
        ScanError: always.
    """
    count, at = max(len(volumes.groups), 2), f"at the same {volumes.places} places"
    if not volumes.groups:
        what = f"two different slices at one place ({volumes.places} places hold {len(frames)} slices)"
        why = "two scans mixed, or a copy, and neither tags nor InstanceNumber nor AcquisitionTime says which is which"
        raise SeriesError.of(reference, f"{what}: {why}; keep the files of one scan only")
    uneven = "" if volumes.is_even else ", not all of them complete"
    what = f"a 4D series: {count} volumes (phases, echoes, b values or time points) {at}{uneven}"
    advice = f"choose one with {rule.advice(_example(volumes, frames))}"
    if volumes.tags:
        named = " and ".join(f"{name}{_shown(name, volumes, frames)}" for name in volumes.tags)
        raise SeriesError.of(reference, f"{what}, distinguished by {named}; {advice}")
    more = f" (of 'volume=1' to 'volume={count}'), in the order of {volumes.order}"
    raise SeriesError.of(reference, f"{what}, distinguished by no known tag; {advice}{more}")


def _candidates(frames: Sequence[Frame], most: int) -> list[tuple[str, ...]]:
    """Names whose values differ, and not from slice to slice; alone before together."""
    kinds = {name: len({frame.tags.get(name, "") for frame in frames}) for name in TELL_APART}
    varying = [name for name, count in kinds.items() if 2 <= count <= most]
    return [names for size in range(1, _MOST_TOGETHER + 1) for names in itertools.combinations(varying, size)]


def _grouped(frames: Sequence[Frame], names: tuple[str, ...]) -> dict[tuple[str, ...], list[int]]:
    groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for index, frame in enumerate(frames):
        groups[tuple(frame.tags.get(name, "") for name in names)].append(index)
    return groups


def _one_each(along: NDArray[np.float64]) -> bool:
    return bool((np.diff(np.sort(along)) >= SAME_PLACE_MM).all())


def _rank(values: tuple[str, ...], frames: Sequence[Frame]) -> tuple[object, ...]:
    """By the numbers of the tags where all are numbers, else by the lowest InstanceNumber, then as text."""
    try:
        return (0, tuple(float(value) for value in values), values)
    except ValueError:
        return (1, (float(min(frame.number or 0 for frame in frames)),), values)


def _shown(name: str, volumes: Volumes, frames: Sequence[Frame]) -> str:
    """The values of a tag, of those that identify nobody."""
    texts = dict.fromkeys(frames[group[0]].tags.get(name, "") for group in volumes.groups)
    texts_shown = [value for text in texts if (value := _value(name, text, texts))]
    return f" ({', '.join(texts_shown[:_SHOWN_VALUES])})" if texts_shown else ""


def _value(name: str, text: str, texts: Sequence[str] | dict[str, None]) -> str:
    """A value as a rule asks for it, and as a message may show it; empty where there is none."""
    if name not in RULE_TAGS:
        return ""
    if is_shown(name, text):
        return text
    # Of a text of several parts: the one that the others do not have.
    parts = [part for part in text.split("\\") if is_shown(name, part)]
    return next((p for p in parts if sum(p in other.split("\\") for other in texts) == 1), "")


def _example(volumes: Volumes, frames: Sequence[Frame]) -> str:
    """The rule that takes the first whole volume: conditions where every value may be shown, else its number."""
    by_number = f"volume={volumes.first_whole + 1}"
    first = frames[volumes.groups[volumes.first_whole][0]]
    conditions = []
    for name in volumes.tags:
        texts = dict.fromkeys(frames[group[0]].tags.get(name, "") for group in volumes.groups)
        value = _value(name, first.tags.get(name, ""), texts)
        if not value:
            return by_number
        conditions.append(f"{name}={value}")
    return "; ".join(conditions) or by_number
