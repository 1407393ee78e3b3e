"""What lies in a folder, an archive, or one file: DICOM with its headers, and whether anything is damaged or foreign.

No reference in a file is followed (a DICOMDIR is no file of a scan), no link that leaves the folder is opened, and a
file that should be a slice but cannot be read is remembered: which series it belonged to is unknown.
"""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from anymc3d.data.dicom.archive import MAX_FILES, opened_archive
from anymc3d.data.dicom.header import DicomFile, read_header
from anymc3d.data.dicom.places import OnDisk, Place
from anymc3d.data.dicom.tags import foreign_errors, short_hash
from anymc3d.errors import MissingScanError, ScanError

MAX_DEPTH = 16
ARCHIVE = ".zip"
_DICOM_NAMES = (".dcm", ".dicom", ".ima", ".dc3")
_SCAN_NAMES = (*(".nii", ".nii.gz", ".mha", ".mhd", ".nrrd", ".nhdr", ".hdr", ".mgz", ".mgh", ".npy", ".zip"),)
_IMAGE_NAMES = (
    *(".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".img", ".npz", ".7z", ".tar", ".gz"),
    *_SCAN_NAMES,
)
_WRAPPED = (".gz", ".bz2", ".xz", ".zst", ".part", ".partial", ".crdownload", ".download", ".tmp")
"""What copying and compressing add to the name of a slice, which then is no DICOM any more."""
_DIRECTORY = "DICOMDIR"
_COUNTERS = re.compile(r"[0-9a-fA-F]+")


@dataclass(frozen=True)
class Inventory:
    """The files of a folder and its sub-folders, of an archive, or one file."""

    reference: Path
    scans: tuple[DicomFile, ...]
    """Slices and enhanced files, and pictures, of every series; in the order of their names."""
    others: tuple[DicomFile, ...]
    """What is DICOM and no image: segmentations, reports, doses."""
    damaged: tuple[str, ...]
    """What is wrong with each file that should be DICOM and whose series cannot be known."""
    warnings: tuple[str, ...]
    images: tuple[str, int] | None = None
    """What else could be a scan: the commonest ending of a scan, and how many files have it."""

    is_of_one: bool = False
    """Whether one file was given by itself."""


@contextmanager
def opened_inventory(reference: Path) -> Iterator[Inventory]:
    """Find every file in a folder or archive, or take the one file, and read the headers of those that are DICOM; while
    it is open their pixels can be read.

    Raises:
        ScanError: the folder or archive cannot be listed, is too large, or holds a link that leads out of it.
    """
    if reference.is_dir():
        paths = sorted(_files(reference))
        yield _take_inventory(reference, [OnDisk(path) for path in paths])
    elif reference.name.lower().endswith(ARCHIVE):
        with opened_archive(reference) as members:
            yield _take_inventory(
                reference, [member for member in members if not _is_passed_over(member.info.filename)]
            )
    else:
        yield replace(_take_inventory(reference, [OnDisk(reference)]), is_of_one=True)


def _take_inventory(reference: Path, places: Sequence[Place]) -> Inventory:
    files: list[DicomFile] = []
    damaged: list[str] = []
    foreign: dict[int, Place] = {}
    for number, place in enumerate(places, start=1):
        try:
            with foreign_errors(reference, f"file {number} in order of name is damaged"):
                file = read_header(place, number)
        except ScanError:
            damaged.append(f"file {number} in order of name is a damaged DICOM file, or cannot be opened")
            continue
        if file is None:
            foreign[number] = place
        else:
            files.append(file)
    files, without_series = _grouped(files)
    damaged += without_series
    patterns = {_COUNTERS.sub("#", file.place.name) for file in files}
    expected = [number for number, place in foreign.items() if _named_like_dicom(place.name, patterns)]
    damaged += [f"file {number} in order of name is named like DICOM and is not" for number in expected]
    images = [_image_ending(place.name) for number, place in foreign.items() if number not in expected]
    images = [ending for ending in images if ending]
    others = tuple(file for file in files if file.kind == "other")
    scans = tuple(file for file in files if file.kind != "other")
    return Inventory(reference, scans, others, tuple(damaged), _notes(len(images), len(others)), _commonest(images))


def _image_ending(name: str) -> str:
    """How a file ends that looks like an image or archive; of ``a.nii.gz`` the whole."""
    return max((ending for ending in _IMAGE_NAMES if name.lower().endswith(ending)), key=len, default="")


def _commonest(endings: Sequence[str]) -> tuple[str, int] | None:
    scans = Counter(ending for ending in endings if ending in _SCAN_NAMES)
    return scans.most_common(1)[0] if scans else None


def _grouped(files: list[DicomFile]) -> tuple[list[DicomFile], list[str]]:
    """Files without a series UID: where no file has one (some anonymisers blank them) other tags stand for it."""
    lone = [file for file in files if not file.series_uid and file.kind != "other"]
    blanked = len(lone) == sum(file.kind != "other" for file in files)
    lost = [file for file in lone if file.faults or not blanked]
    lone_numbers, lost_numbers = ({file.number for file in files} for files in (lone, lost))
    faults = [f"file {file.number} in order of name is DICOM without a SeriesInstanceUID" for file in lost]
    note = "the files have no SeriesInstanceUID: distinguished by series number, description and examination"
    with_series = []
    for file in files:
        if file.number in lone_numbers - lost_numbers:
            group = [
                file.patient,
                file.study,
                file.frame_of_reference,
                file.modality,
                *(file.tags.get(k, "") for k in ("SeriesNumber", "SeriesDescription")),
            ]
            file = replace(file, series_uid=short_hash("\n".join(group)), notes=(*file.notes, note))
        if file.number not in lost_numbers:
            with_series.append(file)
    return with_series, faults


def _named_like_dicom(name: str, patterns: set[str]) -> bool:
    """By its ending, or because its name is that of a DICOM file of the folder but for the counters in it; also where
    it was compressed (``IM7.dcm.gz``) or not copied to its end."""
    name = PurePath(name).stem if PurePath(name).suffix.lower() in _WRAPPED else name
    pattern = _COUNTERS.sub("#", name)
    return name.lower().endswith(_DICOM_NAMES) or ("#" in pattern and pattern in patterns)


def _notes(images: int, others: int) -> tuple[str, ...]:
    notes = []
    if images:
        notes.append(f"{images} files in the folder look like images or archives and are not DICOM: ignored")
    if others:
        notes.append(f"{others} DICOM objects in the folder are not scans (segmentations, reports, doses): ignored")
    return tuple(notes)


def _files(folder: Path) -> list[Path]:
    paths: list[Path] = []
    root = folder.resolve()
    for path in _walk(folder, folder, 0):
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            # A link that stays inside leads to a file that is found anyway.
            if not path.resolve().is_relative_to(root):
                raise MissingScanError.of(
                    folder, "a symbolic link in the folder leads out of it; copy the files themselves"
                )
            continue
        paths.append(path)
        if len(paths) > MAX_FILES:
            raise MissingScanError.of(folder, f"more than {MAX_FILES} files; give the folder of one series")
    return paths


def _walk(folder: Path, at: Path, depth: int) -> Iterator[Path]:
    """Every entry that is no folder; hidden ones and a DICOMDIR are no files of a scan."""
    if depth > MAX_DEPTH:
        raise MissingScanError.of(folder, f"folders nested deeper than {MAX_DEPTH}; give the folder of one series")
    try:
        entries = sorted(os.scandir(at), key=lambda entry: entry.name)
    except OSError as error:
        raise MissingScanError.of(
            folder, f"a folder cannot be listed ({error.strerror}); check the path and its rights"
        ) from None
    for entry in entries:
        if _is_passed_over(entry.name):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(folder, Path(entry.path), depth + 1)
        else:
            yield Path(entry.path)


def _is_passed_over(name: str) -> bool:
    """Hidden files and folders (and what macOS packs beside the files), and a DICOMDIR."""
    parts = name.split("/")
    return parts[-1].upper() == _DIRECTORY or any(part.startswith(".") or part == "__MACOSX" for part in parts)
