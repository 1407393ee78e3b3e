"""Slices that were sent twice: at one place, with another SOP instance UID and the same pixels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from anymc3d.data.dicom.decoder import FrameDecoder
from anymc3d.data.dicom.geometry import plane_of
from anymc3d.data.dicom.pixels import Pixels, stored_frames
from anymc3d.data.dicom.series import ChosenFrame, ChosenSeries
from anymc3d.data.dicom.series_4d import SAME_PLACE_MM, crowds, positions_along_normal
from anymc3d.data.dicom.tags import foreign_errors


def without_repeats(chosen: ChosenSeries, reference: Path) -> ChosenSeries:
    """The series with each slice once, where others at its place are the same slice again; else as it is.

    Only where several slices share a place are any pixels decoded, and of a 4D series those that agree in all else.

    Raises:
        ScanError: such a slice cannot be decoded.
    """
    frames = [entry.frame for entry in chosen.frames]
    if len(frames) < 2:
        return chosen
    places = crowds(positions_along_normal(frames, plane_of(frames, reference).normal))
    crowded = [place for place in places if len(place) > 1]
    if not crowded or len(places) == 1:
        return chosen
    with FrameDecoder() as decoder:
        if all(_are_one(chosen, place, reference, decoder) for place in crowded):
            same = [[list(place)] for place in crowded]
        else:
            # Several volumes, each slice of which was sent again: then all that is said of the copy is the same, too.
            same = [
                [group for group in _alike_by_header(chosen, place) if _are_one(chosen, group, reference, decoder)]
                for place in crowded
            ]
    again = {index for groups in same for group in groups for index in group if index != min(group)}
    if not again:
        return chosen
    note = f"{len(again)} slices are repeated with the same pixels and another SOPInstanceUID: left out"
    distinct = tuple(chosen.frames[index] for place in places for index in sorted(place) if index not in again)
    return replace(chosen, frames=distinct, total=chosen.total - len(again), warnings=(*chosen.warnings, note))


def _alike_by_header(chosen: ChosenSeries, place: Sequence[int]) -> list[list[int]]:
    """The slices of one place that agree in their number and in every tag that may distinguish volumes, two or more."""
    groups: dict[object, list[int]] = defaultdict(list)
    for index in place:
        frame = chosen.frames[index].frame
        groups[(frame.number, tuple(sorted(frame.tags.items())))].append(index)
    return [group for group in groups.values() if len(group) > 1]


def _are_one(chosen: ChosenSeries, place: Sequence[int], reference: Path, decoder: FrameDecoder) -> bool:
    first, *others = (chosen.frames[i] for i in place)
    if not all(_is_scaled_alike(first, other) and _is_at_one_place(first, other) for other in others):
        return False
    pixels = _pixels(first, reference, decoder)
    return all(np.array_equal(pixels, _pixels(other, reference, decoder)) for other in others)


def _is_scaled_alike(first: ChosenFrame, second: ChosenFrame) -> bool:
    def scaling(entry: ChosenFrame) -> Sequence[object]:
        return entry.frame.slope, entry.frame.intercept, entry.frame.pixel_spacing, entry.file.signed

    return scaling(first) == scaling(second)


def _is_at_one_place(one: ChosenFrame, other: ChosenFrame) -> bool:
    return bool(np.abs(np.subtract(one.frame.position, other.frame.position)).max() < SAME_PLACE_MM)


def _pixels(entry: ChosenFrame, reference: Path, decoder: FrameDecoder) -> Pixels:
    with foreign_errors(reference, f"file {entry.file.number} in order of name cannot be decoded"):
        for index, stored in enumerate(stored_frames(entry.file, reference, decoder)):
            if index == entry.index:
                return stored
    raise ValueError("expected as many frames as the header promises")
