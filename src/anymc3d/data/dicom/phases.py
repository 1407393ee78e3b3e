"""Several slices at one place: several phases, echoes or time points in one series (4D), or duplicates."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anymc3d.data.dicom.multiframe import Frame
from anymc3d.data.scan_file import scan_error

SAME_PLACE_MM = 0.01
_TELL_APART = (
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "AcquisitionNumber",
    "EchoNumbers",
    "EchoTime",
    "DiffusionBValue",
    "TriggerTime",
    "InversionTime",
    "StackID",
    "ImageType",
)
"""Asked in this order; the first that leaves one slice at each place names the volumes of a 4D series."""
_INTERLEAVED = ("TemporalPositionIdentifier", "AcquisitionNumber", "EchoTime", "ImageType", "ConvolutionKernel", "KVP")
"""Two scans that differ in one of these do not belong into one stack, even if their slices take turns."""
_SHOWN_VALUES = 8


def refuse_crowded(frames: Sequence[Frame], normal: NDArray[np.float64], reference: Path) -> None:
    """Raise where two slices lie at one place; the message says what tells the volumes of a 4D series apart.

    Raises:
        ScanError: see above.
    """
    along = _places(frames, normal)
    close = np.flatnonzero(np.diff(along) < SAME_PLACE_MM)
    if not len(close):
        return
    for keyword in _TELL_APART:
        groups: dict[str, list[Frame]] = defaultdict(list)
        for frame in frames:
            groups[frame.tags.get(keyword, "")].append(frame)
        if len(groups) > 1 and all((np.diff(_places(g, normal)) >= SAME_PLACE_MM).all() for g in groups.values()):
            raise scan_error(reference, _several(keyword, sorted(groups)))
    what = f"two different slices at one place, {along[close[0]]:.4g} mm along the slice axis"
    more = f" ({len(close)} such places)" if len(close) > 1 else ""
    raise scan_error(reference, f"{what}{more}: two scans mixed, or a copy; keep the files of one scan only")


def interleaved_warnings(frames: Sequence[Frame], normal: NDArray[np.float64]) -> tuple[str, ...]:
    """A warning where an even stack alternates between two or more scans; one after the other, as in step-and-shoot
    CT, or another value in each slice, is usual."""
    order = np.argsort(np.array([frame.position for frame in frames], dtype=np.float64) @ normal, kind="stable")
    for keyword in _INTERLEAVED:
        values = [frames[index].tags.get(keyword, "") for index in order]
        kinds, changes = len(set(values)), sum(one != other for one, other in itertools.pairwise(values))
        if 2 <= kinds <= len(values) // 2 and changes >= 2 * kinds:
            what = f"the slices alternate between {kinds} values of {keyword}"
            return (f"{what}: several scans in one stack? choose one with series, such as '{keyword}=...'",)
    return ()


def _several(keyword: str, values: Sequence[str]) -> str:
    what = f"a 4D series: {len(values)} volumes (phases, echoes or time points) told apart by {keyword}"
    # Only numbers are shown: they identify nobody.
    numbers = [value for value in values if _is_number(value)]
    shown = f" ({', '.join(numbers[:_SHOWN_VALUES])})" if numbers else ""
    example = numbers[0] if numbers else "..."
    return f"{what}{shown}; choose one with series, such as '{keyword}={example}'"


def _is_number(text: str) -> bool:
    return len(text) <= 12 and text.lstrip("-").replace(".", "", 1).isdigit()


def _places(frames: Sequence[Frame], normal: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sort(np.array([frame.position for frame in frames], dtype=np.float64) @ normal)
