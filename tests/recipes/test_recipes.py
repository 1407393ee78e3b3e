"""The twelve recipes: each builds a task, counts what the paper counts, and runs from manifest to prepared slices."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from anymc3d.errors import UsageError
from anymc3d.models.backbones import BACKBONES
from anymc3d.models.classifier import VolumeClassifier
from anymc3d.models.vit import empty_vit
from anymc3d.recipes.recipe import PAPER
from anymc3d.recipes.settings import recipe_labels, recipe_task
from anymc3d.recipes.table import RECIPES, find_recipe, listing, recipe_facts
from anymc3d.settings.task_file import read_task, write_task
from anymc3d.types import Modality

ALL = list(RECIPES.values())
TABLE_3 = {
    "T1": ("CT", (288, 224, 126), 4679, 2.23),
    "T2": ("CT", (288, 256, 80), 4701, 10.09),
    "T3": ("CT", (288, 128, 64), 4677, 5.99),
    "T4": ("CT", (160, 160, 70), 4695, 11.59),
    "T5": ("CT", (432, 240, 70), 2238, 30.20),
    "T6": ("CT", (224, 224, 70), 1140, 76.32),
    "T7": ("CT", (128, 128, 64), 5668, 14.04),
    "T8": ("MR", (320, 320, 28), 12159, 38.14),
    "T9": ("MR", (320, 320, 28), 10978, 75.10),
    "T10": ("MR", (320, 320, 28), 12191, 78.34),
    "T11": ("CT", (476, 476, 240), 50188, None),
    "T12": ("CT", (224, 192, 40), 29476, None),
}
ONE_VIEW_VIT_L = 1_193_984
"""LoRA of ViT-L/16: blocks and patch embedding (docs/method.md)."""


def columns_for(recipe):
    return () if recipe.labels.columns else tuple(f"finding {index}" for index in range(recipe.labels.count))


def task_of(recipe, manifest="/data/m.csv", **options):
    labels = recipe_labels(recipe, columns_for(recipe))
    return recipe_task(recipe, manifest=manifest, labels=labels, **options)


def test_there_are_the_twelve_tasks_in_their_order():
    assert list(RECIPES) == [f"T{number}" for number in range(1, 13)]
    assert len({recipe.name for recipe in ALL}) == 12


@pytest.mark.parametrize("recipe", ALL, ids=RECIPES)
def test_each_recipe_is_that_of_table_3(recipe):
    modality, size, total, positive = TABLE_3[recipe.id]
    kind: Modality = recipe.modality
    assert (kind, recipe.counts.total, recipe.counts.positive_percent) == (modality, total, positive)
    assert {view.size for view in recipe.views.values()} == {size}


@pytest.mark.parametrize("recipe", ALL, ids=RECIPES)
def test_the_fractions_are_those_of_the_printed_counts(recipe):
    counts = recipe.counts
    for fraction, count in zip(recipe.fractions, (counts.train, counts.val, counts.test), strict=True):
        assert abs(fraction - count / counts.total) < 0.003


@pytest.mark.parametrize("recipe", ALL, ids=RECIPES)
def test_each_recipe_is_a_task_file_of_one_screen_with_reasons_for_what_is_in_it(recipe, tmp_path):
    settings, reasons = task_of(recipe, str(tmp_path / "m.csv"))
    write_task(tmp_path / "task.yaml", settings, reasons)
    assert read_task(tmp_path / "task.yaml") == settings
    text = (tmp_path / "task.yaml").read_text()
    assert len(text.splitlines()) <= 60
    for key in ("name", "labels.columns", "data.fractions", "backbone", "augmentation", "train.batch_size"):
        assert key in reasons or (key == "labels.columns" and recipe.id in ("T5", "T11"))
    for name, view in settings.views.items():
        assert f"views.{name}.size" in reasons
        assert f"views.{name}.{'windows' if view.windows else 'normalise'}" in reasons
        assert (f"views.{name}.roi" in reasons) == (view.roi is not None)


def test_the_windows_are_the_printed_ones():
    shown = {recipe.id: [view.windows for view in recipe.views.values()] for recipe in ALL}
    assert all(shown[task] == [((-150, 250),)] for task in ("T1", "T2", "T3", "T4", "T5"))
    assert all(shown[task] == [((-1000, 400),)] for task in ("T6", "T7"))
    assert shown["T11"] == [((-1000, 1000), (-150, 250), (-1000, 400))]
    assert shown["T12"] == [((-20, 180), (0, 80), (-800, 2000))]
    assert [RECIPES[task].views["sagittal"].normalise for task in ("T8", "T9", "T10")] == [
        "zscore",
        "percentile",
        "zscore",
    ]


def test_the_views_of_the_shoulder_tasks_are_those_of_supplement_b2():
    assert list(RECIPES["T8"].views) == ["axial", "sagittal"]
    assert list(RECIPES["T9"].views) == ["axial", "coronal", "sagittal"]
    assert list(RECIPES["T10"].views) == ["coronal", "sagittal"]
    for task in ("T8", "T9", "T10"):
        assert all(view.plane == name for name, view in RECIPES[task].views.items())


def test_T10_alone_has_a_batch_of_one():
    assert {recipe.id: recipe.batch_size for recipe in ALL if recipe.batch_size != 2} == {"T10": 1}


@pytest.mark.parametrize("recipe", ALL, ids=RECIPES)
def test_K_and_trainable_parameters_are_those_of_the_paper(recipe):
    """One LoRA set and query per view, one task query over several views, one linear head."""
    settings, _ = task_of(recipe)
    num_logits = settings.labels.num_logits
    assert num_logits == recipe.labels.num_logits == {"T8": 3, "T11": 18, "T12": 75}.get(recipe.id, 2)
    views = len(settings.views)
    backbone = empty_vit(BACKBONES["dinov3-large"].config)
    model = VolumeClassifier(backbone, views=list(settings.views), num_logits=num_logits)
    queries = 1 if views == 1 else views + 1
    expected = views * ONE_VIEW_VIT_L + queries * 1024 + 1025 * num_logits
    assert sum(parameter.numel() for parameter in model.parameters()) == expected
    if recipe.labels.kind == "binary" and views == 1:
        assert expected == 1_197_058
        assert f"{expected / 1e6:.2f} M" == recipe.printed_parameters


def test_T11_on_its_own_backbone_has_half_a_million_parameters():
    recipe = RECIPES["T11"]
    backbone = empty_vit(BACKBONES[recipe.backbone].config)
    model = VolumeClassifier(backbone, views=["image"], num_logits=18)
    assert sum(parameter.numel() for parameter in model.parameters()) == 467_826
    assert f"{467_826 / 1e6:.1f} M" == recipe.printed_parameters


@pytest.mark.parametrize("recipe", ALL, ids=RECIPES)
def test_every_recipe_says_whose_data_under_which_terms_and_what_to_cite(recipe):
    assert recipe.data
    assert recipe.terms
    assert recipe.citation
    assert (recipe.adapter is not None) == (recipe.access == "public")
    assert recipe.access == "public" or recipe.citation == PAPER
    assert recipe.backbone in BACKBONES


def test_the_region_is_an_organ_a_mask_or_a_point():
    regions = {recipe.id: recipe.roi for recipe in ALL}
    assert regions["T1"].organs == ("small_bowel", "duodenum", "colon")
    assert regions["T3"].organs == ("kidney_right", "kidney_left")
    assert all(regions[task].margin_mm == (10, 10, 10) for task in ("T1", "T2", "T3", "T4"))
    assert (regions["T5"].source, regions["T5"].margin_mm) == ("mask", (100, 50, 15))
    assert (regions["T6"].size_mm, regions["T7"].size_mm) == ((112, 112, 112), (64, 64, 64))
    assert all(regions[task] is None for task in ("T8", "T9", "T10", "T11", "T12"))


def test_two_printed_values_of_one_task_are_both_kept():
    assert [printed.value for printed in RECIPES["T3"].printed] == [0.988, 0.984]
    assert [printed.value for printed in RECIPES["T11"].printed] == [0.882, 0.884]


@pytest.mark.parametrize("text", ["T2", "t2", "liver-injury", "Liver-Injury"])
def test_a_recipe_is_found_by_id_and_name(text):
    assert find_recipe(text).id == "T2"


@pytest.mark.parametrize(("text", "words"), [("T13", "known are T1"), ("liver-injry", "did you mean 'liver-injury'")])
def test_an_unknown_recipe_is_refused(text, words):
    with pytest.raises(UsageError, match=words):
        find_recipe(text)


def test_labels_of_the_users_own():
    assert recipe_labels(RECIPES["T2"], ("hurt",)).columns == ("hurt",)
    with pytest.raises(UsageError, match="one label column"):
        recipe_labels(RECIPES["T2"], ("a", "b"))
    with pytest.raises(UsageError, match="--labels"):
        recipe_labels(RECIPES["T12"])


def test_a_recipe_whose_counts_do_not_add_up_cannot_be_written():
    recipe = RECIPES["T2"]
    with pytest.raises(UsageError, match="4702"):
        replace(recipe, counts=replace(recipe.counts, val=472))


def test_the_facts_are_json_and_the_listing_has_a_line_per_task():
    facts = [recipe_facts(recipe) for recipe in ALL]
    assert [fact["id"] for fact in json.loads(json.dumps(facts))] == list(RECIPES)
    lines = listing()
    assert len(lines) == 13
    assert max(map(len, lines)) <= 140


def test_recipes_know_no_torch():
    code = "import sys, anymc3d.recipes.table, anymc3d.recipes.settings; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("recipe", ALL, ids=RECIPES)
def test_the_documentation_has_each_recipe_with_its_size_and_counts(recipe):
    page = (Path(__file__).resolve().parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8")
    first, second = [line for line in page.splitlines() if line.startswith(f"| {recipe.id} |")][:2]
    counts = recipe.counts
    size = next(iter(recipe.views.values())).size
    for text in (
        recipe.title,
        " × ".join(map(str, size)),
        f"{counts.total:,} ({counts.train:,} / {counts.val:,} / {counts.test:,})",
        *(f"{printed.value:g}" for printed in recipe.printed),
    ):
        assert text in first
    assert recipe.terms in second
    assert all(note in page for note in recipe.notes)
