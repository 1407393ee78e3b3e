"""What a plan measures: all headers, and the voxels of a few training scans; every fault of all of them in one report.

Test scans are checked, never measured. Nothing depends on the order of the rows.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from nibabel.orientations import io_orientation

from anymc3d.data.case import Case, split_npz_reference
from anymc3d.data.intensity import IntensityProfile, profile
from anymc3d.data.labels import guess_labels, label_problems
from anymc3d.data.manifest import Manifest, inspect_manifest, label_column_problems
from anymc3d.data.readers import read_header, read_volume
from anymc3d.data.volume import ScanHeader
from anymc3d.errors import ManifestError, ScanError
from anymc3d.files.pointers import broken_link
from anymc3d.plan.body import Tissues, tissues
from anymc3d.plan.region import mask_extents
from anymc3d.plan.rules import Grids
from anymc3d.settings.config import LabelSettings

NUM_SAMPLED = 20
MAX_SAMPLED_VOXELS = 300_000_000
"""No further scan is looked at beyond this, about four CT of 512 x 512 x 300; reading them takes a second each."""
Progress = Callable[[int], object]
"""Called with the number of scans just read."""
Headers = Mapping[tuple[int, str], ScanHeader]
"""By case index and image column."""


@dataclass(frozen=True, eq=False)
class DataSet:
    """A manifest that is in order, and what its headers say."""

    manifest: Manifest
    columns: tuple[str, ...]
    """The image columns in use."""
    labels: LabelSettings
    label_reasons: tuple[str, ...]
    headers: Headers


@dataclass(frozen=True, eq=False)
class SampledScan:
    """One scan whose voxels were looked at."""

    profile: IntensityProfile
    tissues: Tissues
    modality: str | None = None
    """What its header says, if it says one."""
    units: str | None = None
    """The units of a PET, where its header says them."""
    why_not_suv: str = ""


@dataclass(frozen=True, eq=False)
class MeasuredColumn:
    """What was measured on one image column: training scans only."""

    name: str
    grids: Grids
    rows: tuple[int, ...]
    """Rows of the manifest's cases, in the order of ``grids``."""
    samples: tuple[SampledScan, ...]
    dtypes: tuple[str, ...]
    mask_boxes: Mapping[int, np.ndarray | None]
    """By row, of the scans that were looked at and have a mask: (3,) mm along x, y, z with a margin; None: empty."""

    def cropped(self, boxes: Mapping[int, np.ndarray]) -> MeasuredColumn:
        """With ``boxes``, by row (3,) in mm along x, y, z, in place of the scans."""
        places = {row: place for place, row in enumerate(self.rows)}
        spacings = np.array([self.grids.spacings[places[row]] for row in boxes])
        sides = np.array(list(boxes.values()))
        return replace(self, grids=Grids(np.maximum(1.0, sides / spacings), spacings), rows=tuple(boxes))


def read_data_set(
    path: Path,
    label_columns: Sequence[str],
    *,
    choose_columns: Callable[[Manifest], tuple[str, ...]],
    labels: LabelSettings | None = None,
    needs: Callable[[Manifest], list[str]] = lambda manifest: [],
    progress: Progress = lambda count: None,
) -> DataSet:
    """Manifest, labels and headers, or one error with the faults of all of them.

    Args:
        path: CSV or MedMNIST ``.npz``.
        label_columns: the targets.
        choose_columns: the image columns to use.
        labels: what the label columns mean; None: guessed.
        needs: further faults of the manifest.
        progress: called for each header read.

    Raises:
        ManifestError: with every fault.
    """
    manifest, problems = inspect_manifest(path, labels=label_columns)
    problems += needs(manifest)
    if not manifest.cases or not manifest.image_columns or label_column_problems(manifest.columns, label_columns):
        raise ManifestError(str(path), problems)
    columns = choose_columns(manifest)
    headers, header_problems = _read_headers(manifest, columns, progress)
    reasons: list[str] = []
    try:
        if labels is None:
            labels, reasons = guess_labels(manifest, label_columns)
        problems += label_problems(manifest.cases, labels)
    except ManifestError as error:
        problems += error.problems
    problems += header_problems
    if problems or labels is None:
        raise ManifestError(str(path), problems)
    return DataSet(manifest, columns, labels, tuple(reasons), headers)


def measure(data: DataSet, column: str, train: Sequence[int]) -> MeasuredColumn:
    """Measure one image column on the cases ``train``.

    Raises:
        ManifestError: no training case has a scan there, or a scan that was looked at cannot be read.
    """
    have = [index for index in train if (index, column) in data.headers]
    if not have:
        raise ManifestError(str(data.manifest.path), [f"column {column!r}: no training case has a scan there"])
    grids = [ras_grid(data.headers[index, column]) for index in have]
    sampled = _sampled(data, column, have)
    return MeasuredColumn(
        name=column,
        grids=Grids(np.array([shape for shape, _ in grids]), np.array([spacing for _, spacing in grids])),
        rows=tuple(have),
        samples=_samples(data, column, [data.manifest.cases[index] for index in sampled]),
        dtypes=tuple(data.headers[index, column].dtype for index in have),
        mask_boxes=mask_extents({index: data.manifest.cases[index] for index in sampled}, column),
    )


def ras_grid(header: ScanHeader) -> tuple[np.ndarray, np.ndarray]:
    """Voxels and millimetres along x, y, z, whatever the order in which they are stored."""
    stored_to_ras = io_orientation(header.affine)[:, 0].astype(int)
    shape, spacing = np.empty(3), np.empty(3)
    shape[stored_to_ras], spacing[stored_to_ras] = header.shape, header.spacing
    return shape, spacing


def _read_headers(manifest: Manifest, columns: Sequence[str], progress: Progress) -> tuple[Headers, list[str]]:
    """By case index and column, and one line per fault; scans that are not there are the manifest's own faults."""
    headers, problems = {}, []
    for index, case in enumerate(manifest.cases):
        for column in columns:
            if column in case.images and _is_there(_file_of(case.images[column])):
                try:
                    headers[index, column] = read_header(
                        case.images[column], spacing=case.spacing, series=case.series(column)
                    )
                except ScanError as error:
                    problems.append(f"row {case.row}: case {case.id!r}: {column}: {error.what}")
                progress(1)
    return headers, problems


def _is_there(path: str) -> bool:
    """Not ``exists``, which is False of whatever cannot be opened: that has its own fault."""
    return os.path.lexists(path) and broken_link(path) is None


def _file_of(reference: str) -> str:
    inside = split_npz_reference(reference)
    return inside[0] if inside else reference


def _sampled(data: DataSet, column: str, have: Sequence[int]) -> list[int]:
    """Up to 20 rows, drawn by a hash of their ids, so that a file sorted by site is not judged by its first rows."""
    drawn = sorted(have, key=lambda index: hashlib.sha256(data.manifest.cases[index].id.encode()).digest())
    chosen, voxels = [], 0.0
    for index in drawn[:NUM_SAMPLED]:
        voxels += float(np.prod(data.headers[index, column].shape, dtype=float))
        if chosen and voxels > MAX_SAMPLED_VOXELS:
            break
        chosen.append(index)
    return chosen


def _samples(data: DataSet, column: str, cases: Sequence[Case]) -> tuple[SampledScan, ...]:
    samples, problems = [], []
    for case in cases:
        try:
            volume = read_volume(case.images[column], spacing=case.spacing, series=case.series(column))
            header = (volume.modality, volume.units, volume.why_not_suv)
            samples.append(SampledScan(profile(volume), tissues(volume), *header))
        except ScanError as error:
            problems.append(f"row {case.row}: case {case.id!r}: {column}: {error.what}")
    if problems:
        raise ManifestError(str(data.manifest.path), problems)
    return tuple(samples)
