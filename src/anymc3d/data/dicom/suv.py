"""PET: the standardised uptake value (SUV, by body weight) from what the headers say of the injection.

SUV = activity concentration (Bq/ml) x body weight (g) / injected activity (Bq) at the time that the concentrations are
corrected to. Whatever that needs and a header does not say is named; nothing is assumed. The values themselves (weight,
dose, times) are never shown: they belong to a person. Source: QIBA's vendor-neutral pseudo-code for SUV by body weight,
and DICOM PS3.3 C.8.9.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from anymc3d.data.dicom.rules import Rule
from anymc3d.data.dicom.tags import INJECTION, PET_TAGS, Tags
from anymc3d.data.volume import SUV
from anymc3d.errors import UnitsError

_INJECTION_TAGS = (
    *("RadionuclideTotalDose", "RadionuclideHalfLife"),
    *("RadiopharmaceuticalStartTime", "RadiopharmaceuticalStartDateTime"),
)
_PHILIPS_SUV, _PHILIPS_ACTIVITY, _GE_SCAN_START = 0x70531000, 0x70531009, 0x0009100D
"""Of the private groups "Philips PET Private Group" and "GEMS_PETD_01"."""
_KNOWN_UNITS = ("BQML", "CNTS", "GML", "CM2ML", "PROPCNTS", "CPS", "NONE", "PCNT", "1CM", "UMOLML")
_WEIGHT_KG, _DOSE_BQ = (0.1, 500.0), (1e4, 1e11)
"""A mouse to the heaviest of patients; a dose in megabecquerel would be far below the second."""
_MOST_HALF_LIVES = 10
_GRAMS = 1000.0


@dataclass(frozen=True)
class PetUnits:
    """In what a PET series is stored, and how it becomes SUV."""

    stored: str
    """The DICOM code, such as ``BQML``."""
    factor: float | None
    """From stored units to SUV by body weight; None where it cannot be known."""
    missing: str = ""
    """Why there is no factor, naming the tag."""


@dataclass(frozen=True)
class Activity:
    """In what units a PET is read."""

    units: str
    """``SUVbw``, or the DICOM code of what is stored."""
    factor: float
    """From the stored units to these."""
    why_not_suv: str = ""
    """Where they are no SUV: why, naming the tag."""


class _Missing(Exception):
    """Something that the SUV needs is not said; the text names it."""


def pet_texts(tags: Tags) -> dict[str, str]:
    """What a header says of units and injection, as text by keyword."""
    injection = tags.item(INJECTION)
    texts = {name: tags.text(name) for name in PET_TAGS}
    texts |= {name: injection.text(name) for name in _INJECTION_TAGS} if injection else {}
    for name, tag in (
        ("PhilipsSUV", _PHILIPS_SUV),
        ("PhilipsActivity", _PHILIPS_ACTIVITY),
        ("GEScanStart", _GE_SCAN_START),
    ):
        texts[name] = tags.private(tag)
    return {name: text for name, text in texts.items() if text}


def pet_units(texts: Sequence[Mapping[str, str]]) -> PetUnits:
    """Units and SUV factor of a series, from :func:`pet_texts` of each of its files."""
    units = texts[0].get("Units", "").upper()
    stored = units if units in _KNOWN_UNITS else "other units" if units else "units that are not said"
    try:
        return PetUnits(stored, _factor(texts, _same(texts, "Units").upper()))
    except _Missing as missing:
        return PetUnits(stored, None, str(missing))


def activity_of(
    files: Sequence[Mapping[str, str]], rule: Rule, reference: Path, *, is_scaled: bool
) -> tuple[Activity, tuple[str, ...]]:
    """The units to read a PET in, and what there is to know of them.

    Args:
        files: :func:`pet_texts` of each.
        rule: ``units=raw`` asks for what is stored, ``units=suv`` for SUV or nothing.
        reference: of the scan.
        is_scaled: the files say by what to multiply their values.

    Raises:
        ScanError: SUV was asked for, and cannot be computed.
    """
    units = pet_units(files)
    missing = units.missing if is_scaled else "RescaleSlope is missing"
    if rule.units == "raw":
        return Activity(units.stored, 1.0, "raw units were asked for"), ()
    if units.factor is not None and is_scaled:
        return Activity(SUV, units.factor), ()
    raw = replace(rule, options={name: value for name, value in rule.options.items() if name != "units"})
    way = f"read it in raw units ({units.stored}) with {raw.advice('units=raw')}"
    if rule.units == "suv":
        raise UnitsError.of(reference, f"no SUV can be computed: {missing}; get it from the source, or {way}")
    note = f"PET in raw units ({units.stored}), no SUV can be computed: {missing}; where that is meant, {way}"
    return Activity(units.stored, 1.0, missing), (note,)


def _factor(texts: Sequence[Mapping[str, str]], units: str) -> float:
    if units == "GML":
        kind = _same(texts, "SUVType").upper()
        if kind not in ("", "BW"):
            raise _Missing("SUVType is not BW (body weight)")
        return 1.0
    if units == "CNTS":
        philips_factor = _positive(_same(texts, "PhilipsSUV"))
        if philips_factor is not None:
            return philips_factor
        activity = _positive(_same(texts, "PhilipsActivity"))
        if activity is None:
            raise _Missing("Units is CNTS, and Philips' SUV scale factor (7053,1000) is missing")
        return activity * _per_activity(texts)
    if units != "BQML":
        raise _Missing(f"Units is {'missing' if not units else 'none of BQML, CNTS and GML'}")
    return _per_activity(texts)


def _per_activity(texts: Sequence[Mapping[str, str]]) -> float:
    """Grams of body per becquerel that are left at the time of the scan."""
    _check_corrections(texts)
    weight = _within(texts, "PatientWeight", _WEIGHT_KG)
    dose = _within(texts, "RadionuclideTotalDose", _DOSE_BQ)
    if _same(texts, "DecayCorrection").upper() == "ADMIN":
        return weight * _GRAMS / dose
    half_life = _positive(_same(texts, "RadionuclideHalfLife"))
    if half_life is None:
        raise _Missing("RadionuclideHalfLife is missing")
    elapsed = _seconds_since_injection(texts)
    if not 0 <= elapsed <= _MOST_HALF_LIVES * half_life:
        raise _Missing(
            "the times of injection (RadiopharmaceuticalStartTime) and scan (SeriesTime) contradict each other"
        )
    return weight * _GRAMS / (dose * math.exp(-math.log(2) * elapsed / half_life))


def _check_corrections(texts: Sequence[Mapping[str, str]]) -> None:
    decay = _same(texts, "DecayCorrection").upper()
    if decay not in ("START", "ADMIN"):
        raise _Missing(f"DecayCorrection is {'missing' if not decay else 'neither START nor ADMIN'}")
    corrected = _same(texts, "CorrectedImage").upper().split("\\")
    for name in ("ATTN", "DECY"):
        if any(corrected) and name not in corrected:
            raise _Missing(f"CorrectedImage does not say {name}")


def _seconds_since_injection(texts: Sequence[Mapping[str, str]]) -> float:
    scan = _scan_start(texts)
    injected_at = _same(texts, "RadiopharmaceuticalStartDateTime")
    if injected_at:
        injected = _moment(injected_at[:8], injected_at[8:])
        if injected is None:
            raise _Missing("RadiopharmaceuticalStartDateTime is damaged")
        # Without the scan's date the hours alone count.
        return (scan - injected).total_seconds() if scan.year > 1 else _hours_later(scan, injected)
    time = _same(texts, "RadiopharmaceuticalStartTime")
    injected = _moment("", time)
    if injected is None:
        raise _Missing("RadiopharmaceuticalStartTime is missing")
    return _hours_later(scan, injected)


def _hours_later(scan: datetime, injected: datetime) -> float:
    """By the clock alone; an injection before midnight is of the day before."""
    seconds = (scan - injected.replace(year=scan.year, month=scan.month, day=scan.day)).total_seconds()
    return seconds if seconds >= 0 else seconds + timedelta(days=1).total_seconds()


def _scan_start(texts: Sequence[Mapping[str, str]]) -> datetime:
    """When the scan began: the series' time, unless that was set later, when the images were made anew."""
    acquired = [_moment(header.get("AcquisitionDate", ""), header.get("AcquisitionTime", "")) for header in texts]
    known = [moment for moment in acquired if moment is not None]
    series = _moment(_same(texts, "SeriesDate"), _same(texts, "SeriesTime"))
    first = min(known) if len(known) == len(texts) else None
    if series is not None and (first is None or series <= first):
        return series
    ge_start = _same(texts, "GEScanStart")
    if ge_start and (moment := _moment(ge_start[:8], ge_start[8:])) is not None:
        return moment
    if first is None:
        raise _Missing("SeriesTime and AcquisitionTime are missing")
    return first


def _moment(date: str, time: str) -> datetime | None:
    """A DICOM date and time; without a date on the first day there is."""
    digits = time.replace(":", "").partition("+")[0].partition("-")[0].partition(".")[0]
    fraction = time.partition(".")[2].partition("+")[0].partition("-")[0]
    if not digits.isdigit() or len(digits) not in (2, 4, 6):
        return None
    try:
        day = datetime.strptime(date.replace(".", ""), "%Y%m%d") if date else datetime(1, 1, 1)
        moment = day + timedelta(hours=int(digits[:2]), minutes=int(digits[2:4] or 0), seconds=int(digits[4:6] or 0))
    except (ValueError, OverflowError):
        return None
    return moment + timedelta(seconds=float(f"0.{fraction[:6]}") if fraction.isdigit() else 0)


def _same(texts: Sequence[Mapping[str, str]], name: str) -> str:
    """The one value that all files say; what only some say is missing."""
    values = {header.get(name, "") for header in texts}
    if len(values) > 1 and name not in ("AcquisitionDate", "AcquisitionTime"):
        raise _Missing(f"{name} differs between the slices")
    return values.pop() if values else ""


def _positive(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and number > 0 else None


def _within(texts: Sequence[Mapping[str, str]], name: str, limits: tuple[float, float]) -> float:
    text = _same(texts, name)
    number = _positive(text)
    if number is None:
        raise _Missing(f"{name} is {'missing' if not text else 'no number above 0'}")
    if not limits[0] <= number <= limits[1]:
        raise _Missing(f"{name} is not a plausible number (another unit?)")
    return number
