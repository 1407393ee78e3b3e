"""Malformed and misleading files of every kind in one table: how each is made, how it must end, what that keeps."""

from __future__ import annotations

import re
from collections.abc import Iterator

from damaged_arrays import NPY_FILES, NPZ_FILES
from damaged_arrays import SPACING as NPY_SPACING
from damaged_nifti import FILES as NIFTI_FILES
from malformed_dicom import DICOM, of_series
from malformed_entries import Builder, Entry, of_bytes
from malformed_manifests import MANIFESTS
from malformed_nifti import NIFTI
from malformed_numpy import NUMPY
from malformed_text import TEXT_FORMATS
from test_dicom_corpus import CORPUS

_PROMISES = (
    (r"preamble", "A6"),
    (r"burned|screenshot", "G5"),
    (r"bomb|70_tera|16_giga|terabyte|expands", "A3"),
    (r"dim|offset|rows|shape|claim|frames_2e31|size", "A2"),
    (r"nan|inf|constant|absurd|empty_scan|float16", "B9"),
    (r"form|pixdim|units|quatern|orientation|shear|qoffset|codes", "B8"),
    (r"slope|intercept|rescale|bits|signed", "B6"),
    (r"gap|spacing", "B4"),
    (r"tilt|sideways|turned", "B7"),
    (r"series|patients|phase|localizer|studies|names|modalit|mosaic|beside|twice|same_", "B5"),
    (r"pickle|object", "A9"),
    (r"npz", "A10"),
    (r"dicom|nested|never_closed|lying|truncated", "A4"),
)
"""Which promise an entry of the older tables keeps, by its name; A1 where none of these fits."""


def promise_of(name: str) -> str:
    return next((promise for pattern, promise in _PROMISES if re.search(pattern, name)), "A1")


def _older() -> Iterator[tuple[str, Entry]]:
    """The tables that stand beside the tests of each reader."""
    for name, (content, verdict) in NIFTI_FILES.items():
        yield f"nifti/{name}", Entry(of_bytes(name, content), verdict, promise_of(name))
    for name, (content, verdict) in NPY_FILES.items():
        yield f"npy/{name}", Entry(of_bytes("a.npy", content), verdict, promise_of(name), spacing=NPY_SPACING)
    for name, (content, verdict) in NPZ_FILES.items():
        yield f"npz/{name}", Entry(_npz(content), verdict, promise_of(f"npz_{name}"))
    for name, (change, verdict, _) in CORPUS.items():
        yield f"dicom/{name}", Entry(of_series(change), verdict, promise_of(name))


def _npz(content: bytes) -> Builder:
    return lambda folder: of_bytes("a.npz", content)(folder) + "#train/3"


def table() -> dict[str, Entry]:
    """Every entry by its name."""
    newer = (("nifti2", NIFTI), ("text", TEXT_FORMATS), ("dicom2", DICOM), ("numpy", NUMPY), ("table", MANIFESTS))
    return dict(_older()) | {f"{kind}/{name}": entry for kind, part in newer for name, entry in part.items()}
