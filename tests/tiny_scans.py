"""The tiny scans and the task file of the journey that all tests share."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

NUM_CASES = 20


def write_scans(folder: Path, num_cases: int = NUM_CASES) -> Path:
    """Noise volumes, every other one with a bright block (label 1); returns the manifest without a split column."""
    import nibabel as nib

    rng = np.random.default_rng(0)
    (folder / "scans").mkdir(parents=True, exist_ok=True)
    rows = []
    for index in range(num_cases):
        voxels = rng.normal(100, 10, (24, 28, 8)).astype(np.float32)
        if index % 2:
            voxels[8:16, 10:18, 2:6] += 80
        affine = np.diag([1.0, 1.0, 3.0, 1.0])
        nib.save(nib.Nifti1Image(voxels, affine), folder / "scans" / f"case{index:02d}.nii.gz")
        rows.append({"image": f"scans/case{index:02d}.nii.gz", "block": index % 2, "sex": "FM"[index % 3 == 0]})
    path = folder / "manifest.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


TASK = """\
format: 1
name: block
labels: {columns: [block], kind: binary, classes: ['0', '1']}
data: {manifest: manifest.csv, modality: MR, fractions: [0.5, 0.3, 0.2]}
views:
  image: {size: [28, 28, 4], plane: axial, normalise: percentile}
backbone: tiny-random
train: {epochs: 2, precision: fp32, lora_lr: 0.001, head_lr: 0.01}
"""
