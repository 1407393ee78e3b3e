"""``anymc3d plan``: measure a data set and write down every choice with its reason.

All headers are read, of at most 20 training scans the voxels too. Choices rest on the training split: the manifest's
own, or the one that ``anymc3d train`` will make from the same seed. Test scans are checked, never measured.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
from nibabel.orientations import io_orientation

from anymc3d.config import BackboneSettings, DataSettings, LabelSettings, TaskSettings, TrainSettings, ViewSettings
from anymc3d.data.case import Case, split_npz_reference, view_of
from anymc3d.data.intensity import IntensityProfile, profile
from anymc3d.data.labels import encode, guess_labels, label_problems
from anymc3d.data.manifest import Manifest, inspect_manifest, label_column_problems
from anymc3d.data.preprocess import AXES
from anymc3d.data.readers import read_header, read_volume
from anymc3d.data.splits import assign_splits
from anymc3d.data.volume import ScanHeader
from anymc3d.errors import ManifestError, ScanError, UsageError, did_you_mean
from anymc3d.plan.rules import (
    Grids,
    IntensityChoice,
    choose_field_of_view,
    choose_intensity,
    choose_memory,
    choose_plane,
    choose_size,
    patch_size_of,
    total_memory,
)
from anymc3d.size_leak import find_size_leak
from anymc3d.types import Plane

NUM_SAMPLED = 20
Progress = Callable[[int], object]
"""Called with the number of scans just read."""
Headers = Mapping[tuple[int, str], ScanHeader]
"""By case index and image column."""


@dataclass(frozen=True)
class Plan:
    """A task and the reasons of its choices, by dotted key of the task file."""

    settings: TaskSettings
    reasons: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class _Column:
    """What was measured on one image column: training scans only."""

    name: str
    grids: Grids
    targets: np.ndarray
    intensity: IntensityChoice


def plan_task(
    manifest_path: Path | str,
    label_columns: Sequence[str],
    *,
    name: str | None = None,
    backbone_name: str = "dinov2-small",
    image_column: str | None = None,
    planes: Sequence[str] = (),
    patch_size: int | None = None,
    seed: int = 0,
    progress: Progress = lambda count: None,
) -> Plan:
    """Plan one task.

    Args:
        manifest_path: CSV or MedMNIST ``.npz``.
        label_columns: one column, or several of 0/1 for a multi-label task.
        name: of the task; default the label column, or the manifest's name when there are several.
        backbone_name: a known name or a path; weights are not needed here.
        image_column: use this one alone; default all ``image`` and ``image.<view>`` columns, one view each.
        planes: make these planes of one image the views.
        patch_size: of the backbone; default by its family's name.
        seed: of the split.
        progress: told about each header read.

    Raises:
        ManifestError: with every fault of the manifest, its labels and the scans' headers.
        UsageError: ``planes`` or ``image_column`` do not fit the manifest.
    """
    manifest, columns, labels, label_reasons, headers = _read_all(
        Path(manifest_path), label_columns, image_column, planes, progress
    )
    targets = encode(manifest.cases, labels)
    data = DataSettings(manifest=str(manifest.path), split_seed=seed)
    splits = assign_splits(manifest.cases, targets, fractions=data.fractions, seed=seed)
    train = [index for index, split in enumerate(splits) if split == "train"]
    measured = [_measure(manifest, column, train, headers, targets) for column in columns]
    patch = patch_size or patch_size_of(backbone_name)
    views, reasons = _choose_views(measured, labels, planes, patch)
    memory = choose_memory([view.size for view in views.values()], backbone_name, patch, total_memory())
    intensity = measured[0].intensity
    settings = TaskSettings(
        name=name or (label_columns[0] if len(label_columns) == 1 else manifest.path.stem),
        labels=labels,
        data=DataSettings(manifest=str(manifest.path), split_seed=seed, modality=intensity.modality),
        views=views,
        backbone=BackboneSettings(name=backbone_name),
        train=TrainSettings(batch_size=memory.batch_size, chunk_size=memory.chunk_size, recompute=memory.recompute),
    )
    reasons |= {
        "labels.kind": "; ".join(label_reasons),
        "data.modality": intensity.modality_reason,
        ("data.manifest" if manifest.has_splits else "data.fractions"): _split_reason(manifest, splits),
        ("train.recompute" if memory.recompute else "train.batch_size"): memory.reason,
    }
    return Plan(settings, reasons)


def _read_all(
    path: Path, label_columns: Sequence[str], image_column: str | None, planes: Sequence[str], progress: Progress
) -> tuple[Manifest, tuple[str, ...], LabelSettings, list[str], Headers]:
    """Manifest, image columns, labels with reasons and headers, or one error with the faults of all of them."""
    manifest, problems = inspect_manifest(path, labels=label_columns)
    if not manifest.cases or not manifest.image_columns or label_column_problems(manifest.columns, label_columns):
        raise ManifestError(str(path), problems)
    columns = _image_columns(manifest, image_column)
    _check_planes(planes, columns)
    headers, header_problems = _read_headers(manifest, columns, progress)
    labels, reasons = None, []
    try:
        labels, reasons = guess_labels(manifest, label_columns)
        problems += label_problems(manifest.cases, labels)
    except ManifestError as error:
        problems += error.problems
    problems += header_problems
    if problems or labels is None:
        raise ManifestError(str(path), problems)
    return manifest, columns, labels, reasons, headers


def _image_columns(manifest: Manifest, chosen: str | None) -> tuple[str, ...]:
    if chosen is None:
        return manifest.image_columns
    if chosen not in manifest.image_columns:
        raise UsageError(f"no image column {chosen!r}{did_you_mean(chosen, manifest.image_columns)}")
    return (chosen,)


def _check_planes(planes: Sequence[str], columns: Sequence[str]) -> None:
    known = get_args(Plane)
    for plane in planes:
        if plane not in known:
            raise UsageError(f"views: {plane!r} is no plane{did_you_mean(plane, known)}")
    if len(set(planes)) < len(planes):
        raise UsageError(f"views: a plane stands twice in {list(planes)}")
    if planes and len(columns) > 1:
        raise UsageError(
            f"views: planes are cut from one image, the manifest has {list(columns)}; choose one image column"
        )


def _read_headers(manifest: Manifest, columns: Sequence[str], progress: Progress) -> tuple[Headers, list[str]]:
    """By case index and column, and one line per fault; scans that are not there are the manifest's own faults."""
    headers, problems = {}, []
    for index, case in enumerate(manifest.cases):
        for column in columns:
            if column in case.images and os.path.exists(_file_of(case.images[column])):
                try:
                    headers[index, column] = read_header(
                        case.images[column], spacing=case.spacing, series=case.series(column)
                    )
                except ScanError as error:
                    problems.append(f"row {case.row}: case {case.id!r}: {column}: {error.what}")
                progress(1)
    return headers, problems


def _file_of(reference: str) -> str:
    inside = split_npz_reference(reference)
    return inside[0] if inside else reference


def _measure(
    manifest: Manifest,
    column: str,
    train: Sequence[int],
    headers: Headers,
    targets: np.ndarray,
) -> _Column:
    have = [index for index in train if (index, column) in headers]
    if not have:
        raise ManifestError(str(manifest.path), [f"column {column!r}: no training case has a scan there"])
    grids = [_ras_grid(headers[index, column]) for index in have]
    # Evenly over the list, so that a file sorted by site or scanner is not judged by its first rows.
    sampled = [have[round(position)] for position in np.linspace(0, len(have) - 1, min(NUM_SAMPLED, len(have)))]
    profiles = _profiles(manifest, [manifest.cases[index] for index in sampled], column)
    return _Column(
        name=column,
        grids=Grids(np.array([shape for shape, _ in grids]), np.array([spacing for _, spacing in grids])),
        targets=targets[have],
        intensity=choose_intensity(profiles, [headers[index, column].dtype for index in have]),
    )


def _profiles(manifest: Manifest, cases: Sequence[Case], column: str) -> list[IntensityProfile]:
    profiles, problems = [], []
    for case in cases:
        try:
            profiles.append(profile(read_volume(case.images[column], spacing=case.spacing, series=case.series(column))))
        except ScanError as error:
            problems.append(f"row {case.row}: case {case.id!r}: {column}: {error.what}")
    if problems:
        raise ManifestError(str(manifest.path), problems)
    return profiles


def _ras_grid(header: ScanHeader) -> tuple[np.ndarray, np.ndarray]:
    """Voxels and millimetres along x, y, z, whatever the order in which they are stored."""
    stored_to_ras = io_orientation(header.affine)[:, 0].astype(int)
    shape, spacing = np.empty(3), np.empty(3)
    shape[stored_to_ras], spacing[stored_to_ras] = header.shape, header.spacing
    return shape, spacing


def _choose_views(
    measured: Sequence[_Column], labels: LabelSettings, planes: Sequence[str], patch: int
) -> tuple[dict[str, ViewSettings], dict[str, str]]:
    views, reasons = {}, {}
    for column in measured:
        leak = find_size_leak(column.grids.extents_mm, column.targets, labels)
        field, field_reason = choose_field_of_view(column.grids, leak)
        own_plane, plane_reason = choose_plane(column.grids)
        for plane in planes or (own_plane,):
            single = len(measured) == 1 and len(planes) <= 1
            view = "image" if single else plane if planes else view_of(column.name)
            size = choose_size(column.grids, plane, patch, field)
            views[view] = ViewSettings(
                size=size.value,
                image=column.name,
                plane=plane,
                field_of_view=None if field is None else tuple(field[axis] for axis in AXES[plane]),
                normalise=column.intensity.normalise,
                windows=column.intensity.windows,
            )
            reasons[f"views.{view}.size"] = size.reason
            reasons[f"views.{view}.plane"] = "asked for" if planes else plane_reason
            if plane == (*planes, own_plane)[0]:
                # Said once per image: its other planes have the same.
                reasons[f"views.{view}.field_of_view"] = field_reason
                key = "windows" if column.intensity.windows else "normalise"
                reasons[f"views.{view}.{key}"] = column.intensity.normalise_reason
    return views, reasons


def _split_reason(manifest: Manifest, splits: Sequence[str]) -> str:
    counts = ", ".join(f"{splits.count(name)} {name}" for name in ("train", "val", "test"))
    if manifest.has_splits:
        return f"its split column is used: {counts}"
    patients = "by patient" if "patient" in manifest.columns else "no 'patient' column: each case is its own patient"
    return f"{counts}, stratified; {patients}"
