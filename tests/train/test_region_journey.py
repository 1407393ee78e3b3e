"""A task whose view shows a region, from manifest to prediction: one way for all, and nobody left out in silence."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import anymc3d
from anymc3d.cli.main import main
from anymc3d.data.manifest import read_manifest
from anymc3d.files.tables import read_table
from anymc3d.plugins import load_plugin
from anymc3d.predict.predictor import Predictor
from anymc3d.settings.task_file import read_task
from anymc3d.settings.views import RoiSettings
from anymc3d.train.fit import fit
from tiny_scans import TASK, write_scans

NUM_CASES, EMPTY, CUT = 20, 3, 6


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, home: Path) -> tuple[Path, Path]:
    """A run on masked scans; one mask is empty (excluded), one cut by the border (kept, noted)."""
    folder = tmp_path_factory.mktemp("regions")
    manifest = write_scans(folder, NUM_CASES)
    with manifest.open() as file:
        rows = list(csv.DictReader(file))
    for index, row in enumerate(rows):
        mask = np.zeros((24, 28, 8), np.uint8)
        if index != EMPTY:
            mask[6:18, 8:20, (0 if index == CUT else 2) : 6] = 1
        row |= {"mask": f"mask{index:02d}.nii.gz", "split": "train" if index < 12 else "val" if index < 17 else "test"}
        nib.save(nib.Nifti1Image(mask, np.diag([1.0, 1, 3, 1])), folder / row["mask"])
    with manifest.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    task = folder / "task.yaml"
    roi = "roi: {source: mask, margin_mm: [2, 2, 3], on_empty: exclude}"
    task.write_text(
        TASK.replace("normalise: percentile}", f"normalise: percentile, {roi}}}").replace("epochs: 2", "epochs: 1")
    )
    fit(read_task(task), folder / "run", device="cpu", quiet=True)
    return folder, folder / "run"


def test_excluded_and_cut_cases_are_recorded(trained: tuple[Path, Path]) -> None:
    _, run = trained
    rows = {row["case"]: row for row in read_table(run / "regions.csv")}
    assert len(rows) == 17
    assert rows["case03"]["region"] == "excluded" and "on_empty: exclude" in rows["case03"]["message"]
    assert rows["case06"]["region"] == "noted" and "cut by the border" in rows["case06"]["message"]
    assert {row["region"] for name, row in rows.items() if name not in ("case03", "case06")} == {"whole"}
    assert load_plugin(run / "plugin.safetensors").card.split["train"]["cases"] == 11


def test_the_plugin_holds_the_region_and_shows_it(trained: tuple[Path, Path]) -> None:
    _, run = trained
    roi = load_plugin(run / "plugin.safetensors").card.preprocessing["image"].roi
    assert roi == RoiSettings(source="mask", margin_mm=(2.0, 2.0, 3.0), on_empty="exclude")


def test_validation_predict_and_python_give_the_same_logits(trained: tuple[Path, Path], tmp_path: Path) -> None:
    folder, run = trained
    out = tmp_path / "out"
    code = main(
        [
            "predict",
            "-p",
            str(run / "plugin.safetensors"),
            "-i",
            str(folder / "manifest.csv"),
            "-o",
            str(out),
            "--quiet",
        ]
    )
    assert code == 3, "one of the cases has no answer"
    predicted = {row["case"]: row for row in read_table(out / "predictions.csv")}
    assert predicted["case03"]["status"] == "error"
    assert predicted["case03"]["message"].startswith("region of image: excluded: the region is empty")
    assert predicted["case06"]["status"] == "warn" and "cut by the border" in predicted["case06"]["message"]
    for row in read_table(run / "predictions.val.csv"):
        assert float(row["logit.block"]) == pytest.approx(float(predicted[row["case"]]["logit.block"]), abs=1e-4)
    alone = anymc3d.load(run / "plugin.safetensors")
    one = alone.predict(folder / "scans" / "case13.nii.gz", mask=folder / "mask13.nii.gz")
    assert one.logits["block"] == pytest.approx(float(predicted["case13"]["logit.block"]), abs=1e-6)


def test_a_lone_scan_needs_its_mask_and_says_how(trained: tuple[Path, Path], tmp_path: Path, capsys) -> None:
    folder, run = trained
    scan, plugin = str(folder / "scans" / "case13.nii.gz"), str(run / "plugin.safetensors")
    assert main(["predict", "-p", plugin, "-i", scan, "-o", str(tmp_path / "a")]) == 4
    (row,) = read_table(tmp_path / "a" / "predictions.csv")
    assert row["status"] == "error" and "give --mask FILE" in row["message"]
    mask = str(folder / "mask13.nii.gz")
    assert main(["predict", "-p", plugin, "-i", scan, "--mask", mask, "-o", str(tmp_path / "b")]) == 0
    # Another mask is another input: the case is done again.
    other = str(folder / "mask06.nii.gz")
    assert main(["predict", "-p", plugin, "-i", scan, "--mask", other, "-o", str(tmp_path / "b")]) == 0
    (row,) = read_table(tmp_path / "b" / "predictions.csv")
    assert "cut by the border" in row["message"]
    assert main(["predict", "-p", plugin, "-i", scan, scan, "--mask", mask, "-o", str(tmp_path / "c")]) == 2
    capsys.readouterr()


def test_several_rows_may_share_one_image_with_a_point_each(trained: tuple[Path, Path]) -> None:
    folder, run = trained
    plugin = load_plugin(run / "plugin.safetensors")
    view = plugin.card.preprocessing["image"]
    point = replace(view, roi=RoiSettings(source="point", size_mm=(12.0, 12.0, 12.0)))
    (folder / "points.csv").write_text(
        "case,image,center_x,center_y,center_z\n"
        "n1,scans/case01.nii.gz,12,14,12\nn2,scans/case01.nii.gz,2,14,12\nn3,scans/case01.nii.gz,90,14,12\n"
    )
    card = replace(plugin.card, preprocessing={"image": point}, scan_statistics=None)  # those are of another view
    nodules = Predictor([replace(plugin, card=card)])
    found = [nodules.predict_case(case)[0] for case in read_manifest(folder / "points.csv").cases]
    assert [one.status for one in found] == ["ok", "warn", "error"]
    assert found[0].logits["block"] != found[1].logits["block"]
    assert "reaches beyond the scan (left 3.0 mm): padded" in found[1].message
    assert "lies outside the scan" in found[2].message
