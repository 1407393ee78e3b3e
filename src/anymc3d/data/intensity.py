"""Intensity profiles: what range of values a scan has, what that says of its modality, and whether it fits others.

A scan of another modality, or a CT whose rescale slope and intercept were never applied, looks well to every reader
and makes every prediction worthless; its values give it away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

import numpy as np

from anymc3d.data.volume import Volume
from anymc3d.types import Modality

_SAMPLE = 500_000
_MASK_VALUES = 2
_LABEL_MAP_VALUES = 64
_CT_LOWEST, _CT_HIGHEST = -4096.0, 5000.0
_CLEARLY_NEGATIVE = -50.0
_CT_TRAINING_FLOOR = -100.0
_FEW_VALUES = 8
_MARGIN = 0.3  # of the training scans' own range, beyond their 1 % and 99 % quantiles
_FEW_SCANS = 20
_AIR = -1024.0
_OF_ONE_SCAN = ("grain",)
"""Not part of what is kept of the training scans."""
_GRAIN_SIDE, _MOST_GRAIN = 64, 0.5
_PET_TAIL, _PET_EMPTY, _SUV_RANGE = 4.0, 0.1, (1.2, 60.0)
"""How far above the 99.5 % percentile the hottest voxel lies (a bladder), where the median is of it, and what that
percentile is in SUV."""
_OTHER_UNIT = 20.0
_LEVEL_SCANS = 25
"""Training scans from which on a level that none of them comes near says that a scan came another way."""
_MOST_OUTSIDE = 2  # of seven percentiles; a crop or an implant moves one or two, another unit moves nearly all


@dataclass(frozen=True)
class IntensityProfile:
    """Percentiles in raw units (HU for CT): ``p005`` is the 0.5 % and ``p995`` the 99.5 % percentile.

    Minimum and maximum are of all voxels; the rest is of an even sample of at most half a million.
    """

    minimum: float
    p005: float
    p05: float
    p25: float
    p50: float
    p75: float
    p95: float
    p995: float
    maximum: float
    distinct: int
    """Different values in the sample: 2 for a mask, a few for a label map, hundreds for a scan."""
    grain: float = 0.0
    """Share of neighbours that differ, of those that are not both the lowest value: small in a label map, whose regions
    are of one value each, large in a scan, however few values it has."""


class ModalityGuess(NamedTuple):
    """A modality and why it was taken for that."""

    modality: Modality
    reason: str


_PERCENTILES = {"p005": 0.5, "p05": 5.0, "p25": 25.0, "p50": 50.0, "p75": 75.0, "p95": 95.0, "p995": 99.5}


def profile(volume: Volume) -> IntensityProfile:
    """Measure a volume; the same numbers on every machine."""
    voxels = volume.voxels
    # One step for all axes, so that the sample does not depend on the order in which they are stored.
    step = max(1, int(np.ceil((voxels.size / _SAMPLE) ** (1 / 3))))
    sample = voxels[::step, ::step, ::step]
    values = np.percentile(sample, list(_PERCENTILES.values()))
    named = {name: float(value) for name, value in zip(_PERCENTILES, values, strict=True)}
    return IntensityProfile(
        minimum=float(voxels.min()),
        maximum=float(voxels.max()),
        distinct=len(np.unique(sample)),
        grain=_grain(volume),
        **named,
    )


def _grain(volume: Volume) -> float:
    """Of pairs along every axis, in the middle of the scan; the same for every order and direction of the axes."""
    lowest, pairs, differ = volume.voxels.min(), 0, 0
    margins = [max(0, (count - _GRAIN_SIDE) // 2) for count in volume.shape]
    block = volume.voxels[tuple(slice(m, count - m) for m, count in zip(margins, volume.shape, strict=True))]
    for axis in range(3):
        ahead, behind = np.moveaxis(block, axis, 0)[1:], np.moveaxis(block, axis, 0)[:-1]
        counted = (ahead > lowest) | (behind > lowest)
        pairs += int(counted.sum())
        differ += int((counted & (ahead != behind)).sum())
    return differ / pairs if pairs else 0.0


def is_label_map(scan_profile: IntensityProfile) -> bool:
    """A few whole numbers from 0 in regions of one value each; a scan of few values has none of these."""
    few = (
        scan_profile.distinct <= _LABEL_MAP_VALUES
        and scan_profile.minimum == 0
        and float(scan_profile.maximum).is_integer()
    )
    return few and scan_profile.grain < _MOST_GRAIN


def guess_modality(scan_profile: IntensityProfile) -> ModalityGuess:
    """CT by its Hounsfield range, PET by a nearly empty field with a few hot voxels or by the range of SUV, MR by other
    values that begin at zero; masks and whatever else are ``other``."""
    span = f"{_short(scan_profile.p005)} to {_short(scan_profile.p995)}"
    if scan_profile.distinct <= _MASK_VALUES:
        return ModalityGuess("other", f"only {scan_profile.distinct} different values: a mask, not intensities")
    if is_label_map(scan_profile):
        return ModalityGuess(
            "other", f"only {scan_profile.distinct} different values from 0: a label map, not intensities"
        )
    if _looks_like_hounsfield(scan_profile):
        return ModalityGuess("CT", f"values from {span}, clearly below zero: Hounsfield units")
    if _looks_like_pet(scan_profile):
        reach = f"values from {span}, as far as {_short(scan_profile.maximum)}"
        return ModalityGuess("PT", f"{reach}: activity or SUV of PET, by their looks")
    if scan_profile.p995 > 0 and scan_profile.p005 >= -0.05 * scan_profile.p995:
        return ModalityGuess("MR", f"values from {span}, none clearly below zero: not Hounsfield units")
    return ModalityGuess("other", f"values from {span}: neither Hounsfield units nor counts from zero")


def summarise(profiles: Sequence[IntensityProfile]) -> dict[str, Any]:
    """The range of some scans, JSON-ready: of each field the 1 % quantile, the median and the 99 % quantile.

    Raises:
        ValueError: there are no profiles.
    """
    if not profiles:
        raise ValueError("profiles: expected at least one, got none")
    rows = [asdict(profile) for profile in profiles]
    summary: dict[str, Any] = {"num_scans": len(rows)}
    for name in (field.name for field in fields(IntensityProfile) if field.name not in _OF_ONE_SCAN):
        low, median, high = np.quantile([row[name] for row in rows], [0.01, 0.5, 0.99])
        summary[name] = {"low": float(low), "median": float(median), "high": float(high)}
    return summary


def mismatch(scan_profile: IntensityProfile, training: Mapping[str, Any], modality: str) -> str | None:
    """One line where a scan's values do not fit those of the training scans, with both profiles; None where they do.

    ``training``: what :func:`summarise` returned. Only differences of kind are reported (other units, other modality, a
    mask), never a scan that is a few times brighter or darker: MR has no absolute scale. A scan twenty times beyond all
    training scans came another way.
    """
    absolute = {"CT": _hounsfield_mismatch, "PT": _activity_mismatch}.get(modality, _level_mismatch)
    reason = _kind_mismatch(scan_profile, training) or absolute(scan_profile, training)
    if reason is None:
        return None
    names = ("p005", "p50", "p995")
    scan_text = " / ".join(_short(getattr(scan_profile, name)) for name in names)
    theirs = " / ".join(f"{_short(training[name]['low'])}..{_short(training[name]['high'])}" for name in names)
    return (
        f"intensities do not fit the {modality} training scans: {reason}; 0.5 % / 50 % / 99.5 % percentiles: "
        f"this scan {scan_text}, training {theirs} ({training['num_scans']} scans)"
    )


def _looks_like_pet(scan_profile: IntensityProfile) -> bool:
    """Nothing below zero, most of the field nearly empty, and a few voxels far above all others; or SUV by its range.

    Brain PET in Bq/ml has the histogram of an MR: nobody can distinguish the two by their values.
    """
    if scan_profile.p995 <= 0 or scan_profile.minimum < -0.01 * scan_profile.p995:
        return False
    has_tail = (
        scan_profile.maximum > _PET_TAIL * scan_profile.p995 and scan_profile.p50 < _PET_EMPTY * scan_profile.p995
    )
    is_whole = float(scan_profile.maximum).is_integer()
    low, high = _SUV_RANGE
    return has_tail or (
        not is_whole and low <= scan_profile.p995 <= high and scan_profile.p50 < 0.5 * scan_profile.p995
    )


def _looks_like_hounsfield(scan_profile: IntensityProfile) -> bool:
    """Air or fat below zero, bone and contrast above it; phase images reach as far down as up."""
    in_range = scan_profile.p005 >= _CT_LOWEST and scan_profile.p995 <= _CT_HIGHEST
    symmetric = (
        scan_profile.p995 > 0
        and abs(scan_profile.p005 + scan_profile.p995) < 0.05 * scan_profile.p995
        and scan_profile.p995 > 1500
    )
    return in_range and not symmetric and scan_profile.p005 <= _CLEARLY_NEGATIVE and scan_profile.p995 > -500


def _kind_mismatch(scan_profile: IntensityProfile, training: Mapping[str, Any]) -> str | None:
    usual = training["distinct"]
    is_flat = scan_profile.distinct <= _MASK_VALUES or (
        scan_profile.distinct <= _FEW_VALUES and scan_profile.grain < _MOST_GRAIN
    )
    if is_flat and usual["low"] > 4 * _FEW_VALUES:
        return f"it has only {scan_profile.distinct} different values, like a mask"
    if scan_profile.distinct > _LABEL_MAP_VALUES and usual["high"] <= _FEW_VALUES:
        return f"it has {scan_profile.distinct} different values, the training scans at most {_short(usual['high'])}"
    return None


def _hounsfield_mismatch(scan_profile: IntensityProfile, training: Mapping[str, Any]) -> str | None:
    """Hounsfield units are absolute: the floor must be where the training scans have it, and so must the whole."""
    floor = training["p005"]["high"]
    if floor <= _CT_TRAINING_FLOOR / 2 and scan_profile.p005 > max(floor / 4, _CLEARLY_NEGATIVE / 2):
        return "no values clearly below zero (rescale slope and intercept not applied, or not CT?)"
    outside = [name for name in _PERCENTILES if _is_outside(getattr(scan_profile, name), training, name)]
    if len(outside) > _MOST_OUTSIDE:
        return f"{len(outside)} of {len(_PERCENTILES)} percentiles are far outside (another unit or modality?)"
    return None


def _negative_mismatch(scan_profile: IntensityProfile, training: Mapping[str, Any]) -> str | None:
    """Values far below anything in training, measured by the training scans' own range: Hounsfield units, say."""
    span = training["p995"]["median"] - training["p005"]["median"]
    lowest = training["p005"]["low"]
    if scan_profile.p005 < lowest - 0.05 * span and _looks_like_hounsfield(scan_profile) and lowest > _CLEARLY_NEGATIVE:
        return "values clearly below zero (a CT in Hounsfield units?)"
    return None


def _level_mismatch(scan_profile: IntensityProfile, training: Mapping[str, Any]) -> str | None:
    """Another export of an MR is hundreds of times brighter or darker; another scanner is not.

    Of few training scans nothing is said: a set may hold several exports, of which the rarer ones were not drawn
    (docs/predictions.md has the rate of false alarms).
    """
    below_zero = _negative_mismatch(scan_profile, training)
    times = _times_beyond(scan_profile, training)
    enough = training["num_scans"] >= _LEVEL_SCANS and scan_profile.distinct > _LABEL_MAP_VALUES
    if below_zero is None and enough and times is not None:
        return f"values {times} times those of the training scans (another unit, scaling or export?)"
    return below_zero


def _activity_mismatch(scan_profile: IntensityProfile, training: Mapping[str, Any]) -> str | None:
    """PET in another unit is hundreds of times brighter or darker; another patient is not."""
    below_zero = _negative_mismatch(scan_profile, training)
    times = _times_beyond(scan_profile, training)
    if below_zero is None and times is not None:
        return f"values {times} times those of the training scans (SUV and Bq/ml exchanged?)"
    return below_zero


def _times_beyond(scan_profile: IntensityProfile, training: Mapping[str, Any]) -> str | None:
    """How many times the level of the training scans a scan has, where that is far beyond their own range."""
    low, high = training["p995"]["low"], training["p995"]["high"]
    far = scan_profile.p995 > _OTHER_UNIT * high or scan_profile.p995 < low / _OTHER_UNIT
    return _short(scan_profile.p995 / training["p995"]["median"]) if far and min(low, scan_profile.p995) > 0 else None


def _is_outside(value: float, training: Mapping[str, Any], name: str) -> bool:
    # Below air there is only the padding of some scanners, which says nothing of the scan.
    middle, low, high = (max(training[name][key], _AIR) for key in ("median", "low", "high"))
    span = max(training["p95"]["median"] - max(training["p05"]["median"], _AIR), 100.0)
    # The quantiles of a few scans say little of what the next one may be: less than their own spread is no surprise.
    margin = _MARGIN * span + (max(high - middle, middle - low) if training["num_scans"] < _FEW_SCANS else 0.0)
    return not low - margin <= max(value, _AIR) <= high + margin


def _short(value: float) -> str:
    return f"{value:.4g}"
