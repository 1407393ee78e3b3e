"""A DICOM series -> Volume: every file of the chosen series is read, or the case fails.

The series lies in a folder, in a ``.zip``, or in one multi-frame file. The readers of other packages leave out what
they cannot decode and squeeze the rest, take 1 mm where a spacing is missing, or apply the first slice's rescaling to
all. Here the files are listed first, one series is chosen, its slices are ordered and checked by their positions, and
only then pixels are decoded, each with its own rescaling.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from anymc3d.data.dicom.decoder import FrameDecoder
from anymc3d.data.dicom.geometry import Stack, plane_of, stack
from anymc3d.data.dicom.header import DicomFile
from anymc3d.data.dicom.inventory import opened_inventory
from anymc3d.data.dicom.pixels import stored_frames
from anymc3d.data.dicom.places import sha256_at
from anymc3d.data.dicom.repeats import without_repeats
from anymc3d.data.dicom.rules import Rule, parse_rule
from anymc3d.data.dicom.series import ChosenFrame, ChosenSeries, choose_series
from anymc3d.data.dicom.series_4d import chosen_volume
from anymc3d.data.dicom.stacks import chosen_stack
from anymc3d.data.dicom.suv import activity_of
from anymc3d.data.dicom.tags import foreign_errors
from anymc3d.data.formats.raw_voxels import range_warnings
from anymc3d.data.volume import ScanHeader, Volume
from anymc3d.errors import ScanError

LEAVE_OUT = "leave out --dicom (of predict: --dicom-sr)"
"""What a command line can do where no DICOM object can be made of a series; the service, which goes on, says it not."""


def read_dicom(reference: Path, *, series: str | None = None) -> Volume:
    """Read one series: voxels (column, row, slice) float32 in the modality's units (HU for CT), affine RAS mm.

    Args:
        reference: a folder that holds the files, also in sub-folders; a ``.zip`` of them; one multi-frame file.
        series: which series, and what is allowed; see :func:`~anymc3d.data.dicom.rules.parse_rule`. Needed where there
            are several.

    Raises:
        ScanError: one line that names the reference as it was given, and nothing out of the files that could identify
            a person: several series, a damaged file, a gap, a tilt, a missing element…
    """
    with _chosen(reference, series) as (chosen, placed), FrameDecoder() as decoder:
        return _volume(chosen, placed, reference, decoder)


def read_dicom_hashed(reference: Path, *, series: str | None = None) -> tuple[Volume, str]:
    """What :func:`read_dicom` and :func:`dicom_content_hash` give, with the files listed once.

    Raises:
        ScanError: as :func:`read_dicom`.
    """
    with _selected(reference, series) as (chosen, rule), FrameDecoder() as decoder:
        volume = _volume(chosen, _placed(chosen, rule, reference), reference, decoder)
        return volume, _hash_of(chosen, rule, reference)


def _volume(chosen: ChosenSeries, placed: Stack, reference: Path, decoder: FrameDecoder) -> Volume:
    voxels = _voxels(chosen, placed, reference, decoder)
    _check_copies(chosen, reference, decoder)
    warnings = (*chosen.warnings, *placed.warnings, *range_warnings(voxels, reference))
    if placed.resampling is not None:
        voxels = placed.resampling.apply(voxels)
    activity = chosen.activity
    return Volume(
        voxels=voxels,
        affine=placed.affine,
        modality=chosen.modality,
        warnings=warnings,
        units=None if activity is None else activity.units,
        why_not_suv="" if activity is None else activity.why_not_suv,
    )


def read_dicom_header(reference: Path, series: str | None = None) -> ScanHeader:
    """Shape, geometry and stored type of one series, from the headers alone.

    Raises:
        ScanError: as :func:`read_dicom`, for all that the headers show.
    """
    with _chosen(reference, series) as (chosen, placed):
        first = chosen.files[0]
        dtype = f"{'' if first.signed else 'u'}int{first.bits_allocated}"
        shape = (first.columns, first.rows, len(chosen.frames))
        shape = shape if placed.resampling is None else placed.resampling.shape
        return ScanHeader(shape, placed.affine, dtype, (*chosen.warnings, *placed.warnings))


def dicom_content_hash(reference: Path, series: str | None = None) -> str:
    """Sha256 (hex) of the chosen files' bytes, in the order of their SOP instance UIDs; their names do not matter.

    Where the rule takes only some slices, which ones is part of the hash.

    Raises:
        ScanError: as :func:`read_dicom_header`, but for the geometry.
    """
    with _selected(reference, series) as (chosen, rule):
        return _hash_of(chosen, rule, reference)


def _hash_of(chosen: ChosenSeries, rule: Rule, reference: Path) -> str:
    frames_of: dict[str, list[int]] = {}
    for entry in chosen.frames:
        frames_of.setdefault(entry.file.sop_uid, []).append(entry.index)
    files = {(file.sop_uid, _file_hash(file, reference)) for file in chosen.files}
    files |= {(file.sop_uid, _file_hash(file, reference)) for _, file in chosen.copies if file.sop_uid in frames_of}
    # What is allowed changes the voxels: they must never be taken for those that were kept without it.
    changes = "".join(f"{name}=resampled\n" for name in ("gaps", "tilt") if name in rule.options)
    changes += f"units={chosen.activity.units}\n" if chosen.activity else ""
    digest = hashlib.sha256(changes.encode())
    for uid, content in sorted(files):
        digest.update(f"{content} {frames_of[uid]}\n".encode())
    return digest.hexdigest()


@contextmanager
def chosen_slices(
    reference: Path, series: str | None = None, *, resampled: bool = False
) -> Iterator[tuple[ChosenFrame, ...]]:
    """The slices of one series in the order of the volume's third axis, from the headers alone; their files can be read
    while this is open.

    Raises:
        ScanError: as :func:`read_dicom_header`; or the volume is resampled, so that its slices are others, unless
            ``resampled``.
    """
    with _chosen(reference, series) as (chosen, placed):
        if placed.resampling is not None and not resampled:
            what = "the series was resampled (gaps or tilt allowed), so that its own slices are others"
            raise ScanError.of(reference, f"{what}; {LEAVE_OUT}")
        yield tuple(chosen.frames[index] for index in placed.order)


@contextmanager
def _chosen(reference: Path, series: str | None) -> Iterator[tuple[ChosenSeries, Stack]]:
    with _selected(reference, series) as (chosen, rule):
        yield chosen, _placed(chosen, rule, reference)


def _placed(chosen: ChosenSeries, rule: Rule, reference: Path) -> Stack:
    first = chosen.files[0]
    return stack([entry.frame for entry in chosen.frames], reference, rule, size=(first.columns, first.rows))


@contextmanager
def _selected(reference: Path, series: str | None) -> Iterator[tuple[ChosenSeries, Rule]]:
    """The slices that the rule takes, one at each place of one stack, and the rule."""
    with foreign_errors(reference, "the series cannot be read"), opened_inventory(reference) as inventory:
        rule = parse_rule(series, reference)
        chosen = choose_series(inventory, rule)
        chosen = chosen.only(chosen_stack(chosen.frames, rule, reference))
        chosen = without_repeats(chosen, reference)
        frames = [entry.frame for entry in chosen.frames]
        plane = plane_of(frames, reference)
        chosen = chosen.only(chosen_volume(frames, plane.normal, rule, reference))
        if len(chosen.frames) < chosen.total:
            note = f"the rule in series takes {len(chosen.frames)} of the {chosen.total} slices of its series"
            chosen = replace(chosen, warnings=(*chosen.warnings, note))
        yield _with_activity(chosen, rule, reference), rule


def _with_activity(chosen: ChosenSeries, rule: Rule, reference: Path) -> ChosenSeries:
    if chosen.modality != "PT":
        if rule.units is not None:
            raise ScanError.of(reference, "series: units: only a PET has several; leave 'units=' out")
        return chosen
    is_scaled = all(entry.frame.slope is not None for entry in chosen.frames)
    activity, notes = activity_of([file.pet for file in chosen.files], rule, reference, is_scaled=is_scaled)
    return replace(chosen, activity=activity, warnings=(*chosen.warnings, *notes))


def _voxels(chosen: ChosenSeries, placed: Stack, reference: Path, decoder: FrameDecoder) -> np.ndarray:
    """Slice by slice into the result, so that only one file's pixels are in memory beside it."""
    first = chosen.files[0]
    place = {(chosen.frames[i].file.number, chosen.frames[i].index): k for k, i in enumerate(placed.order)}
    voxels = np.empty((first.columns, first.rows, len(place)), dtype=np.float32, order="F")
    factor = 1.0 if chosen.activity is None else chosen.activity.factor
    for file in chosen.files:
        with foreign_errors(reference, f"file {file.number} in order of name cannot be decoded"):
            for index, stored in enumerate(stored_frames(file, reference, decoder)):
                if (file.number, index) not in place:
                    continue
                frame = file.frames[index]
                slope, intercept = frame.slope, frame.intercept
                scaled = stored if slope is None or intercept is None else stored * np.float64(slope) + intercept
                scaled = scaled * np.float64(factor) if factor != 1.0 else scaled
                with np.errstate(over="ignore"):  # looked for, and named, at the end
                    voxels[:, :, place[file.number, index]] = scaled.T
    return voxels


def _check_copies(chosen: ChosenSeries, reference: Path, decoder: FrameDecoder) -> None:
    for first, copy in chosen.copies:
        if _file_hash(first, reference) == _file_hash(copy, reference):
            continue
        with foreign_errors(reference, f"file {copy.number} in order of name cannot be decoded"):
            both = (stored_frames(file, reference, decoder) for file in (first, copy))
            equal = all(
                np.array_equal(first_pixels, copy_pixels) for first_pixels, copy_pixels in zip(*both, strict=True)
            )
        if not equal:
            what = f"files {first.number} and {copy.number} in order of name have one SOPInstanceUID and other pixels"
            raise ScanError.of(reference, f"{what}; export the series again")


def _file_hash(file: DicomFile, reference: Path) -> str:
    try:
        return sha256_at(file.place)
    except ScanError:
        what = f"file {file.number} in order of name cannot be opened; check its rights"
        raise ScanError.of(reference, what) from None
