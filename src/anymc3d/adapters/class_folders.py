"""One folder per class: ``<class>/<scan>``, ``<split>/<class>/<scan>`` or ``<class>/<split>/<scan>``.

The class folder's name is the label. Folders without a scan are left out before it is decided which folder is what.

A scan is a file of a format that is read, or a folder of DICOM files. A folder between class and scan files is taken
as the patient, and ``--patient`` finds the patient in the scan's path.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from anymc3d.adapters.dicom_folders import is_dicom_folder, modality_of
from anymc3d.adapters.findings import Findings
from anymc3d.adapters.rows import Adapted, AdaptOptions, patient_of
from anymc3d.adapters.side_tables import listing
from anymc3d.data.case import LISTED_SUFFIXES, default_id
from anymc3d.data.label_words import MISSING_WORDS
from anymc3d.data.readers import content_hash
from anymc3d.errors import ScanError
from anymc3d.files.spelling import bare
from anymc3d.printable import listed

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
_SPLIT_ENDS = ("set", "sets", "data", "split", "images", "cases")
"""``train_set`` and ``Train-Data`` are ``train``."""
_NO_CLASSES = (
    "mask masks seg segs segmentation segmentations label labels annotation annotations roi rois images imagestr"
    " imagests imagesval labelstr labelsts derivatives"
)
"""Folders of other layouts: their name says what lies in them, not which class it is of."""
MASK_NAME = re.compile(r".*[_.-](mask|seg|segmentation|label|labelmap|roi)", re.IGNORECASE)
_MAX_DEPTH = 6
_BESIDE = (".img.gz", ".img", ".raw.gz", ".raw", ".zraw")
"""The other halves of pairs."""


@dataclass(frozen=True)
class _Scan:
    path: Path
    label: str
    split: str | None
    inner: str
    """The path below the class folder."""
    patient: str
    """The folder between class and scan, or the scan's own name."""


def adapt_class_folders(folder: Path, options: AdaptOptions) -> Adapted:
    """One row per scan; ``label`` is the name of its class folder."""
    adapted = Adapted(labels=("label",))
    findings = adapted.findings
    scans = list(_scans(folder, findings))
    if options.match is not None:
        left = [scan.inner for scan in scans if not re.search(options.match, scan.inner)]
        scans = [scan for scan in scans if re.search(options.match, scan.inner)]
        findings.warn_if(left, f"--match {options.match!r} is not found in a scan's path: left out")
    classes = sorted({scan.label for scan in scans})
    if findings.has_errors and not scans:
        return adapted
    if len(classes) < 2:
        findings.error(f"expected at least two class folders with scans, found {classes}")
        return adapted
    findings.warn_if(
        [scan.inner for scan in scans if MASK_NAME.fullmatch(default_id(scan.path.name))],
        "a scan is named like a mask and would be a case of its own; leave it out with --match",
    )
    bad = [name for name in classes if name.lower() in MISSING_WORDS]
    findings.error_if(bad, "a class folder is named like a missing value; rename it")
    ids = _ids(scans, findings)
    for scan, case in zip(scans, ids, strict=True):
        patient = patient_of(options.patient, scan.inner, scan.patient)
        if patient is None:
            findings.error(f"--patient {options.patient!r} is not found in a scan's path", scan.inner)
            continue
        split = {"split": scan.split} if scan.split else {}
        adapted.rows.append({"case": case, "patient": patient, "image": str(scan.path), **split, "label": scan.label})
    _check_modalities(scans, findings)
    _check_copies(scans, findings)
    if options.patient is None and all(scan.patient == default_id(scan.path.name) for scan in scans):
        findings.warn("each scan is taken as a patient of its own; --patient REGEX finds the patient in its path")
    return adapted


def _scans(folder: Path, findings: Findings) -> Iterator[_Scan]:
    tops = [path for path in listing(folder) if path.is_dir()]
    findings.warn_if((p.name for p in listing(folder) if p.is_file()), "a file beside the class folders: left out")
    full = [path for path in tops if _holds_scans(path)]
    findings.warn_if([path.name for path in tops if path not in full], "a class folder holds no scan")
    for place, label, split in _places(full, findings):
        for path in scans_below(place, findings, 0):
            inner = path.relative_to(place)
            patient = inner.parts[0] if len(inner.parts) > 1 else default_id(path.name)
            yield _Scan(path, label, split, str(inner), patient)


def _places(tops: Sequence[Path], findings: Findings) -> list[tuple[Path, str, str | None]]:
    """(folder with scans, label, split) of every class, whichever way splits and classes lie in each other."""
    strangers = [path.name for path in tops if split_of(path.name) is None]
    named = [path.name for path in tops if split_of(path.name) is not None]
    if named and strangers:
        findings.error(
            f"{listed(named)} {'are' if len(named) > 1 else 'is'} named like a split; folders beside that are none"
            " hold scans, so it is unknown which are classes; move or rename them",
            strangers,
        )
        return []
    inner = {
        path: [path_below for path_below in listing(path) if path_below.is_dir() and _holds_scans(path_below)]
        for path in tops
    }
    if named:
        loose = [path.name for path in tops if any(_is_scan(path_below) for path_below in listing(path))]
        findings.warn_if(loose, "scans beside the class folders of a split: left out")
        places = [(place, place.name, split_of(path.name)) for path in tops for place in inner[path]]
    elif tops and all(inner[path] and all(split_of(place.name) for place in inner[path]) for path in tops):
        places = [(place, path.name, split_of(place.name)) for path in tops for place in inner[path]]
    else:
        places = [(path, path.name, None) for path in tops]
    unlikely = sorted({label for _, label, _ in places if bare(label) in _NO_CLASSES.split()})
    findings.error_if(
        unlikely,
        "a folder with scans is named like a part of another layout, not like a class; move it away, or see the other"
        " layouts of 'anymc3d data list'",
    )
    return places


def split_of(name: str) -> str | None:
    """The split that a folder is called like, in whatever spelling; None where it is none."""
    text = bare(name).strip("0123456789")
    ends = [text.removesuffix(end) for end in _SPLIT_ENDS if text.endswith(end)]
    return next((SPLIT_NAMES[word] for word in (text, *ends) if word in SPLIT_NAMES), None)


def _holds_scans(folder: Path) -> bool:
    """Whether there is anything below that is a scan, or that would be reported as one in the wrong place."""
    seen = Findings()
    return next(scans_below(folder, seen, 0), None) is not None or seen.has_errors


def _is_scan(path: Path) -> bool:
    return path.is_file() and path.name.lower().endswith(LISTED_SUFFIXES)


def scans_below(folder: Path, findings: Findings, depth: int) -> Iterator[Path]:
    """Scan files and DICOM folders; a folder of DICOM files is one scan, whatever lies deeper in it."""
    for path in listing(folder):
        if path.is_file():
            if _is_scan(path):
                yield path
            elif _is_other_half(path):
                continue
            elif path.suffix.lower() in (".dcm", ".ima"):
                findings.error("a DICOM file lies where a folder per series is expected", path.name)
            else:
                findings.warn("a file is in no format that is read and left out", f"{folder.name}/{path.name}")
        elif any(path_below.is_file() for path_below in listing(path)) and is_dicom_folder(path):
            yield path
        elif depth < _MAX_DEPTH:
            yield from scans_below(path, findings, depth + 1)


def _is_other_half(path: Path) -> bool:
    """Whether a file holds the voxels of a header beside it, which is the scan."""
    ending = next((end for end in _BESIDE if path.name.lower().endswith(end)), None)
    stem = path.name[: -len(ending)] if ending else ""
    return ending is not None and any((path.parent / f"{stem}{suffix}").is_file() for suffix in LISTED_SUFFIXES)


def _ids(scans: list[_Scan], findings: Findings) -> list[str]:
    """The scan's own name where that is unique, else its path below the class, else class and path."""
    for ids in (
        [default_id(scan.path.name) for scan in scans],
        [default_id(scan.inner.replace("/", "_")) for scan in scans],
        [f"{scan.label}_{default_id(scan.inner.replace('/', '_'))}" for scan in scans],
    ):
        if len(set(ids)) == len(ids):
            return ids
    ids = [f"{scan.split}_{scan.label}_{default_id(scan.inner.replace('/', '_'))}" for scan in scans]
    seen: set[str] = set()
    findings.error_if([i for i in ids if i in seen or seen.add(i)], "two scans would get one id; rename one")
    return ids


def _check_modalities(scans: list[_Scan], findings: Findings) -> None:
    by_modality: dict[str, list[str]] = defaultdict(list)
    for scan in scans:
        if scan.path.is_dir():
            by_modality[modality_of(scan.path) or "unknown"].append(scan.inner)
    if len(by_modality) > 1:
        examples = [f"{name}: {len(places)} scans, such as {places[0]}" for name, places in sorted(by_modality.items())]
        findings.error("DICOM series of several modalities; keep one, --match chooses by path", examples)


def _check_copies(scans: list[_Scan], findings: Findings) -> None:
    """The same bytes under two classes are a fault of the labels; under one class, a warning."""
    sizes: dict[int, list[_Scan]] = defaultdict(list)
    for scan in scans:
        if scan.path.is_file():
            sizes[scan.path.stat().st_size].append(scan)
    same: dict[str, list[_Scan]] = defaultdict(list)
    for group in sizes.values():
        for scan in group if len(group) > 1 else ():
            try:
                same[content_hash(scan.path)].append(scan)
            except ScanError as error:
                findings.error("a scan cannot be read", f"{scan.inner}: {error.what}")
    for group in same.values():
        if len(group) > 1:
            both = " and ".join(f"{scan.label}/{scan.inner}" for scan in group)
            if len({scan.label for scan in group}) > 1:
                findings.error("one scan lies in two classes", both)
            elif len({scan.split for scan in group}) > 1:
                findings.error("one scan lies in two splits", both)
            else:
                findings.warn("one scan lies there twice", both)
