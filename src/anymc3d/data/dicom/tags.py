"""Typed access to DICOM elements: a value, or a fault in words; never an exception, never a quoted value.

Only the elements named here are ever read from a file. Of those that identify a person or an examination only a hash
is kept: no error or warning of this package holds a name, number, date or UID out of a file.
"""

from __future__ import annotations

import hashlib
import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from anymc3d.data.scan_file import scan_error
from anymc3d.errors import ScanError

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

HEADER_TAGS = (
    *RULE_TAGS,
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

# A damaged or hostile element makes pydicom raise one of these when its value is asked for.
CONVERSION_ERRORS = (
    *(ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, NotImplementedError),
    *(RecursionError, LookupError, EOFError, AssertionError),
)
_QUIET_MODULES = r"pydicom\."
_reading: ContextVar[bool] = ContextVar("reading", default=False)


class Tags:
    """Values of one dataset (or of one item of a sequence); what is missing or unreadable is noted in ``faults``."""

    def __init__(self, dataset: Any, faults: list[str]) -> None:
        self.dataset = dataset
        self.faults = faults

    def text(self, keyword: str) -> str:
        """The value as text, several parts joined by a backslash; empty where it is missing or unreadable."""
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
            self.faults.append(f"{keyword} is no whole number")
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

    def _value(self, keyword: str) -> Any:
        try:
            return self.dataset.get(keyword)
        except CONVERSION_ERRORS:
            self.faults.append(f"{keyword} is damaged")
            return None


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
        raise scan_error(str(reference), f"{what} ({type(error).__name__})") from None
    finally:
        _reading.reset(token)


def _silence_pydicom() -> None:
    # A filter that stays, rather than catch_warnings, which is not safe where several threads read.
    if not any(getattr(entry[3], "pattern", None) == _QUIET_MODULES for entry in warnings.filters):
        warnings.filterwarnings("ignore", module=_QUIET_MODULES)
    logging.getLogger("pydicom").addFilter(_not_ours)


def _not_ours(record: logging.LogRecord) -> bool:
    return not _reading.get()
