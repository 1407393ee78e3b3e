"""The same scan under two ids, whatever it is stored as, and scans that are almost the same."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from anymc3d.data.case import SPLITS
from anymc3d.doctor.checks import Finding, finding_of
from anymc3d.doctor.label_faults import Labels
from anymc3d.doctor.scans import Readable

ALMOST = 0.995
"""Correlation of the signatures (16 voxels a side). Noise, 8 bits, clipping and another voxel size keep a scan above;
1.29 million pairs of different real scans (docs/doctor.md) were all below 0.98."""
NEARER = 0.5
"""And so many times nearer to each other than to the nearest quarter of the other scans: in a set that was registered
to one template all are almost the same, and only a pair that stands out is the same scan."""
QUARTER = 0.75
LEAST_TO_COMPARE = 8
"""Fewer scans do not say how alike the scans of the set are."""
_COMPARED = 512
_SCAN_VALUES = 64
"""Fewer different values are a mask: two masks may well be alike."""
_BLOCK = 512


def duplicate_faults(readable: Sequence[Readable], labels: Labels) -> list[Finding]:
    """Exact copies first; near-duplicates among what is left, one of each group of copies."""
    groups = _copies(readable)
    findings = [_copy_finding(group, labels) for group in groups if len({entry.scan.case.row for entry in group}) > 1]
    firsts = [group[0] for group in groups]
    return [finding for finding in findings if finding is not None] + _near(firsts)


def _copies(readable: Sequence[Readable]) -> list[list[Readable]]:
    """Scans that share a hash of their voxels, directly or through another one."""
    group_of: dict[str, list[Readable]] = {}
    for entry in readable:
        merged = [entry]
        for other in {id(group_of[h]): group_of[h] for h in entry.voxels.hashes if h in group_of}.values():
            merged += other
        for member in merged:
            group_of.update(dict.fromkeys(member.voxels.hashes, merged))
    unique = {id(group): group for group in group_of.values()}.values()
    ordered = [sorted(group, key=lambda entry: entry.scan.case.row) for group in unique]
    return sorted(ordered, key=lambda group: group[0].scan.case.row)


def _copy_finding(group: Sequence[Readable], labels: Labels) -> Finding | None:
    cases = {entry.scan.case.row: entry.scan.case for entry in group}
    members = list(cases.values())
    splits = sorted({case.split for case in members if case.split}, key=SPLITS.index)
    patients = {case.patient for case in members}
    centers = {case.center for case in members}
    column = group[0].scan.column
    if len(splits) > 1:
        return finding_of("same-scan-in-two-splits", f"the same voxels in {', '.join(splits)}", members, column)
    if not splits and len(patients) > 1:
        return finding_of("same-scan-two-patients", "the same voxels, so a split may put them apart", members, column)
    # Several points of interest in one scan are several rows of one patient, each with its own label.
    if len(centers) == len(members) and None not in centers:
        return None
    if _labels_differ(group, labels):
        return finding_of("same-scan-other-label", "the same voxels with different labels", members, column)
    return finding_of("same-scan-again", "the same voxels", members, column)


def _labels_differ(group: Sequence[Readable], labels: Labels) -> bool:
    values = labels.targets[[entry.scan.index for entry in group]]
    return any(len(set(column[~np.isnan(column)].tolist())) > 1 for column in values.T)


def _near(readable: Sequence[Readable]) -> list[Finding]:
    """Pairs of different patients, joined to groups."""
    scans = [entry for entry in readable if entry.voxels.profile.distinct > _SCAN_VALUES]
    partners: Mapping[int, dict[int, float]] = defaultdict(dict)
    for first, second, correlation in _alike(scans):
        if scans[first].scan.case.patient != scans[second].scan.case.patient:
            partners[first][second] = correlation
    findings = []
    grouped_already: set[int] = set()
    for first in sorted(partners):
        group = {first, *partners[first]} - grouped_already
        if len(group) > 1:
            grouped_already |= group
            members = [scans[index].scan.case for index in group]
            text = f"correlation {min(partners[first].values()):.4f} at 16 voxels a side"
            findings.append(finding_of("near-duplicate", text, members, scans[first].scan.column))
    return findings


def _alike(scans: Sequence[Readable]) -> Iterator[tuple[int, int, float]]:
    """(i, j, correlation), i < j, of every pair above the limits; block by block, so that memory stays small."""
    starts = range(0, len(scans), _BLOCK)
    blocks = {start: np.stack([entry.voxels.vector() for entry in scans[start : start + _BLOCK]]) for start in starts}
    limits = _limits(blocks, len(scans))
    for first in starts:
        for second in starts:
            if second < first:
                continue
            products = blocks[first] @ blocks[second].T
            needed = np.maximum(limits[first][:, None], limits[second][None, :])
            for i, j in np.argwhere(products >= needed).tolist():
                if first + i < second + j:
                    yield first + i, second + j, float(products[i, j])


def _limits(blocks: Mapping[int, NDArray[np.float32]], count: int) -> dict[int, NDArray[np.float32]]:
    """Of each scan the correlation from which on another one is too alike, by how alike the others are to it.

    Distances go with the root of 1 - correlation. The others are a fixed sample of at most 512 scans.
    """
    if count < LEAST_TO_COMPARE:
        return {start: np.full(len(block), ALMOST, dtype=np.float32) for start, block in blocks.items()}
    step = max(1, -(-count // _COMPARED))
    sample = np.concatenate([block[-start % step :: step] for start, block in blocks.items()])
    limits = {}
    for start, block in blocks.items():
        usual = np.quantile(block @ sample.T, QUARTER, axis=1)
        limits[start] = np.maximum(ALMOST, 1 - NEARER**2 * (1 - usual)).astype(np.float32)
    return limits
