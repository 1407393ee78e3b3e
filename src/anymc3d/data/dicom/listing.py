"""What is said of a series in a list of several: its hash, kind, size and spacing, and nothing that names a person."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anymc3d.data.dicom.header import DicomFile
from anymc3d.data.dicom.multiframe import Frame
from anymc3d.data.dicom.rules import PLANES
from anymc3d.data.dicom.tags import short_hash

_KNOWN_MODALITIES = ("CT", "MR", "PT", "NM", "US", "CR", "DX", "MG", "XA", "RF", "OT", "SC")
_MOSTLY = 0.8
"""Of a unit: how far a normal points along an axis for the plane to be called after it."""
_OF_AXIS = ("sagittal", "coronal", "axial")
assert set(_OF_AXIS) == set(PLANES)


@dataclass(frozen=True)
class SeriesFacts:
    """One series; ``files`` in the order of their names."""

    hash: str
    files: Sequence[DicomFile]
    slices: int
    plane: str | None
    """Axial, coronal or sagittal; None where its slices have several planes, none of these, or no orientation."""
    spacing_mm: float | None
    """Between slices, the usual one."""
    is_scan: bool
    """Whether it may be read: slices, more than one, and no localizers."""


def facts_of(uid: str, files: Sequence[DicomFile]) -> SeriesFacts:
    """Look at the headers of one series; ``uid``: what distinguishes it from others."""
    frames = [frame for file in files for frame in file.frames]
    localizers = any("LOCALIZER" in frame.tags.get("ImageType", "").upper().split("\\") for frame in frames)
    return SeriesFacts(
        hash=short_hash(uid),
        files=files,
        slices=len(frames),
        plane=_plane(frames),
        spacing_mm=_between(frames),
        is_scan=len(frames) > 1 and not localizers,
    )


def row_of(facts: SeriesFacts) -> str:
    """One series in a message."""
    first = facts.files[0]
    modality = first.modality if first.modality in _KNOWN_MODALITIES else "unknown"
    kind = " (no scan)" if all(file.kind == "picture" for file in facts.files) else ""
    noun = "file" if len(facts.files) == 1 else "files"
    plane = f", {facts.plane}" if facts.plane else ""
    size = f"{first.columns} x {first.rows}"
    return f"{facts.hash} {modality}{kind} {size}, {_spacing(facts)}, {len(facts.files)} {noun}{plane}"


def _plane(frames: Sequence[Frame]) -> str | None:
    turns = {frame.orientation for frame in frames}
    if None in turns or not turns:
        return None
    normals = [_normal(turn) for turn in turns if turn is not None]
    axes = {int(np.argmax(np.abs(normal))) for normal in normals if np.abs(normal).max() >= _MOSTLY}
    return _OF_AXIS[axes.pop()] if len(axes) == 1 and all(np.abs(n).max() >= _MOSTLY for n in normals) else None


def _normal(orientation: tuple[float, ...]) -> NDArray[np.float64]:
    row, column = np.split(np.asarray(orientation, dtype=np.float64), 2)
    return np.cross(row, column)


def _between(frames: Sequence[Frame]) -> float | None:
    if not frames or any(frame.position is None for frame in frames):
        return None
    positions = np.array([frame.position for frame in frames])
    between = np.diff(np.unique(np.round(np.linalg.norm(positions - positions[0], axis=1), 3)))
    return float(np.median(between)) if len(between) else None


def _spacing(facts: SeriesFacts) -> str:
    frames = [frame for file in facts.files for frame in file.frames]
    if any(frame.pixel_spacing is None or frame.position is None for frame in frames) or not frames:
        return "spacing unknown"
    rows, columns = frames[0].pixel_spacing or (math.nan, math.nan)
    in_plane = f"{columns:.4g} x {rows:.4g}"
    return f"{in_plane} mm" if facts.spacing_mm is None else f"{in_plane} x {facts.spacing_mm:.4g} mm"
