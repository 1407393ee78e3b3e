"""CT-RATE: names, labels, splits; of which release the voxels are; corrected copies; never rescaled twice."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from public_layouts import CT_RATE_NAMES, INTERCEPT, chest, make_ct_rate, write_csv, write_nifti

from anymc3d.adapters.ct_rate import FINDINGS
from anymc3d.adapters.ct_rate_release import Conversion, convert, is_chest_ct, read_conversion
from anymc3d.adapters.findings import Findings
from anymc3d.data.readers import read_volume
from anymc3d.errors import ScanError, UsageError

CONVERSION = Conversion(1.0, float(INTERCEPT), (0.7, 0.7, 1.5))


@pytest.fixture
def corrected(tmp_path):
    return make_ct_rate(tmp_path / "v2", FINDINGS)


@pytest.fixture
def first(tmp_path):
    return make_ct_rate(tmp_path / "v1", FINDINGS, release="first")


def edit(path: Path, change) -> None:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    write_csv(path, [change(row) for row in rows if change(row)])


def test_a_reconstruction_is_a_case_with_18_labels_and_its_patient(written, corrected):
    adapted, manifest = written("ct-rate", corrected)
    assert len(manifest.cases) == len(CT_RATE_NAMES["train"]) + len(CT_RATE_NAMES["valid"])
    assert adapted.labels == FINDINGS and len(FINDINGS) == 18
    by_id = {case.id: case for case in manifest.cases}
    assert by_id["train_1_a_1"].patient == by_id["train_1_b_1"].patient == "train_1"
    assert by_id["train_1_b_1"].cells["scan"] == "train_1_b"
    assert by_id["valid_1_a_1"].patient == "valid_1"
    assert by_id["train_2_a_1"].cells["age"] == "36"
    assert "StudyDate" not in manifest.columns


def test_B12_official_valid_is_test_and_validation_is_dealt_out_by_patient(written, corrected):
    _, manifest = written("ct-rate", corrected, num_validation=4)
    splits = {case.id: case.split for case in manifest.cases}
    assert {split for name, split in splits.items() if name.startswith("valid")} == {"test"}
    assert {split for name, split in splits.items() if name.startswith("train")} == {"train", "val"}
    val = {case.patient for case in manifest.cases if case.split == "val"}
    assert not val & {case.patient for case in manifest.cases if case.split == "train"}
    assert 2 <= sum(split == "val" for split in splits.values()) <= 8  # 18 labels of 8 patients pull at it


def test_the_corrected_release_is_recognised(written, corrected):
    adapted, _ = written("ct-rate", corrected)
    told = "\n".join(line for finding in adapted.findings.listed() for line in finding.lines())
    assert "8 of 8 opened volumes hold Hounsfield units: release v2" in told
    assert not [finding for finding in adapted.findings.listed() if finding.level == "warn"]


def test_the_first_release_is_refused_and_the_message_says_what_to_do(problems, first):
    (problem,) = problems("ct-rate", first)
    assert "8 of 8 opened volumes hold stored values" in problem and "--convert FOLDER" in problem


def test_corrected_copies_hold_hounsfield_units_and_the_spacing_of_the_metadata(written, first, tmp_path):
    _, manifest = written("ct-rate", first, convert=tmp_path / "copies")
    assert len(manifest.cases) == len(CT_RATE_NAMES["train"]) + len(CT_RATE_NAMES["valid"])
    volume = read_volume(manifest.cases[0].images["image"])
    assert volume.spacing == pytest.approx((0.7, 0.7, 1.5))
    assert np.array_equal(volume.voxels, chest(0).astype(np.float32))
    assert nibabel.load(manifest.cases[0].images["image"]).get_data_dtype() == np.int16


def test_copies_are_made_once_and_a_damaged_or_stale_one_again(first, tmp_path):
    source = next((first / "dataset").rglob("train_1_a_1.nii.gz"))
    copy = convert(source, tmp_path / "c" / source.name, CONVERSION)
    before = copy.stat().st_mtime_ns
    assert convert(source, copy, CONVERSION).stat().st_mtime_ns == before
    copy.write_bytes(copy.read_bytes()[:-20])
    convert(source, copy, CONVERSION)
    assert np.array_equal(read_volume(copy).voxels, chest(0).astype(np.float32))
    convert(source, copy, Conversion(1.0, INTERCEPT, (0.5, 0.5, 1.0)))
    assert read_volume(copy).spacing == pytest.approx((0.5, 0.5, 1.0))


def test_corrected_copies_can_be_adapted_themselves_and_are_never_rescaled_again(first, tmp_path, problems):
    source = next((first / "dataset").rglob("train_1_a_1.nii.gz"))
    copy = convert(source, tmp_path / source.name, CONVERSION)
    with pytest.raises(ScanError, match="rescaling it again would be wrong"):
        convert(copy, tmp_path / "twice.nii.gz", CONVERSION)
    assert not (tmp_path / "twice.nii.gz").exists()


def test_B10_converting_the_corrected_release_is_refused(problems, corrected, tmp_path):
    (problem,) = problems("ct-rate", corrected, convert=tmp_path / "copies")
    assert "hold Hounsfield units" in problem and "rescaling again would be wrong" in problem
    assert not (tmp_path / "copies").exists()


def test_a_folder_called_corrected_that_holds_stored_values_is_found_out(problems, first):
    """Nothing is decided by a folder's name."""
    for part in ("train", "valid"):
        (first / "dataset" / part).rename(first / "dataset" / f"{part}_fixed")
    (problem,) = problems("ct-rate", first)
    assert "stored values" in problem
    (problem,) = problems("ct-rate", first, release="v2")
    assert "--release v2, but 8 of 8 opened volumes hold stored values" in problem


def test_mixed_releases_are_an_error_that_names_the_volumes(problems, corrected):
    path = next((corrected / "dataset").rglob("train_1_a_1.nii.gz"))
    write_nifti(path, (chest(0) - INTERCEPT).astype(np.int16), (1, 1, 1))
    found = "\n".join(problems("ct-rate", corrected))
    assert "both releases are mixed" in found and "train_1_a_1.nii.gz: first" in found


def test_volumes_that_tell_nothing_need_a_persons_word(problems, warnings, corrected):
    for path in (corrected / "dataset").rglob("*.nii.gz"):
        write_nifti(path, np.random.default_rng(0).integers(5000, 6000, (8, 8, 8)).astype(np.int16))
    assert any("do not show" in one and "--release v2" in one for one in problems("ct-rate", corrected))
    assert "taken as v2, as you say" in warnings("ct-rate", corrected, release="v2")


def test_another_release_word_suggests_one(problems, corrected):
    with pytest.raises(UsageError, match="did you mean 'first'"):
        problems("ct-rate", corrected, release="firts")


def test_a_spacing_that_contradicts_the_table_is_told(warnings, corrected):
    edit(corrected / "dataset/metadata/train_metadata.csv", lambda row: {**row, "ZSpacing": 5.0})
    assert "0.7 x 0.7 x 1.5 mm, table 0.7 x 0.7 x 5 mm" in warnings("ct-rate", corrected)


@pytest.mark.parametrize(
    ("cell", "column"), [("", "ZSpacing"), ("0", "RescaleSlope"), ("[1]", "XYSpacing"), ("nan", "RescaleIntercept")]
)
def test_metadata_that_cannot_be_right_is_told_and_never_used(cell, column):
    findings = Findings()
    row = {"RescaleSlope": "1", "RescaleIntercept": "-1024", "XYSpacing": "[0.7, 0.7]", "ZSpacing": "1.5"}
    assert read_conversion("v", row, findings) == CONVERSION
    assert read_conversion("v", {**row, column: cell}, findings) is None
    assert findings.listed()[0].level == "warn"


def test_both_releases_side_by_side_are_an_error(problems, corrected, first):
    shutil.copytree(first / "dataset" / "train", corrected / "dataset" / "train")
    assert any("both releases are here" in one for one in problems("ct-rate", corrected))


def test_missing_volumes_are_errors_and_with_partial_warnings(problems, warnings, corrected):
    next((corrected / "dataset").rglob("train_3_a_2.nii.gz")).unlink()
    assert problems("ct-rate", corrected) == ["a volume of the label table is not here: train_3_a_2.nii.gz"]
    assert "train_3_a_2.nii.gz" in warnings("ct-rate", corrected, partial=True)


def test_the_sets_own_list_of_scans_that_are_no_chest_is_honoured(written, corrected):
    (corrected / "dataset/metadata/no_chest_train.txt").write_text("train/train_4/train_4_a/train_4_a_1.nii.gz\n")
    adapted, manifest = written("ct-rate", corrected)
    assert "train_4_a_1" not in {case.id for case in manifest.cases}
    assert any("no_chest_train.txt" in finding.text for finding in adapted.findings.listed())


def test_strangers_and_wrong_labels_are_told(problems, warnings, corrected):
    write_nifti(corrected / "dataset/train_fixed/train_1/train_1_a/notes.nii.gz")
    write_nifti(corrected / "dataset/train_fixed/train_99/train_99_a/train_99_a_1.nii.gz", chest(99))
    told = warnings("ct-rate", corrected)
    assert "notes.nii.gz" in told and "train_99_a_1.nii.gz" in told
    edit(
        corrected / "dataset/multi_abnormality_labels/train_predicted_labels.csv",
        lambda row: {**row, "Emphysema": "2"} if row["VolumeName"] == "train_1_a_1.nii.gz" else row,
    )
    assert problems("ct-rate", corrected) == [
        "a label is outside its set: expected 0 or 1: train_1_a_1.nii.gz: Emphysema is '2'"
    ]


def test_a_lost_label_column_is_an_error(problems, corrected):
    edit(
        corrected / "dataset/multi_abnormality_labels/valid_predicted_labels.csv",
        lambda row: {name: cell for name, cell in row.items() if name != "Lung nodule"},
    )
    assert any("lacks columns" in one and "Lung nodule" in one for one in problems("ct-rate", corrected))


def test_a_damaged_volume_among_the_opened_is_an_error(problems, corrected):
    path = next((corrected / "dataset").rglob("train_1_a_1.nii.gz"))
    path.write_bytes(path.read_bytes()[:-30])
    assert any("cannot be read: train_1_a_1.nii.gz" in one for one in problems("ct-rate", corrected))


@pytest.mark.parametrize(
    ("values", "answer"),
    [
        (chest(1), True),
        (chest(1) + 1024, False),
        (chest(1) - 1024, False),
        (np.full((4, 4, 4), -1000), False),
        (chest(1) * 1.0 + 8192, False),
    ],
)
def test_a_chest_in_hounsfield_units_is_told_from_a_shifted_one(values, answer):
    assert is_chest_ct(np.asarray(values, np.float32)) is answer


@pytest.mark.real_data
def test_a_real_ct_is_told_from_itself_rescaled_twice(shared):
    voxels = read_volume(shared / "data" / "ct_totalsegmentator" / "example_ct.nii.gz").voxels
    assert is_chest_ct(voxels)
    assert not is_chest_ct(voxels - np.float32(1024))
    assert not is_chest_ct(voxels + np.float32(1024))
