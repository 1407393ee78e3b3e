"""Table 3: the data sets, those of the paper as its recipes have them, and the own ones as measured."""

from __future__ import annotations

from anymc3d.benchmark.tables.grid import EMPTY, Grid
from anymc3d.benchmark.tables.rows import Results
from anymc3d.recipes.recipe import Recipe
from anymc3d.recipes.table import RECIPES

COLUMNS = ("task", "what", "modality", "intensities", "size", "total", "train", "val", "test", "positive %")


def data_sets(results: Results) -> Grid:
    """Sizes are in-plane x, in-plane y, slices."""
    task_rows = [
        [
            row["task"],
            row["name"],
            row["modality"],
            row["normalise"],
            row["size"],
            *(row[name] or EMPTY for name in ("total", "train", "val", "test", "positive_percent")),
        ]
        for row in results.data_sets
    ]
    notes = [f"{recipe.id}: {note}" for recipe in RECIPES.values() for note in recipe.notes if "Table 3" in note]
    notes.append("T1 to T12: as printed in Table 3; own tasks as measured on the cases of this benchmark")
    return Grid(
        title="Data sets (Table 3)",
        columns=COLUMNS,
        rows=[*task_rows, *map(_of_recipe, RECIPES.values())],
        notes=notes,
        names=5,
    )


def _of_recipe(recipe: Recipe) -> list[str]:
    view, counts = next(iter(recipe.views.values())), recipe.counts
    windows = " ".join(f"[{low:g},{high:g}]" for low, high in view.windows)
    percent = EMPTY if counts.positive_percent is None else f"{counts.positive_percent:g}"
    numbers = (f"{number}" for number in (counts.total, counts.train, counts.val, counts.test))
    return [
        recipe.id,
        recipe.title,
        recipe.modality,
        windows or view.normalise,
        "x".join(map(str, view.size)),
        *numbers,
        percent,
    ]
