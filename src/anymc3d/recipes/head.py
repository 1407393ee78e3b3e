"""T12: seventy-five findings of head CT (private)."""

from __future__ import annotations

from anymc3d.recipes.recipe import PAPER, Counts, PrintedAuroc, Recipe, RecipeLabels
from anymc3d.settings.views import ViewSettings
from anymc3d.settings.windows import window

T12 = Recipe(
    id="T12",
    name="head-ct",
    title="Seventy-five findings of head CT",
    modality="CT",
    labels=RecipeLabels(kind="multilabel", count=75),
    views={
        "image": ViewSettings(
            size=(224, 192, 40),
            plane="axial",
            normalise="window",
            windows=(window("bleeding"), window("tissue"), window("bone")),
        )
    },
    fractions=(0.803, 0.099, 0.098),
    split_rule="by patient, stratified on the labels",
    counts=Counts(total=29476, train=23657, val=2930, test=2889),
    access="private",
    data="private data of the paper's authors: the recipe runs on a manifest of your own",
    terms="not distributed",
    citation=PAPER,
    metric="macro auroc",
    printed=(PrintedAuroc(value=0.820, model="AnyMC3D", where="as quoted by public notes"),),
    reasons={
        "data.fractions": "as the paper's counts: 23,657 / 2,930 / 2,889",
        "labels.columns": "your own findings, as named with --labels; the paper has 75 that it does not list",
        "view.windows": "paper: bleeding, tissue, bone; their values are not printed, these are usual ones",
    },
    notes=("the values of the three windows are not printed: subdural, brain and bone windows in common use",),
)

RECIPES: tuple[Recipe, ...] = (T12,)
