"""From a recipe to the settings of a task, with a reason for every choice; nothing is measured here."""

from __future__ import annotations

from collections.abc import Mapping

from anymc3d.errors import UsageError
from anymc3d.recipes.recipe import Recipe
from anymc3d.settings.config import DataSettings, LabelSettings, TaskSettings
from anymc3d.settings.training import BackboneSettings, TrainSettings
from anymc3d.settings.views import ViewSettings
from anymc3d.settings.windows import window_names

TABLE_3 = "paper, Table 3"


def recipe_labels(recipe: Recipe, columns: tuple[str, ...] = ()) -> LabelSettings:
    """The targets; ``columns`` are the user's own, in place of the recipe's.

    Raises:
        UsageError: the recipe names no columns and none are given, or their number does not fit.
    """
    labels = recipe.labels
    if not columns and not labels.columns:
        raise UsageError(f"recipe {recipe.id} names no label columns (private data); name yours with --labels COL,COL…")
    if columns and labels.kind != "multilabel" and len(columns) != 1:
        raise UsageError(f"recipe {recipe.id} has one label column ({labels.kind}), got {len(columns)} with --labels")
    return labels.settings(columns)


def recipe_task(
    recipe: Recipe,
    *,
    manifest: str,
    labels: LabelSettings,
    views: Mapping[str, ViewSettings] | None = None,
    name: str | None = None,
    backbone: str | None = None,
    split_seed: int = 0,
) -> tuple[TaskSettings, dict[str, str]]:
    """The task and its reasons by dotted key.

    Args:
        recipe: what the paper says.
        manifest: path of the table of cases.
        labels: as :func:`recipe_labels` gives them.
        views: the recipe's, where a manifest needs others of the same names.
        name: of the task; default the recipe's.
        backbone: in place of the recipe's.
        split_seed: for a manifest without ``split``.
    """
    views = recipe.views if views is None else views
    settings = TaskSettings(
        name=name or recipe.name,
        labels=labels,
        data=DataSettings(
            manifest=manifest, modality=recipe.modality, fractions=recipe.fractions, split_seed=split_seed
        ),
        views=views,
        backbone=BackboneSettings(name=backbone or recipe.backbone),
        augmentation="paper",
        train=TrainSettings(epochs=100, batch_size=recipe.batch_size),
    )
    return settings, _reasons(recipe, settings)


def _reasons(recipe: Recipe, settings: TaskSettings) -> dict[str, str]:
    reasons = {
        "name": f"recipe {recipe.id}: {recipe.title}",
        "data.modality": TABLE_3,
        "augmentation": "paper, supplement A3: all ten operations",
        "train.epochs": f"paper, supplement A3: at most 100; the best by validation {recipe.metric} is kept",
        "train.batch_size": "paper, supplement A3",
    }
    for name, view in settings.views.items():
        reasons |= {f"views.{name}.{key}": text for key, text in _view_reasons(recipe, view).items()}
    of_task = {key: text for key, text in recipe.reasons.items() if not key.startswith("view.")}
    reasons |= of_task | {"data.fractions": f"{of_task['data.fractions']}; {recipe.split_rule}"}
    if settings.backbone.name == recipe.backbone:
        gated = (
            "; behind a registration, --backbone dinov2-large is free" if recipe.backbone.startswith("dinov3") else ""
        )
        reasons["backbone"] = recipe.reasons.get("backbone.name", "paper: DINOv3 ViT-L") + gated
    else:
        reasons["backbone"] = f"asked for; the paper's is {recipe.backbone}"
    reasons.pop("backbone.name", None)
    return reasons


def _view_reasons(recipe: Recipe, view: ViewSettings) -> dict[str, str]:
    how = "windows" if view.windows else "normalise"
    reasons = {"size": TABLE_3, how: ": ".join(filter(None, [TABLE_3, window_names(view.windows)]))}
    if view.roi is not None:
        reasons["roi"] = "paper: TotalSegmentator's box of the organ; the margin and the rule for cut organs are ours"
    of_view = {key.removeprefix("view."): text for key, text in recipe.reasons.items() if key.startswith("view.")}
    if view.statistics is None:
        of_view.pop("statistics", None)
    return reasons | of_view
