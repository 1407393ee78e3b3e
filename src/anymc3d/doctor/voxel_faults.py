"""Faults that voxels show: Hounsfield units, modality, slices, intensities unlike the others.

Of one scan only the gravest of Hounsfield units, modality and intensities is reported: they are one fault seen thrice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from anymc3d.data.intensity import guess_modality, is_label_map, mismatch, summarise
from anymc3d.doctor.checks import Finding, finding_of, grouped
from anymc3d.doctor.facts import HISTOGRAM_BINS, HISTOGRAM_LOW, HISTOGRAM_STEP, VoxelFacts
from anymc3d.doctor.intensity_faults import label_by_brightness, scale_faults
from anymc3d.doctor.label_faults import Labels
from anymc3d.doctor.scans import Readable, Scan, with_voxels

SOFT_TISSUE = (-200.0, 300.0)
LITTLE = 0.01
"""Share of the voxels: a scan of a body has more soft tissue than that."""
MUCH = 0.05
AIR_FLOOR = -1100.0
PADDING_SHARE = 0.01
LEAST_TO_COMPARE = 8
_LEAVE_ONE_OUT = 200
"""In larger sets one scan does not move the 1 % and 99 % quantiles."""
_EIGHT_BITS = 255
_IN_HEADERS = ("CT", "MR", "PT")
"""Modalities that a task or a header says and that are compared."""
_WITHOUT_SCALE = ("MR", "PT")
"""Their values do not distinguish one from the other for sure."""
_SCAN_VALUES = 64
"""Fewer different values are a mask or label map, where equal and empty slices say nothing."""
_OFFSET = 1024.0


def voxel_faults(scans: Sequence[Scan], modality: str | None, labels: Labels) -> list[Finding]:
    """All checks of the voxels of one image column; ``modality`` is the task's, None where it is not known."""
    readable = with_voxels(scans)
    expected, why = expected_modality(readable, modality)
    findings, faulty = [], set()
    for entry in readable:
        findings += _slices(entry)
        fault = _rescaling(entry) if expected == "CT" else None
        fault = fault or _other_modality(entry, expected, why)
        fault = fault or (_implausible(entry) if expected == "CT" else None)
        if fault:
            findings.append(fault)
            faulty.add(entry.scan.index)
        elif expected == "CT":
            findings += _padding(entry)
    fitting = [entry for entry in readable if entry.scan.index not in faulty]
    unlike = _unlike(fitting, expected or "other")
    unlike_rows = {row for finding in unlike for row in finding.rows}
    comparable = [entry for entry in fitting if entry.scan.case.row not in unlike_rows]
    # Hounsfield units are absolute: their checks are above.
    by_scale = [] if expected == "CT" else scale_faults(comparable, labels) + label_by_brightness(readable, labels)
    return grouped(findings) + unlike + by_scale


def expected_modality(readable: Sequence[Readable], modality: str | None) -> tuple[str | None, str]:
    """What the scans of a column should be, and who says so: the task, or most of the scans."""
    if modality in _IN_HEADERS:
        return modality, "the task"
    votes = Counter(_seen_modality(entry) for entry in readable)
    usual, count = votes.most_common(1)[0] if votes else ("other", 0)
    if usual == "other" or count <= len(readable) / 2:
        return None, ""
    return usual, f"{count} of {len(readable)} scans"


def _seen_modality(entry: Readable) -> str:
    modality = entry.scan.facts.modality
    return modality if modality in _IN_HEADERS else guess_modality(entry.voxels.profile).modality


def _slices(entry: Readable) -> list[Finding]:
    voxels = entry.voxels
    if voxels.profile.distinct <= _SCAN_VALUES:
        return []
    findings = []
    for check, count, what in (
        ("constant-slices", voxels.constant_slices, "inner slices hold a single value"),
        ("duplicate-slices", voxels.duplicate_slices, "slices equal an earlier one"),
    ):
        if count:
            findings.append(_about(entry, check, f"{count} of {voxels.num_slices} {what}"))
    return findings


def share_between(voxels: VoxelFacts, low: float, high: float) -> float:
    """Share of the voxels in [low, high), in whole bins of the histogram; the padding of a scanner does not count."""
    counts = list(voxels.histogram)
    if voxels.profile.minimum < AIR_FLOOR and voxels.lowest_share >= PADDING_SHARE:
        place = int((voxels.profile.minimum - HISTOGRAM_LOW) // HISTOGRAM_STEP)
        counts[min(max(place, 0), HISTOGRAM_BINS - 1)] = 0
    first, last = (round((edge - HISTOGRAM_LOW) / HISTOGRAM_STEP) for edge in (low, high))
    total = sum(counts)
    return sum(counts[max(first, 0) : max(last, 0)]) / total if total else 0.0


def _lowest_share(voxels: VoxelFacts) -> float:
    return share_between(voxels, HISTOGRAM_LOW, -250)


def _rescaling(entry: Readable) -> Finding | None:
    """Soft tissue that is exactly one rescaling away from where it should be, or a picture of the scan."""
    voxels = entry.voxels
    profile, (low, high) = voxels.profile, SOFT_TISSUE
    # A window that was exported as a picture fills it; an organ cut out along its mask does not.
    fills = profile.minimum == 0 and _EIGHT_BITS - 5 <= profile.maximum <= _EIGHT_BITS
    if voxels.is_integer and fills and profile.distinct > _SCAN_VALUES:
        return _about(entry, "hu-windowed", f"whole numbers from {profile.minimum:g} to {profile.maximum:g}")
    unscaled = share_between(voxels, low + _OFFSET, high + _OFFSET)
    # Dense bone has as much beside it; soft tissue 1024 too high stands alone, and nothing is as low as lung or air.
    if unscaled >= MUCH and unscaled > 2 * share_between(voxels, 300, 700) and _lowest_share(voxels) < LITTLE:
        return _about(entry, "hu-offset", "soft tissue near 1024 and nothing below -250: 1024 too high")
    soft = share_between(voxels, low, high)
    shifted = share_between(voxels, low - _OFFSET, high - _OFFSET)
    air_twice = share_between(voxels, -2100, -1900)
    if soft < LITTLE and shifted >= MUCH and (air_twice >= LITTLE or profile.minimum < -1500):
        return _about(
            entry, "hu-rescaled-twice", f"soft tissue near -1024, lowest value {profile.minimum:g}: 1024 too low"
        )
    return None


def _implausible(entry: Readable) -> Finding | None:
    low, high = SOFT_TISSUE
    soft = share_between(entry.voxels, low, high)
    if soft >= LITTLE:
        return None
    return _about(entry, "hu-implausible", f"{100 * soft:.2g} % of the voxels lie between {low:g} and {high:g} HU")


def _padding(entry: Readable) -> list[Finding]:
    voxels = entry.voxels
    if voxels.profile.minimum >= AIR_FLOOR or voxels.lowest_share < PADDING_SHARE:
        return []
    text = f"the value {voxels.profile.minimum:g} fills a part of the scan"
    return [_about(entry, "hu-padding", text)]


def _other_modality(entry: Readable, expected: str | None, why: str) -> Finding | None:
    modality = entry.scan.facts.modality
    if expected is None:
        return None
    if modality in _IN_HEADERS:
        text = f"the header says {modality}, expected {expected} ({why})"
        return None if modality == expected else _about(entry, "modality-differs", text)
    profile = entry.voxels.profile
    guess = guess_modality(profile)
    both_without_scale = expected in _WITHOUT_SCALE and guess.modality in _WITHOUT_SCALE
    is_scan = profile.distinct > _SCAN_VALUES or not is_label_map(profile)
    if guess.modality == expected or both_without_scale or (guess.modality == "other" and is_scan):
        return None
    looks = guess.modality if is_scan else "a mask or label map"
    return _about(entry, "modality-differs", f"the values look like {looks}, expected {expected} ({why})")


def _unlike(readable: Sequence[Readable], modality: str) -> list[Finding]:
    """Scans whose percentiles do not fit those of the others."""
    if len(readable) < LEAST_TO_COMPARE:
        return []
    profiles = [entry.voxels.profile for entry in readable]
    common = summarise(profiles)
    findings = []
    for index, entry in enumerate(readable):
        others = common if len(profiles) > _LEAVE_ONE_OUT else summarise(profiles[:index] + profiles[index + 1 :])
        text = mismatch(entry.voxels.profile, others, modality)
        if text:
            findings.append(_about(entry, "intensity-differs", text.replace("training", "other")))
    return findings


def _about(entry: Readable, check: str, text: str) -> Finding:
    return finding_of(check, text, [entry.scan.case], entry.scan.column)
