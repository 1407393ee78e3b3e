"""``anymc3d plan``: measure a data set and write down every choice with its reason.

Choices rest on the training split: the manifest's own, or the one that ``anymc3d train`` will make from the same seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import get_args

from anymc3d.data.case_scans import Segmenters
from anymc3d.data.labels import encode, strata
from anymc3d.data.manifest import Manifest
from anymc3d.data.splits import assign_splits
from anymc3d.errors import UsageError, did_you_mean
from anymc3d.plan.doubts import doubts
from anymc3d.plan.intensity import IntensityChoice, choose_intensity
from anymc3d.plan.measure import DataSet, MeasuredColumn, Progress, measure, read_data_set
from anymc3d.plan.region import asked_region
from anymc3d.plan.rules import MemoryChoice, calibration_reason, choose_memory, patch_size_of, total_memory
from anymc3d.plan.views import PlannedColumn, choose_views
from anymc3d.segmenters.build import build_segmenters
from anymc3d.segmenters.store import stored_region
from anymc3d.settings.config import DataSettings, LabelSettings, TaskSettings
from anymc3d.settings.training import BackboneSettings, TrainSettings
from anymc3d.settings.views import RoiSettings
from anymc3d.settings.windows import Pair
from anymc3d.types import Modality, Plane


@dataclass(frozen=True)
class Plan:
    """A task and the reasons of its choices, by dotted key of the task file."""

    settings: TaskSettings
    reasons: Mapping[str, str]
    warnings: tuple[str, ...] = ()
    """What a person should look at before training; one line each."""
    num_train: int = 0
    """Training cases."""


def plan_task(
    manifest_path: Path | str,
    label_columns: Sequence[str],
    *,
    name: str | None = None,
    backbone_name: str = "dinov2-small",
    image_column: str | None = None,
    planes: Sequence[str] = (),
    windows: tuple[Pair, ...] = (),
    modality: Modality | None = None,
    roi: str | Path | RoiSettings | None = None,
    segmenters: Sequence[str | Path] = (),
    labels: LabelSettings | None = None,
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
        windows: (low, high) pairs, one or three, in place of those that the intensities suggest.
        modality: of the scans, in place of what headers and values say.
        roi: ``mask`` crops every scan to its mask, ``point`` to 64 mm about its point of interest, a YAML file or
            settings to the region that they describe; sizes are then those of the crops.
        segmenters: files of networks, or the TotalSegmentator program, that may draw the region.
        labels: what the label columns mean; None: guessed.
        patch_size: of the backbone; default by its family's name.
        seed: of the split.
        progress: called for each header read.

    Raises:
        ManifestError: with every fault of the manifest, its labels and the scans' headers.
        UsageError: ``planes``, ``image_column`` or ``roi`` do not fit the manifest.
    """
    chosen = partial(_chosen_columns, image_column, planes)
    data = read_data_set(Path(manifest_path), label_columns, choose_columns=chosen, labels=labels, progress=progress)
    splits, measured = measure_training(data, DataSettings(manifest="").fractions, seed)
    patch = patch_size or patch_size_of(backbone_name)
    columns = _planned_columns(measured, windows, modality)
    region, drawn_by = _region(roi, segmenters)
    views, reasons = choose_views(data, columns, planes, patch, roi=region, segmenters=drawn_by)
    memory = choose_memory([view.size for view in views.values()], backbone_name, patch, total_memory())
    settings = TaskSettings(
        name=name or (label_columns[0] if len(label_columns) == 1 else data.manifest.path.stem),
        labels=data.labels,
        data=DataSettings(manifest=str(data.manifest.path), split_seed=seed, modality=columns[0].intensity.modality),
        views=views,
        backbone=BackboneSettings(name=backbone_name),
        train=TrainSettings(batch_size=memory.batch_size, chunk_size=memory.chunk_size, recompute=memory.recompute),
    )
    warnings = tuple(doubts(data, splits, measured))
    reasons |= _reasons(data, splits, columns[0].intensity, memory)
    return Plan(settings, with_warnings(reasons, warnings), warnings, splits.count("train"))


def _planned_columns(
    measured: Sequence[MeasuredColumn], windows: tuple[Pair, ...], modality: Modality | None
) -> list[PlannedColumn]:
    return [
        PlannedColumn(column, choose_intensity(column.samples, column.dtypes, windows=windows, modality=modality))
        for column in measured
    ]


def _region(
    roi: str | Path | RoiSettings | None, segmenters: Sequence[str | Path]
) -> tuple[RoiSettings | None, Segmenters]:
    """The region that was asked for, its model in the store, and what draws it.

    Raises:
        UsageError: there is no such region, or what draws it cannot be used.
    """
    region = asked_region(roi)
    if region is None:
        return None, {}
    stored = stored_region(region)
    return stored, build_segmenters([stored], given_paths=segmenters)


def _chosen_columns(image_column: str | None, planes: Sequence[str], manifest: Manifest) -> tuple[str, ...]:
    columns = image_columns(manifest, image_column)
    _check_planes(planes, columns)
    return columns


def with_warnings(reasons: Mapping[str, str], warnings: Sequence[str]) -> dict[str, str]:
    """The warnings stand at the top of the task file, beside the name."""
    notes = [reasons.get("name", ""), *(f"CHECK: {line}" for line in warnings)]
    return {**reasons, "name": "; ".join(filter(None, notes))} if any(notes) else dict(reasons)


def _reasons(data: DataSet, splits: Sequence[str], intensity: IntensityChoice, memory: MemoryChoice) -> dict[str, str]:
    """Reasons of the choices that belong to no view."""
    return {
        "labels.kind": "; ".join(data.label_reasons),
        "data.modality": intensity.modality_reason,
        ("data.manifest" if data.manifest.has_splits else "data.fractions"): split_reason(data.manifest, splits),
        ("train.recompute" if memory.recompute else "train.batch_size"): memory.reason,
        "calibration": calibration_reason(data.labels),
    }


def image_columns(manifest: Manifest, chosen: str | None) -> tuple[str, ...]:
    """The image columns to use: ``chosen`` alone, or all.

    Raises:
        UsageError: there is no such column.
    """
    if chosen is None:
        return manifest.image_columns
    if chosen not in manifest.image_columns:
        raise UsageError(f"no image column {chosen!r}{did_you_mean(chosen, manifest.image_columns)}")
    return (chosen,)


def measure_training(
    data: DataSet, fractions: tuple[float, float, float], seed: int
) -> tuple[list[str], list[MeasuredColumn]]:
    """The split of each case, and what was measured on each image column's training scans."""
    targets = encode(data.manifest.cases, data.labels)
    splits = assign_splits(data.manifest.cases, strata(targets, data.labels), fractions=fractions, seed=seed)
    train = [index for index, split in enumerate(splits) if split == "train"]
    return splits, [measure(data, column, train) for column in data.columns]


def split_reason(manifest: Manifest, splits: Sequence[str]) -> str:
    """How many cases are where, and how they came there."""
    counts = ", ".join(f"{splits.count(name)} {name}" for name in ("train", "val", "test"))
    if manifest.has_splits:
        return f"its split column is used: {counts}"
    patients = "by patient" if "patient" in manifest.columns else "no 'patient' column: each case is its own patient"
    return f"{counts}, stratified; {patients}"


def _check_planes(planes: Sequence[str], columns: Sequence[str]) -> None:
    known = get_args(Plane)
    for plane in planes:
        if plane not in known:
            raise UsageError(f"views: {plane!r} is not a plane{did_you_mean(plane, known)}")
    if len(set(planes)) < len(planes):
        raise UsageError(f"views: a plane appears twice in {list(planes)}")
    if planes and len(columns) > 1:
        raise UsageError(
            f"views: planes are cut from one image, the manifest has {list(columns)}; choose one image column"
        )
