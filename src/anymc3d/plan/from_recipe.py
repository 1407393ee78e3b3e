"""``anymc3d plan MANIFEST --recipe T2``: the recipe's choices on the user's manifest, and where the two contradict.

What cannot work is an error: columns that are not there, labels outside their set. What may be a mistake is a warning,
and the task file says the same beside the setting.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from anymc3d.data.case import DRAWN_BY_NETWORK, MASK_SOURCE, is_family, view_of
from anymc3d.data.manifest import Manifest
from anymc3d.data.preprocess import AXES
from anymc3d.data.readers import read_volume
from anymc3d.errors import ScanError, UsageError
from anymc3d.plan.doubts import doubts
from anymc3d.plan.intensity import guess_majority
from anymc3d.plan.measure import DataSet, MeasuredColumn, Progress, read_data_set
from anymc3d.plan.region import mask_of
from anymc3d.plan.rules import choose_memory, choose_plane, patch_size_of, total_memory
from anymc3d.plan.task import Plan, image_columns, measure_training, split_reason, with_warnings
from anymc3d.recipes.recipe import Recipe
from anymc3d.recipes.settings import recipe_labels, recipe_task
from anymc3d.settings.config import LabelSettings
from anymc3d.settings.views import ViewSettings
from anymc3d.settings.windows import Pair, window_names

UNLIKE = 2.0
"""A median grid so many times larger or smaller than the recipe's size is reported."""
SEGMENTATION_PROGRAM = "TotalSegmentator"
TOTAL_LABELS = {"spleen": 1, "kidney_right": 2, "kidney_left": 3, "liver": 5}
TOTAL_LABELS |= {"small_bowel": 18, "duodenum": 19, "colon": 20}
"""Labels of the organs of the recipes, in TotalSegmentator's label map."""
CHALLENGE_LABELS = 5
"""RATIC's own segmentations number liver, spleen, kidneys and bowel 1 to 5: read as that map, another organ is cut."""
LOOKED_AT = 3
_CENTER = ("center_x", "center_y", "center_z")


def plan_recipe(
    manifest_path: Path | str,
    recipe: Recipe,
    *,
    label_columns: Sequence[str] = (),
    name: str | None = None,
    backbone_name: str | None = None,
    image_column: str | None = None,
    windows: tuple[Pair, ...] = (),
    seed: int = 0,
    progress: Progress = lambda count: None,
) -> Plan:
    """Plan one of the paper's tasks on a manifest.

    Args:
        manifest_path: CSV.
        recipe: of ``anymc3d.recipes.table.RECIPES``.
        label_columns: the user's own, in place of the recipe's.
        name: of the task; default the recipe's.
        backbone_name: in place of the recipe's.
        image_column: of a single-view recipe, when the manifest has several.
        windows: in place of the recipe's.
        seed: of the split, where the manifest has none.
        progress: called for each header read.

    Raises:
        ManifestError: every fault of the manifest, and every column that the recipe needs and the manifest lacks.
        UsageError: the recipe needs label columns to be named, or one of several image columns.
    """
    labels = recipe_labels(recipe, tuple(label_columns))
    data, views, warnings = _read(
        Path(manifest_path), recipe, labels, image_column, windows, bool(label_columns), progress
    )
    splits, measured = measure_training(data, recipe.fractions, seed)
    views, of_regions = _with_region_program(recipe, views, data.manifest)
    warnings += of_regions + _contradictions(recipe, views, {column.name: column for column in measured})
    warnings += _without_patients(data.manifest, recipe) + doubts(data, splits, measured)
    settings, reasons = recipe_task(
        recipe,
        manifest=str(data.manifest.path),
        labels=labels,
        views=views,
        name=name,
        backbone=backbone_name,
        split_seed=seed,
    )
    patch = patch_size_of(settings.backbone.name)
    memory = choose_memory([view.size for view in views.values()], settings.backbone.name, patch, total_memory())
    train = replace(settings.train, chunk_size=memory.chunk_size, recompute=memory.recompute)
    reasons |= {"data.manifest": split_reason(data.manifest, splits)} if data.manifest.has_splits else {}
    reasons |= {"train.recompute": memory.reason} if memory.recompute else {}
    reasons |= _asked_for(views, has_labels=bool(label_columns), has_windows=bool(windows))
    reasons = with_warnings(reasons, warnings)
    return Plan(replace(settings, train=train), reasons, tuple(warnings), splits.count("train"))


def _without_patients(manifest: Manifest, recipe: Recipe) -> list[str]:
    """One line where a split by case may differ from the recipe's."""
    if "patient" in manifest.columns or manifest.has_splits:
        return []
    return [f"no column 'patient', so each case is its own; the recipe splits {recipe.split_rule}"]


def _asked_for(views: Mapping[str, ViewSettings], *, has_labels: bool, has_windows: bool) -> dict[str, str]:
    """The reasons of what the user named in place of the recipe's."""
    reasons = {"labels.columns": "asked for"} if has_labels else {}
    for key, view in views.items() if has_windows else ():
        reasons[f"views.{key}.windows"] = f"asked for: {window_names(view.windows) or 'numbers'}"
    return reasons


def _read(
    path: Path,
    recipe: Recipe,
    labels: LabelSettings,
    image_column: str | None,
    windows: tuple[Pair, ...],
    own_labels: bool,
    progress: Progress,
) -> tuple[DataSet, dict[str, ViewSettings], list[str]]:
    """The manifest with its headers, the recipe's views of it, and what is different from the paper."""
    views: dict[str, ViewSettings] = {}
    warnings: list[str] = []

    def choose_columns(manifest: Manifest) -> tuple[str, ...]:
        views_by_key, view_warnings = _views_for(recipe, manifest, image_column)
        views.update({key: _with_windows(view, windows) for key, view in views_by_key.items()})
        warnings.extend(view_warnings)
        return tuple(dict.fromkeys(view.image for view in views_by_key.values()))

    data = read_data_set(
        path,
        labels.columns,
        choose_columns=choose_columns,
        labels=labels,
        needs=lambda manifest: _lacking(recipe, manifest, own_labels),
        progress=progress,
    )
    return data, views, warnings


def _with_windows(view: ViewSettings, windows: tuple[Pair, ...]) -> ViewSettings:
    return replace(view, normalise="window", windows=windows, statistics=None) if windows else view


def _lacking(recipe: Recipe, manifest: Manifest, own_labels: bool) -> list[str]:
    """One line per kind of column that the recipe needs and the manifest lacks."""
    problems = []
    absent = [column for column in recipe.labels.columns if column not in manifest.columns]
    if absent and not own_labels:
        where = f"`anymc3d data adapt` writes them for {recipe.adapter}" if recipe.adapter else "they are stand-ins"
        problems.append(f"recipe {recipe.id} needs {', '.join(absent)} ({where}); name your own with --labels")
    if recipe.roi is not None and recipe.roi.source == "point":
        without = [case for case in manifest.cases if case.center is None]
        if without:
            first = "all" if len(without) == len(manifest.cases) else f"row {without[0].row}"
            problems.append(
                f"recipe {recipe.id} needs a point of interest per case ({', '.join(_CENTER)}, world mm, RAS); "
                f"{len(without)} of {len(manifest.cases)} cases have none ({first})"
            )
    return problems + _foreign_masks(recipe, manifest)


def _foreign_masks(recipe: Recipe, manifest: Manifest) -> list[str]:
    """One line where the masks are the challenge's own and would be read as TotalSegmentator's."""
    if recipe.roi is None or recipe.roi.source != "totalsegmentator":
        return []
    wanted = {TOTAL_LABELS[organ] for organ in recipe.roi.organs}
    masks = [mask for case in manifest.cases if (mask := mask_of(case, "image")) and Path(mask).is_file()]
    for mask in masks[:LOOKED_AT]:
        try:
            labels = {int(label) for label in np.unique(read_volume(mask).voxels) if label > 0}
        except ScanError:
            continue
        if labels and max(labels) <= CHALLENGE_LABELS and not labels <= wanted:
            return [
                f"recipe {recipe.id} reads the column 'mask' as TotalSegmentator's output; its labels "
                f"{sorted(labels)} are those of the challenge's own segmentations (1 liver, 2 spleen, 3 and 4 kidneys,"
                " 5 bowel), so another organ would be cut out; rename the column, for instance challenge_mask"
            ]
    return []


def _views_for(
    recipe: Recipe, manifest: Manifest, image_column: str | None
) -> tuple[dict[str, ViewSettings], list[str]]:
    """The recipe's views with the manifest's image columns, and what is different from the paper."""
    columns = image_columns(manifest, image_column)
    if len(recipe.views) == 1:
        if len(columns) > 1:
            columns_text = ", ".join(columns)
            raise UsageError(
                f"recipe {recipe.id} has one view, the manifest has {columns_text}; choose one with --image"
            )
        return {name: replace(view, image=columns[0]) for name, view in recipe.views.items()}, []
    by_view = {view_of(column): column for column in columns}
    if set(recipe.views) <= set(by_view):
        return {name: replace(view, image=by_view[name]) for name, view in recipe.views.items()}, []
    if len(columns) == 1:
        warning = (
            f"recipe {recipe.id} has a scan per plane ({', '.join(recipe.views)}); here all are cut out of one scan"
        )
        return {name: replace(view, image=columns[0]) for name, view in recipe.views.items()}, [warning]
    needed = ", ".join(f"image.{name}" for name in recipe.views)
    raise UsageError(f"recipe {recipe.id} needs {needed}; the manifest has {', '.join(columns)}")


def _with_region_program(
    recipe: Recipe, views: Mapping[str, ViewSettings], manifest: Manifest
) -> tuple[dict[str, ViewSettings], list[str]]:
    """Where the organs come from: the mask column, or the TotalSegmentator program."""
    has_masks = any(is_family(column, "mask") for column in manifest.columns)
    all_have = has_masks and all(mask_of(case, "image") for case in manifest.cases)
    if recipe.roi is None or recipe.roi.source == "point":
        return dict(views), []
    if recipe.roi.source == "mask":
        return dict(views), _mask_doubts(recipe, manifest, has_masks)
    if all_have:
        organs = ", ".join(recipe.roi.organs)
        return dict(views), [f"recipe {recipe.id} takes the column 'mask' for TotalSegmentator's output ({organs})"]
    with_program = {
        name: replace(view, roi=replace(view.roi, program=SEGMENTATION_PROGRAM)) if view.roi else view
        for name, view in views.items()
    }
    has_program = shutil.which(SEGMENTATION_PROGRAM) is not None
    missing = f"recipe {recipe.id} crops to {', '.join(recipe.roi.organs)}: not every case has a mask, and no program"
    missing += (
        f" {SEGMENTATION_PROGRAM} on the search path; install it, add masks, or set roi: null for scans cut already"
    )
    named = f"recipe {recipe.id}: a program runs only if you name it: anymc3d train --segmenter {SEGMENTATION_PROGRAM}"
    return with_program, [named] if has_program else [missing]


def _mask_doubts(recipe: Recipe, manifest: Manifest, has_masks: bool) -> list[str]:
    """One line where a recipe does not crop to the masks of the paper: a network's, of every case alike."""
    how = f"'anymc3d pandx {manifest.path.name} -o PANDX' makes them, and PANDX/low/manifest.csv has them"
    if not has_masks:
        return [f"recipe {recipe.id} crops to a mask and the manifest has no column 'mask': add it; {how}"]
    others = sum(case.cells.get(MASK_SOURCE) != DRAWN_BY_NETWORK for case in manifest.cases)
    if not others:
        return []
    return [
        f"recipe {recipe.id} crops to masks, and {others} of {len(manifest.cases)} are not of the low-resolution "
        "network that the paper crops by: a box of other masks knows the lesion, and who drew them may go with the "
        f"label; {how}"
    ]


def _contradictions(
    recipe: Recipe, views: Mapping[str, ViewSettings], measured: Mapping[str, MeasuredColumn]
) -> list[str]:
    """One line per way in which the training scans are unlike the recipe's."""
    lines = []
    for column in measured.values():
        modality, why = guess_majority(column.samples)
        if modality != recipe.modality:
            lines.append(f"recipe {recipe.id} is for {recipe.modality}; {column.name} looks like {modality} ({why})")
    shared = len({view.image for view in views.values()}) < len(views)
    for name, view in views.items():
        column = measured[view.image]
        usual_plane, _ = choose_plane(column.grids)
        if not shared and view.plane not in ("auto", usual_plane) and column.grids.anisotropy > UNLIKE:
            lines.append(
                f"recipe {recipe.id}: view {name} is {view.plane}, most scans of {view.image} are {usual_plane}"
            )
        lines += size_lines(recipe, name, view, column)
    return lines


def size_lines(recipe: Recipe, name: str, view: ViewSettings, column: MeasuredColumn) -> list[str]:
    """One line where the median scan is unlike the view's size; a larger one may have a region cut out of it."""
    axes = AXES["axial" if view.plane == "auto" else view.plane]
    median = np.median(column.grids.shapes, axis=0)[list(axes)]
    ratio = median / np.array([size or length for size, length in zip(view.size, median, strict=True)])
    too_small, too_large = ratio < 1 / UNLIKE, (ratio > UNLIKE) & (view.roi is None)
    if not (too_small | too_large).any():
        return []
    have = " x ".join(f"{length:g}" for length in median)
    want = " x ".join(map(str, view.size))
    kind = "smaller" if too_small.any() else "larger"
    return [f"recipe {recipe.id}: view {name} is {want}, the median scan is {have} voxels, far {kind} than expected"]
