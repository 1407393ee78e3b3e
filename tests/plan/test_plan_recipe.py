"""Every recipe goes from a manifest of tiny scans to a task file and prepared slices; contradictions are told."""

import csv
from dataclasses import replace

import nibabel
import numpy as np
import pytest

from anymc3d.data.preprocess import prepare_view
from anymc3d.data.readers import read_volume
from anymc3d.errors import ManifestError, UsageError
from anymc3d.plan import plan_recipe
from anymc3d.plan.from_recipe import size_lines
from anymc3d.plan.measure import MeasuredColumn
from anymc3d.plan.rules import Grids
from anymc3d.recipes.table import RECIPES
from anymc3d.settings.task_file import read_task, write_task

NUM_CASES = 24


def image_columns(recipe):
    return ["image"] if len(recipe.views) == 1 else [f"image.{name}" for name in recipe.views]


def label_columns(recipe):
    return recipe.labels.columns or tuple(f"finding {index}" for index in range(recipe.labels.count))


def save(path, shape, *, kind, seed, plane="axial", spacing=(2.0, 2.0, 5.0)):
    """A tiny scan; the thick axis lies across ``plane``."""
    rng = np.random.default_rng(seed)
    values = rng.normal(-200, 400, shape) if kind == "CT" else rng.gamma(2.0, 100.0, shape)
    order = {"axial": (0, 1, 2), "coronal": (0, 2, 1), "sagittal": (2, 0, 1)}[plane]
    affine = np.diag([*(spacing[axis] for axis in order), 1.0])
    nibabel.save(nibabel.Nifti1Image(values.transpose(order).astype(np.int16), affine), path)


def write(path, rows):
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def study(folder, recipe, *, kind=None, shape=(24, 22, 12), masks=False, **changed):
    """A manifest for a recipe, every other case positive; ``changed`` replaces columns (None leaves them out)."""
    rows = []
    for index in range(NUM_CASES):
        row = {"case": f"c{index}", "patient": f"p{index // 2}"}
        for column in image_columns(recipe):
            name = f"{index}_{column.replace('.', '_')}.nii"
            plane = column.partition(".")[2] or "axial"
            save(folder / name, shape, kind=kind or recipe.modality, seed=index, plane=plane)
            row[column] = name
        row |= {"center_x": 20, "center_y": 20, "center_z": 30} if recipe.roi and recipe.roi.source == "point" else {}
        if masks:
            mask = np.zeros(shape, dtype=np.uint8)
            mask[4:12, 5:15, 3:8] = 1
            nibabel.save(nibabel.Nifti1Image(mask, np.diag([2.0, 2.0, 5.0, 1.0])), folder / f"mask{index}.nii")
            row["mask"] = f"mask{index}.nii"
        count = max(2, len(recipe.labels.classes))
        row |= {name: (index + at) % count for at, name in enumerate(label_columns(recipe))}
        row |= changed
        rows.append({key: value for key, value in row.items() if value is not None})
    return write(folder / "m.csv", rows)


def plan(manifest, recipe, **options):
    own = {} if recipe.labels.columns else {"label_columns": label_columns(recipe)}
    return plan_recipe(manifest, recipe, **own | options)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_every_recipe_goes_from_manifest_to_prepared_slices(recipe, tmp_path):
    manifest = study(tmp_path, recipe, masks=recipe.id == "T5")
    result = plan(manifest, recipe)
    write_task(tmp_path / "task.yaml", result.settings, result.reasons)
    task = read_task(tmp_path / "task.yaml")
    assert task == result.settings
    assert {name: view.size for name, view in task.views.items()} == {
        name: view.size for name, view in recipe.views.items()
    }
    assert task.data.fractions == recipe.fractions
    for view in task.views.values():
        # A quarter of the size along each axis, and the whole scan: this is about the settings, not the wait.
        height, width, slices = view.size
        small = replace(view, size=(height // 4, width // 4, slices // 4), roi=None)
        prepared = prepare_view(read_volume(tmp_path / f"0_{view.image.replace('.', '_')}.nii"), small)
        assert prepared.slices.shape == (slices // 4, view.num_channels, height // 4, width // 4)
        assert np.isfinite(prepared.slices).all()
        assert prepared.plane == view.plane


def test_T5_says_whose_masks_it_crops_to(tmp_path):
    """A box of masks that people drew knows the lesion; the paper's is of a network, of every case alike."""
    manifest = study(tmp_path, RECIPES["T5"], masks=True, mask_source="manual")
    (line,) = [line for line in plan(manifest, RECIPES["T5"]).warnings if "crops to masks" in line]
    cases = len(manifest.read_text().splitlines()) - 1
    assert f"{cases} of {cases} are not of the low-resolution network" in line and "anymc3d pandx m.csv" in line
    manifest.write_text(manifest.read_text().replace("manual", "low-resolution network"))
    assert not [line for line in plan(manifest, RECIPES["T5"]).warnings if "masks" in line]


def test_what_the_recipe_says_stands_in_the_task_with_its_source(tmp_path):
    result = plan_recipe(study(tmp_path, RECIPES["T2"]), RECIPES["T2"])
    assert result.settings.name == "liver-injury"
    assert result.settings.augmentation == "paper"
    assert result.settings.backbone.name == "dinov3-large"
    assert result.reasons["views.image.size"] == "paper, Table 3"
    assert result.settings.views["image"].roi.organs == ("liver",)


def test_what_the_user_names_wins_and_says_so(tmp_path):
    manifest = study(tmp_path, RECIPES["T2"], liver_injury=None, hurt=None)
    text = manifest.read_text().splitlines()
    rows = [text[0] + ",hurt", *(f"{line},{index % 2}" for index, line in enumerate(text[1:]))]
    manifest.write_text("\n".join(rows))
    result = plan_recipe(
        manifest,
        RECIPES["T2"],
        label_columns=["hurt"],
        name="mine",
        backbone_name="dinov2-small",
        windows=((-1000.0, 400.0),),
    )
    assert (result.settings.name, result.settings.labels.columns) == ("mine", ("hurt",))
    assert result.settings.views["image"].windows == ((-1000, 400),)
    assert result.reasons["views.image.windows"] == "asked for: lung"
    assert result.reasons["backbone"] == "asked for; the paper's is dinov3-large"
    assert result.reasons["labels.columns"] == "asked for"


def test_a_manifest_without_the_labels_is_told_what_the_recipe_needs(tmp_path):
    with pytest.raises(ManifestError) as caught:
        plan_recipe(study(tmp_path, RECIPES["T2"], liver_injury=None, liver=0), RECIPES["T2"])
    found = "\n".join(caught.value.problems)
    assert "recipe T2 needs liver_injury (`anymc3d data adapt` writes them for ratic)" in found
    assert "--labels" in found


def test_labels_outside_the_recipes_set_are_named_by_row(tmp_path):
    manifest = study(tmp_path, RECIPES["T2"], liver_injury="high")
    with pytest.raises(ManifestError, match="row 2: case 'c0': liver_injury is 'high', expected 0 or 1"):
        plan_recipe(manifest, RECIPES["T2"])


def test_nodules_need_a_point_of_interest(tmp_path):
    manifest = study(tmp_path, RECIPES["T6"], center_x=None, center_y=None, center_z=None)
    with pytest.raises(ManifestError, match="24 of 24 cases have none"):
        plan_recipe(manifest, RECIPES["T6"])


def test_B10_the_wrong_modality_is_a_warning_in_the_result_and_in_the_file(tmp_path):
    result = plan_recipe(
        study(tmp_path, RECIPES["T12"], kind="MR"), RECIPES["T12"], label_columns=label_columns(RECIPES["T12"])
    )
    (line,) = [line for line in result.warnings if "looks like MR" in line]
    assert "recipe T12 is for CT" in line
    assert f"CHECK: {line}" in result.reasons["name"]


def test_scans_far_from_the_recipes_size_are_told(tmp_path):
    small = plan(study(tmp_path, RECIPES["T11"]), RECIPES["T11"])
    assert any("476 x 476 x 240, the median scan is 24 x 22 x 12 voxels, far smaller" in w for w in small.warnings)


@pytest.mark.parametrize(
    ("task", "shape", "words"),
    [
        ("T12", (512, 512, 40), "far larger"),
        ("T12", (256, 256, 40), None),
        ("T12", (224, 192, 10), "far smaller"),
        ("T2", (512, 512, 400), None),
        ("T2", (100, 100, 80), "far smaller"),
    ],
)
def test_larger_scans_contradict_a_recipe_only_where_no_region_is_cut_out(task, shape, words):
    recipe = RECIPES[task]
    grids = Grids(np.array([shape], dtype=float), np.ones((1, 3)))
    column = MeasuredColumn(name="image", grids=grids, rows=(0,), samples=(), dtypes=(), mask_boxes={})
    told = size_lines(recipe, "image", recipe.views["image"], column)
    assert [words in line for line in told] == ([] if words is None else [True])


def test_a_view_of_another_plane_is_told(tmp_path):
    manifest = study(tmp_path, RECIPES["T10"])
    with manifest.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        row["image.coronal"], row["image.sagittal"] = row["image.sagittal"], row["image.coronal"]
    write(manifest, rows)
    told = "\n".join(plan_recipe(manifest, RECIPES["T10"]).warnings)
    assert "view coronal is coronal, most scans of image.coronal are sagittal" in told
    assert "view sagittal is sagittal, most scans of image.sagittal are coronal" in told


def test_one_image_column_gives_all_planes_and_says_so(tmp_path):
    manifest = study(tmp_path, RECIPES["T2"], biceps=0)
    with manifest.open(newline="") as stream:
        rows = [row | {"biceps": index % 3} for index, row in enumerate(csv.DictReader(stream))]
    write(manifest, rows)
    result = plan_recipe(manifest, RECIPES["T8"])
    assert {view.image for view in result.settings.views.values()} == {"image"}
    assert any("all are cut out of one scan" in line for line in result.warnings)


def test_columns_for_other_views_are_refused(tmp_path):
    manifest = study(tmp_path, RECIPES["T10"], labrum=0, liver_injury=1)
    with pytest.raises(UsageError, match=r"needs image\.axial, image\.sagittal; the manifest has image\.coronal"):
        plan_recipe(manifest, RECIPES["T8"], label_columns=["labrum"])
    with pytest.raises(UsageError, match="choose one with --image"):
        plan_recipe(manifest, RECIPES["T2"])


def test_without_masks_the_program_is_asked_for_and_its_absence_told(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    result = plan_recipe(study(tmp_path, RECIPES["T4"]), RECIPES["T4"])
    assert result.settings.views["image"].roi.program == "TotalSegmentator"
    assert any("no program TotalSegmentator on the search path" in line for line in result.warnings)
    (tmp_path / "with").mkdir()
    result = plan_recipe(study(tmp_path / "with", RECIPES["T4"], masks=True), RECIPES["T4"])
    assert result.settings.views["image"].roi.program is None
    assert any("column 'mask' for TotalSegmentator" in line for line in result.warnings)


def test_B10_masks_with_the_challenges_labels_are_never_taken_for_another_organ(tmp_path):
    """RATIC numbers the liver 1, TotalSegmentator the spleen: the wrong organ would be cut out in silence."""
    manifest = study(tmp_path, RECIPES["T4"], masks=True)
    assert plan_recipe(manifest, RECIPES["T4"]).settings.views["image"].roi.organs == ("spleen",)
    mask = np.zeros((24, 22, 12), dtype=np.uint8)
    mask[4:12, 5:15, 3:8], mask[14:20, 5:15, 3:8] = 1, 2
    nibabel.save(nibabel.Nifti1Image(mask, np.diag([2.0, 2.0, 5.0, 1.0])), tmp_path / "mask0.nii")
    with pytest.raises(ManifestError, match="challenge's own segmentations"):
        plan_recipe(manifest, RECIPES["T4"])


def test_a_split_of_the_manifest_is_kept(tmp_path):
    manifest = study(tmp_path, RECIPES["T2"])
    with manifest.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for index, row in enumerate(rows):
        row["split"] = ["train", "train", "val", "test"][index // 2 % 4]
    write(manifest, rows)
    result = plan_recipe(manifest, RECIPES["T2"])
    assert result.reasons["data.manifest"].startswith("its split column is used")
    assert not any("column 'patient'" in line for line in result.warnings)


def test_B12_a_manifest_without_patients_is_told(tmp_path):
    result = plan_recipe(study(tmp_path, RECIPES["T2"], patient=None), RECIPES["T2"])
    assert any("no column 'patient'" in line for line in result.warnings)
