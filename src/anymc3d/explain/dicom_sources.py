"""What of a source series goes into DICOM objects that refer to it: stand-ins for its slices, UIDs, short texts."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anymc3d.data.case import Case
from anymc3d.data.dicom.references import SourceSeries, source_series
from anymc3d.errors import ScanError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

TEXT = 64
"""Letters of a long string, and of a code's meaning."""
CODES = "99ANYMC3D"
"""The coding scheme of what no standard has a code for."""


@contextmanager
def quiet() -> Iterator[None]:
    """highdicom logs what it copies, UIDs among it."""
    logger = logging.getLogger("highdicom")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)


def sources_of(case: Case, *, with_patient: bool, resampled: bool = False) -> dict[str, SourceSeries]:
    """Image column -> the series behind it, from the headers alone.

    ``resampled``: also of a series whose slices are not those of its volume, for objects that have no voxels.

    Raises:
        ScanError: a series lacks identifiers, or cannot be read; the column is named first.
    """
    sources = {}
    for column, reference in case.images.items():
        try:
            sources[column] = source_series(
                Path(reference), case.series(column), with_patient=with_patient, resampled=resampled
            )
        except ScanError as error:
            raise ScanError(f"{column}: {error.what}", code=error.code) from error
    return sources


def stand_ins(source: SourceSeries, case_id: str) -> list[Dataset]:
    """The source as highdicom wants it, with nothing in it but what the new objects may repeat.

    One dataset per slice, in order; of an enhanced file one for all.
    """
    if source.is_enhanced:
        return [_enhanced(source, case_id)]
    datasets = []
    for entry in source.slices:
        dataset = _identified(source, case_id)
        dataset.SOPInstanceUID = entry.sop_uid
        dataset.ImagePositionPatient = _numbers(entry.geometry.position)
        # The reader has found all orientations equal but for rounding; highdicom wants them equal.
        dataset.ImageOrientationPatient = _numbers(source.slices[0].geometry.orientation)
        dataset.PixelSpacing = _numbers(source.slices[0].geometry.pixel_spacing)
        dataset.SliceThickness = _numbers((_thickness(source),))[0]
        datasets.append(dataset)
    return datasets


def _identified(source: SourceSeries, case_id: str) -> Dataset:
    from pydicom.dataset import Dataset

    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientID = shortened(case_id)
    for name in ("PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate"):
        setattr(dataset, name, "")
    dataset.StudyTime = dataset.ReferringPhysicianName = ""
    for name, text in source.patient.items():
        setattr(dataset, name, text)
    dataset.SOPClassUID, dataset.StudyInstanceUID = source.sop_class, source.study_uid
    dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = source.series_uid, source.frame_of_reference
    dataset.Rows, dataset.Columns = source.rows, source.columns
    return dataset


def _enhanced(source: SourceSeries, case_id: str) -> Dataset:
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence as Items

    geometry = source.slices[0].geometry
    dataset, shared, measures, orientation = _identified(source, case_id), Dataset(), Dataset(), Dataset()
    dataset.SOPInstanceUID, dataset.NumberOfFrames = source.slices[0].sop_uid, len(source.slices)
    measures.PixelSpacing = _numbers(geometry.pixel_spacing)
    measures.SliceThickness = _numbers((_thickness(source),))[0]
    orientation.ImageOrientationPatient = _numbers(geometry.orientation)
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = Items([measures]), Items([orientation])
    frames = []
    for entry in source.slices:
        frame, place = Dataset(), Dataset()
        place.ImagePositionPatient = _numbers(entry.geometry.position)
        frame.PlanePositionSequence = Items([place])
        frames.append(frame)
    dataset.SharedFunctionalGroupsSequence = Items([shared])
    dataset.PerFrameFunctionalGroupsSequence = Items(frames)
    return dataset


def _thickness(source: SourceSeries) -> float:
    """Millimetres of one slice: what the file says, or the distance to the next."""
    first = source.slices[0].geometry
    if first.thickness:
        return first.thickness
    first_place, two = (np.array(entry.geometry.position, dtype=np.float64) for entry in source.slices[:2])
    return float(np.linalg.norm(two - first_place))


def _numbers(values: Sequence[float] | None) -> list[Any]:
    """Decimal strings of at most 16 letters, as DICOM stores them."""
    from pydicom.valuerep import DSfloat

    return [DSfloat(value, auto_format=True) for value in values or ()]


def shortened(text: str) -> str:
    """A text as a long string may hold it: in UTF-8 too, since some programs count bytes and not letters."""
    text = text.replace("\\", "_")  # which would part it in two values
    content = text.encode("utf-8", "replace")
    return text if len(content) <= TEXT else content[: TEXT - 3].decode("utf-8", "ignore") + "…"


def uid(*parts: str) -> str:
    """A UID that is a number made of a hash (DICOM PS3.5 B.2)."""
    digest = hashlib.sha256("\n".join(parts).encode("utf-8", "surrogateescape")).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"
