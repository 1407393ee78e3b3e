"""The measures of one case: of each scan as it was stored, and of every structure of its mask, also across views.

A measure is called ``<scan>/<what>/<name>``: scan is the manifest's column, what is ``scan``, ``foreground`` or the
label of a structure. Two structures of one scan are ``<label>:<label>``, one structure in two scans ``<scan>:<scan>``.
A name ends with its unit; sizes enter a classifier as logarithms, so that ratios and changes are differences.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations

import numpy as np

from anymc3d.data.dataset import CaseScans
from anymc3d.data.mask_grid import read_on_grid
from anymc3d.data.mask_slices import annotated_labels
from anymc3d.data.measures.shape import SHAPE, SIZE, shape_measures
from anymc3d.data.measures.texture import (
    HOUNSFIELD,
    INTENSITY,
    TEXTURE,
    foreground,
    inside_measures,
    otsu_threshold,
    scale_of,
)
from anymc3d.data.scan import ScanFacts, scan_facts
from anymc3d.data.volume import Volume, to_ras
from anymc3d.errors import ScanError
from anymc3d.types import Modality

MEASURES_VERSION = 1
"""Part of every plugin that rests on measures, and of every cache key. Raise it whenever one can change."""
MOST_STRUCTURES = 32
"""Of a mask; with more the classifier would choose among thousands of measures."""
MOST_FOREGROUND = 400_000
"""Voxels of a scan that are looked at for its foreground."""
LOG_UNITS = ("_ml", "_cm2", "_mm")
_COMPARED = ("volume_ml", "surface_cm2", "section_z_cm2", "thickness_mm", "wall_mm", "wall_mean_mm", "length_mm")
_CHANGED = ("sphericity", "mean", "p50", "spread", "largest_part")


@dataclass(frozen=True, kw_only=True)
class Group:
    """One entry of ``GROUPS``."""

    summary: str
    needs_mask: bool = False
    names: tuple[str, ...] = ()
    """Of a structure; Hounsfield units come besides where the scans have them."""


GROUPS: dict[str, Group] = {
    "scan": Group(summary="size, spacing and raw intensities of the scan"),
    "foreground": Group(summary="size, shape, intensity and texture of what is above Otsu's threshold"),
    "size": Group(
        summary="volume, extent, sections and thickness of each structure, their ratios and changes",
        needs_mask=True,
        names=SIZE,
    ),
    "structure": Group(
        summary="besides size: surface, shape, intensity and texture of each structure",
        needs_mask=True,
        names=(*SHAPE, *INTENSITY, *TEXTURE),
    ),
}
"""What is measured, by the name under which methods ask for it."""


@dataclass(frozen=True, kw_only=True)
class MeasureRequest:
    """Which measures of which scans."""

    columns: tuple[str, ...]
    """Image columns of the manifest."""
    groups: tuple[str, ...]
    structures: tuple[int, ...] = ()
    """Labels of the segmentations; none = those that each holds."""
    modality: Modality = "other"

    @property
    def needs_mask(self) -> bool:
        """Whether a case without a segmentation cannot be measured."""
        return any(GROUPS[name].needs_mask for name in self.groups)


def measure_case(scans: CaseScans, wanted: MeasureRequest) -> dict[str, float]:
    """All measures of a case in their units; NaN where a scan or structure is not there.

    Raises:
        ScanError: a scan cannot be read, or a segmentation is needed and missing or unusable.
    """
    by_scan: dict[str, dict[str, dict[str, float]]] = {}
    for column in wanted.columns:
        if column not in scans.case.images:
            continue
        by_scan[column] = _of_scan(scans, column, wanted)
    if not by_scan:
        raise ScanError(f"expected a scan in one of the columns {', '.join(wanted.columns)}, got none")
    measures = {
        f"{column}/{what}/{name}": value
        for column, parts in by_scan.items()
        for what, measures in parts.items()
        for name, value in measures.items()
    }
    return measures | _ratios(by_scan) | _changes(by_scan, wanted)


def completed(
    measures: Mapping[str, float], names: Sequence[str], looked_for: frozenset[int] | None
) -> dict[str, float]:
    """With the flags of structures that are not there set: of a case whose own labels decided what was measured."""
    measures_full = dict(measures)
    for name in names:
        _, what, flag = name.rsplit("/", 2)
        if flag == "absent" and name not in measures_full and what.isdecimal():
            measures_full[name] = 1.0 if looked_for is None or int(what) in looked_for else math.nan
    return measures_full


def as_numbers(measures: Mapping[str, float], names: Sequence[str]) -> list[float]:
    """The named measures as a classifier takes them: sizes as logarithms, what is not there as NaN."""
    return [_as_number(name, measures.get(name, math.nan)) for name in names]


def _as_number(name: str, value: float) -> float:
    if not name.endswith(LOG_UNITS):
        return value
    return math.log(value) if value > 0 else math.nan


def _of_scan(scans: CaseScans, column: str, wanted: MeasureRequest) -> dict[str, dict[str, float]]:
    volume = to_ras(scans.volume(column))
    groups: dict[str, dict[str, float]] = {}
    if "scan" in wanted.groups:
        groups["scan"] = scan_statistics(scan_facts(volume))
    if "foreground" in wanted.groups:
        groups["foreground"] = _foreground(volume, wanted.modality)
    if wanted.needs_mask:
        for label, measures in _structures(scans, column, volume, wanted).items():
            groups[str(label)] = measures
    return groups


def scan_statistics(facts: ScanFacts) -> dict[str, float]:
    """Size, spacing and raw intensities of a scan as it was stored: the group ``scan``."""
    axes = list(zip("xyz", facts.shape, facts.spacing, strict=True))
    measures = {f"extent_{axis}_mm": count * step for axis, count, step in axes}
    measures |= {f"spacing_{axis}_mm": float(step) for axis, _, step in axes}
    return measures | {f"raw_{name}": float(value) for name, value in asdict(facts.intensities).items()}


def _foreground(volume: Volume, modality: Modality) -> dict[str, float]:
    steps = np.ones(3, dtype=int)
    while np.prod(-(-np.array(volume.shape) // steps)) > MOST_FOREGROUND:
        steps[int(np.argmin(steps * np.asarray(volume.spacing)))] += 1
    voxels = volume.voxels[:: steps[0], :: steps[1], :: steps[2]]
    spacing = tuple(float(step) for step in steps * np.asarray(volume.spacing))
    inside = foreground(voxels)
    scale, hounsfield = scale_of(voxels), modality == "CT"
    measures = shape_measures(inside, spacing) | inside_measures(voxels, inside, spacing, scale, hounsfield=hounsfield)
    middle, width = scale
    return measures | {"share": float(inside.mean()), "threshold": (otsu_threshold(voxels) - middle) / width}


def _structures(scans: CaseScans, column: str, volume: Volume, wanted: MeasureRequest) -> dict[int, dict[str, float]]:
    mask = scans.case.mask(column)
    if mask is None:
        raise ScanError(f"{column}: its segmentation is needed as well; give it in the mask column")
    labels = read_on_grid(scans.case.masks[mask], scans.header(column), spacing=scans.case.spacing)
    looked_for = annotated_labels(scans.case)
    structures = wanted.structures or tuple(int(label) for label in np.unique(labels) if label)
    if len(structures) > MOST_STRUCTURES:
        raise ScanError(
            f"{column}: expected at most {MOST_STRUCTURES} structures in a segmentation to measure, got "
            f"{len(structures)}; merge some, or keep those that matter"
        )
    scale, spacing = scale_of(volume.voxels[::2, ::2, ::2]), tuple(float(step) for step in volume.spacing)
    hounsfield = wanted.modality == "CT"
    by_label: dict[int, dict[str, float]] = {}
    for label in structures:
        inside = labels == label
        known = looked_for is None or label in looked_for
        measures = {"absent": float(not inside.any()) if known else math.nan}
        measures |= shape_measures(inside, spacing)
        if "structure" in wanted.groups:
            measures |= inside_measures(volume.voxels, inside, spacing, scale, hounsfield=hounsfield)
        names = {name for group in wanted.groups for name in GROUPS[group].names} | {"absent"}
        names |= set(HOUNSFIELD) if hounsfield and "structure" in wanted.groups else set()
        by_label[label] = {name: value for name, value in measures.items() if name in names}
    return by_label


def _log_ratio(first: Mapping[str, float], second: Mapping[str, float], name: str) -> float:
    one, two = first.get(name, math.nan), second.get(name, math.nan)
    return math.log(one / two) if one > 0 and two > 0 else math.nan


def _bare(name: str) -> str:
    """A measure's name without its unit."""
    return name.rpartition("_")[0] if name.endswith(LOG_UNITS) else name


def _labels(parts: Iterable[str]) -> list[str]:
    """The structures among what was measured, in order."""
    return [str(label) for label in sorted(int(what) for what in parts if what.isdecimal())]


def _ratios(by_scan: Mapping[str, Mapping[str, Mapping[str, float]]]) -> dict[str, float]:
    """Of every two structures of one scan the logarithm of the ratio of their volumes."""
    ratios = {}
    for column, parts in by_scan.items():
        for first, second in combinations(_labels(parts), 2):
            ratios[f"{column}/{first}:{second}/volume_log_ratio"] = _log_ratio(parts[first], parts[second], "volume_ml")
    return ratios


def _changes(by_scan: Mapping[str, Mapping[str, Mapping[str, float]]], wanted: MeasureRequest) -> dict[str, float]:
    """Of every structure in two scans how its size and intensity differ."""
    changes = {}
    for first_column, second_column in combinations(wanted.columns, 2):
        both = {**by_scan.get(first_column, {}), **by_scan.get(second_column, {})}
        for label in _labels(both):
            first, second = (by_scan.get(column, {}).get(label, {}) for column in (first_column, second_column))
            what = f"{first_column}:{second_column}/{label}"
            for name in _COMPARED:
                changes[f"{what}/{_bare(name)}_log_ratio"] = _log_ratio(first, second, name)
            if "structure" in wanted.groups:
                for name in _CHANGED:
                    changes[f"{what}/{name}_difference"] = first.get(name, math.nan) - second.get(name, math.nan)
    return changes
