"""T8 to T10: MR of the shoulder, several planes of a study (private)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from anymc3d.recipes.recipe import PAPER, Counts, Recipe, RecipeLabels
from anymc3d.settings.views import ViewSettings

PRIVATE = "private data of the paper's authors: the recipe runs on a manifest of your own"
ZSCORE_NOTE = (
    "supplement A2 normalises all slices by ImageNet's mean and deviation; on top of a z-score that moves them to "
    "where no backbone has been, so it is left out here (views.<view>.statistics: backbone is the letter of it)"
)
ZSCORE_REASON = {
    "view.statistics": "a z-score has mean 0 and deviation 1 already; the letter of the paper is: backbone"
}
BY_SUBJECT = "by subject: the totals exceed the subjects of supplement B2, so the units are studies or shoulders"


def _views(
    planes: Sequence[Literal["axial", "coronal", "sagittal"]], normalise: Literal["zscore", "percentile"]
) -> dict[str, ViewSettings]:
    """One acquisition per view, each in its own column; z-scores go to the backbone as they are."""
    statistics = "none" if normalise == "zscore" else None
    return {
        plane: ViewSettings(
            size=(320, 320, 28), image=f"image.{plane}", plane=plane, normalise=normalise, statistics=statistics
        )
        for plane in planes
    }


T8 = Recipe(
    id="T8",
    name="biceps",
    title="Biceps tendon at the shoulder, three classes",
    modality="MR",
    labels=RecipeLabels(kind="multiclass", columns=("biceps",), classes=("0", "1", "2")),
    views=_views(("axial", "sagittal"), "zscore"),
    fractions=(0.916, 0.042, 0.042),
    split_rule=BY_SUBJECT,
    counts=Counts(total=12159, train=11143, val=508, test=508, positive_percent=38.14),
    access="private",
    data=PRIVATE,
    terms="not distributed",
    citation=PAPER,
    metric="macro auroc",
    reasons={
        "data.fractions": "as the paper's counts: 11,143 / 508 / 508",
        "labels.columns": "a stand-in: name your own column with --labels; 0 is normal, 1 and 2 are the other classes",
    }
    | ZSCORE_REASON,
    notes=(
        "Table 3 prints 38.14 % positives, supplement B2 39.65 % that are not normal",
        ZSCORE_NOTE,
        "whether all listed planes were used is not printed: all are here",
    ),
)
T9 = Recipe(
    id="T9",
    name="bursa",
    title="Bursa of the shoulder",
    modality="MR",
    labels=RecipeLabels(kind="binary", columns=("bursa",), classes=("0", "1")),
    views=_views(("axial", "coronal", "sagittal"), "percentile"),
    fractions=(0.911, 0.0445, 0.0445),
    split_rule=BY_SUBJECT,
    counts=Counts(total=10978, train=10006, val=486, test=486, positive_percent=75.10),
    access="private",
    data=PRIVATE,
    terms="not distributed",
    citation=PAPER,
    reasons={
        "data.fractions": "as the paper's counts: 10,006 / 486 / 486",
        "labels.columns": "a stand-in: name your own column with --labels",
    },
    notes=("Table 3 prints 75.10 % positives, supplement B2 28.73 %: nearer to the share of negatives, equal to none",),
)
T10 = Recipe(
    id="T10",
    name="labrum",
    title="Labrum of the shoulder",
    modality="MR",
    labels=RecipeLabels(kind="binary", columns=("labrum",), classes=("0", "1")),
    views=_views(("coronal", "sagittal"), "zscore"),
    fractions=(0.919, 0.0405, 0.0405),
    split_rule=BY_SUBJECT,
    counts=Counts(total=12191, train=11203, val=494, test=494, positive_percent=78.34),
    access="private",
    data=PRIVATE,
    terms="not distributed",
    citation=PAPER,
    batch_size=1,
    reasons={
        "data.fractions": "as the paper's counts: 11,203 / 494 / 494",
        "labels.columns": "a stand-in: name your own column with --labels",
        "train.batch_size": "the paper: 1 for this task, 2 for all others",
    }
    | ZSCORE_REASON,
    notes=(
        "Table 3 prints 78.34 % positives, supplement B2 32.85 %: nearer to the share of negatives, equal to none",
        ZSCORE_NOTE,
        "the batch of 1 is printed for this task, 'due to the large input dimension'; T11 has the large input, so it "
        "may be a slip for T11",
    ),
)

RECIPES: tuple[Recipe, ...] = (T8, T9, T10)
