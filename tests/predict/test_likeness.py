"""A scan of another modality or unit is told, refused with --strict, and never headed like a finding. Promise B10."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from anymc3d.cli.main import main
from anymc3d.files.tables import read_table
from anymc3d.plugins import load_plugin, save_plugin
from anymc3d.predict.predictor import load
from dicom_makers import MR, anatomy, make_series

PET = "1.2.840.10008.5.1.4.1.1.128"


def series_of(modality: str, folder: Path) -> Path:
    """Values like those of the training scans, and a header that says what it says."""
    stored = (100 + anatomy(8) % 40).astype(np.uint16)
    series = make_series(stored=stored, sop_class=MR)
    for dataset in series.slices:
        dataset.Modality = modality
        if modality == "PT":
            dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = PET
        if modality == "CT":
            dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
            dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
    return series.write(folder / modality)


def plugin_for(modality: str, journey, folder: Path) -> Path:
    plugin = load_plugin(journey.plugin)
    path = folder / f"{modality}.safetensors"
    save_plugin(path, replace(plugin.card, modality=modality), plugin.tensors)
    return path


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("modalities")
    return {modality: series_of(modality, folder) for modality in ("CT", "MR", "PT")}


@pytest.mark.parametrize("trained", ["CT", "MR", "other"])
def test_B10_the_headers_modality_is_compared_with_the_plugins(journey, scans, tmp_path, trained) -> None:
    predictor = load(plugin_for(trained, journey, tmp_path), device="cpu")
    for told, folder in scans.items():
        prediction = predictor.predict(folder)
        line = f"the header says {told}, the plugin was trained on {trained} scans"
        assert (line in prediction.message) == (trained not in ("other", told))
        assert (line in prediction.unlike_training) == (trained not in ("other", told))
        assert prediction.status == ("warn" if prediction.message else "ok")


def test_B10_a_file_that_says_no_modality_is_free(journey, tmp_path) -> None:
    predictor = load(plugin_for("CT", journey, tmp_path), device="cpu")
    assert "the header says" not in predictor.predict(journey.scans[0]).message


def run(*words: object) -> int:
    return main([str(word) for word in words])


def hounsfield(path: Path) -> Path:
    """A CT, for a plugin of scans whose values begin at zero."""
    voxels = np.random.default_rng(0).normal(-500, 400, (24, 28, 8)).astype(np.int16)
    nib.save(nib.Nifti1Image(voxels, np.diag([1, 1, 3, 1])), path)
    return path


def test_B10_strict_makes_an_error_of_a_warning_and_exit_code_3(journey, scans, tmp_path) -> None:
    common = ["predict", "-p", journey.plugin, "--device", "cpu", "--quiet", "-o", tmp_path / "out"]
    inputs = ["-i", scans["CT"], journey.scans[0]]
    assert run(*common, *inputs) == 0
    lenient = read_table(tmp_path / "out" / "predictions.csv")
    assert [row["status"] for row in lenient] == ["warn", "ok"]
    assert run(*common, *inputs, "--strict") == 3
    refused, fine = read_table(tmp_path / "out" / "predictions.csv")
    assert fine == lenient[1]
    assert refused["status"] == "error" and refused["logit.block"] == refused["decision.block"] == ""
    assert refused["message"].startswith("refused because of warnings (--strict): the header says CT")
    assert run(*common, *inputs) == 0
    assert read_table(tmp_path / "out" / "predictions.csv") == lenient


def test_D10_strict_on_the_only_case_is_3_and_what_cannot_be_read_stays_4(journey, scans, tmp_path) -> None:
    common = ["predict", "-p", journey.plugin, "--device", "cpu", "--quiet", "--strict"]
    assert run(*common, "-o", tmp_path / "a", "-i", scans["PT"]) == 3
    assert run(*common, "-o", tmp_path / "b", "-i", tmp_path / "nothing.nii.gz") == 4
    assert run(*common, "-o", tmp_path / "c", "-i", journey.scans[0]) == 0


def test_B10_strict_explains_nothing_of_a_scan_with_warnings(journey, scans, tmp_path) -> None:
    common = ["explain", "-p", journey.plugin, "--device", "cpu", "--quiet", "--no-pictures", "--method", "attention"]
    assert run(*common, "-o", tmp_path / "strict", "--strict", "-i", scans["CT"], journey.scans[0]) == 3
    records = [json.loads((tmp_path / "strict" / name / "explain.json").read_text()) for name in ("CT", "case00")]
    assert [record["status"] for record in records] == ["error", "ok"]
    assert "--strict" in records[0]["message"] and records[0]["heatmaps"] == []
    assert not list((tmp_path / "strict" / "CT").glob("*.nii.gz"))
    assert run(*common, "-o", tmp_path / "only", "--strict", "-i", scans["CT"]) == 3
    assert run(*common, "-o", tmp_path / "lenient", "-i", scans["CT"]) == 0
    record = json.loads((tmp_path / "lenient" / "CT" / "explain.json").read_text())
    assert record["unlike_training"][0].startswith("the header says CT")


@pytest.mark.parametrize("what", ["modality", "intensities"])
def test_B10_the_headline_of_a_report_is_never_a_negative_finding(journey, scans, tmp_path, what) -> None:
    scan = scans["CT"] if what == "modality" else hounsfield(tmp_path / "ct.nii.gz")
    plugin = ["-p", journey.plugin, "--device", "cpu", "--quiet"]
    assert run("report", *plugin, "-i", scan, "-o", tmp_path / "direct.html") == 0
    assert run("explain", *plugin, "-i", scan, "-o", tmp_path / "heat", "--method", "attention") == 0
    (folder,) = (path for path in (tmp_path / "heat").iterdir() if path.is_dir())
    assert run("report", folder, "-o", tmp_path / "folder.html", "--quiet") == 0
    for name in ("direct.html", "folder.html"):
        text = (tmp_path / name).read_text()
        headline = text[text.index("verdict warning") : text.index("</p>", text.index("verdict warning"))]
        assert "Do not use: unlike the training scans" in headline
        assert "No label is positive" not in text and "Positive: " not in headline
