"""Faults of masks: grids unlike the scan's, values unlike those of the other masks, regions empty or cut."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from anymc3d.data.case import Case
from anymc3d.data.mask_grid import grid_difference
from anymc3d.data.volume import ScanHeader
from anymc3d.doctor.checks import Finding, finding_of, grouped
from anymc3d.doctor.facts import Grid, MaskFacts, ScanFacts

NEARLY_ALL = 0.9
LEAST_TO_COMPARE = 5
USUAL = 0.8
MOST = 0.5

Facts = Mapping[tuple[int, str], ScanFacts]


def mask_faults(cases: Sequence[Case], scans: Facts, masks: Facts) -> list[Finding]:
    """All checks of the mask columns; both tables are by case index and column."""
    findings = []
    for (index, column), facts in masks.items():
        case = cases[index]
        if facts.error is not None and (empty := _emptiness(facts.error)):
            findings.append(finding_of(empty, "every voxel has the same value", [case], column))
        elif facts.error is not None:
            findings.append(finding_of("mask-unreadable", facts.error, [case], column))
        scan = scans.get((index, _image_of(column)))
        if scan and scan.grid and facts.grid and (text := grid_difference(_header(scan.grid), _header(facts.grid))):
            findings.append(finding_of("mask-grid", f"the mask's grid is {text}", [case], column))
    for column in sorted({column for _, column in masks}):
        of_column = {index: facts.mask for (index, name), facts in masks.items() if name == column and facts.mask}
        usual = _usual_sides(list(of_column.values()))
        if usual:
            text = f"in most of {len(of_column)} masks the region ends at the {' and '.join(usual)} border of the scan"
            findings.append(Finding("mask-at-border", text, column=column))
        for index, mask in of_column.items():
            findings += _region(cases[index], column, mask, usual)
        findings += _values(cases, of_column, column)
    return grouped(findings)


def _header(grid: Grid) -> ScanHeader:
    return ScanHeader(grid.shape, grid.matrix, grid.dtype)


def _image_of(column: str) -> str:
    return "image" + column.removeprefix("mask")


def _emptiness(error: str) -> str | None:
    """A mask of one value: of zeros it is empty, else it is the whole scan."""
    if "an empty scan" not in error:
        return None
    return "mask-empty" if error.startswith("all voxels are 0:") else "mask-whole"


def _usual_sides(masks: Sequence[MaskFacts]) -> tuple[str, ...]:
    """Sides at which most regions end: the stack simply ends there, as short-axis stacks of a heart do."""
    if len(masks) < LEAST_TO_COMPARE:
        return ()
    votes = Counter(side for mask in masks for side in mask.cut_sides)
    return tuple(side for side, count in votes.items() if count > MOST * len(masks))


def _region(case: Case, column: str, mask: MaskFacts, usual: Sequence[str]) -> list[Finding]:
    if not mask.is_integer:
        return [finding_of("mask-not-integer", "expected whole numbers from 0 on", [case], column)]
    if mask.share > NEARLY_ALL:
        return [finding_of("mask-whole", f"{100 * mask.share:.0f} % of the voxels are not 0", [case], column)]
    cut = [side for side in mask.cut_sides if side not in usual]
    if cut:
        return [finding_of("mask-cut", f"the region ends at the {' and '.join(cut)} border", [case], column)]
    return []


def _values(cases: Sequence[Case], masks: Mapping[int, MaskFacts], column: str) -> list[Finding]:
    whole = {index: mask for index, mask in masks.items() if mask.is_integer}
    if len(whole) < LEAST_TO_COMPARE:
        return []
    votes = Counter(value for mask in whole.values() for value in mask.values if value != "0")
    usual = {value for value, count in votes.items() if count >= USUAL * len(whole)}
    findings = []
    for index, mask in whole.items():
        absent = sorted(usual - set(mask.values), key=float)
        unknown = sorted((value for value in mask.values if votes[value] == 1 and value != "0"), key=float)
        if absent:
            text = f"no voxel is {' or '.join(absent)}, which {USUAL:.0%} of the masks have"
            findings.append(finding_of("mask-value-absent", text, [cases[index]], column))
        if unknown:
            text = f"the value {' and '.join(unknown[:5])} is in no other mask"
            findings.append(finding_of("mask-value-unknown", text, [cases[index]], column))
    return findings
