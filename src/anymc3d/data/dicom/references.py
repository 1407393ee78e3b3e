"""What a new DICOM object must say of the series that it was made from: which slices, where they lie, whose they are.

The reader keeps identifiers to itself. This module is the one way out for them, and only objects that are written
into the same study (``anymc3d explain --dicom``) may use it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from anymc3d.data.dicom.header import DicomFile, read_dataset
from anymc3d.data.dicom.multiframe import Frame
from anymc3d.data.dicom.read import LEAVE_OUT, chosen_slices
from anymc3d.data.dicom.tags import Tags, foreign_errors
from anymc3d.errors import ScanError

PATIENT_TAGS = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("AccessionNumber", "StudyID", "StudyDate", "StudyTime", "StudyDescription", "ReferringPhysicianName"),
)
"""What an archive files a study by, and shows of it."""
_UIDS = ("SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
_CHARACTERS = "SpecificCharacterSet"


@dataclass(frozen=True, eq=False)
class SourceSlice:
    """One slice of the source; ``frame_number`` counts from 1 in an enhanced file, and is None in a file per slice."""

    sop_uid: str
    frame_number: int | None
    geometry: Frame


@dataclass(frozen=True, eq=False)
class SourceSeries:
    """The series behind a volume. ``slices``: in the order of the volume's third axis, as DICOM says them (LPS)."""

    sop_class: str
    study_uid: str
    series_uid: str
    frame_of_reference: str
    rows: int
    columns: int
    slices: tuple[SourceSlice, ...]
    patient: Mapping[str, str] = field(default_factory=dict)
    """Keyword of :data:`PATIENT_TAGS` -> text; empty unless it was asked for."""

    @property
    def is_enhanced(self) -> bool:
        """Whether all slices lie in one file."""
        return self.slices[0].frame_number is not None


def source_series(
    folder: Path, series: str | None = None, *, with_patient: bool = False, resampled: bool = False
) -> SourceSeries:
    """Read the headers of the series that :func:`anymc3d.data.dicom.read.read_dicom` reads, slice by slice.

    ``resampled``: also where the volume is resampled, so that its slices are others than those of the series.

    Raises:
        ScanError: as ``read_dicom_header``; or identifiers are missing, so that nothing can refer to the series.
    """
    with (
        foreign_errors(folder, "the series cannot be read"),
        chosen_slices(folder, series, resampled=resampled) as slices,
    ):
        first = slices[0].file
        files = {entry.file.number for entry in slices}
        if first.kind == "frames" and len(files) > 1:
            what = f"the series lies in {len(files)} enhanced (multi-frame) files"
            raise ScanError.of(folder, f"{what}, and a DICOM object can be made of one such file; {LEAVE_OUT}")
        uids, patient = _identifiers(first, with_patient)
        missing = [name for name in _UIDS if not uids[name]]
        if missing:
            what = f"the files have no {', '.join(missing)}, so no DICOM object can refer to them"
            raise ScanError.of(folder, f"{what}; {LEAVE_OUT}")
        return SourceSeries(
            sop_class=uids["SOPClassUID"],
            study_uid=uids["StudyInstanceUID"],
            series_uid=uids["SeriesInstanceUID"],
            frame_of_reference=uids["FrameOfReferenceUID"],
            rows=first.rows,
            columns=first.columns,
            slices=tuple(
                SourceSlice(entry.file.sop_uid, entry.index + 1 if first.kind == "frames" else None, entry.frame)
                for entry in slices
            ),
            patient=patient,
        )


def _identifiers(file: DicomFile, with_patient: bool) -> tuple[dict[str, str], dict[str, str]]:
    """UIDs, and what says whose the study is; all files of a series agree in them (the reader has checked it)."""
    wanted = (*_UIDS, _CHARACTERS, *(PATIENT_TAGS if with_patient else ()))
    with file.place.open() as opened:
        tags = Tags(read_dataset(opened, wanted), [])
    meta = Tags(tags.dataset.file_meta, [])
    uids = {name: tags.text(name) for name in _UIDS}
    uids["SOPClassUID"] = uids["SOPClassUID"] or meta.text("MediaStorageSOPClassUID")
    patient = {name: text for name in PATIENT_TAGS if with_patient and (text := tags.text(name))}
    return uids, patient
