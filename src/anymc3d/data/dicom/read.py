"""A folder with a DICOM series -> Volume: every file of the chosen series is read, or the case fails.

The readers of other packages leave out what they cannot decode and squeeze the rest, take 1 mm where a spacing is
missing, or apply the first slice's rescaling to all. Here the folder is listed first, one series is chosen, its
slices are ordered and checked by their positions, and only then pixels are decoded, each with its own rescaling.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from anymc3d.data.dicom.decoder import FrameDecoder
from anymc3d.data.dicom.geometry import Stack, stack
from anymc3d.data.dicom.header import DicomFile
from anymc3d.data.dicom.inventory import take_inventory
from anymc3d.data.dicom.pixels import stored_frames
from anymc3d.data.dicom.rules import parse_rule
from anymc3d.data.dicom.series import ChosenFrame, ChosenSeries, choose_series
from anymc3d.data.dicom.tags import foreign_errors
from anymc3d.data.raw_voxels import range_warnings
from anymc3d.data.scan_file import scan_error, sha256_of
from anymc3d.data.volume import ScanHeader, Volume
from anymc3d.errors import ScanError


def read_dicom(folder: Path, *, series: str | None = None, allow_gaps: bool = False) -> Volume:
    """Read one series: voxels (column, row, slice) float32 in the modality's units (HU for CT), affine RAS mm.

    Args:
        folder: holds the files, also in sub-folders.
        series: which series; see :func:`~anymc3d.data.dicom.rules.parse_rule`. Needed where there are several.
        allow_gaps: uneven or missing slices are a warning; the rest is stacked as if even. Also where the rule in
            ``series`` says ``gaps=allow``.

    Raises:
        ScanError: one line that names the folder as it was given, and nothing out of the files that could identify
            a person: several series, a damaged file, a gap, a tilt, a missing element…
    """
    with foreign_errors(folder, "the series cannot be read"):
        chosen, placed = _chosen(folder, series, allow_gaps)
        with FrameDecoder() as decoder:
            voxels = _voxels(chosen, placed, folder, decoder)
            _check_copies(chosen, folder, decoder)
        warnings = (*chosen.warnings, *placed.warnings, *range_warnings(voxels, folder))
        return Volume(voxels=voxels, affine=placed.affine, modality=chosen.modality, warnings=warnings)


def read_dicom_header(folder: Path, series: str | None = None, *, allow_gaps: bool = False) -> ScanHeader:
    """Shape, geometry and stored type of one series, from the headers alone.

    Raises:
        ScanError: as :func:`read_dicom`, for all that the headers show.
    """
    with foreign_errors(folder, "the series cannot be read"):
        chosen, placed = _chosen(folder, series, allow_gaps)
        first = chosen.files[0]
        dtype = f"{'' if first.signed else 'u'}int{first.bits_allocated}"
        shape = (first.columns, first.rows, len(chosen.frames))
        return ScanHeader(shape, placed.affine, dtype, (*chosen.warnings, *placed.warnings))


def dicom_content_hash(folder: Path, series: str | None = None) -> str:
    """Sha256 (hex) of the chosen files' bytes, in the order of their SOP instance UIDs; their names do not matter.

    Where the rule takes only some slices, which ones is part of the hash.

    Raises:
        ScanError: as :func:`read_dicom_header`, but for the geometry.
    """
    with foreign_errors(folder, "the series cannot be read"):
        chosen = choose_series(take_inventory(folder), series)
        taken: dict[str, list[int]] = {}
        for entry in chosen.frames:
            taken.setdefault(entry.file.sop_uid, []).append(entry.index)
        files = {(file.sop_uid, _file_hash(file, folder)) for file in chosen.files}
        files |= {(file.sop_uid, _file_hash(file, folder)) for _, file in chosen.copies}
        # Where gaps are allowed other voxels may come out: never those that were kept where they are not.
        digest = hashlib.sha256(b"gaps=allow\n" if parse_rule(series, folder).allow_gaps else b"")
        for uid, content in sorted(files):
            digest.update(f"{content} {taken[uid]}\n".encode())
        return digest.hexdigest()


def chosen_slices(folder: Path, series: str | None = None) -> tuple[ChosenFrame, ...]:
    """The slices of one series in the order of the volume's third axis, from the headers alone.

    Raises:
        ScanError: as :func:`read_dicom_header`.
    """
    with foreign_errors(folder, "the series cannot be read"):
        chosen, placed = _chosen(folder, series, False)
        return tuple(chosen.frames[index] for index in placed.order)


def _chosen(folder: Path, series: str | None, allow_gaps: bool) -> tuple[ChosenSeries, Stack]:
    chosen = choose_series(take_inventory(folder), series)
    allow_gaps = allow_gaps or parse_rule(series, folder).allow_gaps
    return chosen, stack([entry.frame for entry in chosen.frames], folder, allow_gaps=allow_gaps)


def _voxels(chosen: ChosenSeries, placed: Stack, folder: Path, decoder: FrameDecoder) -> np.ndarray:
    """Slice by slice into the result, so that only one file's pixels are in memory beside it."""
    first = chosen.files[0]
    place = {(chosen.frames[i].file.number, chosen.frames[i].index): k for k, i in enumerate(placed.order)}
    voxels = np.empty((first.columns, first.rows, len(place)), dtype=np.float32, order="F")
    for file in chosen.files:
        with foreign_errors(folder, f"file {file.number} in order of name cannot be decoded"):
            for index, stored in enumerate(stored_frames(file, folder, decoder)):
                if (file.number, index) not in place:
                    continue
                frame = file.frames[index]
                slope, intercept = frame.slope, frame.intercept
                scaled = stored if slope is None or intercept is None else stored * np.float64(slope) + intercept
                with np.errstate(over="ignore"):  # looked for, and named, at the end
                    voxels[:, :, place[file.number, index]] = scaled.T
    return voxels


def _check_copies(chosen: ChosenSeries, folder: Path, decoder: FrameDecoder) -> None:
    for kept, copy in chosen.copies:
        if _file_hash(kept, folder) == _file_hash(copy, folder):
            continue
        with foreign_errors(folder, f"file {copy.number} in order of name cannot be decoded"):
            both = (stored_frames(file, folder, decoder) for file in (kept, copy))
            equal = all(np.array_equal(one, other) for one, other in zip(*both, strict=True))
        if not equal:
            what = f"files {kept.number} and {copy.number} in order of name have one SOPInstanceUID and other pixels"
            raise scan_error(folder, f"{what}; export the series again")


def _file_hash(file: DicomFile, folder: Path) -> str:
    try:
        return sha256_of(file.path)
    except ScanError:
        raise scan_error(folder, f"file {file.number} in order of name cannot be opened; check its rights") from None
