"""Time to read a scan: this package against MONAI's LoadImage and PersistentDataset, on the same files in one run.

A 512 x 512 x 300 CT as ``.nii.gz`` and as a series of 300 uncompressed DICOM files, and the same volume from the cache
of either; of anymc3d with ISA-L (the extra ``fast``) and with zlib alone. One thread, programs taking turns, CPU
seconds, median over the rounds. Needs the extras ``benchmark`` and ``fast``:

    python benchmarks/reading.py

writes ``benchmarks/reading.md``.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

os.environ.setdefault("OMP_NUM_THREADS", "1")

import monai
import nibabel
import numpy as np
import pydicom
import torch
from isal import isal_zlib
from monai import transforms
from monai.data import PersistentDataset
from pydicom.dataset import Dataset, FileMetaDataset

from anymc3d.data import cache_entry
from anymc3d.data.cache import Cache
from anymc3d.data.dicom import read as dicom_read
from anymc3d.data.formats import scan_file
from anymc3d.data.preprocess import PreparedView
from anymc3d.data.readers import read_volume

SHAPE = (512, 512, 300)
SPACING = (0.8, 0.8, 1.25)
REPORT_PATH = Path(__file__).with_suffix(".md")
ROOT_UID = "1.2.826.0.1.3680043.8.498.7"
OURS = "anymc3d"
Task = Callable[[], object]


def made_scan(shape: tuple[int, int, int]) -> np.ndarray:
    """Int16 Hounsfield units: an ellipse of tissue in air, smooth organs, the noise of a scanner."""
    rng = np.random.default_rng(0)
    x, y, _ = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in shape[:2]), [0.0], indexing="ij")
    inside = (x**2 / 0.7 + y**2 / 0.45 < 1)[..., 0]
    scan = np.empty(shape, dtype=np.int16, order="F")
    for k in range(shape[2]):
        organs = 60 * np.sin(7 * x[..., 0] + 0.05 * k) * np.cos(5 * y[..., 0] - 0.03 * k)
        scan[:, :, k] = np.where(inside, organs + rng.normal(20, 12, shape[:2]), -1000)
    return scan


def write_files(folder: Path, scan: np.ndarray) -> tuple[Path, Path]:
    """The scan as ``.nii.gz`` and as a DICOM series."""
    nifti, series = folder / "scan.nii.gz", folder / "series"
    nibabel.save(nibabel.Nifti1Image(scan, np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1])), nifti)
    series.mkdir()
    for k in range(scan.shape[2]):
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
        dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", f"{ROOT_UID}.1.{k + 1}"
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"{ROOT_UID}.2", f"{ROOT_UID}.3"
        dataset.PatientID, dataset.Modality, dataset.InstanceNumber = "made", "CT", k + 1
        dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [0, 0, k * SPACING[2]], [1, 0, 0, 0, 1, 0]
        dataset.PixelSpacing, dataset.SliceThickness = [SPACING[1], SPACING[0]], SPACING[2]
        dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = 1, -1024, "HU"
        dataset.Rows, dataset.Columns = scan.shape[1], scan.shape[0]
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
        dataset.PixelData = np.ascontiguousarray((scan[:, :, k] + 1024).astype("<u2").T).tobytes()
        dataset["PixelData"].VR = "OW"
        pydicom.dcmwrite(series / f"{k:04d}.dcm", dataset, enforce_file_format=True)
    return nifti, series


def contestants(folder: Path, scan: np.ndarray) -> dict[str, dict[str, Task]]:
    """Kind of file -> who -> what is timed; both give float32 voxels (cached: float16) and an affine."""
    nifti, series = write_files(folder, scan)
    load = transforms.LoadImage(image_only=True)
    load_dicom = transforms.LoadImage(reader="PydicomReader", image_only=True)
    cache = Cache(folder / "cache")
    slices = scan.transpose(2, 0, 1)[:, None].astype(np.float16)
    view = PreparedView(slices=slices, affine=np.eye(4), plane="axial")
    key = "0" * 64
    cache.get_or_make(key, lambda: view)
    half = transforms.Compose([transforms.LoadImaged("image"), transforms.CastToTyped("image", dtype=torch.float16)])
    persistent = PersistentDataset([{"image": str(nifti)}], half, cache_dir=folder / "monai")
    assert persistent[0]["image"].dtype == torch.float16
    return {
        "`.nii.gz`": {"MONAI": lambda: load(nifti), **both(lambda: read_volume(nifti))},
        "DICOM series": {"MONAI": lambda: load_dicom(series), OURS: lambda: dicom_read.read_dicom(series)},
        "cached": {"MONAI": lambda: persistent[0], **both(lambda: cache.get_or_make(key, lambda: view))},
    }


def both(task: Task) -> dict[str, Task]:
    """The same task with the library of the extra ``fast`` and, as where it is not installed, without."""

    def with_library(library: ModuleType, error: type[Exception]) -> None:
        scan_file._inflater = lambda: (library.decompressobj, (error, zlib.error))
        cache_entry._crc32 = lambda: library.crc32
        task()

    return {
        OURS: lambda: with_library(isal_zlib, isal_zlib.error),
        f"{OURS}, zlib alone": lambda: with_library(zlib, zlib.error),
    }


def cpu_seconds(task: Task) -> float:
    began = time.process_time()
    task()
    return time.process_time() - began


def measure(tasks: dict[str, dict[str, Task]], rounds: int) -> dict[str, dict[str, list[float]]]:
    found: dict[str, dict[str, list[float]]] = {kind: {who: [] for who in rows} for kind, rows in tasks.items()}
    for _ in range(rounds):
        for kind, rows in tasks.items():
            for who, task in rows.items():
                found[kind][who].append(cpu_seconds(task))
    return found


def report(found: dict[str, dict[str, list[float]]], rounds: int, slices: int) -> str:
    shape = " x ".join(map(str, (*SHAPE[:2], slices)))
    lines = [
        "# Reading: a scan from its file, and from the cache",
        "",
        f"A made CT of {shape} voxels (noise in tissue, constant air), the same for all. One thread, programs taking",
        f"turns, CPU seconds, median of {rounds} rounds (lowest to highest), files in memory. anymc3d: with ISA-L",
        "(the extra `fast`), and with zlib alone, as where that extra is not installed.",
        f"MONAI {monai.__version__}, nibabel {nibabel.__version__}, pydicom {pydicom.__version__}, "
        f"torch {torch.__version__}, Python {platform.python_version()}, {platform.machine()}.",
        "",
        f"    python benchmarks/reading.py --slices {slices} --rounds {rounds}",
        "",
        "| file | program | CPU seconds | times faster than MONAI |",
        "|---|---|---|---|",
    ]
    for kind, rows in found.items():
        for who, seconds in rows.items():
            ratio = statistics.median(rows["MONAI"]) / statistics.median(seconds)
            spread = f"{min(seconds):.3f} to {max(seconds):.3f}"
            lines.append(f"| {kind} | {who} | {statistics.median(seconds):.3f} ({spread}) | {ratio:.1f} |")
    return "\n".join([*lines, ""])


NOTES = """
What each does: MONAI's `LoadImage` (its nibabel and pydicom readers) gives a tensor and an affine, and checks neither
the checksum of the gzip stream nor the places of the slices. anymc3d checks both, looks for NaN and infinity, and
applies the rescaling of each slice. Cached is a float16 volume of the same size: a `PersistentDataset` item on one
side, an entry of the cache of prepared scans on the other, which is compared with its checksum on every read.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--slices", type=int, default=SHAPE[2], help="fewer for a quick look")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        tasks = contestants(Path(folder), made_scan((*SHAPE[:2], args.slices)))
        text = report(measure(tasks, args.rounds), args.rounds, args.slices) + NOTES
    print(text)
    REPORT_PATH.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
