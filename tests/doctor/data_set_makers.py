"""A small data set of made-up CT scans of one anatomy, whole, and ways to spoil one case of it."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

SHAPE = (32, 28, 16)
AFFINE = np.array([[9.0, 0, 0, -150.0], [0, 10.0, 0, -120.0], [0, 0, 14.0, 30.0], [0, 0, 0, 1.0]])
NUM_WHOLE = 24


def body(seed: int) -> np.ndarray:
    """HU, int16: air, fat, muscle, a spine behind, a lung above left, a liver below right; each body is another."""
    rng = np.random.default_rng(seed)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, count) for count in SHAPE), indexing="ij")

    def ball(centre: tuple[float, float, float], radius: float) -> np.ndarray:
        cx, cy, cz = np.array(centre) + rng.uniform(-0.12, 0.12, 3)
        return (x - cx) ** 2 + (y - cy) ** 2 + (z - cz) ** 2 < (radius * rng.uniform(0.8, 1.2)) ** 2

    voxels = np.full(SHAPE, -1000.0)
    width, depth = rng.uniform(0.75, 0.9, 2)
    inside = (x / width) ** 2 + (y / depth) ** 2 < 1
    voxels[inside] = -100
    voxels[(x / width) ** 2 + (y / depth) ** 2 < 0.8] = 45
    voxels[ball((-0.35, 0.1, 0.5), 0.4) & inside] = -850
    voxels[ball((0.3, 0.2, -0.5), 0.4) & inside] = 110
    voxels[ball((0.0, -0.55, 0.0), 0.25) & inside] = 600
    for _ in range(4):
        voxels[ball(tuple(rng.uniform(-0.5, 0.5, 3)), 0.25) & inside] = rng.uniform(-700, 250)
    return np.rint(voxels + rng.normal(0, 12, SHAPE)).clip(-1024, 1500).astype(np.int16)


def organ(seed: int) -> np.ndarray:
    """A mask with the values 1 and 2, away from the border."""
    rng = np.random.default_rng(1000 + seed)
    mask = np.zeros(SHAPE, dtype=np.uint8)
    start = rng.integers(4, 8, 3)
    mask[start[0] : 20, start[1] : 18, start[2] : 12] = 1
    mask[12:16, 10:14, 8:10] = 2
    return mask


def save(path: Path, voxels: np.ndarray, affine: np.ndarray = AFFINE, *, codes: int = 1) -> Path:
    """Write a NIfTI file in the type of ``voxels``."""
    image = nibabel.Nifti1Image(voxels, affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, codes)
    image.set_qform(affine, codes)
    nibabel.save(image, path)
    return path


@dataclass
class DataSet:
    """Rows of a manifest and the folder with its scans."""

    folder: Path
    rows: list[dict[str, Any]] = field(default_factory=list)
    extra_lines: list[str] = field(default_factory=list)

    def add(
        self,
        name: str,
        voxels: np.ndarray | None = None,
        mask: np.ndarray | None = None,
        *,
        affine: np.ndarray = AFFINE,
        mask_affine: np.ndarray | None = None,
        codes: int = 1,
        **cells: Any,
    ) -> dict[str, Any]:
        """Write a scan and its mask, add a row, and return it; ``cells`` replace what the row would have."""
        seed = len(self.rows)
        voxels = body(seed) if voxels is None else voxels
        save(self.folder / f"{name}.nii", voxels, affine, codes=codes)
        if mask is None:
            mask = organ(seed)
        save(self.folder / f"{name}_mask.nii", mask, affine if mask_affine is None else mask_affine, codes=codes)
        row = {
            "case": name,
            "patient": f"p{seed:03d}",
            "image": f"{name}.nii",
            "mask": f"{name}_mask.nii",
            "split": "train",
            "lesion": seed % 2,
            "rare": seed % 4 // 2,
        } | cells
        self.rows.append(row)
        return row

    def write(self, *columns: str) -> Path:
        """Write the manifest."""
        names = list(dict.fromkeys([*(name for row in self.rows for name in row), *columns]))
        path = self.folder / "manifest.csv"
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, names, restval="")
            writer.writeheader()
            writer.writerows(self.rows)
            file.writelines(f"{line}\n" for line in self.extra_lines)
        return path


def whole(folder: Path, count: int = NUM_WHOLE) -> DataSet:
    """A data set without a fault: both classes of both labels in every split, and enough of each."""
    made = DataSet(folder)
    for index in range(count):
        made.add(f"c{index:02d}", split=("train", "val", "test")[min(index // 8, 2)])
    return made
