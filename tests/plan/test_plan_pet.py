"""PET is a modality: planned as such from DICOM and from NIfTI, trained and predicted in SUV, and compared. B10."""

from __future__ import annotations

import csv
from pathlib import Path

import nibabel
import numpy as np
import pytest

from anymc3d.cli.main import main
from anymc3d.files.tables import read_table
from anymc3d.plan import plan_task
from anymc3d.settings.task_file import read_task
from pet_scans import pet_series, uptake

SHAPE = (32, 28, 24)


def manifest(folder: Path, images: list[str]) -> Path:
    path = folder / "manifest.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["case", "image", "lesion"])
        writer.writerows([[f"p{k}", image, k % 2] for k, image in enumerate(images)])
    return path


def as_dicom(folder: Path, count: int = 10, **tags: object) -> Path:
    for k in range(count):
        pet_series(uptake(SHAPE, seed=k, hot=bool(k % 2)), **tags).write(folder / f"p{k}")
    return manifest(folder, [f"p{k}" for k in range(count)])


def as_nifti(folder: Path, scale: float = 1.0, count: int = 10, dtype: str = "f4") -> Path:
    for k in range(count):
        voxels = uptake(SHAPE, seed=k, hot=bool(k % 2)) * scale
        voxels = np.round(voxels).astype(dtype) if np.dtype(dtype).kind in "iu" else voxels.astype(dtype)
        nibabel.save(nibabel.Nifti1Image(voxels, np.diag([4.0, 4.0, 4.0, 1.0])), folder / f"p{k}.nii.gz")
    return manifest(folder, [f"p{k}.nii.gz" for k in range(count)])


@pytest.fixture(scope="module")
def dicom(tmp_path_factory) -> Path:
    return as_dicom(tmp_path_factory.mktemp("pet"))


def test_pet_from_dicom_is_planned_in_suv(dicom: Path) -> None:
    plan = plan_task(dicom, ["lesion"])
    view = plan.settings.views["image"]
    assert plan.settings.data.modality == "PT" and (view.normalise, view.windows) == ("suv", ((0.0, 10.0),))
    assert "the header says so" in plan.reasons["data.modality"]
    assert "the headers give SUV" in plan.reasons["views.image.windows"]


def test_pet_without_suv_is_planned_without_units_and_says_why(tmp_path: Path) -> None:
    plan = plan_task(as_dicom(tmp_path, PatientWeight=None), ["lesion"])
    view = plan.settings.views["image"]
    assert plan.settings.data.modality == "PT" and (view.normalise, view.windows) == ("percentile", ())
    assert "have no SUV (PatientWeight is missing)" in plan.reasons["views.image.normalise"]


@pytest.mark.parametrize(
    ("scale", "dtype", "normalise"), [(1.0, "f4", "suv"), (3600.0, "f4", "percentile"), (3600.0, "i4", "percentile")]
)
def test_pet_from_nifti_is_no_mr_and_no_label_map(tmp_path: Path, scale: float, dtype: str, normalise: str) -> None:
    plan = plan_task(as_nifti(tmp_path, scale, dtype=dtype), ["lesion"])
    assert plan.settings.data.modality == "PT"
    assert plan.settings.views["image"].normalise == normalise
    assert ("no SUV" in plan.reasons.get("views.image.normalise", "")) == (scale != 1.0)


def test_few_counts_are_no_label_map(tmp_path: Path) -> None:
    """Stored as small whole numbers, as some exports do."""
    plan = plan_task(as_nifti(tmp_path, 1.0, dtype="i2"), ["lesion"])
    assert plan.settings.data.modality == "PT" and "label map" not in plan.reasons["data.modality"]


def test_the_user_may_say_the_modality(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for k in range(6):
        voxels = rng.gamma(9.0, 400.0, SHAPE).astype(np.int16)  # as brain PET in Bq/ml, and as MR
        nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4) * [4, 4, 4, 1]), tmp_path / f"p{k}.nii.gz")
    table = manifest(tmp_path, [f"p{k}.nii.gz" for k in range(6)])
    guessed, told = plan_task(table, ["lesion"]), plan_task(table, ["lesion"], modality="PT")
    assert guessed.settings.data.modality == "MR" and "--modality PT" in guessed.reasons["data.modality"]
    assert told.settings.data.modality == "PT" and told.settings.views["image"].normalise == "percentile"
    out = tmp_path / "task.yaml"
    assert main(["plan", str(table), "--labels", "lesion", "--modality", "PT", "-o", str(out), "--quiet"]) == 0
    assert read_task(out).data.modality == "PT"


def test_windows_of_pet_have_names(tmp_path: Path, capsys) -> None:
    table = as_nifti(tmp_path)
    out = tmp_path / "task.yaml"
    words = ["plan", str(table), "--labels", "lesion", "-o", str(out), "--windows"]
    assert main([*words, "suv-20"]) == 0
    view = read_task(out).views["image"]
    assert (view.normalise, view.windows) == ("suv", ((0.0, 20.0),)) and "suv-20" in out.read_text()
    capsys.readouterr()
    text = out.read_text().replace("[[0.0, 20.0]]", "[lung]")
    assert "lung" in text
    out.write_text(text)
    assert main(["train", str(out), "-o", str(tmp_path / "run")]) == 2
    assert "lung is in Hounsfield units of CT, and data.modality is PT" in capsys.readouterr().err


def test_B10_pet_is_trained_predicted_and_compared(dicom: Path, tmp_path: Path, journey, capsys) -> None:
    """The whole way in SUV; a scan without SUV is refused with its tag, an MR told, Bq/ml in NIfTI told."""
    task = tmp_path / "task.yaml"
    assert (
        main(["plan", str(dicom), "--labels", "lesion", "--backbone", "tiny-random", "-o", str(task), "--quiet"]) == 0
    )
    run = tmp_path / "run"
    small = ["views.image.size=[14, 14, 4]", "train.epochs=1", "train.precision=fp32", "data.fractions=[0.5,0.3,0.2]"]
    assert main(["train", str(task), "-o", str(run), "--device", "cpu", "--quiet", *small]) == 0
    plugin, common = str(run / "plugin.safetensors"), ["--device", "cpu", "--quiet"]
    voxels = uptake(SHAPE, seed=50)
    good = pet_series(voxels).write(tmp_path / "good")
    bare = pet_series(voxels, PatientWeight=None).write(tmp_path / "bare")
    for name, scale in (("suv", 1.0), ("bqml", 3600.0)):
        nibabel.save(nibabel.Nifti1Image(voxels * scale, np.diag([4.0, 4, 4, 1])), tmp_path / f"{name}.nii.gz")
    inputs = [str(good), str(bare), str(tmp_path / "suv.nii.gz"), str(tmp_path / "bqml.nii.gz"), str(journey.scans[0])]
    assert main(["predict", "-p", plugin, "-i", *inputs, "-o", str(tmp_path / "out"), *common]) == 3
    rows = {row["case"]: row for row in read_table(tmp_path / "out" / "predictions.csv")}
    assert rows["good"]["status"] == "ok", rows["good"]["message"]
    assert rows["bare"]["status"] == "error" and "PatientWeight is missing" in rows["bare"]["message"]
    assert rows["suv"]["status"] == "ok", rows["suv"]["message"]
    assert rows["bqml"]["status"] == "warn" and "SUV and Bq/ml exchanged?" in rows["bqml"]["message"]
    assert rows["case00"]["status"] == "error" and "all voxels look the same" in rows["case00"]["message"]
    assert main(["predict", "-p", str(journey.plugin), "-i", str(good), "-o", str(tmp_path / "mr"), *common]) == 0
    (row,) = read_table(tmp_path / "mr" / "predictions.csv")
    assert "the header says PT, the plugin was trained on MR scans" in row["message"]


def test_B10_doctor_knows_pet(dicom: Path, tmp_path: Path, capsys) -> None:
    assert main(["doctor", str(dicom), "--labels", "lesion"]) == 0
    printed = capsys.readouterr().out
    assert "modality-differs" not in printed and "label map" not in printed
    from dicom_makers import MR, anatomy, make_series

    (tmp_path / "scans").mkdir()
    images = [str(path) for path in sorted(dicom.parent.iterdir()) if path.is_dir()]
    images[3] = str(make_series(stored=anatomy(24), sop_class=MR).write(tmp_path / "mr"))
    main(["doctor", str(manifest(tmp_path, images)), "--labels", "lesion"])
    assert "the header says MR, expected PT (9 of 10 scans)" in capsys.readouterr().out
