"""Miniature folders with the real layouts, file names and quirks of the public data sets."""

from __future__ import annotations

import csv
import json
import zlib
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path

import nibabel
import numpy as np
import openpyxl
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

CT = "1.2.840.10008.5.1.4.1.1.2"
SHAPE, SPACING = (14, 12, 6), (0.8, 0.8, 3.0)


def chest(seed: int = 0, shape: tuple[int, int, int] = (20, 20, 12)) -> np.ndarray:
    """Int16 Hounsfield units of a coarse chest: air around, soft tissue, two lungs, a little bone."""
    rng = np.random.default_rng(seed)
    voxels = np.full(shape, -1000, np.int16)
    voxels[3:-3, 3:-3] = 40
    voxels[5:9, 6:14, 2:10] = voxels[11:15, 6:14, 2:10] = -850
    voxels[9:11, 14:16] = 700
    return (voxels + rng.integers(-15, 16, shape)).astype(np.int16)


def write_nifti(path: Path, voxels: np.ndarray | None = None, spacing: Sequence[float] = SPACING) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if voxels is None:
        voxels = np.random.default_rng(zlib.crc32(path.name.encode())).integers(-900, 900, SHAPE).astype(np.int16)
    image = nibabel.Nifti1Image(voxels, np.diag([*spacing, 1.0]))
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)
    return path


def write_csv(path: Path, rows: Sequence[Mapping[str, object]], delimiter: str = ",") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_dicom(folder: Path, *, modality: str = "CT", slices: int = 4, seed: int = 0) -> Path:
    """A series of files 1.dcm, 2.dcm, … with instance numbers from head to feet, as the challenge has them."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, series, study = np.random.default_rng(seed), generate_uid(), generate_uid()
    for number in range(1, slices + 1):
        data = Dataset()
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.SOPClassUID, data.SOPInstanceUID = CT, generate_uid()
        data.file_meta.MediaStorageSOPClassUID, data.file_meta.MediaStorageSOPInstanceUID = CT, data.SOPInstanceUID
        data.Modality, data.PatientID = modality, "p"
        data.SeriesInstanceUID, data.StudyInstanceUID, data.FrameOfReferenceUID = series, study, study
        data.InstanceNumber = number
        data.ImagePositionPatient = [-20.0, -30.0, 100.0 - 3.0 * number]
        data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        data.PixelSpacing, data.SliceThickness = [0.9, 0.9], 3.0
        data.RescaleSlope, data.RescaleIntercept, data.RescaleType = 1, -1024, "HU"
        data.Rows, data.Columns, data.SamplesPerPixel = 10, 12, 1
        data.PhotometricInterpretation, data.PixelRepresentation = "MONOCHROME2", 0
        data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 11
        data.PixelData = rng.integers(0, 4000, (10, 12), dtype=np.uint16).tobytes()
        data["PixelData"].VR = "OW"
        pydicom.dcmwrite(folder / f"{number}.dcm", data, enforce_file_format=True)
    return folder


DICOM_SHAPE = (12, 10, 4)
DICOM_AFFINE = np.array(  # RAS: columns go left, rows go back, files go down
    [[-0.9, 0, 0, 20.0], [0, -0.9, 0, 30.0], [0, 0, -3.0, 97.0], [0, 0, 0, 1.0]]
)


def write_ratic_mask(path: Path, *, world_box_fits: bool = True) -> Path:
    """As the challenge stores them: other axis directions than the DICOM stack (x kept, y and z turned)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    voxels = np.zeros(DICOM_SHAPE, np.uint8)
    voxels[2:5, 3:6, 1:3] = 1
    affine = DICOM_AFFINE @ np.array(
        [[1, 0, 0, 0], [0, -1, 0, DICOM_SHAPE[1] - 1], [0, 0, -1, DICOM_SHAPE[2] - 1], [0, 0, 0, 1.0]]
    )
    if not world_box_fits:
        affine[2, 3] += 200
    nibabel.save(nibabel.Nifti1Image(voxels, affine), path)
    return path


def ratic_row(patient: str, **grades: int) -> dict[str, object]:
    """One-hot labels of a patient as train.csv has them; grades of organs that are not healthy."""
    row: dict[str, object] = {"patient_id": patient}
    for organ, names in (
        *(("bowel", ("healthy", "injury")), ("extravasation", ("healthy", "injury"))),
        *((organ, ("healthy", "low", "high")) for organ in ("kidney", "liver", "spleen")),
    ):
        row |= {f"{organ}_{name}": int(index == grades.get(organ, 0)) for index, name in enumerate(names)}
    return row | {"any_injury": int(any(grades.values()))}


def make_ratic(folder: Path) -> Path:
    """Three patients, four series (patient 10004 was scanned twice), two segmentations."""
    write_csv(
        folder / "train_2024.csv",
        [ratic_row("10004", bowel=1, spleen=2), ratic_row("10005"), ratic_row("10007", liver=1)],
    )
    write_csv(
        folder / "train_series_meta.csv",
        [
            {"patient_id": patient, "series_id": series, "aortic_hu": hu, "incomplete_organ": cut}
            for patient, series, hu, cut in (
                *(("10004", "21057", 146.0, 0), ("10004", "51033", 454.75, 0)),
                *(("10005", "18667", 187.0, 0), ("10007", "47578", 329.0, 1)),
            )
        ],
    )
    for seed, (patient, series) in enumerate((("10004", "21057"), ("10004", "51033"), ("10005", "18667"))):
        write_dicom(folder / "train_images" / patient / series, seed=seed)
    write_dicom(folder / "train_images" / "10007" / "47578", seed=9)
    write_ratic_mask(folder / "segmentations" / "21057.nii")
    write_ratic_mask(folder / "segmentations" / "47578.nii", world_box_fits=False)
    return folder


def write_xlsx(path: Path, rows: Sequence[Sequence[object]]) -> Path:
    """A workbook as spreadsheets write it; empty cells are left out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    book = openpyxl.Workbook()
    for number, row in enumerate(rows, start=1):
        for column, value in enumerate(row, start=1):
            if value not in (None, ""):
                book.active.cell(number, column, value)
    book.save(path)
    return path


DAY = date(2017, 9, 22)
PANORAMA_HEADER = (
    *("PANORAMA_patient_id", "PANORAMA_study_id", "anonymized_study_date", "patient_age", "patient_sex"),
    *("scanner", "label", "level"),
)


def panorama_rows() -> list[list[object]]:
    """Quirks of the real table: patient 100001 has two studies, one filed under another patient's number."""
    return [
        [100000, "100000_00001", DAY, "065Y", "M", "SIEMENS", "PDAC", "histopathology"],
        [100001, "100001_00001", DAY + timedelta(100), "071Y", "F", "0", "non-PDAC", "radiology"],
        [100001, "100002_00001", DAY + timedelta(200), "071Y", "F", "TOSHIBA", "non-PDAC", "radiology"],
        [100700, "100700_00001", None, None, None, None, "PDAC", "MSD_dataset"],
        [100800, "100800_00001", DAY + timedelta(300), 58, "M", "GE", "non-PDAC", "NIH_dataset"],
    ]


def make_panorama(folder: Path, rows: Sequence[Sequence[object]] | None = None) -> Path:
    rows = panorama_rows() if rows is None else rows
    labels = folder / "panorama_labels"
    write_xlsx(labels / "clinical_information.xlsx", [PANORAMA_HEADER, *rows])
    for batch, study in ((1, "100000"), (1, "100001"), (2, "100002"), (2, "100700"), (3, "100800")):
        write_nifti(folder / f"batch_{batch}" / f"{study}_00001_0000.nii.gz")
    for study in ("100000", "100700"):
        write_nifti(labels / "manual_labels" / f"{study}_00001.nii.gz", np.ones(SHAPE, np.uint8))
    for study in ("100001", "100700", "100800"):
        write_nifti(labels / "automatic_labels" / f"{study}_00001.nii.gz", np.full(SHAPE, 4, np.uint8))
    return folder


CT_RATE_NAMES = {
    "train": [f"train_{patient}_{scan}" for patient in range(1, 9) for scan in ("a_1", "a_2")] + ["train_1_b_1"],
    "valid": ["valid_1_a_1", "valid_1_a_2", "valid_2_a_1"],
}
INTERCEPT = -1024


def make_ct_rate(folder: Path, findings: Sequence[str], *, release: str = "v2") -> Path:
    """Twelve patients; ``first``: stored values without rescaling, 1 mm in the header, the truth in the metadata."""
    root = folder / "dataset"
    rng = np.random.default_rng(4)
    for part, names in CT_RATE_NAMES.items():
        place = root / (f"{part}_fixed" if release == "v2" else part)
        labels, metadata = [], []
        for seed, name in enumerate(names):
            patient, scan = name.rsplit("_", 2)[0], name.rsplit("_", 1)[0]
            voxels = chest(seed)
            stored = voxels if release == "v2" else (voxels - INTERCEPT).astype(np.int16)
            spacing = (0.7, 0.7, 1.5) if release == "v2" else (1.0, 1.0, 1.0)
            write_nifti(place / patient / scan / f"{name}.nii.gz", stored, spacing)
            labels.append({"VolumeName": f"{name}.nii.gz", **{f: int(rng.random() < 0.4) for f in findings}})
            metadata.append(
                {
                    "VolumeName": f"{name}.nii.gz",
                    "Manufacturer": "Philips",
                    "PatientSex": "M",
                    "PatientAge": "036Y",
                    "XYSpacing": "[0.7, 0.7]",
                    "RescaleIntercept": INTERCEPT,
                    "RescaleSlope": 1,
                    "ZSpacing": 1.5,
                    "StudyDate": "20200101",
                }
            )
        write_csv(root / "multi_abnormality_labels" / f"{part}_predicted_labels.csv", labels)
        write_csv(root / "metadata" / f"{'train' if part == 'train' else 'validation'}_metadata.csv", metadata)
    return folder


def make_nnunet(folder: Path, *, channels: int = 1, num_cases: int = 6) -> Path:
    names = ["CT"] if channels == 1 else ["T1", "T2"]
    cases = [f"PAT{number:02d}_{number % 2}" for number in range(num_cases)]
    for case in cases:
        for channel in range(channels):
            write_nifti(folder / "imagesTr" / f"{case}_{channel:04d}.nii.gz")
        write_nifti(folder / "labelsTr" / f"{case}.nii.gz", np.ones(SHAPE, np.uint8))
    for channel in range(channels):
        write_nifti(folder / "imagesTs" / f"PAT90_0_{channel:04d}.nii.gz")
    header = {
        "channel_names": {str(number): name for number, name in enumerate(names)},
        "labels": {"background": 0, "tumour": 1},
        "numTraining": num_cases,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(header))
    folds = [{"train": [c for c in cases if c not in cases[k::2]], "val": cases[k::2]} for k in range(2)]
    (folder / "splits_final.json").write_text(json.dumps(folds))
    return folder


def make_monai(folder: Path) -> Path:
    entries = []
    for number in range(6):
        write_nifti(folder / "imagesTr" / f"case_{number}.nii.gz")
        entries.append(
            {"image": f"imagesTr/case_{number}.nii.gz", "label": number % 2, "fold": number % 3, "age": 40 + number}
        )
    write_nifti(folder / "imagesTs" / "case_9.nii.gz")
    content = {"name": "x", "training": entries, "testing": [{"image": "imagesTs/case_9.nii.gz", "label": 1}]}
    (folder / "dataset_0.json").write_text(json.dumps(content))
    return folder


def make_bids(folder: Path, *, sessions: bool = False) -> Path:
    rows = []
    for number in range(1, 5):
        name = f"sub-{number:02d}"
        for session in ("ses-01", "ses-02") if sessions else ("",):
            stem = f"{name}_{session}" if session else name
            write_nifti(folder / name / session / "anat" / f"{stem}_T1w.nii.gz")
            if number != 3:
                write_nifti(folder / name / session / "anat" / f"{stem}_T2w.nii.gz")
            (folder / name / session / "anat" / f"{stem}_T1w.json").write_text("{}")
        if sessions:
            write_csv(
                folder / name / f"{name}_sessions.tsv",
                [{"session_id": one, "score": number + index} for index, one in enumerate(("ses-01", "ses-02"))],
                "\t",
            )
        rows.append(
            {
                "participant_id": name,
                "age": 50 + number,
                "sex": "n/a" if number == 2 else "F",
                "group": "AC"[number % 2],
            }
        )
    write_csv(folder / "participants.tsv", rows, "\t")
    (folder / "dataset_description.json").write_text("{}")
    write_nifti(folder / "derivatives" / "sub-01" / "anat" / "sub-01_T1w.nii.gz")
    return folder


def make_class_folders(folder: Path) -> Path:
    """NIfTI files of patients named in the file, and one DICOM series in a folder of its own."""
    for label, patients in (("healthy", ("p1", "p2")), ("lesion", ("p3", "p4"))):
        for patient in patients:
            for scan in ("s1", "s2"):
                write_nifti(folder / label / f"{patient}_{scan}.nii.gz")
    write_dicom(folder / "lesion" / "p5_s1")
    return folder
