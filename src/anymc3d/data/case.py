"""One case of a manifest, and how columns, views and ids are named."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args
from urllib.parse import urlsplit

from anymc3d.types import Split

SPLITS: tuple[str, ...] = get_args(Split)
RESERVED = (
    *(
        "case",
        "patient",
        "image",
        "mask",
        "mask_classes",
        "center_x",
        "center_y",
        "center_z",
        "spacing",
        "split",
        "fold",
    ),
)
PER_VIEW = ("image", "mask", "series")
"""Column families with one column per view: ``image.<view>``."""
SCAN_SUFFIXES = (
    *(".nii.gz", ".nii", ".hdr.gz", ".img.gz", ".hdr", ".img", ".mha", ".mhd", ".nrrd", ".nhdr"),
    *(".mgh.gz", ".mgz", ".mgh", ".npy", ".npz", ".zip", ".dcm", ".dicom", ".ima"),
)
"""What the name of a scan may end with: the id of a case is the rest. The longer stands before what it ends with."""
_NO_SCAN_ALONE = (".img", ".npy", ".npz", ".dcm", ".dicom", ".ima")
LISTED_SUFFIXES = tuple(suffix for suffix in SCAN_SUFFIXES if not suffix.startswith(_NO_SCAN_ALONE))
"""Which files of a folder are each a scan: of a pair the header alone, no slices, no arrays, which have no spacing."""

_NPZ_REFERENCE = re.compile(r"(.*\.npz)#(\w+)/(\d+)", re.DOTALL)


MASK_SOURCE, DRAWN_BY_NETWORK = "mask_source", "low-resolution network"
"""A column that says who drew a mask, and what it says of the masks of ``anymc3d pandx``."""


@dataclass(frozen=True)
class Case:
    """One row of a manifest."""

    id: str
    patient: str
    images: Mapping[str, str]
    """Column (``image`` or ``image.<view>``) to reference, absolute; a missing view has no key."""
    masks: Mapping[str, str]
    cells: Mapping[str, str]
    """Labels, metadata and ``series`` columns as text."""
    split: str | None
    fold: str | None
    spacing: tuple[float, float, float] | None
    """Millimetres, for scans whose file has none."""
    center: tuple[float, float, float] | None
    """A point of interest, world millimetres, RAS."""
    row: int
    """As a spreadsheet counts: the header is row 1."""
    mask_classes: str = ""
    """Labels that were looked for in the masks of this case, with spaces between; empty = all."""

    def series(self, column: str) -> str | None:
        """Which series of a DICOM folder the scan of an image column is: ``series.<view>``, else ``series``."""
        of_view = "series" + column.removeprefix("image")
        return self.cells.get(of_view) or self.cells.get("series") or None

    def mask(self, column: str) -> str | None:
        """Which column holds the segmentation of an image column's scan: ``mask.<view>``, else ``mask``."""
        of_view = "mask" + column.removeprefix("image")
        return next((name for name in (of_view, "mask") if name in self.masks), None)


def is_family(column: str, family: str) -> bool:
    """Whether ``column`` is ``family`` or ``family.<view>``."""
    return column == family or column.startswith(f"{family}.")


def view_of(column: str) -> str:
    """``image.<view>`` -> ``<view>``; ``image`` -> ``image``, the name of the view of a single-view task."""
    return column.partition(".")[2] or column


def is_metadata(column: str) -> bool:
    """Whether ``column`` is a label or metadata: anything that is not reserved."""
    return column not in RESERVED and not any(is_family(column, family) for family in PER_VIEW)


def split_npz_reference(reference: str) -> tuple[str, str, int] | None:
    """``data.npz#train/12`` -> (``data.npz``, ``train``, 12); None for any other reference."""
    match = _NPZ_REFERENCE.fullmatch(reference)
    return (match.group(1), match.group(2), int(match.group(3))) if match else None


def default_id(reference: str) -> str:
    """The id of a case that has none: the scan's name without extension (``.nii.gz`` goes whole).

    A volume inside a MedMNIST file is ``<split>_<index>``, with at least four digits.
    """
    inside = split_npz_reference(reference)
    if inside:
        return f"{inside[1]}_{inside[2]:04d}"
    path = urlsplit(reference).path if "://" in reference else reference
    name = os.path.basename(path.rstrip("/\\"))
    for suffix in SCAN_SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name
