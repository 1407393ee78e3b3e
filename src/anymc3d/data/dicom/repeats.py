"""Slices that were sent twice: at one place, with another SOP instance UID and the same pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from anymc3d.data.dicom.apart import SAME_PLACE_MM, along_of, crowds
from anymc3d.data.dicom.decoder import FrameDecoder
from anymc3d.data.dicom.geometry import plane_of
from anymc3d.data.dicom.pixels import Pixels, stored_frames
from anymc3d.data.dicom.series import ChosenFrame, ChosenSeries
from anymc3d.data.dicom.tags import foreign_errors


def without_repeats(chosen: ChosenSeries, reference: Path) -> ChosenSeries:
    """The series with one slice at each place, where all others there are the same slice again; else as it is.

    Only where several slices share a place are any pixels decoded, and of a 4D series those of one place alone.

    Raises:
        ScanError: such a slice cannot be decoded.
    """
    frames = [entry.frame for entry in chosen.frames]
    if len(frames) < 2:
        return chosen
    places = crowds(along_of(frames, plane_of(frames, reference).normal))
    crowded = [place for place in places if len(place) > 1]
    if not crowded or len(places) == 1:
        return chosen
    with FrameDecoder() as decoder:
        for place in crowded:
            first, *others = (chosen.frames[i] for i in place)
            pixels = _pixels(first, reference, decoder)
            for other in others:
                alike = _is_scaled_alike(first, other) and _is_at_one_place(first, other)
                if not alike or not np.array_equal(pixels, _pixels(other, reference, decoder)):
                    return chosen
    repeated = sum(len(place) - 1 for place in crowded)
    note = f"{repeated} slices are repeated with the same pixels and another SOPInstanceUID: left out"
    kept = tuple(chosen.frames[min(place)] for place in places)
    return replace(chosen, frames=kept, total=chosen.total - repeated, warnings=(*chosen.warnings, note))


def _is_scaled_alike(one: ChosenFrame, other: ChosenFrame) -> bool:
    def scaling(entry: ChosenFrame) -> Sequence[object]:
        return entry.frame.slope, entry.frame.intercept, entry.frame.pixel_spacing, entry.file.signed

    return scaling(one) == scaling(other)


def _is_at_one_place(one: ChosenFrame, other: ChosenFrame) -> bool:
    return bool(np.abs(np.subtract(one.frame.position, other.frame.position)).max() < SAME_PLACE_MM)


def _pixels(entry: ChosenFrame, reference: Path, decoder: FrameDecoder) -> Pixels:
    with foreign_errors(reference, f"file {entry.file.number} in order of name cannot be decoded"):
        for index, stored in enumerate(stored_frames(entry.file, reference, decoder)):
            if index == entry.index:
                return stored
    raise ValueError("expected as many frames as the header promises")
