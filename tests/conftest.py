"""Shared by all tests: a home folder of their own, and one small journey from scans to a plugin."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

NUM_CASES = 20


@pytest.fixture(autouse=True, scope="session")
def home(tmp_path_factory):
    """No test reads or writes the user's own home folder, or downloads anything."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANYMC3D_HOME", str(folder))
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield folder


@pytest.fixture(scope="session")
def shared():
    """The folder of real data and weights beside the repository; tests that need it skip without it."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "data").is_dir():
        pytest.skip("needs the real scans and weights in ../shared, which are not part of the repository")
    return folder


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


@dataclass(frozen=True)
class Journey:
    """A finished run: its data folder, task file and run folder."""

    data: Path
    task: Path
    run: Path

    @property
    def plugin(self) -> Path:
        return self.run / "plugin.safetensors"

    @property
    def scans(self) -> list[Path]:
        return sorted((self.data / "scans").glob("*.nii.gz"))


@pytest.fixture(scope="session")
def journey(tmp_path_factory, home):
    """Twenty tiny scans, trained for two epochs on a tiny random backbone."""
    from anymc3d.task_file import read_task
    from anymc3d.train.fit import fit

    data = tmp_path_factory.mktemp("journey")
    write_scans(data)
    task = data / "task.yaml"
    task.write_text(TASK)
    run = data / "run"
    fit(read_task(task), run, device="cpu", quiet=True)
    return Journey(data, task, run)
