"""A scan of another modality or unit, or unlike training, is told, refused by --strict, never headed like a finding.

Promises B10 and B11.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from anymc3d.cli.main import main
from anymc3d.data.case_scans import CaseScans
from anymc3d.data.ood_measures import measure_case
from anymc3d.evaluate.ood import VERSION
from anymc3d.files.tables import read_table
from anymc3d.plugins import load_plugin, save_plugin
from anymc3d.plugins.card import Member
from anymc3d.predict.ood_warnings import distance_from_training, says_unlike
from anymc3d.predict.predictor import load
from anymc3d.predict.study import study_case
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
        assert says_unlike(f"a note; {prediction.message}") == bool(prediction.unlike_training)


def test_B10_a_file_that_says_no_modality_is_free(journey, tmp_path) -> None:
    predictor = load(plugin_for("CT", journey, tmp_path), device="cpu")
    assert "the header says" not in predictor.predict(journey.scans[0]).message


def noise(path: Path) -> Path:
    """Nothing of a scan but its grid."""
    voxels = np.random.default_rng(0).uniform(0, 1000, (24, 28, 8)).astype(np.int16)
    nib.save(nib.Nifti1Image(voxels, np.diag([1, 1, 3, 1])), path)
    return path


def test_B11_a_scan_unlike_training_has_a_score_above_1_and_is_not_to_be_used(journey, tmp_path, capsys) -> None:
    scans = [noise(tmp_path / "noise.nii.gz"), journey.scans[0]]
    assert run("predict", "-p", journey.plugin, "--device", "cpu", "-o", tmp_path / "out", "-i", *scans) == 0
    assert "ood_score" not in capsys.readouterr().out
    foreign, own = read_table(tmp_path / "out" / "predictions.csv")
    assert list(own)[-1] == "ood_score" and float(own["ood_score"]) <= 1 < float(foreign["ood_score"])
    assert own["status"] == "ok" and foreign["status"] == "warn"
    assert (
        f"unlike the training scans: ood_score {float(foreign['ood_score']):.3g}, an alarm above 1"
        in foreign["message"]
    )
    (told,) = load(journey.plugin, device="cpu").predict(scans[0]).unlike_training
    assert says_unlike(told) and not says_unlike("of a file unlike the training scans: said by nobody")
    assert told in foreign["message"]


def test_B11_the_score_of_an_ensemble_is_the_mean_over_its_members(journey) -> None:
    card = load_plugin(journey.plugin).card
    measured = measure_case(CaseScans(study_case(str(journey.scans[1]), None)).prepare(card.preprocessing))
    far = {name: replace(one, limit=one.limit / 5, turned=None) for name, one in card.scan_statistics.measures.items()}
    other = replace(card, scan_statistics=replace(card.scan_statistics, measures=far))
    members = tuple(Member(card=one, hash="0" * 64) for one in (card, other))
    ensemble = replace(card, kind="ensemble", members=members, scan_statistics=None)
    alone = distance_from_training(card, measured).score
    farther = distance_from_training(other, measured).score
    assert farther > alone
    assert distance_from_training(ensemble, measured).score == pytest.approx((alone + farther) / 2)
    upright = {name: replace(view, plane="coronal") for name, view in card.preprocessing.items()}
    elsewhere = replace(ensemble, preprocessing=upright, members=(replace(members[0], card=card),))
    of_scans = {name: values for name, values in measured.items() if not name.startswith(("texture", "layout"))}
    assert distance_from_training(elsewhere, measured) == distance_from_training(card, of_scans)
    blind = replace(members[1], card=replace(other, scan_statistics=None))
    blinded = replace(ensemble, members=(members[0], blind))
    assert not blinded.knows_its_scans and distance_from_training(blinded, measured).score is None


def test_B11_a_plugin_of_before_has_no_score_and_predict_says_so(journey, tmp_path, capsys) -> None:
    plugin = load_plugin(journey.plugin)
    of_other_measures = replace(plugin.card.scan_statistics, version=VERSION + 1)
    for number, statistics in enumerate((None, of_other_measures)):
        path, out = tmp_path / f"old{number}.safetensors", tmp_path / f"out{number}"
        save_plugin(path, replace(plugin.card, scan_statistics=statistics), plugin.tensors)
        assert run("predict", "-p", path, "--device", "cpu", "-o", out, "-i", journey.scans[0]) == 0
        assert "no statistics of its training scans, so ood_score stays empty" in capsys.readouterr().out
        (row,) = read_table(out / "predictions.csv")
        assert row["ood_score"] == "" and row["status"] == "ok"


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
