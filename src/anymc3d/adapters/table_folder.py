"""A folder of scans and a table with their ids: what most people have.

A scan is found under its table's id whatever lies between: sub-folders, ``_0000``, a DICOM folder, an ending in the
table, zeros that a spreadsheet took away. Of the ways to name a scan, that under which the table knows most is taken.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from anymc3d.adapters.class_folders import MASK_NAME, scans_below
from anymc3d.adapters.findings import Findings
from anymc3d.adapters.rows import Adapted, AdaptOptions, patient_of
from anymc3d.adapters.side_tables import by_case, label_columns, read_labels
from anymc3d.data.case import default_id

_CHANNEL = re.compile(r"(.+)_\d{4}")

NAMES: Mapping[str, Callable[[Path, Path], str]] = {
    "its own name": lambda path, root: default_id(path.name),
    "its own name without _0000": lambda path, root: _without_channel(default_id(path.name)),
    "its folder": lambda path, root: path.parent.name if path.parent != root else default_id(path.name),
    "its first folder": lambda path, root: path.relative_to(root).parts[0] if path.parent != root else path.stem,
    "its path": lambda path, root: default_id("_".join(path.relative_to(root).parts)),
}
"""THE table of ways to name a scan, in the order of preference."""


def adapt_table_folder(folder: Path, options: AdaptOptions) -> Adapted:
    """One row for every scan that the table knows; the table's other columns are labels, patients, splits."""
    adapted = Adapted()
    findings = adapted.findings
    if options.labels is None:
        findings.error("the table is needed: --table labels.csv")
        return adapted
    cells = read_labels(options.labels, findings, key=options.id)
    scans = list(scans_below(folder, findings, 0))
    if options.match is not None:
        scans = [path for path in scans if re.search(options.match, str(path.relative_to(folder)))]
    if findings.has_errors or not cells:
        return adapted
    if not scans:
        findings.error(f"no scan lies in {folder}")
        return adapted
    images, masks = _apart(scans, folder)
    named = _named(images, folder, cells, findings)
    if named is None:
        return adapted
    known = by_case(cells, named, f"ids of {options.labels.name}", findings)
    lost = sorted(known.keys() - named.keys())
    tell = findings.warn_if if options.partial else findings.error_if
    tell(
        lost, "the table has a row and there is no such scan" + ("" if options.partial else "; --partial leaves it out")
    )
    findings.warn_if(sorted(named.keys() - known.keys()), "a scan has no row in the table: left out")
    for case in (name for name in known if name in named):
        row, inner = known[case], str(named[case].relative_to(folder))
        patient = patient_of(options.patient, inner, row.get("patient") or case)
        if patient is None:
            findings.error(f"--patient {options.patient!r} is not found in a scan's path", inner)
            continue
        mask_cell = {"mask": str(masks[named[case]])} if named[case] in masks else {}
        adapted.rows.append({**row, "case": case, "patient": patient, "image": str(named[case]), **mask_cell})
    adapted.labels = label_columns(known.values())
    return adapted


def _apart(scans: Sequence[Path], root: Path) -> tuple[list[Path], dict[Path, Path]]:
    """Scans, and the masks of those that have one beside them: ``case1_mask`` is that of ``case1``."""
    by_name = {path.parent / _without_channel(default_id(path.name)): path for path in scans}
    masks: dict[Path, Path] = {}
    for path in scans:
        mask_name = MASK_NAME.fullmatch(default_id(path.name))
        owner = by_name.get(path.parent / default_id(path.name)[: mask_name.start(1) - 1]) if mask_name else None
        if owner is not None and owner != path:
            masks[owner] = path
    return [path for path in scans if path not in masks.values()], masks


def _named(
    images: Sequence[Path], root: Path, table: Mapping[str, object], findings: Findings
) -> dict[str, Path] | None:
    """Scans by the name under which the table knows most of them; None (with an error) where it knows none."""
    best: dict[str, Path] = {}
    clash: list[str] = []
    for name in NAMES.values():
        ids = [name(path, root) for path in images]
        by_id = {scan_id: path for scan_id, path in zip(ids, images, strict=True) if ids.count(scan_id) == 1}
        twice = sorted({scan_id for scan_id in ids if ids.count(scan_id) > 1})
        if _hits(by_id, table) > _hits(best, table):
            best, clash = by_id, twice
    if not best:
        findings.error(
            f"no id of the table is the name of a scan (table: {_some(table)}; scans: "
            f"{_some([default_id(path.name) for path in images])}); --id COLUMN says which column names the scan"
        )
        return None
    twice = [scan_id for scan_id in clash if scan_id in table]
    findings.error_if(twice, "several scans have this id: keep one, --match chooses by path (such as _0000)")
    return best


def _hits(found: Mapping[str, Path], table: Mapping[str, object]) -> int:
    alike = by_case({name: {} for name in table}, found, "", Findings())
    return sum(name in alike for name in found)


def _some(names: Sequence[str] | Mapping[str, object]) -> str:
    return ", ".join(repr(name) for name in list(names)[:3])


def _without_channel(name: str) -> str:
    found = _CHANNEL.fullmatch(name)
    return found[1] if found else name
