"""The tiny scans with masks of the bright block for two of three cases, and a task that learns from them."""

from __future__ import annotations

import csv
from pathlib import Path

import nibabel as nib
import numpy as np

from tiny_scans import TASK, write_scans

BLOCK = (slice(8, 16), slice(10, 18), slice(2, 6))
LABELS = (3, 7)
"""Of the block's two halves in the masks."""


def write_masked_scans(folder: Path, num_cases: int = 20) -> Path:
    """Two of three cases have a mask: of the block's two halves, or empty where there is no block."""
    path = write_scans(folder, num_cases)
    (folder / "masks").mkdir(exist_ok=True)
    with path.open() as file:
        rows = list(csv.DictReader(file))
    for index, row in enumerate(rows):
        row["mask"] = "" if index % 3 == 0 else f"masks/case{index:02d}.nii.gz"
        if row["mask"]:
            labels = np.zeros((24, 28, 8), np.uint8)
            if index % 2:
                labels[BLOCK] = LABELS[0]
                labels[8:12, 10:18, 2:6] = LABELS[1]
            nib.save(nib.Nifti1Image(labels, np.diag([1.0, 1.0, 3.0, 1.0])), folder / row["mask"])
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def masked_task(decoder: str = "nnunet", **settings: object) -> str:
    """The tiny task with a decoder."""
    inside = ", ".join(f"{key}: {value}" for key, value in {"decoder": decoder, **settings}.items())
    return f"{TASK}segmentation: {{{inside}}}\n"
