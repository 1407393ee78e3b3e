"""The table of recipes: the twelve tasks of the paper, T1 to T12."""

from __future__ import annotations

from typing import Any

from anymc3d.errors import UsageError, did_you_mean
from anymc3d.recipes import abdomen, chest, head, shoulder
from anymc3d.recipes.recipe import Recipe
from anymc3d.settings.plain import to_plain

RECIPES: dict[str, Recipe] = {
    recipe.id: recipe
    for recipe in sorted(
        (*abdomen.RECIPES, *chest.RECIPES, *shoulder.RECIPES, *head.RECIPES), key=lambda recipe: int(recipe.id[1:])
    )
}


def find_recipe(text: str) -> Recipe:
    """A recipe by its id (``T2``, ``t2``) or its name (``liver-injury``).

    Raises:
        UsageError: there is none; the nearest one is suggested.
    """
    by_name = {recipe.name: recipe for recipe in RECIPES.values()}
    recipe = RECIPES.get(text.upper()) or by_name.get(text.lower())
    if recipe is None:
        near = did_you_mean(text.lower(), by_name) if len(text) > 3 else f"; known are {', '.join(RECIPES)}"
        raise UsageError(f"no recipe {text!r}{near}; `anymc3d benchmark --list-tasks` lists them")
    return recipe


def recipe_facts(recipe: Recipe) -> dict[str, Any]:
    """A recipe as JSON-ready data, complete, with K."""
    return to_plain(recipe) | {"num_logits": recipe.labels.num_logits}


def listing() -> list[str]:
    """The table for people: a line per task."""
    rows = [("task", "what", "data", "views", "size", "K", "scans", "printed AUROC"), *map(_row, RECIPES.values())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _row(recipe: Recipe) -> tuple[str, ...]:
    size = next(iter(recipe.views.values())).size
    return (
        recipe.id,
        recipe.title,
        f"{recipe.modality}, {recipe.access}" + (f" ({recipe.adapter})" if recipe.adapter else ""),
        "axial" if len(recipe.views) == 1 else ", ".join(recipe.views),
        "x".join(map(str, size)),
        str(recipe.labels.num_logits),
        f"{recipe.counts.total:,}",
        " / ".join(f"{printed.value:g}" for printed in recipe.printed if not printed.other_backbone) or "-",
    )
