"""Scans whose intensities lie on another scale than the others': brighter or darker by a factor, not by a unit or kind.

MR has no absolute scale, so a factor of a few says nothing. A scan many times brighter than nearly all others came
another way (another unit, a lost slope, another export); normalisation per scan hides it, and where such scans are all
of one class, a model may learn the way instead of the disease.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from anymc3d.data.case import Case
from anymc3d.doctor.checks import Finding, finding_of
from anymc3d.doctor.label_faults import Labels, outcomes
from anymc3d.doctor.scans import Readable
from anymc3d.plan.size_leak import find_leak

LEAST_TO_COMPARE = 8
TIMES = 10.0
"""Scanners and coils differ by less."""
LEAST_AUROC, LEAST_TIMES = 0.9, 2.0
"""Enhancement and atrophy change the level of a scan by less."""
FAR_SPREADS = 6.0
"""And so many robust standard deviations, on the logarithm: sets of several scanners have a spread of their own."""
_SCAN_VALUES = 64
"""Fewer different values are a mask or label map."""


def scale_faults(readable: Sequence[Readable], labels: Labels) -> list[Finding]:
    """One finding for all scans that are far brighter than the others of their column, one for all darker ones."""
    scans = [
        entry for entry in readable if entry.voxels.profile.distinct > _SCAN_VALUES and entry.voxels.profile.p995 > 0
    ]
    if len(scans) < LEAST_TO_COMPARE:
        return []
    levels = np.array([entry.voxels.profile.p995 for entry in scans])
    distance = np.log(levels) - np.median(np.log(levels))
    spread = 1.4826 * float(np.median(np.abs(distance)))
    limit = max(float(np.log(TIMES)), FAR_SPREADS * spread)
    inside = np.abs(distance) <= limit
    findings = []
    for word, chosen in (("brighter", distance > limit), ("darker", distance < -limit)):
        if chosen.any():
            text = _message(scans, levels, chosen, inside, word, labels)
            findings.append(finding_of("intensity-scale", text, _cases(scans, chosen), scans[0].scan.column))
    return findings


def label_by_brightness(readable: Sequence[Readable], labels: Labels) -> list[Finding]:
    """Whether the level of the scans alone separates the classes, by so much that no disease does it.

    Half of a set may be many times brighter than the other half: then no scan is unlike the others, and the scanner or
    the export gives the label away.
    """
    scans = [
        entry for entry in readable if entry.voxels.profile.distinct > _SCAN_VALUES and entry.voxels.profile.p995 > 0
    ]
    if labels.settings is None or len(scans) < LEAST_TO_COMPARE:
        return []
    levels = np.array([entry.voxels.profile.p995 for entry in scans])
    rows = [entry.scan.index for entry in scans]
    leak = find_leak({"99.5 % percentile": levels}, labels.targets[rows], labels.settings)
    if leak is None or leak.auroc < LEAST_AUROC:
        return []
    medians = [
        np.median(levels[has[rows] == 1]) / np.median(levels[has[rows] == 0])
        for _, _, has in outcomes(labels)
        if (has[rows] == 1).any() and (has[rows] == 0).any()
    ]
    times = max(max(ratio, 1 / ratio) for ratio in medians)
    if times < LEAST_TIMES:
        return []
    numbers = f"AUROC {leak.auroc:.2f}, at least {leak.lower:.2f}; the classes differ {times:.2g} times"
    text = f"brightness ({leak.measure}) alone predicts {leak.label}: {numbers}"
    return [Finding("label-by-brightness", text, column=scans[0].scan.column)]


def _cases(scans: Sequence[Readable], chosen: NDArray[np.bool_]) -> Iterator[Case]:
    return (entry.scan.case for entry, is_chosen in zip(scans, chosen, strict=True) if is_chosen)


def _message(
    scans: Sequence[Readable],
    levels: NDArray[np.float64],
    chosen: NDArray[np.bool_],
    inside: NDArray[np.bool_],
    word: str,
    labels: Labels,
) -> str:
    ratio = float(np.median(levels[chosen]) / np.median(levels[inside]))
    times = ratio if ratio > 1 else 1 / ratio
    count = int(chosen.sum())
    verb = "scans is" if count == 1 else "scans are"
    where = f"99.5 % percentile {_range(levels[chosen])}, the others {_range(levels[inside])}"
    what = f"{count} of {len(scans)} {verb} about {_rounded(times)} times {word}"
    return f"{what} ({where}){_one_class(scans, chosen, labels)}"


def _rounded(times: float) -> str:
    """Two digits: 240, 1,500."""
    digits = max(0, len(str(int(times))) - 2)
    return f"{round(times, -digits):,.0f}"


def _range(values: NDArray[np.float64]) -> str:
    low, high = (f"{value:,.0f}" if value >= 100 else f"{value:.3g}" for value in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"


def _one_class(scans: Sequence[Readable], chosen: NDArray[np.bool_], labels: Labels) -> str:
    """Whether all of them, and not all of the others, have one class."""
    rows = np.array([entry.scan.index for entry in scans])
    classes = []
    for column, name, has in outcomes(labels):
        of_chosen, rest = has[rows[chosen]], has[rows[~chosen]]
        if chosen.sum() > 1 and (of_chosen == 1).all() and (rest == 0).any():
            classes.append(f"{column} = {name}")
    return f"; all of them have {', '.join(classes)}" if classes else ""
