"""One DICOM file's header: what is needed to order, check and decode it, with its faults in words.

Parsing is lenient, because a fault matters only where the file belongs to the chosen series. Source of the elements:
DICOM PS3.3, image plane, image pixel and modality LUT modules.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, BinaryIO

from anymc3d.data.dicom.multiframe import Frame, frames_of, rule_texts
from anymc3d.data.dicom.places import Place, length_of
from anymc3d.data.dicom.sop_classes import DIRECTORY, ENHANCED, SECONDARY, SINGLE_FRAME, is_no_image, name_of
from anymc3d.data.dicom.suv import pet_texts
from anymc3d.data.dicom.tags import HEADER_TAGS, OVERLAY_BIT_POSITIONS, Tags, short_hash, tag_of
from anymc3d.data.formats.nifti_header import VOXEL_CEILING

DEFLATED = "1.2.840.10008.1.2.1.99"
IMPLICIT = "1.2.840.10008.1.2"
NATIVE = (IMPLICIT, "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", DEFLATED)
_FIRST_PIXELS, _PIXEL_DATA = 0x7FE00008, 0x7FE00010
"""Pixels as floats, as doubles, as whole numbers."""
_PREFIX = 128
_MAGIC = b"DICM"
DICOM_START = _PREFIX + len(_MAGIC)
"""So many bytes show whether a file is DICOM."""
_PROGRAMS = (b"MZ", b"\x7fELF", b"\xfe\xed\xfa", b"\xce\xfa\xed\xfe", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe")
_MAX_DEFLATED_HEADER = 1 << 20


@dataclass(frozen=True)
class DicomFile:
    """One file's header; ``number`` counts the folder's files in the order of their names, from 1."""

    place: Place
    number: int
    size: int
    kind: str
    """``slice``, ``frames`` (enhanced), ``picture`` (no scan: screenshots, films…) or ``other`` (no image)."""
    what: str
    """The kind of object in words, such as ``Secondary Capture``."""
    has_image: bool
    """Whether it holds pixels."""
    has_place: bool
    """Whether it says where in the patient it lies."""
    sop_uid: str
    series_uid: str
    patient: str
    study: str
    frame_of_reference: str
    """Hashes; these three are equal for all slices that may be stacked."""
    modality: str
    inverted: bool
    """MONOCHROME1: large values are shown dark."""
    transfer_syntax: str
    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    padding: int | None
    """PixelPaddingValue: the stored value of pixels that hold no measurement."""
    overlay_in_pixels: bool
    tags: Mapping[str, str]
    """Keyword -> text, of the whole file; those of a frame stand with it."""
    pet: Mapping[str, str]
    """Of a PET what its SUV is computed from; never shown."""
    frames: tuple[Frame, ...]
    notes: tuple[str, ...]
    """What the user should know of it: each becomes a warning of the series."""
    faults: tuple[str, ...]
    """Why it cannot be read, in words; empty where it can."""

    @property
    def num_bytes(self) -> int:
        """Bytes of decoded pixels that the header promises."""
        return self.rows * self.columns * len(self.frames) * self.bits_allocated // 8

    @property
    def encapsulated(self) -> bool:
        """Whether the pixels are compressed, frame by frame."""
        return self.transfer_syntax not in NATIVE


def is_dicom(start: bytes) -> bool:
    """Whether a file that begins with these (132 or more) bytes is DICOM, with or without its preamble."""
    if start[_PREFIX : _PREFIX + 4] == _MAGIC:
        return True
    # Without a preamble: the first element is of group 0002 or 0008, little endian, with a small element number.
    return len(start) >= 16 and start[:2] in (b"\x02\x00", b"\x08\x00") and start[3] == 0


def read_dataset(file: BinaryIO, tags: tuple[Any, ...], *, most: int = _MAX_DEFLATED_HEADER) -> Any:
    """Parse these elements of one open file, and its pixels where ``tags`` names ``PixelData``.

    ``most``: how many bytes of a deflated file are inflated at most.

    Raises:
        whatever pydicom raises on damaged data; callers guard it.
    """
    from pydicom import filereader
    from pydicom.dataset import FileMetaDataset

    wants_pixels, past_pixels = "PixelData" in tags, False

    def stop(tag: Any, vr: str | None, length: int) -> bool:
        # What follows the pixels is padding, or another file that was appended: never taken for this one's.
        nonlocal past_pixels
        number = int(tag)  # a plain number is compared several times as fast
        is_past, past_pixels = past_pixels, past_pixels or _FIRST_PIXELS <= number <= _PIXEL_DATA
        return is_past if wants_pixels else number >= _FIRST_PIXELS

    source: Any = _Clipped(file)
    filereader.read_preamble(source, True)
    # The meta group is read by itself, because pydicom would inflate a deflated file without any limit.
    meta = filereader.read_dataset(source, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)
    syntax = str(meta.get("TransferSyntaxUID", "") or _guessed_syntax(source)).strip("\0 ")
    if syntax == DEFLATED:
        source = io.BytesIO(_inflated(source.read(-1), most, whole="PixelData" in tags))
    little = syntax != "1.2.840.10008.1.2.2"
    dataset = filereader.read_dataset(
        source, syntax == IMPLICIT, little, stop_when=stop, specific_tags=_with_overlays(tags)
    )
    dataset.reached_pixels = past_pixels
    dataset.file_meta = FileMetaDataset(meta)
    dataset.file_meta.TransferSyntaxUID = syntax
    return dataset


@lru_cache(maxsize=8)
def _with_overlays(tags: tuple[Any, ...]) -> list[Any]:
    """The elements, as pydicom counts them, and those that say of overlays in the pixels."""
    return [tag_of(tag) for tag in (*tags, *OVERLAY_BIT_POSITIONS)]


def read_header(place: Place, number: int) -> DicomFile | None:
    """Parse one file's header; None where it is not DICOM, or a directory of other files.

    Raises:
        ScanError: it cannot be opened.
        whatever pydicom raises on damaged data; callers guard it.
    """
    with place.open() as file:
        size = length_of(file)
        start = file.read(DICOM_START)
        if not is_dicom(start):
            return None
        file.seek(0)
        dataset = read_dataset(file, HEADER_TAGS)
    tags = Tags(dataset, [])
    meta = Tags(dataset.file_meta, [])
    # Anonymisers blank identifiers, even these two; the group before the dataset repeats them.
    sop_class = tags.text("SOPClassUID") or meta.text("MediaStorageSOPClassUID")
    sop_uid = tags.text("SOPInstanceUID") or meta.text("MediaStorageSOPInstanceUID")
    has_magic = start[_PREFIX:] == _MAGIC
    if sop_class == DIRECTORY or (not has_magic and not sop_class):
        return None
    return _described(tags, _FileHead(place, number, size, start if has_magic else b""), sop_class, sop_uid)


@dataclass(frozen=True)
class _FileHead:
    """A file where it lies; ``start``: its first bytes, where they are a preamble."""

    place: Place
    number: int
    size: int
    start: bytes


def _described(tags: Tags, head: _FileHead, sop_class: str, sop_uid: str) -> DicomFile:
    if not sop_class:
        tags.faults.append("SOPClassUID is missing")
    kind = _kind(sop_class, tags)
    rows, columns = (tags.integer(name) if kind != "other" else 0 for name in ("Rows", "Columns"))
    frames = frames_of(tags, kind)
    bits = [tags.integer(name) if frames else 0 for name in ("BitsAllocated", "BitsStored", "HighBit")]
    syntax = str(tags.dataset.file_meta.TransferSyntaxUID)
    file = DicomFile(
        place=head.place,
        number=head.number,
        size=head.size,
        kind=kind,
        what=name_of(sop_class),
        has_image=bool(tags.dataset.reached_pixels),
        has_place=kind != "picture" or _has_place(tags),
        sop_uid=sop_uid,
        series_uid=tags.text("SeriesInstanceUID"),
        patient=short_hash(f"{tags.text('PatientID')}\n{_spelt_alike(tags.text('PatientName'))}"),
        study=short_hash(tags.text("StudyInstanceUID")),
        frame_of_reference=short_hash(tags.text("FrameOfReferenceUID")),
        modality=_modality(tags, sop_class),
        inverted=tags.text("PhotometricInterpretation") == "MONOCHROME1",
        transfer_syntax=syntax,
        rows=rows,
        columns=columns,
        bits_allocated=bits[0],
        bits_stored=bits[1],
        high_bit=bits[2],
        signed=bool(frames) and tags.integer("PixelRepresentation") == 1,
        padding=_padding(tags) if frames else None,
        overlay_in_pixels=any(tags.dataset.get(tag) and tags.dataset[tag].value for tag in OVERLAY_BIT_POSITIONS),
        tags=rule_texts(tags),
        pet=pet_texts(tags) if _modality(tags, sop_class) == "PT" else {},
        frames=frames,
        notes=_notes(tags, head.start, sop_class, kind),
        faults=(),
    )
    return replace(file, faults=tuple(dict.fromkeys([*tags.faults, *_pixel_faults(file, tags)])))


def _kind(sop_class: str, tags: Tags) -> str:
    if sop_class in SINGLE_FRAME:
        return "slice"
    if sop_class in ENHANCED:
        return "frames"
    if is_no_image(sop_class) or (sop_class and not tags.has("Rows")):
        return "other"
    return "slice" if sop_class == SECONDARY and _has_place(tags) else "picture"


def _has_place(tags: Tags) -> bool:
    """Whether a picture says where in the patient it lies, as a slice does."""
    return all(tags.has(name) for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"))


def _padding(tags: Tags) -> int | None:
    """The stored value that stands for no measurement, as an unsigned number of the pixels' size."""
    if not tags.has("PixelPaddingValue"):
        return None
    value = tags.numbers("PixelPaddingValue", 1, required=False)
    return None if value is None else int(value[0])


def _modality(tags: Tags, sop_class: str) -> str:
    known = {**SINGLE_FRAME, **ENHANCED}
    return tags.text("Modality") or known.get(sop_class, "")


def _spelt_alike(name: str) -> str:
    return " ".join(name.replace("^", " ").casefold().split())


def _notes(tags: Tags, start: bytes, sop_class: str, kind: str) -> tuple[str, ...]:
    notes = []
    known = {**SINGLE_FRAME, **ENHANCED}.get(sop_class)
    if known in ("CT", "MR") and tags.text("Modality") not in ("", known):
        notes.append(f"Modality contradicts the kind of object (SOPClassUID), which is {known}: check the export")
    if sop_class == SECONDARY and kind == "slice":
        notes.append(
            "the files are Secondary Capture objects that have a place each: read as slices, check their source"
        )
    if tags.text("BurnedInAnnotation").upper() == "YES":
        notes.append("text is burned into the pixels, says the header (BurnedInAnnotation): it may name the patient")
    if tags.text("LossyImageCompression") == "01":
        notes.append("the pixels were compressed with loss: their values are not the scanner's")
    if start.startswith(_PROGRAMS):
        notes.append("a preamble begins like a program, not like DICOM: have the files checked before passing them on")
    return tuple(notes)


def _pixel_faults(file: DicomFile, tags: Tags) -> list[str]:
    if not file.frames:
        return []
    faults = []
    samples, colours = tags.integer("SamplesPerPixel", default=1), tags.text("PhotometricInterpretation")
    if samples != 1 or colours not in ("MONOCHROME1", "MONOCHROME2"):
        faults.append("it is a colour picture, expected one grey value per pixel")
    if tags.has("ModalityLUTSequence"):
        faults.append("its values go through a table (ModalityLUTSequence), expected RescaleSlope")
    if min(file.rows, file.columns) < 1:
        faults.append("Rows and Columns must be at least 1")
    low = file.high_bit + 1 - file.bits_stored
    if file.bits_allocated not in (8, 16, 32) or file.bits_stored < 1 or not 0 <= low < file.bits_allocated:
        faults.append("BitsAllocated, BitsStored and HighBit contradict each other")
    elif file.high_bit >= file.bits_allocated:
        faults.append("HighBit lies outside of BitsAllocated")
    if file.rows * file.columns * len(file.frames) > VOXEL_CEILING:
        faults.append(f"it claims more than {VOXEL_CEILING} voxels")
    elif not file.encapsulated and file.transfer_syntax != DEFLATED and file.num_bytes > file.size:
        faults.append(f"it promises {file.num_bytes} bytes of pixels and has {file.size}: truncated")
    return faults


def _guessed_syntax(source: _Clipped) -> str:
    """Of a file without a meta group: explicit where two capital letters follow the first tag."""
    start = source.read(6)
    source.seek(-len(start), 1)
    return "1.2.840.10008.1.2.1" if start[4:6].isalpha() and start[4:6].isupper() else IMPLICIT


def _inflated(deflated: bytes, most: int, *, whole: bool) -> bytes:
    decoder = zlib.decompressobj(-zlib.MAX_WBITS)
    content = decoder.decompress(deflated, most)
    if whole and not decoder.eof:
        raise ValueError("the deflated data are truncated, or hold more than the header promises")
    return content


class _Clipped:
    """A file of which no more is asked than it has: a hostile length would otherwise reserve gigabytes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = length_of(file)
        self.seek, self.tell = file.seek, file.tell

    def read(self, count: int = -1) -> bytes:
        """At most ``count`` bytes, all that are left where it is negative."""
        return self._file.read(min(count, self._size) if count >= 0 else -1)
