"""What TotalSegmentator writes: a folder with one file per organ, or one file with a label per organ.

The labels are those of version 2, task ``total``. Source: wasserth/TotalSegmentator, Apache-2.0, the class table.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anymc3d.data.mask_grid import Grid, read_on_grid
from anymc3d.data.readers import content_hash
from anymc3d.errors import ScanError, UsageError, did_you_mean

_VERTEBRAE = ("S1", *(f"L{i}" for i in range(5, 0, -1)), *(f"T{i}" for i in range(12, 0, -1)))
_NECK = tuple(f"C{i}" for i in range(7, 0, -1))


def _both_sides(*names: str) -> tuple[str, ...]:
    return tuple(f"{name}_{side}" for name in names for side in ("left", "right"))


_TRUNK = """
spleen kidney_right kidney_left gallbladder liver stomach pancreas adrenal_gland_right adrenal_gland_left
lung_upper_lobe_left lung_lower_lobe_left lung_upper_lobe_right lung_middle_lobe_right lung_lower_lobe_right
esophagus trachea thyroid_gland small_bowel duodenum colon urinary_bladder prostate kidney_cyst_left
kidney_cyst_right sacrum
"""
_VESSELS = """
heart aorta pulmonary_vein brachiocephalic_trunk subclavian_artery_right subclavian_artery_left
common_carotid_artery_right common_carotid_artery_left brachiocephalic_vein_left brachiocephalic_vein_right
atrial_appendage_left superior_vena_cava inferior_vena_cava portal_vein_and_splenic_vein
"""
_IN_ORDER = (
    *_TRUNK.split(),
    *(f"vertebrae_{name}" for name in (*_VERTEBRAE, *_NECK)),
    *_VESSELS.split(),
    *_both_sides("iliac_artery", "iliac_vena", "humerus", "scapula", "clavicula", "femur", "hip"),
    "spinal_cord",
    *_both_sides("gluteus_maximus", "gluteus_medius", "gluteus_minimus", "autochthon", "iliopsoas"),
    "brain",
    "skull",
    *(f"rib_{side}_{number}" for side in ("left", "right") for number in range(1, 13)),
    "sternum",
    "costal_cartilages",
)
TOTAL: dict[str, int] = {name: label for label, name in enumerate(_IN_ORDER, start=1)}
"""Organ -> label of the 117 classes of the task ``total``."""

_ENDINGS = (".nii.gz", ".nii")


def check_organs(organs: Sequence[str]) -> None:
    """Raise :class:`UsageError` for a name that is no class of ``total``."""
    for organ in organs:
        if organ not in TOTAL:
            near = did_you_mean(organ, TOTAL) if len(organ) > 2 else ""
            hint = near if "did you mean" in near else "; the names are those of TotalSegmentator 2, task total"
            raise UsageError(f"roi.organs: no organ {organ!r}{hint}")


def organ_labels(organs: Sequence[str]) -> tuple[int, ...]:
    """The labels of some organs."""
    return tuple(TOTAL[organ] for organ in organs)


def read_organs(output: str, organs: Sequence[str], scan: Grid) -> NDArray[np.int32]:
    """Some organs out of an output of TotalSegmentator, with their labels of ``total``.

    Args:
        output: the folder with ``liver.nii.gz`` and its like, or one file written with ``--ml``.
        organs: names of :data:`TOTAL`.
        scan: in RAS order; the segmentation must be on its grid.

    Returns:
        (X, Y, Z) in RAS order.

    Raises:
        ScanError: an organ's file is missing or unreadable, or on another grid.
    """
    folder = Path(output)
    if not folder.is_dir():
        labels = read_on_grid(output, scan)
        return np.where(np.isin(labels, organ_labels(organs)), labels, 0).astype(np.int32)
    labels_found = np.zeros(scan.shape, dtype=np.int32)
    for organ, path in zip(organs, _organ_files(folder, organs), strict=True):
        labels_found[read_on_grid(str(path), scan) > 0] = TOTAL[organ]
    return labels_found


def organs_hash(output: str, organs: Sequence[str]) -> str:
    """Sha256 (hex) of what :func:`read_organs` would read.

    Raises:
        ScanError: a file is missing.
    """
    folder = Path(output)
    if not folder.is_dir():
        return content_hash(output)
    parts = [content_hash(str(path)) for path in _organ_files(folder, organs)]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def _organ_files(folder: Path, organs: Sequence[str]) -> list[Path]:
    files = [next((p for end in _ENDINGS if (p := folder / f"{organ}{end}").exists()), None) for organ in organs]
    missing = [organ for organ, path in zip(organs, files, strict=True) if path is None]
    if missing:
        what = f"expected one file per organ as TotalSegmentator writes them, found none for {', '.join(missing)}"
        raise ScanError.of(str(folder), f"{what} (such as {missing[0]}.nii.gz); run it for these organs too")
    return [path for path in files if path is not None]
