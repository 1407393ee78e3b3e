"""Small made PET scans, as DICOM and as NIfTI: a body of little uptake, hot organs, a hotter bladder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from dicom_makers import MR, Series, make_series, set_pixels

PET = "1.2.840.10008.5.1.4.1.1.128"
WEIGHT_KG, DOSE_BQ, HALF_LIFE_S, WAITED_S = 70.0, 370e6, 6586.2, 3600.0
HAND_FACTOR = 70_000 / (370e6 * 0.684633)
"""Worked out by hand: an hour is 0.546597 half-lives of fluorine-18, and 2 to the power of -0.546597 is 0.684633."""
SHAPE = (12, 10, 8)
"""Columns, rows, slices, as :mod:`dicom_makers` has them."""


def uptake(shape: tuple[int, int, int] = SHAPE, seed: int = 0, hot: bool = False) -> np.ndarray:
    """SUV (x, y, z): nothing outside of the body, noise inside, a few hot voxels; ``hot``: a lesion more."""
    rng = np.random.default_rng(seed)
    places = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
    inside = (places[0] / 0.8) ** 2 + (places[1] / 0.7) ** 2 + (places[2] / 0.98) ** 2 < 1
    suv = np.where(inside, rng.gamma(4.0, 0.2, shape), 0.0)
    bladder = ((places - np.array([0, -0.2, -0.8])[:, None, None, None]) ** 2).sum(axis=0) < 0.03
    suv = np.where(bladder, rng.uniform(25, 45, shape), suv)
    lesion = ((places - np.array([0.3, 0.2, 0.4])[:, None, None, None]) ** 2).sum(axis=0) < 0.06
    return np.where(lesion & hot, rng.uniform(8, 12, shape), suv).astype(np.float32)


def injection(**values: object) -> Dataset:
    item = Dataset()
    item.RadionuclideTotalDose, item.RadionuclideHalfLife = DOSE_BQ, HALF_LIFE_S
    item.RadiopharmaceuticalStartTime = "093000.000000"
    for name, value in values.items():
        setattr(item, name, value)
    return item


def pet_series(suv: np.ndarray | None = None, *, factor: float = HAND_FACTOR, **tags: object) -> Series:
    """A series in Bq/ml whose slices have a slope each; ``tags`` are set in all of them, None deletes one."""
    suv = uptake() if suv is None else suv
    activity = (suv / factor).transpose(2, 1, 0)
    series = make_series(stored=np.zeros((len(activity), *activity.shape[1:]), np.uint16), sop_class=MR)
    for plane, dataset in zip(activity, series.slices, strict=True):
        slope = round(float(max(plane.max(), 1.0)) / 60_000, 6) or 1e-6
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = PET
        dataset.Modality, dataset.Units, dataset.DecayCorrection = "PT", "BQML", "START"
        dataset.CorrectedImage = ["NORM", "ATTN", "SCAT", "DECY"]
        dataset.PatientWeight = WEIGHT_KG
        dataset.SeriesDate = dataset.AcquisitionDate = "20240229"
        dataset.SeriesTime, dataset.AcquisitionTime = "103000.000000", "103005.000000"
        dataset.RadiopharmaceuticalInformationSequence = Items([injection()])
        dataset.RescaleSlope, dataset.RescaleIntercept = slope, 0
        set_pixels(dataset, np.round(plane / slope).astype(np.uint16), bits=16)
        for name, value in tags.items():
            if value is None:
                delattr(dataset, name)
            else:
                setattr(dataset, name, value)
    return series


def write_pet(folder: Path, **tags: object) -> Path:
    return pet_series(**tags).write(folder)
