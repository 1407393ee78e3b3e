"""Small DICOM series, whole and broken, for the tests of the reader."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import ExplicitVRLittleEndian

ROOT = "1.2.826.0.1.3680043.8.498."
CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
ENHANCED_CT, ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.4.1"
SECONDARY = "1.2.840.10008.5.1.4.1.1.7"
PHI = ("PHI_NAME", "PHI_ID_77", "19390412", "PHI_PLACE", "PHI_DESC", "PHI_FILE")
"""Every identifier of the made files has one of these in it; none may ever come out."""

COLUMNS, ROWS, SLICES = 12, 10, 8
SPACING = (0.9, 1.1, 2.5)  # between columns, rows, slices
_TURN = np.deg2rad(12)
STRAIGHT = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
OBLIQUE = (float(np.cos(_TURN)), float(np.sin(_TURN)), 0.0, 0.0, 0.0, -1.0)


def anatomy(slices: int = SLICES, seed: int = 0) -> np.ndarray:
    """Stored values (slice, row, column), 12 bits, with no symmetry."""
    return np.random.default_rng(seed).integers(0, 4096, size=(slices, ROWS, COLUMNS), dtype=np.uint16)


STORED = anatomy()


@dataclass
class Series:
    """Datasets of one series in the order of their positions; ``names`` are those of their files."""

    slices: list[Dataset]
    names: list[str] = field(default_factory=list)
    extra: dict[str, bytes] = field(default_factory=dict)
    """File name -> content, written beside the slices."""

    def write(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        names = self.names or [f"PHI_FILE_{index:03d}.dcm" for index in range(len(self.slices))]
        for name, dataset in zip(names, self.slices, strict=True):
            save(dataset, folder / name)
        for name, content in self.extra.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return folder


def save(dataset: Dataset, path: Path) -> None:
    """Write a dataset by the transfer syntax in its meta group."""
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)


def content(dataset: Dataset) -> bytes:
    """A dataset's file as bytes."""
    import io

    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def make_series(
    *,
    stored: np.ndarray = STORED,
    orientation: Sequence[float] = STRAIGHT,
    sop_class: str = CT,
    series: int = 1,
    first: Sequence[float] = (-20.0, 5.0, 40.0),
) -> Series:
    """A whole series: positions along the normal, slope 1 and intercept -1024 (CT)."""
    normal = np.cross(orientation[:3], orientation[3:])
    slices = []
    for index, pixels in enumerate(stored):
        dataset = _common(sop_class, series, f"{ROOT}{series}.{index + 1}")
        dataset.InstanceNumber = index + 1
        dataset.ImagePositionPatient = [float(round(v, 6)) for v in np.asarray(first) + index * SPACING[2] * normal]
        dataset.ImageOrientationPatient = [float(v) for v in orientation]
        dataset.PixelSpacing = [SPACING[1], SPACING[0]]
        dataset.SliceThickness = SPACING[2]
        if sop_class == CT:
            dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = 1, -1024, "HU"
        set_pixels(dataset, pixels, bits=12)
        slices.append(dataset)
    return Series(slices)


def truth(stored: np.ndarray = STORED, intercept: float = -1024) -> np.ndarray:
    """What the reader must give: (column, row, slice) float32."""
    return (stored.astype(np.float32) + np.float32(intercept)).transpose(2, 1, 0)


def true_affine(orientation: Sequence[float] = STRAIGHT, first: Sequence[float] = (-20.0, 5.0, 40.0)) -> np.ndarray:
    """RAS affine of a made series, written out by itself."""
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = row * SPACING[0], column * SPACING[1]
    affine[:3, 2], affine[:3, 3] = np.cross(row, column) * SPACING[2], first
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def set_pixels(dataset: Dataset, pixels: np.ndarray, *, bits: int, signed: bool = False) -> None:
    """Native little-endian pixels; the stored cells are those of ``pixels``."""
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = pixels.dtype.itemsize * 8, bits, bits - 1
    dataset.PixelRepresentation = int(signed)
    dataset.PixelData = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    dataset["PixelData"].VR = "OW"


def make_enhanced(
    *, stored: np.ndarray = STORED, sop_class: str = ENHANCED_CT, slopes: Sequence[float] | None = None
) -> Series:
    """One enhanced file; frames stored from the last slice to the first, each with its own rescaling."""
    dataset = _common(sop_class, 1, f"{ROOT}1.900")
    set_pixels(dataset, stored[::-1], bits=12)
    dataset.NumberOfFrames = len(stored)
    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [SPACING[1], SPACING[0]], SPACING[2]
    orientation.ImageOrientationPatient = list(STRAIGHT)
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = Items([measures]), Items([orientation])
    dataset.SharedFunctionalGroupsSequence = Items([shared])
    frames = []
    for index in reversed(range(len(stored))):
        frame, place, rescale, info = Dataset(), Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = [-20.0, 5.0, 40.0 + index * SPACING[2]]
        rescale.RescaleSlope = 1 if slopes is None else slopes[index]
        rescale.RescaleIntercept, rescale.RescaleType = -1024, "HU"
        info.TemporalPositionIndex, info.StackID = 1, "1"
        frame.PlanePositionSequence, frame.PixelValueTransformationSequence = Items([place]), Items([rescale])
        frame.FrameContentSequence = Items([info])
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = Items(frames)
    return Series([dataset], names=["PHI_FILE_enhanced.dcm"])


def each(change: Callable[[Dataset], None]) -> Callable[[Series], None]:
    """A change of every slice."""

    def apply(series: Series) -> None:
        for dataset in series.slices:
            change(dataset)

    return apply


def at(index: int, change: Callable[[Dataset], None]) -> Callable[[Series], None]:
    """A change of one slice."""
    return lambda series: change(series.slices[index])


def setting(**values: object) -> Callable[[Dataset], None]:
    """Set elements; None deletes one."""

    def change(dataset: Dataset) -> None:
        for keyword, value in values.items():
            if value is None:
                delattr(dataset, keyword)
            else:
                setattr(dataset, keyword, value)

    return change


def raw(keyword: str, vr: str, value: bytes) -> Callable[[Dataset], None]:
    """Set an element to bytes that pydicom itself would not write."""

    def change(dataset: Dataset) -> None:
        from pydicom.dataelem import RawDataElement
        from pydicom.tag import Tag

        tag = Tag(keyword)
        dataset[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)

    return change


def _common(sop_class: str, series: int, sop_uid: str) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, sop_uid
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = ROOT + "7", f"{ROOT}8.{series}"
    dataset.FrameOfReferenceUID = ROOT + "9"
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = "PHI_NAME^X", "PHI_ID_77", "19390412"
    dataset.InstitutionName, dataset.SeriesDescription = "PHI_PLACE", f"PHI_DESC portal {series}"
    dataset.Modality = "MR" if sop_class in (MR, ENHANCED_MR) else "CT"
    dataset.SeriesNumber, dataset.AcquisitionNumber = series, 1
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    return dataset
