"""A case's segmentation cut like the slices of a view, and kept beside them in the cache.

Entries are ``<key>.mask.safetensors`` with a checksum over labels and key; a damaged one is made again. They hold the
labels of the file, so one entry serves every choice of structures.
"""

from __future__ import annotations

import hashlib
import json
import logging
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from nibabel.orientations import inv_ornt_aff, io_orientation
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from anymc3d.data.cache import Cache
from anymc3d.data.case import Case
from anymc3d.data.mask_grid import read_on_grid
from anymc3d.data.preprocess import PreparedView
from anymc3d.data.restore import prepare_mask
from anymc3d.data.volume import Affine, ScanHeader
from anymc3d.errors import RunFolderError, ScanError
from anymc3d.files.atomic import write_bytes

MASK_CODE_VERSION = 1
"""Part of every key. Raise it whenever a cut mask can change."""
HIGHEST_LABEL = 32767

_LOG = logging.getLogger(__name__)
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
        raise ScanError(f"mask_classes: expected labels above 0 with spaces between, got {case.mask_classes!r}")
    return frozenset(int(word) for word in words)


def check_annotated(found: Iterable[int], case: Case) -> None:
    """Check that a case's mask, with the labels ``found``, holds none that was not looked for.

    Raises:
        ScanError: it does, so mask or ``mask_classes`` is wrong.
    """
    annotated = annotated_labels(case)
    extra = [] if annotated is None else [int(label) for label in found if label and label not in annotated]
    if extra:
        raise ScanError(
            f"the mask holds labels {extra}, which its mask_classes {case.mask_classes!r} does not name; correct either"
        )


def cut_mask(reference: str, header: ScanHeader, like: PreparedView, case: Case) -> Labels:
    """The labels (S, H, W) of a segmentation on the slices ``like``; what was padded is background.

    Raises:
        ScanError: it cannot be read, lies on another grid, or holds something else than whole numbers to 32767.
    """
    labels = read_on_grid(reference, header, spacing=case.spacing)
    found = np.unique(labels)
    if found[-1] > HIGHEST_LABEL:
        raise ScanError(f"expected labels from 0 to {HIGHEST_LABEL}, got {found[-1]}; give the segmentation")
    small = labels.astype(np.uint8 if found[-1] <= 255 else np.int16)
    return prepare_mask(small, _ras_affine(header), like)


def mask_key(view_key: str, content: str) -> str:
    """Sha256 (hex) over all that decides a cut mask: the entry of its slices, and the hash of the segmentation."""
    facts = {"view": view_key, "mask": content, "code_version": MASK_CODE_VERSION}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def get_or_make(cache: Cache, key: str, make: Callable[[], Labels]) -> Labels:
    """The entry of ``key``; where there is none, or a damaged one, ``make`` is called and its result kept.

    Raises:
        RunFolderError: the entry cannot be written.
    """
    path = cache.folder / f"{key}.mask.safetensors"
    if path.exists():
        found = _read(path, key)
        if found is not None:
            cache.used(path)
            return found
        _LOG.warning("cache entry %s is damaged: made again", path.name)
    made = np.ascontiguousarray(make())
    try:
        write_bytes(path, save({"labels": made}, metadata={"key": key, "crc32": _checksum(made, key)}))
    except OSError as error:
        raise RunFolderError(f"the cache folder {cache.folder} cannot be used ({error.strerror or error})") from error
    return made


def _ras_affine(header: ScanHeader) -> Affine:
    return header.affine @ inv_ornt_aff(io_orientation(header.affine), header.shape)


def _read(path: Path, key: str) -> Labels | None:
    try:
        with safe_open(str(path), framework="np") as file:
            facts, labels = file.metadata() or {}, file.get_tensor("labels")
    except (SafetensorError, OSError, ValueError):
        return None
    return labels if facts == {"key": key, "crc32": _checksum(labels, key)} else None


def _checksum(labels: Labels, key: str) -> str:
    told = f"{key} {labels.dtype} {labels.shape}\n".encode()
    return f"{zlib.crc32(np.ascontiguousarray(labels).data, zlib.crc32(told)):08x}"
