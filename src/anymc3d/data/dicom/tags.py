"""Typed access to DICOM elements: a value, or a fault in words; never an exception, never a quoted value.

Only the elements named here are ever read from a file. Of those that identify a person or an examination only a hash
is kept: no error or warning of this package holds a name, number, date or UID out of a file.
"""

from __future__ import annotations

import hashlib
import logging
import math
import struct
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

from anymc3d.errors import TRACEBACKS, ScanError

RULE_TAGS = (
    "AcquisitionNumber",
    "BodyPartExamined",
    "ContrastBolusAgent",
    "ConvolutionKernel",
    "DiffusionBValue",
    "EchoNumbers",
    "EchoTime",
    "FlipAngle",
    "ImageType",
    "InversionTime",
    "KVP",
    "Laterality",
    "Manufacturer",
    "ManufacturerModelName",
    "Modality",
    "ProtocolName",
    "RepetitionTime",
    "ScanningSequence",
    "SequenceName",
    "SeriesDescription",
    "SeriesNumber",
    "SliceThickness",
    "StackID",
    "StudyDescription",
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "TriggerTime",
)
"""What a ``series`` rule may ask for; each value is compared, and never shown."""

APART_TAGS = (
    *("AcquisitionTime", "ComplexImageComponent", "ContentTime", "DiffusionGradientOrientation"),
    *("NominalCardiacTriggerDelayTime", "ScanOptions", "SequenceVariant"),
)
"""What else may distinguish the volumes of a 4D series; no rule asks for these."""
PRIVATE_B_VALUES = (
    (0x0043, 0x39, "GEMS_PARM_01", "GE"),
    (0x0019, 0x0C, "SIEMENS MR HEADER", "SIEMENS"),
    (0x2001, 0x03, "PHILIPS IMAGING DD 001", "PHILIPS"),
    (0x0065, 0x09, "IMAGE PRIVATE HEADER", "UIH"),
)
"""Group, element, creator and maker of b values that stand in private elements alone."""
_PRIVATE_BLOCKS = (0x10, 0x11, 0x12)
_PRIVATE_TAGS = tuple(
    tag
    for group, element, _, _ in PRIVATE_B_VALUES
    for block in _PRIVATE_BLOCKS
    for tag in ((group << 16) + block, (group << 16) + (block << 8) + element)
)

PET_TAGS = (
    *("Units", "SUVType", "PatientWeight", "DecayCorrection", "CorrectedImage"),
    *("SeriesDate", "SeriesTime", "AcquisitionDate", "AcquisitionTime"),
)
INJECTION = "RadiopharmaceuticalInformationSequence"
_PRIVATE_PET_TAGS = (0x70531000, 0x70531009, 0x0009100D)

HEADER_TAGS = (
    *RULE_TAGS,
    *APART_TAGS,
    *_PRIVATE_TAGS,
    *PET_TAGS,
    INJECTION,
    *_PRIVATE_PET_TAGS,
    *("InstanceNumber", "PixelPaddingValue"),
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"),
    *("PatientID", "PatientName"),
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SpacingBetweenSlices"),
    *("RescaleSlope", "RescaleIntercept", "RescaleType", "ModalityLUTSequence"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *("BurnedInAnnotation", "LossyImageCompression"),
)
OVERLAY_BIT_POSITIONS = tuple(0x60000102 + (group << 16) for group in range(0, 0x20, 2))
"""Old files keep overlays in the unused upper bits of the pixels; this element says so."""

_PLAIN_TEXT = frozenset({"AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI"})
"""Kinds of values that are ASCII whatever the character set: read without pydicom's conversion, which takes long."""

# A damaged or hostile element makes pydicom raise one of these when its value is asked for.
CONVERSION_ERRORS = (
    *(ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, NotImplementedError),
    *(RecursionError, LookupError, EOFError, AssertionError),
)
_QUIET_MODULES = r"pydicom\."
logger = logging.getLogger(__name__)
_PYDICOM_LOGGERS = ("pydicom", "pydicom.pixels.decoders.base", "pydicom.pixels.utils")
"""All of them: what a logger passes on to those above it, their filters do not see."""
_reading: ContextVar[bool] = ContextVar("reading", default=False)


@cache
def tag_of(tag: str | int) -> Any:
    """An element as pydicom counts it; looked up by its keyword once, not in each of thousands of files."""
    from pydicom.tag import Tag

    return Tag(tag)


class Tags:
    """Values of one dataset (or of one item of a sequence); what is missing or unreadable is noted in ``faults``."""

    def __init__(self, dataset: Any, faults: list[str]) -> None:
        self.dataset = dataset
        self.faults = faults

    def text(self, keyword: str) -> str:
        """The value as text, several parts joined by a backslash; empty where it is missing or unreadable."""
        plain = self._plain(keyword)
        if plain is not None:
            return plain
        value = self._value(keyword)
        if value is None:
            return ""
        parts = value if isinstance(value, (list, tuple)) or hasattr(value, "append") else [value]
        return "\\".join(str(part).strip("\0 ") for part in parts)[:1024]

    def integer(self, keyword: str, *, default: int | None = None) -> int:
        """A whole number; a missing one is a fault unless it has a default."""
        numbers = self.numbers(keyword, 1, required=default is None)
        if numbers is None:
            return default or 0
        if numbers[0] != int(numbers[0]):
            self.faults.append(f"{keyword} is not a whole number")
        return int(numbers[0])

    def numbers(self, keyword: str, count: int, *, required: bool = True) -> tuple[float, ...] | None:
        """``count`` finite numbers; None, and a fault, where there is something else."""
        value = self._value(keyword)
        if value is None or value == "":
            if required:
                self.faults.append(f"{keyword} is missing")
            return None
        parts = value if hasattr(value, "append") else [value]
        try:
            numbers = tuple(float(part) for part in parts)
        except CONVERSION_ERRORS:
            numbers = ()
        if len(numbers) != count or not all(math.isfinite(number) for number in numbers):
            what = "a finite number" if count == 1 else f"{count} finite numbers"
            self.faults.append(f"{keyword} is not {what}")
            return None
        return numbers

    def item(self, keyword: str) -> Tags | None:
        """The first item of a sequence, if there is one."""
        items = self.items(keyword)
        return items[0] if items else None

    def items(self, keyword: str) -> list[Tags]:
        """All items of a sequence."""
        value = self._value(keyword)
        return [Tags(item, self.faults) for item in value] if value is not None and hasattr(value, "append") else []

    def has(self, keyword: str) -> bool:
        """Whether the element is there and not empty."""
        value = self._value(keyword)
        return value is not None and value != ""

    def b_value(self) -> str:
        """The b value of a diffusion image, also where it stands in a maker's private element alone; empty without."""
        text = self.text("DiffusionBValue")
        if text:
            return text
        for group, element, creator, maker in PRIVATE_B_VALUES:
            for block in _PRIVATE_BLOCKS:
                value = self._value_at((group << 16) + (block << 8) + element)
                if value is None:
                    continue
                owner = str(self._value_at((group << 16) + block) or "").strip("\0 ").upper()
                if owner == creator or (not owner and self.text("Manufacturer").upper().startswith(maker)):
                    number = _number_of(value)
                    # GE adds a thousand millions to some.
                    return "" if number is None else f"{number % 100_000:g}"
        return ""

    def _plain(self, keyword: str) -> str | None:
        """The text of a value that was not converted yet and is ASCII by its kind; None where pydicom has to look."""
        try:
            raw = self.dataset.get_item(tag_of(keyword))
            if raw is None:
                return ""
            if raw.VR not in _PLAIN_TEXT or type(raw.value) is not bytes:
                return None
            return "\\".join(part.strip("\0 ") for part in raw.value.decode("ascii").split("\\"))[:1024]
        except (*CONVERSION_ERRORS, UnicodeDecodeError):
            return None

    def private(self, tag: int) -> str:
        """The first value of an element without a keyword, as text; empty where it is missing."""
        value = self._value_at(tag)
        if isinstance(value, bytes):
            return value.decode("ascii", "ignore").strip("\0 ")
        first = value[0] if hasattr(value, "append") and len(value) else value
        return "" if first is None else str(first).strip()

    def _value_at(self, tag: int) -> Any:
        """Of an element without a keyword; None where it is missing or damaged."""
        try:
            element = self.dataset.get(tag_of(tag))
            return None if element is None else element.value
        except CONVERSION_ERRORS:
            return None

    def _value(self, keyword: str) -> Any:
        try:
            element = self.dataset.get(tag_of(keyword))
            return None if element is None else element.value
        except CONVERSION_ERRORS:
            self.faults.append(f"{keyword} is damaged")
            return None


def _number_of(value: Any) -> float | None:
    """The first number of a private value, which may be raw bytes: text, or one float."""
    if isinstance(value, bytes):
        text = value.decode("ascii", "ignore").strip("\0 ").partition("\\")[0]
        if not text.replace(".", "", 1).isdigit():
            kinds = {4: "<f", 8: "<d"}
            return float(struct.unpack(kinds[len(value)], value)[0]) if len(value) in kinds else None
        return float(text)
    first = value[0] if hasattr(value, "append") and len(value) else value
    try:
        number = float(first)
    except CONVERSION_ERRORS:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def short_hash(text: str) -> str:
    """Eight hexadecimal digits that stand for a UID or another identifier."""
    return hashlib.sha256(text.strip("\0 ").encode("utf-8", "surrogateescape")).hexdigest()[:8]


@contextmanager
def foreign_errors(reference: object, what: str) -> Iterator[None]:
    """Whatever pydicom or a decoder raises on damaged data becomes a ScanError that quotes nothing of it.

    pydicom quotes values in its exceptions, warnings and log lines, names of patients among them: the exception is
    dropped from the chain, its warnings are filtered, its log lines are held back while this package reads.
    """
    _silence_pydicom()
    token = _reading.set(True)
    try:
        yield
    except ScanError:
        raise
    except Exception as error:  # noqa: BLE001 (every kind: damaged data raise what nobody foresaw)
        # Where it arose, and not its words, which may quote what stands in the file.
        logger.log(TRACEBACKS, "%s: %s", what, type(error).__name__)
        for line in "".join(traceback.format_tb(error.__traceback__)).splitlines():
            logger.log(TRACEBACKS, "%s", line)
        raise ScanError.of(str(reference), f"{what} ({type(error).__name__}); get it again from its source") from None
    finally:
        _reading.reset(token)


def _silence_pydicom() -> None:
    # A filter that stays, rather than catch_warnings, which is not safe where several threads read.
    if not any(getattr(entry[3], "pattern", None) == _QUIET_MODULES for entry in warnings.filters):
        warnings.filterwarnings("ignore", module=_QUIET_MODULES)
    for name in _PYDICOM_LOGGERS:
        logging.getLogger(name).addFilter(_may_pass)


def _may_pass(record: logging.LogRecord) -> bool:
    """Decoders log why a frame is damaged, which quotes no tag: that is shown where this package logs as much."""
    return not _reading.get() or (record.name.startswith("pydicom.pixels") and logger.isEnabledFor(TRACEBACKS))
