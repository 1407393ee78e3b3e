"""A miniature set in the layout of CT-RATE: tiny chests with 18 findings, some of them rare, made from a seed.

For tests, and to see the whole recipe run in minutes. Nothing about it is medical evidence. Folders, names and tables
are those of the corrected release, whose voxels are Hounsfield units (docs/recipes.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anymc3d.errors import UsageError
from anymc3d.files.private import make_private
from anymc3d.files.tables import write_table
from anymc3d.vlm3d.labels import LABELS
from anymc3d.vlm3d.scores import EXAM_COLUMN

RARE = ("Pericardial effusion", "Mosaic attenuation pattern")
"""Four patients of the training part and one of the other have it, whatever the size of the set."""
_SHAPE = (36, 36, 18)
_SPACING = (10.0, 10.0, 20.0)
_AIR, _BODY, _LUNG, _BONE = -1000.0, 40.0, -850.0, 500.0
_LESION = (600.0, -400.0)
"""Hounsfield units of a finding: bright for even labels, dark for odd ones."""


@dataclass(frozen=True)
class _Volume:
    name: str
    """``train_1_a_1``."""
    labels: NDArray[np.int_]
    seed: int

    @property
    def patient(self) -> str:
        return "_".join(self.name.split("_")[:2])

    @property
    def folder(self) -> Path:
        part, patient, scan = self.name.split("_")[:3]
        return Path("dataset", part, f"{part}_{patient}", f"{part}_{patient}_{scan}")


def write_miniature(out: Path, *, patients: int = 60, seed: int = 0) -> Path:
    """Write the set into ``out`` and return its manifest.

    ``dataset/train/train_1/train_1_a/train_1_a_1.nii.gz`` …, ``dataset/valid/…`` (a third as many patients),
    ``dataset/multi_abnormality_labels``, ``dataset/metadata``, and what the commands of this package take:
    ``manifest.csv`` (train and test), ``input/*.mha`` of the valid part, ``ground_truth.csv``.

    Args:
        out: a new or empty folder.
        patients: of the training part, at least 12; every third has two reconstructions.
        seed: of everything random.

    Raises:
        UsageError: fewer than 12 patients, or ``out`` is not empty.
    """
    if patients < 12:
        raise UsageError(f"--patients: expected at least 12, so that every label has both outcomes, got {patients}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out}: expected a new or empty folder")
    parts = {
        "train": list(_volumes("train", patients, seed)),
        "valid": list(_volumes("valid", patients // 3, seed + 1)),
    }
    for part, volumes in parts.items():
        for volume in volumes:
            _write_scan(out, volume, as_mha=part == "valid")
        _write_tables(out, part, volumes)
    _write_own_tables(out, parts["train"], parts["valid"])
    return out / "manifest.csv"


def _volumes(part: str, patients: int, seed: int) -> Iterator[_Volume]:
    """Scans with labels by patient: a tenth to a half of the patients have a label, the rare ones four or one."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((patients, len(LABELS)), dtype=int)
    for index, name in enumerate(LABELS):
        share = 0.1 + 0.4 * (index % 5) / 4
        count = (4 if part == "train" else 1) if name in RARE else max(5, round(share * patients))
        labels[rng.permutation(patients)[:count], index] = 1
    for patient in range(patients):
        reconstructions = 2 if patient % 3 == 0 else 1
        for number in range(1, reconstructions + 1):
            name = f"{part}_{patient + 1}_a_{number}"
            yield _Volume(name, labels[patient], int(rng.integers(2**31)))


def _voxels(volume: _Volume) -> NDArray[np.int16]:
    """A chest in Hounsfield units (x, y, z), RAS: body, lungs, spine, and a block per finding at its own place."""
    rng = np.random.default_rng(volume.seed)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in _SHAPE), indexing="ij")
    voxels = np.full(_SHAPE, _AIR)
    voxels[(x / 0.95) ** 2 + (y / 0.75) ** 2 < 1] = _BODY
    for side in (-0.42, 0.42):
        voxels[((x - side) / 0.3) ** 2 + (y / 0.5) ** 2 + (z / 0.9) ** 2 < 1] = _LUNG
    voxels[(x / 0.12) ** 2 + ((y + 0.6) / 0.12) ** 2 < 1] = _BONE
    for index in np.flatnonzero(volume.labels):
        column, row = divmod(int(index), 6)
        corner = np.array([6 + 4 * row, 10 + 6 * column, 3 + 2 * (index % 6)]) + rng.integers(0, 2, 3)
        block = tuple(slice(int(start), int(start) + 4) for start in corner)
        voxels[block] = _LESION[index % 2]
    return np.clip(voxels + rng.normal(0, 20, _SHAPE), -1024, 3071).astype(np.int16)


def _write_scan(out: Path, volume: _Volume, *, as_mha: bool) -> None:
    import nibabel as nib
    import SimpleITK as sitk

    voxels = _voxels(volume)
    folder = out / volume.folder
    make_private(folder)
    image = nib.Nifti1Image(voxels, np.diag([*_SPACING, 1.0]))
    nib.save(image, folder / f"{volume.name}.nii.gz")
    if as_mha:
        make_private(out / "input")
        exam = sitk.GetImageFromArray(np.ascontiguousarray(voxels.transpose(2, 1, 0)))
        exam.SetSpacing(_SPACING)
        # The same anatomy in the LPS world of the format: x and y run the other way.
        exam.SetDirection((-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0))
        sitk.WriteImage(exam, str(out / "input" / f"{volume.name}.mha"), useCompression=True)


def _write_tables(out: Path, part: str, volumes: list[_Volume]) -> None:
    labels = [{"VolumeName": f"{v.name}.nii.gz", **_cells(v)} for v in volumes]
    write_table(
        out / "dataset" / "multi_abnormality_labels" / f"{part}_predicted_labels.csv", ["VolumeName", *LABELS], labels
    )
    x, y, z = _SPACING
    rows = [
        {
            "VolumeName": f"{v.name}.nii.gz",
            "Manufacturer": "Miniature",
            "RescaleSlope": 1,
            "RescaleIntercept": 0,
            "XYSpacing": f"[{x}, {y}]",
            "ZSpacing": z,
        }
        for v in volumes
    ]
    long = "validation" if part == "valid" else part
    write_table(out / "dataset" / "metadata" / f"{long}_metadata.csv", list(rows[0]), rows)


def _write_own_tables(out: Path, train: list[_Volume], valid: list[_Volume]) -> None:
    rows = [
        {
            "case": v.name,
            "patient": v.patient,
            "image": (v.folder / f"{v.name}.nii.gz").as_posix(),
            "split": split,
            **_cells(v),
        }
        for split, volumes in (("train", train), ("test", valid))
        for v in volumes
    ]
    write_table(out / "manifest.csv", list(rows[0]), rows)
    truth = [{EXAM_COLUMN: v.name, **_cells(v)} for v in valid]
    write_table(out / "ground_truth.csv", list(truth[0]), truth)


def _cells(volume: _Volume) -> dict[str, int]:
    return {name: int(value) for name, value in zip(LABELS, volume.labels, strict=True)}
