"""How long `anymc3d doctor` takes for a thousand headers, NIfTI files and DICOM folders, and for their voxels.

    python benchmarks/doctor.py FOLDER        # makes the data set there once, then measures

Prints one line per run: kind, scans, seconds, seconds of processor time of all processes together (which says more on
a machine that does other work too).
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from pathlib import Path

import nibabel
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from anymc3d.doctor.examine import examine

NUM_SCANS, NUM_SLICES, SIDE = 1000, 6, 64
CORNER = -150.0


def make_nifti(folder: Path) -> Path:
    """A thousand compressed NIfTI scans of 96 x 96 x 24."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    lines = ["case,image"]
    for index in range(NUM_SCANS):
        voxels = rng.integers(-1000, 500, (96, 96, 24), dtype=np.int16)
        nibabel.save(nibabel.Nifti1Image(voxels, np.diag([2.0, 2.0, 5.0, 1.0])), folder / f"{index:04d}.nii.gz")
        lines.append(f"c{index:04d},{index:04d}.nii.gz")
    return write(folder, lines)


def make_dicom(folder: Path) -> Path:
    """A thousand DICOM folders of a few slices each."""
    rng = np.random.default_rng(1)
    lines = ["case,image"]
    for index in range(NUM_SCANS):
        place = folder / f"{index:04d}"
        place.mkdir(parents=True)
        for k in range(NUM_SLICES):
            pixels = rng.integers(0, 1500, (SIDE, SIDE), dtype=np.uint16)
            slice_of(index, k, pixels).save_as(place / f"{k}.dcm", enforce_file_format=True)
        lines.append(f"c{index:04d},{index:04d}")
    return write(folder, lines)


def slice_of(series: int, number: int, pixels: np.ndarray) -> Dataset:
    """One CT slice."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = CTImageStorage
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = f"1.2.826.0.1.{series}.1.{number + 1}"
    made.SeriesInstanceUID, made.StudyInstanceUID = f"1.2.826.0.1.{series}.1", f"1.2.826.0.1.{series}"
    made.FrameOfReferenceUID, made.PatientID, made.Modality = f"1.2.826.0.1.{series}.2", f"p{series}", "CT"
    made.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    made.Rows, made.Columns, made.PixelSpacing = *pixels.shape, [2.0, 2.0]
    made.ImagePositionPatient, made.ImageOrientationPatient = [CORNER, CORNER, 5.0 * number], [1, 0, 0, 0, 1, 0]
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 16, 15, 0
    made.RescaleSlope, made.RescaleIntercept, made.RescaleType = 1, -1024, "HU"
    made.PixelData = pixels.tobytes()
    return made


def write(folder: Path, lines: list[str]) -> Path:
    """Write the manifest."""
    path = folder / "manifest.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def processor_seconds() -> float:
    """Of this process and of all children that have ended."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def main() -> None:
    """Make what is missing, and measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args()
    for kind, make in (("NIfTI", make_nifti), ("DICOM", make_dicom)):
        path = args.folder / kind / "manifest.csv"
        path = path if path.exists() else make(args.folder / kind)
        for headers_only in (True, False):
            begun, used = time.perf_counter(), processor_seconds()
            seen = examine(path, headers_only=headers_only, processes=args.jobs)
            took, used = time.perf_counter() - begun, processor_seconds() - used
            broken = sum(facts.error is not None for facts in seen.scans.values())
            what = "headers" if headers_only else "voxels"
            figures = f"{NUM_SCANS} scans, {took:.1f} s, {used:.1f} s of processor time, {broken} unreadable"
            print(f"{kind}, {what}, {args.jobs} processes: {figures}", flush=True)


if __name__ == "__main__":
    main()
