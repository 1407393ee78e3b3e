"""The recipe: a task file in this package, ``recipe.yaml``, with the manifest of the user in it. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path

from anymc3d.settings.config import TaskSettings
from anymc3d.settings.task_file import read_task
from anymc3d.vlm3d.labels import check_labels

_RESOURCE = files("anymc3d.vlm3d") / "recipe.yaml"


def recipe_text() -> str:
    """The recipe as it stands in the package, comments and all."""
    return _RESOURCE.read_text(encoding="utf-8")


def read_recipe(manifest: Path, overrides: Sequence[str] = (), *, recipe: Path | None = None) -> TaskSettings:
    """The task of one member.

    Args:
        manifest: with the 18 label columns; takes the place of the recipe's.
        overrides: ``key=value``, as of ``anymc3d train``.
        recipe: a task file to take instead of the package's.

    Raises:
        TaskFileError, UsageError: settings that cannot be used, or labels that are not those of the challenge.
    """
    if recipe is not None:
        task, source = read_task(recipe, overrides), str(recipe)
    else:
        with as_file(_RESOURCE) as path:
            task, source = read_task(path, overrides), "labels.columns"
    check_labels(task.labels.columns, source)
    return replace(task, data=replace(task.data, manifest=str(manifest.absolute())))
