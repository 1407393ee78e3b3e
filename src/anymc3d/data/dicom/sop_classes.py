"""What a DICOM object is, by its SOP class: a scan that is read, a picture, or no image at all.

Source: DICOM PS3.4, B.5.
"""

from __future__ import annotations

STORAGE = "1.2.840.10008.5.1.4.1.1."
_STANDARD = "1.2.840.10008."
SINGLE_FRAME = {STORAGE + "2": "CT", STORAGE + "4": "MR", STORAGE + "128": "PT"}
ENHANCED = {
    STORAGE + "2.1": "CT",
    STORAGE + "2.2": "CT",
    STORAGE + "4.1": "MR",
    STORAGE + "4.4": "MR",
    STORAGE + "130": "PT",
    STORAGE + "128.1": "PT",
}
SECONDARY = STORAGE + "7"
"""Secondary Capture: a screenshot, or whatever a program without a better class wrote."""
DIRECTORY = "1.2.840.10008.1.3.10"
NOT_IMAGES = ("66", "481.", "88.", "11.", "104.", "30", "9.", "67", "68.", "78.", "79.", "131", "601.", "4.2")
"""Raw data, segmentations, plans and doses, reports, presentations, documents, maps, waveforms, spectra: made from or
beside scans."""
_NAMES = {
    "1": "Computed Radiography",
    "1.1": "Digital X-Ray",
    "1.2": "Digital Mammography X-Ray",
    "1.3": "Digital Intra-Oral X-Ray",
    "2": "CT",
    "3": "Ultrasound Multi-frame",
    "4": "MR",
    "4.3": "Enhanced MR Color",
    "5": "Nuclear Medicine",
    "6": "Ultrasound",
    "6.2": "Enhanced Ultrasound Volume",
    "7": "Secondary Capture",
    "12.1": "X-Ray Angiographic",
    "12.2": "X-Ray Radiofluoroscopic",
    "12.77": "X-Ray Angiographic Biplane",
    "13.1.1": "X-Ray 3D Angiographic (cone-beam CT)",
    "13.1.2": "X-Ray 3D Craniofacial (cone-beam CT)",
    "13.1.3": "Breast Tomosynthesis",
    "13.1.4": "Breast Projection X-Ray",
    "14.1": "Intravascular Optical Coherence Tomography",
    "14.2": "Intravascular Optical Coherence Tomography",
    "20": "Nuclear Medicine (SPECT)",
    "77.1": "Visible Light",
    "77": "Visible Light",
    "128": "PET",
    "481.1": "Radiotherapy",
}
"""Tail of a SOP class, or the beginning of one up to a dot -> its name in words."""


def name_of(sop_class: str) -> str:
    """The kind of object in words; never a UID out of the file."""
    if not sop_class.startswith(_STANDARD):
        return "private"
    parts = sop_class.removeprefix(STORAGE).split(".")
    tails = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((_NAMES[tail] for tail in tails if tail in _NAMES), "unknown")


def is_no_image(sop_class: str) -> bool:
    """Whether objects of this class hold no image of a scanner, whatever elements they have."""
    return sop_class.startswith(STORAGE) and sop_class.removeprefix(STORAGE).startswith(NOT_IMAGES)
