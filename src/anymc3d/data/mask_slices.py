"""A case's segmentation cut like the slices of a view, and kept beside them in the cache.

Entries are ``<key>.mask.safetensors`` with a checksum over labels and key; a damaged one is made again. They hold the
labels of the file, so one entry serves every choice of structures.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from nibabel.orientations import inv_ornt_aff, io_orientation
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from anymc3d.data.cache import Cache
from anymc3d.data.cache_entry import DamagedEntryError, safetensors_facts
from anymc3d.data.case import Case
from anymc3d.data.mask_grid import read_on_grid
from anymc3d.data.preprocess import PreparedView
from anymc3d.data.scan_grid import prepare_mask
from anymc3d.data.volume import Affine, ScanHeader
from anymc3d.errors import MaskError
from anymc3d.files import regular

MASK_CODE_VERSION = 1
"""Part of every key. Raise it whenever a cut mask can change."""
HIGHEST_LABEL = 32767

Labels = NDArray[np.uint8] | NDArray[np.int16]


def annotated_labels(case: Case) -> frozenset[int] | None:
    """The labels that were looked for in this case, by the manifest's column ``mask_classes``; None = all.

    Raises:
        ScanError: the cell is no list of labels.
    """
    if not case.mask_classes:
        return None
    words = case.mask_classes.replace(",", " ").split()
    if not all(word.isdecimal() and 0 < int(word) <= HIGHEST_LABEL for word in words):
        raise MaskError(f"mask_classes: expected labels above 0 with spaces between, got {case.mask_classes!r}")
    return frozenset(int(word) for word in words)


def check_annotated(labels: Iterable[int], case: Case) -> None:
    """Check that a case's mask, with these ``labels``, holds none that was not looked for.

    Raises:
        ScanError: it does, so mask or ``mask_classes`` is wrong.
    """
    annotated = annotated_labels(case)
    extra = [] if annotated is None else [int(label) for label in labels if label and label not in annotated]
    if extra:
        raise MaskError(
            f"the mask holds labels {extra}, which its mask_classes {case.mask_classes!r} does not name; correct either"
        )


def cut_mask(reference: str, header: ScanHeader, like: PreparedView, case: Case) -> Labels:
    """The labels (S, H, W) of a segmentation on the slices ``like``; what was padded is background.

    Raises:
        ScanError: it cannot be read, lies on another grid, or holds something else than whole numbers to 32767.
    """
    labels = read_on_grid(reference, header, spacing=case.spacing)
    labels_there = np.unique(labels)
    if labels_there[-1] > HIGHEST_LABEL:
        raise MaskError(f"expected labels from 0 to {HIGHEST_LABEL}, got {labels_there[-1]}; give the segmentation")
    small = labels.astype(np.uint8 if labels_there[-1] <= 255 else np.int16)
    return prepare_mask(small, _ras_affine(header), like)


def mask_key(view_key: str, content: str) -> str:
    """Sha256 (hex) over all that decides a cut mask: the entry of its slices, and the hash of the segmentation."""
    facts = {"view": view_key, "mask": content, "code_version": MASK_CODE_VERSION}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def get_or_make(cache: Cache, key: str, make: Callable[[], Labels]) -> Labels:
    """The entry of ``key``; where there is none, or a damaged one, ``make`` is called and its result kept.

    Raises:
        OutputError: the entry cannot be written.
    """

    def encoded(labels: Labels) -> bytes:
        return save({"labels": labels}, metadata={"key": key, "crc32": _checksum(labels, key)})

    return cache.get_or_make_file(
        f"{key}.mask.safetensors", lambda path: _read(path, key), lambda: np.ascontiguousarray(make()), encoded
    )


def _ras_affine(header: ScanHeader) -> Affine:
    return header.affine @ inv_ornt_aff(io_orientation(header.affine), header.shape)


def _read(path: Path, key: str) -> Labels:
    content = regular.read_bytes(path)
    try:
        labels = load(content)["labels"]
        if safetensors_facts(content) != {"key": key, "crc32": _checksum(labels, key)}:
            raise DamagedEntryError("its checksum is wrong")
    except DamagedEntryError:
        raise
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedEntryError(f"{type(error).__name__}: {error}") from error
    return labels


def _checksum(labels: Labels, key: str) -> str:
    header = f"{key} {labels.dtype} {labels.shape}\n".encode()
    return f"{zlib.crc32(np.ascontiguousarray(labels).data, zlib.crc32(header)):08x}"
