"""Choosing the one series of a study, and the slices of it that the rule takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from anymc3d.data.dicom.anonymised import Series, refuse_lost_places, refuse_lost_sop_uids, refuse_renamed, series_of
from anymc3d.data.dicom.consistency import (
    mixture_warnings,
    refuse_faults,
    refuse_image_types,
    refuse_mixed,
    refuse_strays,
    rescale_warnings,
    without_pictures,
)
from anymc3d.data.dicom.header import DicomFile
from anymc3d.data.dicom.inventory import Inventory
from anymc3d.data.dicom.listing import SeriesFacts, facts_of, row_of
from anymc3d.data.dicom.multiframe import Frame
from anymc3d.data.dicom.rules import Rule
from anymc3d.data.dicom.suv import Activity
from anymc3d.data.dicom.tags import short_hash
from anymc3d.data.formats.nifti_header import VOXEL_CEILING
from anymc3d.errors import SeriesError

_SHOWN_SERIES = 20
_SCANS = ("CT", "MR", "PT")


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
class ChosenSeries:
    """The slices to stack, not yet in order."""

    frames: tuple[ChosenFrame, ...]
    copies: tuple[tuple[DicomFile, DicomFile], ...]
    """(kept, left out) where two files have one SOP instance UID; their pixels must be equal."""
    modality: str
    """``CT``, ``MR``, ``PT`` or ``other``, as the headers say."""
    total: int
    """Slices of the whole series, copies included."""
    warnings: tuple[str, ...]
    activity: Activity | None = None
    """The units of a PET."""

    @property
    def files(self) -> tuple[DicomFile, ...]:
        """The files that hold the slices, each once."""
        return tuple({chosen.file.number: chosen.file for chosen in self.frames}.values())

    def only(self, indices: Sequence[int] | None) -> ChosenSeries:
        """The same with these of its slices; None = all."""
        return self if indices is None else replace(self, frames=tuple(self.frames[i] for i in indices))


@dataclass(frozen=True)
class _Entry:
    """A file and which of its frames the rule takes."""

    file: DicomFile
    frames: tuple[int, ...]


def choose_series(inventory: Inventory, rule: Rule) -> ChosenSeries:
    """Choose the one series, or the part of it, that the rule names; without a rule there must be only one.

    Raises:
        ScanError: there is none, there are several (all are listed), a file is damaged, or the files of the series
            do not belong together.
    """
    reference = inventory.reference
    series, taken_of, pictures = _fitting(inventory, rule)
    if not rule.ignore_uids:
        refuse_renamed(series, taken_of, rule, inventory)
    if len(taken_of) != 1:
        raise SeriesError.of(reference, _several(series, taken_of, rule))
    uid, entries = next(iter(taken_of.items()))
    if inventory.is_of_one and entries[0].file.kind == "slice":
        raise SeriesError.of(
            reference, "this is one DICOM file of a series; give the folder that holds the whole series"
        )
    chosen = _checked(entries, series[uid], inventory, rule)
    return replace(chosen, warnings=(*chosen.warnings, *pictures))


def fitting_series(inventory: Inventory, rule: Rule) -> tuple[str, ...]:
    """Short hashes of the series that a rule takes, whether one, none or several; pictures beside scans do not count.

    Raises:
        ScanError: a file is damaged, so that its series is unknown, or there is no scan at all.
    """
    _, entries_of, _ = _fitting(inventory, rule)
    return tuple(uid if rule.ignore_uids else short_hash(uid) for uid in entries_of)


def _fitting(inventory: Inventory, rule: Rule) -> tuple[Series, dict[str, list[_Entry]], tuple[str, ...]]:
    """All series, what the rule takes of them, and a note about pictures that were left out."""
    reference = inventory.reference
    if inventory.damaged and inventory.is_of_one:
        raise SeriesError.of(reference, "a DICOM file that is damaged, or something else under its name; get it again")
    if inventory.damaged:
        what = f"{inventory.damaged[0]}; {len(inventory.damaged)} such, so a series may lack slices"
        raise SeriesError.of(reference, f"{what}: get the files again, or move what is not a scan elsewhere")
    series = series_of(inventory, rule)
    if not series:
        raise SeriesError.of(reference, _without_scan(inventory))
    entries_of = {uid: entries for uid, files in series.items() if (entries := _entries(files, uid, rule))}
    entries_of, pictures = _without_pictures(_best(entries_of, series, rule))
    return series, entries_of, pictures


def _without_pictures(
    entries_of: dict[str, list[_Entry]],
) -> tuple[dict[str, list[_Entry]], tuple[str, ...]]:
    """What the rule takes without the series that are pictures alone (a dose page, screenshots) and have no place in
    the patient, and a note about them; all of it where nothing else is there."""
    pictures = [
        uid
        for uid, entries in entries_of.items()
        if all(entry.file.kind == "picture" and not entry.file.has_place for entry in entries)
    ]
    if not pictures or len(pictures) == len(entries_of):
        return entries_of, ()
    left = {uid: entries for uid, entries in entries_of.items() if uid not in pictures}
    return left, (f"{len(pictures)} series of pictures without a place (no scans) in the same study: left out",)


def _entries(files: Sequence[DicomFile], uid: str, rule: Rule) -> list[_Entry]:
    """The files of one series of which the rule takes something, with the frames it takes."""
    if not rule.takes_series(uid):
        return []
    entries = []
    for file in files:
        frames = tuple(index for index, frame in enumerate(file.frames) if rule.takes(frame.tags))
        if frames or (not file.frames and rule.takes(file.tags)):
            entries.append(_Entry(file, frames))
    return entries


def _best(entries_of: dict[str, list[_Entry]], series: Series, rule: Rule) -> dict[str, list[_Entry]]:
    """Of the series taken those of the rule's plane, and of those the thinnest, thickest or largest."""
    if rule.plane is None and rule.best is None:
        return entries_of
    left = best_of({uid: facts_of(uid, series[uid]) for uid in entries_of}, rule)
    return {uid: entries_of[uid] for uid in left}


def best_of(facts: Mapping[str, SeriesFacts], rule: Rule) -> list[str]:
    """Of the series of one study those that are scans of the rule's plane, and of those the thinnest, thickest or
    largest; several where they are equal."""
    left = [uid for uid, series in facts.items() if series.is_scan and rule.plane in (None, series.plane)]
    if rule.best is not None and left:
        measure = {
            "thinnest": _thinness,
            "thickest": lambda series: -_thinness(series),
            "largest": lambda series: series.slices,
        }
        values = {uid: measure[rule.best](facts[uid]) for uid in left}
        left = [uid for uid in left if values[uid] >= max(values.values()) - 1e-3]
    return left


def _thinness(facts: SeriesFacts) -> float:
    return -(facts.spacing_mm or 0.0)


def _without_scan(inventory: Inventory) -> str:
    where = "folder" if inventory.reference.is_dir() else "archive"
    if inventory.is_of_one:
        return "a DICOM object that is not an image, or not DICOM at all; give the folder of the scan"
    if inventory.images:
        ending, count = inventory.images
        kinds = f"{count} {ending} files" if count > 1 else f"one {ending} file"
        advice = f"give the files themselves, such as -i FOLDER/*{ending}" if where == "folder" else "unpack it"
        return f"no DICOM scan found in this {where}, but {kinds}: {advice}"
    if inventory.others:
        what = f"{len(inventory.others)} DICOM objects that are no scans (segmentations, reports, doses)"
        return f"no DICOM scan found in this {where}, but {what}; give the folder of the scan itself"
    return f"no DICOM scan found in this {where}; give the folder that holds one series"


def _several(series: Series, entries_of: Mapping[str, object], rule: Rule) -> str:
    """The table of the series, and how to choose one of them."""
    named = rule != Rule()
    what = f"the rule in series takes {len(entries_of)} of them" if named else "expected one series"
    rows = {uid: facts_of(uid, files) for uid, files in series.items()}
    listed = list(rows.items())[:_SHOWN_SERIES]
    table = "; ".join(row_of(facts) for _, facts in listed)
    more = f"; and {len(rows) - len(listed)} more" if len(rows) > len(listed) else ""
    return f"{what}, found {len(rows)}: {table}{more}; {_way(rows, rule)}"


def _way(rows: Mapping[str, SeriesFacts], rule: Rule) -> str:
    """Rules that choose one of these series: by words where they do, by the hash of the largest."""
    scans = {uid: facts for uid, facts in rows.items() if facts.is_scan}
    if not scans:
        return "none of them is a scan that is read"
    largest = max(scans, key=lambda uid: scans[uid].slices)
    options = Rule(options=rule.options)
    ways = [replace(options, series_hash=scans[largest].hash).advice("")]
    for plane in dict.fromkeys(facts.plane for facts in scans.values() if facts.plane):
        words = replace(options, plane=plane, best="thinnest")
        if len(_best({uid: [] for uid in scans}, {uid: rows[uid].files for uid in scans}, words)) == 1:
            ways.append(words.advice(""))
    return f"choose one with {' or '.join(ways[:3])}; --show-tags shows their numbers and descriptions on your terminal"


def _checked(entries: Sequence[_Entry], series: Sequence[DicomFile], inventory: Inventory, rule: Rule) -> ChosenSeries:
    reference = inventory.reference
    files, notes = without_pictures([entry.file for entry in entries], rule, reference)
    entries = [entry for entry in entries if entry.file in files]
    if not rule.ignore_uids:
        refuse_strays(inventory.others, files[0].series_uid, reference)
    refuse_faults(files, rule, reference)
    refuse_lost_sop_uids(files, rule, reference)
    refuse_mixed(files, rule, reference)
    unique, copies = ([*entries], ()) if rule.ignore_uids else _without_copies(entries, reference)
    frames = tuple(ChosenFrame(entry.file, index) for entry in unique for index in entry.frames)
    refuse_lost_places([chosen.frame for chosen in frames], reference)
    refuse_image_types([chosen.frame for chosen in frames], rule, reference)
    if files[0].rows * files[0].columns * len(frames) > VOXEL_CEILING:
        raise SeriesError.of(reference, f"the series claims more voxels than the limit {VOXEL_CEILING}")
    warnings = [*inventory.warnings, *notes, *dict.fromkeys(note for file in files for note in file.notes)]
    if rule.ignore_uids:
        warnings.append("UIDs do not count here: the slices are those that agree in number, description and size")
    if copies:
        warnings.append(f"{len(copies)} files are copies of others (same SOPInstanceUID): left out")
    warnings += rescale_warnings([chosen.frame for chosen in frames], files[0].modality, reference)
    warnings += mixture_warnings(files)
    return ChosenSeries(
        frames=frames,
        copies=copies,
        modality=files[0].modality if files[0].modality in _SCANS else "other",
        total=sum(len(file.frames) for file in series) - sum(len(copy.frames) for _, copy in copies),
        warnings=tuple(warnings),
    )


def _without_copies(
    entries: Sequence[_Entry], reference: Path
) -> tuple[list[_Entry], tuple[tuple[DicomFile, DicomFile], ...]]:
    first: dict[str, _Entry] = {}
    copies = []
    for entry in entries:
        known = first.setdefault(entry.file.sop_uid, entry)
        if known is entry:
            continue
        if known.file.frames != entry.file.frames:
            what = f"files {known.file.number} and {entry.file.number} in order of name are two slices"
            raise SeriesError.of(reference, f"{what} with one SOPInstanceUID; export the series again")
        copies.append((known.file, entry.file))
    return list(first.values()), tuple(copies)
