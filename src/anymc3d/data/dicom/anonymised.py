"""What anonymisers do to a series: each slice in a series, a study or a frame of reference of its own, one SOP instance
UID for all, positions set to 0. It is called by its name, and read as one series where that is asked for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anymc3d.data.dicom.header import DicomFile
from anymc3d.data.dicom.inventory import Inventory
from anymc3d.data.dicom.multiframe import Frame
from anymc3d.data.dicom.rules import Rule
from anymc3d.data.dicom.tags import short_hash
from anymc3d.errors import SeriesError, SlicesError

Series = Mapping[str, Sequence[DicomFile]]
"""What distinguishes a series from others -> its files."""

_RENAMED = 3
"""So many series of one slice each, alike in all but what an anonymiser writes, are one series that it took apart."""
_BESIDE_MM, _STRAIGHT_MM = 2.0, 0.5
"""A lost place lies so far beside the stack of the others at least, of which none lies farther off than that."""


def series_of(inventory: Inventory, rule: Rule) -> dict[str, list[DicomFile]]:
    """The series of an inventory. Where the rule ignores UIDs, slices that agree in all else are one."""
    series: dict[str, list[DicomFile]] = defaultdict(list)
    if not rule.ignore_uids:
        for file in inventory.scans:
            series[file.series_uid].append(file)
        return dict(series)
    numbered = _numbered_one_by_one(inventory.scans)
    for file in inventory.scans:
        key = _alike(file)
        series[key if key in numbered else _alike(file, number=True)].append(file)
    return dict(series)


def _alike(file: DicomFile, *, number: bool = False) -> str:
    """What the slices of one series have in common beside UIDs, with or without their series number."""
    keywords = ("SeriesDescription", "StudyID", *(("SeriesNumber",) if number else ()))
    texts = (file.patient, file.what, file.modality, file.rows, file.columns, *(file.tags.get(k, "") for k in keywords))
    return short_hash("\n".join(map(str, texts)))


def _numbered_one_by_one(files: Sequence[DicomFile]) -> set[str]:
    """Of what is alike but for the series number: where each slice has a number of its own, that was renamed, too."""
    numbers: dict[str, list[str]] = defaultdict(list)
    for file in files:
        if file.kind == "slice":
            numbers[_alike(file)].append(file.tags.get("SeriesNumber", ""))
    return {
        key
        for key, instance_numbers in numbers.items()
        if len(instance_numbers) >= _RENAMED and len(set(instance_numbers)) == len(instance_numbers)
    }


def refuse_renamed(series: Series, chosen: Mapping[str, object], rule: Rule, inventory: Inventory) -> None:
    """Raise where what the rule takes is a single slice of a series that was taken apart: several such series, alike
    in all but their UIDs (and their numbers), at places one after the other.

    Raises:
        ScanError: see above.
    """
    lone = {uid: files[0] for uid, files in series.items() if len(files) == 1 and files[0].kind == "slice"}
    numbered = _numbered_one_by_one(list(lone.values()))
    groups: dict[str, set[str]] = defaultdict(set)
    for uid, file in lone.items():
        groups[_alike(file) if _alike(file) in numbered else _alike(file, number=True)].add(uid)
    for key, uids in groups.items():
        places = {lone[uid].frames[0].position for uid in uids if lone[uid].frames}
        if len(places) >= _RENAMED and set(chosen) & uids:
            where = "one place after the other" if len(places) == len(uids) else f"at {len(places)} places"
            what = f"{len(uids)} series of one slice each, {where}, with the same SeriesNumber"
            what = what.replace("the same", "another") if key in numbered else what
            ignoring = replace(rule, series_hash=None, options={**rule.options, "uids": "ignore"})
            several = len(series_of(inventory, ignoring)) > 1
            joined = replace(ignoring, series_hash=short_hash(key) if several else None).advice("")
            what = f"{what}: an anonymiser renamed them; ask for the original, or read them as one with {joined}"
            raise SeriesError.of(inventory.reference, what)
    _refuse_many_patients(lone, chosen, inventory.reference)


def _refuse_many_patients(lone: Mapping[str, DicomFile], chosen: Mapping[str, object], reference: Path) -> None:
    patients = {file.patient for file in lone.values()}
    kinds = {(file.what, file.modality, file.rows, file.columns) for file in lone.values()}
    if len(kinds) == 1 and len(patients) == len(lone) >= _RENAMED and set(chosen) == set(lone):
        what = f"{len(lone)} series of one slice each, of {len(patients)} patients (PatientID or PatientName)"
        raise SeriesError.of(reference, f"{what}: an anonymiser renamed them; ask for the original")


def refuse_lost_sop_uids(files: Sequence[DicomFile], rule: Rule, reference: Path) -> None:
    """Raise where an anonymiser left no slice a SOP instance UID of its own, or took that of a few.

    Raises:
        ScanError: see above.
    """
    if rule.ignore_uids:
        return
    lost = [file for file in files if not file.sop_uid]
    if len(files) >= _RENAMED and len({file.sop_uid for file in files}) == 1:
        what = f"all {len(files)} files have {'no' if lost else 'the same'} SOPInstanceUID: an anonymiser renamed them"
        raise SeriesError.of(reference, f"{what}; ask for the original, or read them as they are with "
                         f"{rule.advice('uids=ignore')}")  # fmt: skip
    if lost and len(files) > 1:
        what = f"{len(lost)} of {len(files)} files have no SOPInstanceUID, the first is file {lost[0].number}"
        raise SeriesError.of(reference, f"{what} in order of name; export the series again")


def refuse_lost_places(frames: Sequence[Frame], reference: Path) -> None:
    """Raise where all slices lie at one place, or some lie at (0, 0, 0) beside the stack of the others: nobody scans
    so, and anonymisers that set positions to 0 write so.

    Raises:
        ScanError: see above.
    """
    places = {frame.position for frame in frames}
    how = "it was lost, by an anonymiser for instance; ask for files with their ImagePositionPatient"
    if len(frames) > 1 and len(places) == 1:
        place = ", ".join(f"{value:g}" for value in next(iter(places)) or ())
        raise SlicesError.of(reference, f"all {len(frames)} slices are at one place ({place}): {how}")
    zero = [frame for frame in frames if frame.position and not any(frame.position)]
    others = [frame for frame in frames if frame.position and any(frame.position)]
    if zero and len({frame.orientation for frame in frames}) == 1 and _lie_beside(others, zero):
        what = f"{len(zero)} of {len(frames)} slices have the position (0, 0, 0), far from the line of the others"
        raise SlicesError.of(reference, f"{what}: {how}")


def _lie_beside(others: Sequence[Frame], zero: Sequence[Frame]) -> bool:
    """Whether the others are one straight stack, tilted or not, and the origin lies beside it."""
    turn = zero[0].orientation
    if len(others) < _RENAMED or turn is None:
        return False
    row, column = np.split(np.asarray(turn, dtype=np.float64), 2)
    positions = np.array([frame.position for frame in others], dtype=np.float64)
    along, in_plane = positions @ np.cross(row, column), positions @ np.stack([row, column], axis=1)
    if np.ptp(along) < _STRAIGHT_MM:
        return False
    line: NDArray[np.float64] = np.polynomial.polynomial.polyfit(along, in_plane, 1)
    off = np.abs(in_plane - np.polynomial.polynomial.polyval(along, line).T).max()
    return bool(off < _STRAIGHT_MM and np.abs(line[0]).max() > _BESIDE_MM)
