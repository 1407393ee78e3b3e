"""Choosing the one series of a folder, and checking that its files belong together."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anymc3d.data.dicom.header import DicomFile
from anymc3d.data.dicom.inventory import Inventory
from anymc3d.data.dicom.multiframe import Frame
from anymc3d.data.dicom.rules import Rule, parse_rule
from anymc3d.data.dicom.tags import short_hash
from anymc3d.data.nifti_header import VOXEL_CEILING
from anymc3d.data.scan_file import scan_error

_SHOWN_SERIES = 20
_SCANS = ("CT", "MR", "PT")
_KNOWN_MODALITIES = ("CT", "MR", "PT", "NM", "US", "CR", "DX", "MG", "XA", "RF", "OT", "SC")


@dataclass(frozen=True)
class ChosenFrame:
    """A slice of the chosen series: ``index`` counts the frames of its file."""

    file: DicomFile
    index: int

    @property
    def frame(self) -> Frame:
        """Its geometry and rescaling."""
        return self.file.frames[self.index]


@dataclass(frozen=True)
class _Kept:
    """A file and which of its frames the rule takes."""

    file: DicomFile
    frames: tuple[int, ...]


@dataclass(frozen=True)
class ChosenSeries:
    """The slices to stack, not yet in order."""

    frames: tuple[ChosenFrame, ...]
    copies: tuple[tuple[DicomFile, DicomFile], ...]
    """(kept, left out) where two files have one SOP instance UID; their pixels must be equal."""
    modality: str
    """``CT``, ``MR``, ``PT`` or ``other``, as the headers say."""
    warnings: tuple[str, ...]

    @property
    def files(self) -> tuple[DicomFile, ...]:
        """The files that hold the slices, each once."""
        return tuple({chosen.file.number: chosen.file for chosen in self.frames}.values())


def choose_series(inventory: Inventory, rule_text: str | None) -> ChosenSeries:
    """Choose the one series, or the part of it, that the rule names; without a rule there must be only one.

    Raises:
        ScanError: there is none, there are several (all are listed), a file is damaged, or the files of the series
            do not belong together.
    """
    folder = inventory.folder
    rule = parse_rule(rule_text, folder)
    series = _by_series(inventory.scans)
    if inventory.damaged:
        what = f"{inventory.damaged[0]}; {len(inventory.damaged)} such, so a series may lack slices"
        raise scan_error(folder, f"{what}: get the files again, or move what is no scan elsewhere")
    if not series:
        raise scan_error(folder, "no DICOM scan found in this folder; give the folder that holds one series")
    taken = {uid: kept for uid, files in series.items() if (kept := _taken(files, uid, rule))}
    if len(taken) != 1:
        what = f"the rule in series takes {len(taken)} of them" if rule_text else "expected one series"
        shown = list(series.items())[:_SHOWN_SERIES]
        table = "; ".join(_row(uid, files) for uid, files in shown)
        more = f"; and {len(series) - len(shown)} more" if len(series) > len(shown) else ""
        raise scan_error(folder, f"{what}, found {len(series)}: {table}{more}; choose with series, such as its hash")
    uid, kept = next(iter(taken.items()))
    return _checked(kept, series[uid], inventory)


def _by_series(files: Sequence[DicomFile]) -> dict[str, list[DicomFile]]:
    series: dict[str, list[DicomFile]] = defaultdict(list)
    for file in files:
        series[file.series_uid].append(file)
    return dict(series)


def _taken(files: Sequence[DicomFile], uid: str, rule: Rule) -> list[_Kept]:
    """The files of one series of which the rule takes something, with the frames it takes."""
    if not rule.takes_series(uid):
        return []
    kept = []
    for file in files:
        frames = tuple(index for index, frame in enumerate(file.frames) if rule.takes(frame.tags))
        if frames or (not file.frames and rule.takes(file.tags)):
            kept.append(_Kept(file, frames))
    return kept


def _checked(kept: Sequence[_Kept], series: Sequence[DicomFile], inventory: Inventory) -> ChosenSeries:
    folder, files = inventory.folder, [entry.file for entry in kept]
    _refuse_pictures(files, folder)
    strays = [file for file in inventory.others if file.series_uid == files[0].series_uid]
    if strays:
        what = f"file {strays[0].number} in order of name belongs to the series and is no image"
        raise scan_error(folder, f"{what}: damaged, or misplaced; export the series again")
    for file in files:
        if file.faults:
            more = f" (and {len(file.faults) - 1} more faults)" if len(file.faults) > 1 else ""
            raise scan_error(folder, f"file {file.number} in order of name: {file.faults[0]}{more}; export it again")
    _refuse_mixed(files, folder)
    unique, copies = _without_copies(kept, folder)
    frames = tuple(ChosenFrame(entry.file, index) for entry in unique for index in entry.frames)
    _refuse_image_types(frames, folder)
    if files[0].rows * files[0].columns * len(frames) > VOXEL_CEILING:
        raise scan_error(folder, f"the series claims more voxels than the limit {VOXEL_CEILING}")
    total = sum(len(file.frames) for file in series)
    chosen = sum(len(entry.frames) for entry in kept)
    warnings = [*inventory.warnings, *dict.fromkeys(note for file in files for note in file.notes)]
    if chosen < total:
        warnings.append(f"the rule in series takes {chosen} of the {total} slices of its series")
    if copies:
        warnings.append(f"{len(copies)} files are copies of others (same SOPInstanceUID): left out")
    warnings += _rescale_warnings(frames, files[0].modality, folder)
    warnings += _mixture_warnings(files)
    modality = files[0].modality if files[0].modality in _SCANS else "other"
    return ChosenSeries(frames, copies, modality, tuple(warnings))


def _refuse_pictures(files: Sequence[DicomFile], folder: Path) -> None:
    if any(file.kind == "picture" for file in files):
        what = "the series is no CT, MR or PET scan (a screenshot, a film, or another kind of picture)"
        raise scan_error(folder, f"{what}; give the folder of the scan itself")


def _refuse_mixed(files: Sequence[DicomFile], folder: Path) -> None:
    kinds: dict[str, int] = {
        "patients, studies or frames of reference": len({file.owner for file in files}),
        "modalities": len({(file.modality, file.kind) for file in files}),
        "image sizes": len({(file.rows, file.columns) for file in files}),
    }
    for what, count in kinds.items():
        if count > 1:
            raise scan_error(folder, f"one series holds {count} {what}; expected one, put each scan in its own folder")


def _refuse_image_types(frames: Sequence[ChosenFrame], folder: Path) -> None:
    for word, what in (("LOCALIZER", "localizers (scouts)"), ("MOSAIC", "mosaics (many slices tiled in one picture)")):
        count = sum(word in chosen.frame.tags.get("ImageType", "").upper().split("\\") for chosen in frames)
        if count:
            rest = "leave them out with series: 'ImageType!=LOCALIZER'" if word == "LOCALIZER" else "convert them first"
            raise scan_error(folder, f"{count} of {len(frames)} slices are {what}; {rest}")


def _without_copies(kept: Sequence[_Kept], folder: Path) -> tuple[list[_Kept], tuple[tuple[DicomFile, DicomFile], ...]]:
    first: dict[str, _Kept] = {}
    copies = []
    for entry in kept:
        known = first.setdefault(entry.file.sop_uid, entry)
        if known is entry:
            continue
        if known.file.frames != entry.file.frames:
            what = f"files {known.file.number} and {entry.file.number} in order of name are two slices"
            raise scan_error(folder, f"{what} with one SOPInstanceUID; export the series again")
        copies.append((known.file, entry.file))
    return list(first.values()), tuple(copies)


def _rescale_warnings(frames: Sequence[ChosenFrame], modality: str, folder: Path) -> list[str]:
    without = sum(chosen.frame.slope is None for chosen in frames)
    if without and (modality == "CT" or without < len(frames)):
        what = f"{without} of {len(frames)} slices have no RescaleSlope and RescaleIntercept"
        raise scan_error(folder, f"{what}, so their units are unknown; export the series again")
    units = {chosen.frame.rescale_type.upper() for chosen in frames} - {"", "HU"}
    found = ["the values are not marked as Hounsfield units (RescaleType)"] if modality == "CT" and units else []
    if any((chosen.frame.slope or 1) < 0 for chosen in frames):
        found.append("RescaleSlope is below 0, so that bright becomes dark: check the export")
    return found


def _mixture_warnings(files: Sequence[DicomFile]) -> list[str]:
    """What may differ between the slices of one scan, and hardly ever does."""
    found = []
    for what, kinds in (
        ("signed and unsigned numbers", {file.signed for file in files}),
        ("usual and inverted grey scales (MONOCHROME1)", {file.inverted for file in files}),
    ):
        if len(kinds) > 1:
            found.append(f"the slices are a mixture of {what}: check that they are one scan")
    return found


def _row(uid: str, files: Sequence[DicomFile]) -> str:
    first = files[0]
    modality = first.modality if first.modality in _KNOWN_MODALITIES else "unknown"
    kind = " (no scan)" if first.kind == "picture" else ""
    noun = "file" if len(files) == 1 else "files"
    size = f"{first.columns} x {first.rows}"
    return f"{short_hash(uid)} {modality}{kind} {size}, {_spacing(files)}, {len(files)} {noun}"


def _spacing(files: Sequence[DicomFile]) -> str:
    frames = [frame for file in files for frame in file.frames]
    if any(frame.pixel_spacing is None or frame.position is None for frame in frames) or not frames:
        return "spacing unknown"
    positions = np.array([frame.position for frame in frames])
    between = np.diff(np.unique(np.round(np.linalg.norm(positions - positions[0], axis=1), 3)))
    rows, columns = frames[0].pixel_spacing or (math.nan, math.nan)
    in_plane = f"{columns:.4g} x {rows:.4g}"
    return f"{in_plane} x {float(np.median(between)):.4g} mm" if len(between) else f"{in_plane} mm"
