"""Whether the files of one series belong together: one patient, one examination, one kind of object, one grey scale."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from anymc3d.data.dicom.header import DicomFile
from anymc3d.data.dicom.multiframe import Frame
from anymc3d.data.dicom.rules import Rule
from anymc3d.errors import SeriesError

_ANONYMISED = 3
"""So many files, each with a UID of its own, are the work of an anonymiser."""


def without_pictures(
    files: Sequence[DicomFile], rule: Rule, reference: Path
) -> tuple[tuple[DicomFile, ...], tuple[str, ...]]:
    """The files that are slices, and a note about pictures that were left out: such as a screenshot of the scan.

    Raises:
        ScanError: there is no scan among them, or one of the pictures has a place as a slice has.
    """
    pictures = [file for file in files if file.kind == "picture"]
    scans = tuple(file for file in files if file.kind != "picture")
    if not pictures:
        return scans, ()
    kinds = " and ".join(sorted({file.what for file in pictures}))
    if not scans:
        what = f"the series is not a CT, MR or PET scan: {kinds} objects are not read"
        raise SeriesError.of(reference, f"{what}; convert it to NIfTI, or give the folder of the scan itself")
    placed = [file for file in pictures if file.has_place or file.what in ("private", "unknown")]
    if placed:
        what = f"{len(placed)} of {len(files)} files are of another kind ({kinds}), not a CT, MR or PET scan"
        raise SeriesError.of(reference, f"{what}, and may be a damaged slice: {_leave_out(placed, scans, rule)}")
    note = f"{len(pictures)} of {len(files)} files of the series are pictures without a place ({kinds}): left out"
    return scans, (note,)


def refuse_faults(files: Sequence[DicomFile], rule: Rule, reference: Path) -> None:
    """Raise where the header of a file cannot be used. What lies nowhere and calls itself another kind of image than
    the slices (a page of doses among them) is left out on request.

    Raises:
        ScanError: see above.
    """
    faulty = [file for file in files if file.faults]
    if not faulty:
        return
    first, more = faulty[0], len(faulty[0].faults) - 1
    what = f"file {first.number} in order of name: {first.faults[0]}{f' (and {more} more faults)' if more else ''}"
    nowhere = all(frame.position is None and frame.orientation is None for file in faulty for frame in file.frames)
    advice = _leave_out(faulty, [file for file in files if not file.faults], rule)
    if nowhere and len(faulty) < len(files) and "--series" in advice:
        raise SeriesError.of(
            reference, f"{what}: {len(faulty)} of {len(files)} files are no slices by their type; {advice}"
        )
    raise SeriesError.of(reference, f"{what}; export it again")


def _leave_out(pictures: Sequence[DicomFile], scans: Sequence[DicomFile], rule: Rule) -> str:
    """How to leave some files out, by a part of ImageType that they all have and the scan has not."""

    def parts(file: DicomFile) -> set[str]:
        return set(file.tags.get("ImageType", "").split("\\"))

    if all("SECONDARY" in parts(file) for file in pictures) and not any("SECONDARY" in parts(file) for file in scans):
        return f"leave it out with {rule.advice('ImageType!=SECONDARY')}"
    return "export the series again, or move what is not a slice elsewhere"


def refuse_strays(others: Sequence[DicomFile], series_uid: str, reference: Path) -> None:
    """Raise where an object of the series calls itself no image, and holds pixels: a slice whose kind is damaged.

    Raises:
        ScanError: see above.
    """
    strays = [file for file in others if file.series_uid == series_uid and file.has_image]
    if strays:
        what = f"file {strays[0].number} in order of name belongs to the series and is not an image"
        raise SeriesError.of(reference, f"{what}: damaged, or misplaced; export the series again")


def refuse_mixed(files: Sequence[DicomFile], rule: Rule, reference: Path) -> None:
    """Raise where the files are of several patients, examinations, kinds of object or modalities; only what differs is
    named.

    Raises:
        ScanError: see above.
    """
    patients = len({file.patient for file in files})
    if patients > 1:
        what = f"one series holds {patients} patients (PatientID or PatientName)"
        if patients == len(files) >= _ANONYMISED:
            raise SeriesError.of(
                reference, f"{what}, another in each file: an anonymiser renamed them; ask for the original"
            )
        raise SeriesError.of(reference, f"{what}; expected one, put each scan in its own folder")
    if not rule.ignore_uids:
        _refuse_several_uids(files, rule, reference)
    kinds = sorted({file.what for file in files})
    scanners = sorted({file.modality for file in files} & {"CT", "MR", "PT"})
    if len(kinds) > 1 and len(scanners) == len(kinds):
        what = f"one series holds {len(kinds)} kinds of objects ({', '.join(kinds)})"
        raise SeriesError.of(reference, f"{what}; choose one with {rule.advice(f'Modality={scanners[0]}')}")
    if len(kinds) > 1:
        secondary = [file for file in files if file.what == "Secondary Capture"]
        rest = [file for file in files if file.what != "Secondary Capture"]
        what = f"one series holds {len(kinds)} kinds of objects ({', '.join(kinds)})"
        raise SeriesError.of(reference, f"{what}; expected one, {_leave_out(secondary or files, rest, rule)}")
    modalities = len({(file.modality, file.kind) for file in files})
    if modalities > 1:
        what = f"one series holds {modalities} modalities"
        raise SeriesError.of(reference, f"{what}; expected one, put each scan in its own folder")


def _refuse_several_uids(files: Sequence[DicomFile], rule: Rule, reference: Path) -> None:
    counts = {
        "StudyInstanceUIDs": len({file.study for file in files}),
        "FrameOfReferenceUIDs": len({file.frame_of_reference for file in files}),
    }
    several = {name: count for name, count in counts.items() if count > 1}
    if not several:
        return
    what = f"one series holds {' and '.join(f'{count} {name}' for name, count in several.items())}"
    if max(several.values()) == len(files) >= _ANONYMISED:
        what = f"{what}, another in each file: an anonymiser renamed them"
        raise SeriesError.of(
            reference, f"{what}; ask for the original, or read them as one with {rule.advice('uids=ignore')}"
        )
    raise SeriesError.of(reference, f"{what}; expected one, put each scan in its own folder")


def refuse_image_types(frames: Sequence[Frame], rule: Rule, reference: Path) -> None:
    """Raise where slices say that they are localizers, or pictures of many slices at once.

    Raises:
        ScanError: see above.
    """
    for word, what in (("LOCALIZER", "localizers (scouts)"), ("MOSAIC", "mosaics (many slices tiled in one picture)")):
        count = sum(word in frame.tags.get("ImageType", "").upper().split("\\") for frame in frames)
        if count and (count < len(frames) or word == "MOSAIC"):
            advice = f"leave them out with {rule.advice('ImageType!=LOCALIZER')}"
            rest = advice if word == "LOCALIZER" else "convert them to NIfTI first, for instance with dcm2niix"
            raise SeriesError.of(reference, f"{count} of {len(frames)} slices are {what}; {rest}")
        if count:
            raise SeriesError.of(reference, f"all {count} slices are {what}; give the scan itself")


def rescale_warnings(frames: Sequence[Frame], modality: str, reference: Path) -> list[str]:
    """What there is to know of the slopes and intercepts.

    Raises:
        ScanError: they are missing where they are needed.
    """
    without = sum(frame.slope is None for frame in frames)
    if without and (modality == "CT" or without < len(frames)):
        what = f"{without} of {len(frames)} slices have no RescaleSlope and RescaleIntercept"
        raise SeriesError.of(reference, f"{what}, so their units are unknown; export the series again")
    units = {frame.rescale_type.upper() for frame in frames} - {"", "HU"}
    lines = ["the values are not marked as Hounsfield units (RescaleType)"] if modality == "CT" and units else []
    if any((frame.slope or 1) < 0 for frame in frames):
        lines.append("RescaleSlope is below 0, so that bright becomes dark: check the export")
    return lines


def mixture_warnings(files: Sequence[DicomFile]) -> list[str]:
    """What may differ between the slices of one scan, and hardly ever does."""
    lines = []
    for what, kinds in (
        ("signed and unsigned numbers", {file.signed for file in files}),
        ("usual and inverted grey scales (MONOCHROME1)", {file.inverted for file in files}),
    ):
        if len(kinds) > 1:
            lines.append(f"the slices are a mixture of {what}: check that they are one scan")
    return lines
