"""The picture of a heatmap over its scan as a secondary capture, for viewers that show neither maps nor reports.

Source: DICOM PS3.3 A.8.1 (Secondary Capture Image).
"""

from __future__ import annotations

import hashlib
import io
from datetime import datetime
from pathlib import Path

import numpy as np

from anymc3d.data.dicom.references import SourceSeries
from anymc3d.explain.dicom_sources import shortened, stand_ins, uid
from anymc3d.files import atomic
from anymc3d.pictures.colours import Colour
from anymc3d.version import __version__

SERIES_NUMBER = 9020
ENDING = ".sc.dcm"
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_COPIED = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate")
_COPIED += ("StudyTime", "ReferringPhysicianName", "StudyInstanceUID")
_DERIVED = "Heatmap of a classifier over its scan. Where it looked, not disease. Research use only."


def write_capture(path: Path, picture: Colour, source: SourceSeries, *, case: str, title: str) -> None:
    """Write a picture (rows, columns, 3; 8 bits) into the study of a series, atomically.

    The picture bears no name, so that it says so; its UIDs are made of what it shows.
    """
    from pydicom import dcmwrite
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    pixels = np.ascontiguousarray(picture, dtype=np.uint8)
    key = (case, source.series_uid, source.study_uid, title, hashlib.sha256(pixels.tobytes()).hexdigest())
    first, dataset, now = stand_ins(source, case)[0], Dataset(), datetime.now().astimezone()
    for name in _COPIED:
        setattr(dataset, name, first.get(name, ""))
    dataset.SpecificCharacterSet, dataset.SOPClassUID = "ISO_IR 192", _SECONDARY_CAPTURE
    dataset.SOPInstanceUID, dataset.SeriesInstanceUID = uid("object", "capture", *key), uid("series", "capture", *key)
    dataset.Laterality = ""  # not known here; a validator wants it where the body part may be one of a pair
    dataset.Modality, dataset.ConversionType, dataset.BurnedInAnnotation = "OT", "WSD", "NO"
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.SeriesNumber, dataset.InstanceNumber = SERIES_NUMBER, 1
    dataset.SeriesDescription, dataset.DerivationDescription = shortened(f"RESEARCH ONLY {title}"), _DERIVED
    dataset.Manufacturer = dataset.ManufacturerModelName = "anymc3d"
    dataset.SoftwareVersions, dataset.PatientOrientation = __version__, ""
    dataset.ContentDate, dataset.ContentTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    dataset.InstanceCreationDate, dataset.InstanceCreationTime = dataset.ContentDate, dataset.ContentTime
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.PixelData = _even(pixels.tobytes())
    dataset["PixelData"].VR = "OB"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    content = io.BytesIO()
    dcmwrite(content, dataset, enforce_file_format=True)
    atomic.write_bytes(path, content.getvalue())


def _even(content: bytes) -> bytes:
    return content + b"\0" * (len(content) % 2)
