"""A plan measures training scans, gives reasons, and reports every fault at once."""

import csv
from pathlib import Path

import nibabel
import numpy as np
import pytest

from anymc3d.errors import ManifestError, TaskFileError, UsageError
from anymc3d.plan import plan_task
from anymc3d.settings.task_file import read_task, write_task

SHARED = Path(__file__).parents[3] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data beside the repository")


def save(path, shape, spacing=(1.0, 1.0, 1.0), *, kind="mr", axes=(0, 1, 2), seed=0):
    """A NIfTI scan of RAS ``shape``; ``axes`` is the order in which they are stored."""
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 400, shape) - 200 if kind == "ct" else rng.gamma(2.0, 100.0, shape)
    affine = np.diag([*spacing, 1.0])[:, [*axes, 3]]
    nibabel.save(nibabel.Nifti1Image(values.transpose(axes).astype(np.int16), affine), path)


def study(folder, rows, **columns):
    """``rows``: (file, shape, label); the manifest of them, with further columns."""
    folder.mkdir(exist_ok=True)
    for index, (name, shape, _) in enumerate(rows):
        save(folder / name, shape, seed=index)
    table = [{"image": name, "y": label} for name, _, label in rows]
    for column, values in columns.items():
        for row, value in zip(table, values, strict=True):
            row[column] = value
    return write(folder / "m.csv", table)


def write(path, table):
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    return path


def leaking(count=40, splits=()):
    """Positive scans are larger, in the rows of ``splits`` (default all)."""
    rows = []
    for index in range(count):
        label = index % 2
        larger = label and (not splits or splits[index] == "train")
        rows.append((f"{index}.nii", (20, 22, 18 + 6 * larger + index % 3), label))
    return rows


def test_a_plan_of_equal_scans(tmp_path):
    manifest = study(tmp_path, [(f"{i}.nii", (30, 40, 20), i % 2) for i in range(20)])
    plan = plan_task(manifest, ["y"])
    view = plan.settings.views["image"]
    assert (view.size, view.plane, view.field_of_view) == ((98, 126, 20), "axial", None)
    assert (plan.settings.data.modality, view.normalise) == ("MR", "percentile")
    assert (plan.settings.name, plan.settings.labels.kind) == ("y", "binary")
    assert "no 'patient' column" in plan.reasons["data.fractions"]
    assert plan.reasons["views.image.size"].startswith("median scan 30 x 40 px")


def test_ct_gets_the_soft_tissue_window(tmp_path):
    for index in range(4):
        save(tmp_path / f"{index}.nii", (20, 20, 8), (1.0, 1.0, 5.0), kind="ct")
    manifest = write(tmp_path / "m.csv", [{"image": f"{i}.nii", "y": i % 2} for i in range(4)])
    settings = plan_task(manifest, ["y"]).settings
    assert settings.data.modality == "CT"
    assert settings.views["image"].windows == ((-150.0, 250.0),)


def test_a_crop_size_that_gives_the_label_away_sets_a_field_of_view(tmp_path):
    plan = plan_task(study(tmp_path, leaking()), ["y"])
    field = plan.settings.views["image"].field_of_view
    assert field[:2] == (20.0, 22.0)
    assert field[2] in (25.0, 26.0)
    assert "size alone" in plan.reasons["views.image.field_of_view"]


def test_B16_test_rows_change_nothing(tmp_path):
    splits = (["train"] * 6 + ["test"] * 4) * 4
    honest = [(f"{i}.nii", (20, 22, 18 + i % 3), i % 2) for i in range(40)]
    others = [
        (name, (60, 50, 40), 1 - label) if split == "test" else (name, shape, label)
        for split, (name, shape, label) in zip(splits, honest, strict=True)
    ]
    first = plan_task(study(tmp_path / "a", honest, split=splits), ["y"])
    second = plan_task(study(tmp_path / "b", others, split=splits), ["y"])
    assert first.reasons == second.reasons
    assert first.settings.views == second.settings.views
    assert first.settings.labels == second.settings.labels


def test_B1_the_order_in_which_axes_are_stored_does_not_matter(tmp_path):
    plans = []
    for axes in ((0, 1, 2), (2, 0, 1)):
        folder = tmp_path / str(axes[0])
        folder.mkdir()
        for index in range(6):
            save(folder / f"{index}.nii", (12, 30, 40), (4.0, 1.0, 1.0), axes=axes, seed=index)
        manifest = write(folder / "m.csv", [{"image": f"{i}.nii", "y": i % 2} for i in range(6)])
        plans.append(plan_task(manifest, ["y"]))
    assert plans[0].settings.views == plans[1].settings.views
    assert plans[0].settings.views["image"].plane == "sagittal"
    assert plans[0].settings.views["image"].size == (98, 126, 12)


def test_several_image_columns_are_several_views(tmp_path):
    for index in range(6):
        save(tmp_path / f"ax{index}.nii", (40, 40, 10), (1.0, 1.0, 4.0), seed=index)
        save(tmp_path / f"sag{index}.nii", (10, 40, 40), (4.0, 1.0, 1.0), seed=index)
    table = [
        {"case": str(i), "image.axial": f"ax{i}.nii", "image.sagittal": "" if i == 3 else f"sag{i}.nii", "y": i % 2}
        for i in range(6)
    ]
    manifest = write(tmp_path / "m.csv", table)
    views = plan_task(manifest, ["y"]).settings.views
    assert {name: (view.image, view.plane) for name, view in views.items()} == {
        "axial": ("image.axial", "axial"),
        "sagittal": ("image.sagittal", "sagittal"),
    }
    alone = plan_task(manifest, ["y"], image_column="image.sagittal").settings.views
    assert {name: view.image for name, view in alone.items()} == {"image": "image.sagittal"}
    with pytest.raises(UsageError, match="choose one image column"):
        plan_task(manifest, ["y"], planes=["axial", "coronal"])


def test_planes_of_one_image_become_views_and_fit_one_screen(tmp_path):
    manifest = study(tmp_path, leaking())
    plan = plan_task(manifest, ["y"], planes=["axial", "coronal", "sagittal"])
    fields = {name: view.field_of_view for name, view in plan.settings.views.items()}
    x, y, z = fields["axial"]
    assert fields == {"axial": (x, y, z), "coronal": (x, z, y), "sagittal": (y, z, x)}
    write_task(tmp_path / "task.yaml", plan.settings, plan.reasons)
    assert len((tmp_path / "task.yaml").read_text().splitlines()) <= 45
    assert read_task(tmp_path / "task.yaml") == plan.settings


@pytest.mark.parametrize("planes", [["axial", "axial"], ["axiall"]])
def test_wrong_planes_are_refused(tmp_path, planes):
    with pytest.raises(UsageError, match="views"):
        plan_task(study(tmp_path, leaking(4)), ["y"], planes=planes)


def test_A14_faults_of_manifest_labels_and_headers_are_one_report(tmp_path):
    manifest = study(tmp_path, leaking(8))
    (tmp_path / "2.nii").write_bytes(b"not a scan")
    (tmp_path / "3.nii").write_bytes(b"")
    (tmp_path / "4.nii").unlink()
    text = manifest.read_text().replace("7.nii,1", "7.nii,n/a")
    manifest.write_text(text)
    with pytest.raises(ManifestError) as caught:
        plan_task(manifest, ["y"])
    found = "\n".join(caught.value.problems)
    for row in (4, 5, 6, 9):
        assert f"row {row}: " in found, found
    assert len(caught.value.problems) == 4


def test_a_misspelt_label_column_is_told_at_once(tmp_path):
    with pytest.raises(ManifestError, match="no label column 'yy'"):
        plan_task(study(tmp_path, leaking(4)), ["yy"])


def with_masks(folder, *, empty=()):
    """Scans of 60 x 60 x 40 voxels with a mask of 21 x 11 x 9 of them, in another place each."""
    manifest = study(folder, [(f"{i}.nii", (60, 60, 40), i % 2) for i in range(20)])
    lines = [manifest.read_text().splitlines()[0] + ",mask"]
    for index, line in enumerate(manifest.read_text().splitlines()[1:]):
        mask = np.zeros((60, 60, 40), dtype=np.uint8)
        mask[5 + index : 26 + index, 20:31, 12:21] = index not in empty
        nibabel.save(nibabel.Nifti1Image(mask, np.eye(4)), folder / f"mask{index}.nii")
        lines.append(f"{line},mask{index}.nii")
    manifest.write_text("\n".join(lines))
    return manifest


def test_masks_are_proposed_as_the_region_and_taken_only_when_asked_for(tmp_path):
    manifest = with_masks(tmp_path)
    whole = plan_task(manifest, ["y"])
    assert whole.settings.views["image"].roi is None
    assert "41 x 31 x 29 mm, 26% of the scan: --roi mask crops" in whole.reasons["views.image.roi"]
    crop = plan_task(manifest, ["y"], roi="mask")
    assert crop.settings.views["image"].roi.source == "mask"
    assert crop.settings.views["image"].size == (126, 98, 29)
    assert crop.settings.views["image"].field_of_view is None
    write_task(tmp_path / "task.yaml", crop.settings, crop.reasons)
    assert read_task(tmp_path / "task.yaml") == crop.settings


def test_a_region_that_not_every_case_has_is_refused(tmp_path):
    manifest = with_masks(tmp_path, empty=range(20))
    with pytest.raises(UsageError, match="masks looked at are empty or unreadable"):
        plan_task(manifest, ["y"], roi="mask")
    assert "no region for every case" in plan_task(manifest, ["y"]).reasons["views.image.roi"]
    manifest.write_text(manifest.read_text().replace(",mask3.nii", ","))
    with pytest.raises(UsageError, match=r"1 of 20 cases have no mask \(row 5 is the first\)"):
        plan_task(manifest, ["y"], roi="mask")


def test_a_box_about_each_cases_point_is_planned_when_asked_for(tmp_path):
    manifest = study(tmp_path, [(f"{i}.nii", (60, 60, 40), i % 2) for i in range(20)])
    lines = manifest.read_text().splitlines()
    manifest.write_text(
        "\n".join([f"{lines[0]},center_x,center_y,center_z", *(f"{line},30,30,20" for line in lines[1:])])
    )
    assert "--roi point shows a box of 64 mm" in plan_task(manifest, ["y"]).reasons["views.image.roi"]
    plan = plan_task(manifest, ["y"], roi="point", planes=["axial", "coronal", "sagittal"])
    views = plan.settings.views
    assert {view.roi.size_mm for view in views.values()} == {(64.0, 64.0, 64.0)}
    assert {view.size for view in views.values()} == {(98, 98, 64)}, "of the box, which is 64 voxels along each axis"
    assert "new scans need one" in plan.reasons["views.axial.roi"]
    manifest.write_text(manifest.read_text().replace("30,30,20", ",,", 1))
    with pytest.raises(
        UsageError, match=r"--roi point: 1 of 20 cases have no point of interest \(row 2 is the first\)"
    ):
        plan_task(manifest, ["y"], roi="point")


def test_a_region_of_a_file_is_measured_where_it_is_found(tmp_path):
    manifest = with_masks(tmp_path)
    file = tmp_path / "region.yaml"
    file.write_text("roi: {source: mask, classes: [1], margin_mm: [2, 2, 2]}")
    crop = plan_task(manifest, ["y"], roi=file)
    assert crop.settings.views["image"].roi.margin_mm == (2.0, 2.0, 2.0)
    assert crop.settings.views["image"].size[2] == 13, "9 slices and 2 mm on either side"
    file.write_text("{source: mask, classes: [7]}")
    with pytest.raises(UsageError, match=r"no region in any of the .* scans looked at; the last: the region is empty"):
        plan_task(manifest, ["y"], roi=file)
    file.write_text("source: mask\nclases: [1]")
    with pytest.raises(TaskFileError, match=r"did you mean .classes."):
        plan_task(manifest, ["y"], roi=file)
    file.write_text("{source: totalsegmentator, organs: [liver]}")
    with pytest.raises(UsageError, match=r"20 of 20 cases have no mask.*name the program that draws it"):
        plan_task(study(tmp_path, [(f"{i}.nii", (60, 60, 40), i % 2) for i in range(20)]), ["y"], roi=file)
    with pytest.raises(TaskFileError, match="no such file; expected mask, point, or a file"):
        plan_task(manifest, ["y"], roi="masks")


def test_B1_the_order_of_the_rows_changes_no_choice_and_no_reason(tmp_path):
    rows = [(f"{i}.nii", (20 + i % 3, 22, 18 + i % 5), i % 2) for i in range(30)]
    manifest = study(tmp_path, rows)
    head, *lines = manifest.read_text().splitlines()
    first = plan_task(manifest, ["y"])
    manifest.write_text("\n".join([head, *reversed(lines)]))
    second = plan_task(manifest, ["y"])
    assert (first.settings, first.reasons) == (second.settings, second.reasons)


def test_headers_like_panoramas_give_the_size_of_the_papers_task(tmp_path):
    """425 x 230.5 x 74 voxels of 0.747 x 0.747 x 1.5 mm: the public median, here of eight scans of other sizes."""
    shapes = [(425, 230, 74), (425, 231, 74), (418, 225, 70), (432, 236, 78)]
    table = []
    for index in range(16):
        voxels = np.zeros(shapes[index % 4], dtype=np.uint8)
        voxels[10:20, 10:20, 10:20] = 7
        voxels[30:40, 10:20, 10:20] = 200
        nibabel.save(nibabel.Nifti1Image(voxels, np.diag([0.747, 0.747, 1.5, 1])), tmp_path / f"{index}.nii.gz")
        # Splits of the manifest: each kind of scan is as often in training as any other.
        table.append(
            {"image": f"{index}.nii.gz", "pdac": index // 4 % 2, "split": ["train", "train", "val", "test"][index // 4]}
        )
    plan = plan_task(write(tmp_path / "m.csv", table), ["pdac"], backbone_name="dinov3-large")
    assert plan.settings.views["image"].size == (432, 240, 70)
    assert plan.settings.views["image"].plane == "axial"


@pytest.mark.real_data
@needs_shared
def test_hippocampus_crops_leak_their_size_and_get_one_field_of_view(tmp_path):
    folder = SHARED / "hippocampus_mr"
    with (folder / "labels.csv").open(newline="") as stream:
        table = [
            {"image": str(folder / "images" / f"{row['id']}.nii.gz"), "small_volume": row["small_volume"]}
            for row in csv.DictReader(stream)
        ]
    plan = plan_task(write(tmp_path / "m.csv", table), ["small_volume"])
    view = plan.settings.views["image"]
    assert view.field_of_view is not None
    assert min(view.field_of_view) >= 40
    assert "separates small_volume with AUROC 0.7" in plan.reasons["views.image.field_of_view"]
    assert plan.settings.data.modality == "MR"
    assert min(view.size[:2]) >= 98


@pytest.mark.real_data
@needs_shared
def test_adrenalmnist3d_is_planned_from_its_file_alone(tmp_path):
    plan = plan_task(SHARED / "adrenalmnist3d" / "adrenalmnist3d_64.npz", ["label"])
    view = plan.settings.views["image"]
    assert (view.size, view.field_of_view) == ((98, 98, 64), None)
    assert (view.normalise, view.windows) == ("window", ((0.0, 255.0),))
    assert "1188 train, 98 val, 298 test" in plan.reasons["data.manifest"]
    write_task(tmp_path / "task.yaml", plan.settings, plan.reasons)
    assert read_task(tmp_path / "task.yaml") == plan.settings
