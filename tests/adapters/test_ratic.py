"""RATIC: the real folder layout in miniature, its labels, its masks, and everything that can be wrong with it."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import nibabel
import pytest
from public_layouts import make_ratic, ratic_row, write_csv, write_dicom, write_nifti

from anymc3d.adapters import adapt
from anymc3d.data.readers import read_volume
from anymc3d.data.volume import to_ras


@pytest.fixture
def ratic(tmp_path):
    return make_ratic(tmp_path / "ratic")


def edit(path: Path, change) -> None:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    write_csv(path, change(rows))


def test_a_series_is_a_case_and_bears_the_labels_of_its_patient(written, ratic):
    _, manifest = written("ratic", ratic)
    assert [case.id for case in manifest.cases] == ["21057", "51033", "18667", "47578"]
    first, second, healthy, liver = manifest.cases
    assert first.patient == second.patient == "10004"
    for case in (first, second):
        assert (case.cells["bowel_injury"], case.cells["spleen_injury"], case.cells["spleen_grade"]) == ("1", "1", "2")
        assert case.cells["any_injury"] == "1"
    assert {healthy.cells[name] for name in ("bowel_injury", "liver_grade", "any_injury")} == {"0"}
    assert (liver.cells["liver_grade"], liver.cells["kidney_grade"]) == ("1", "0")
    assert [case.cells["incomplete_organ"] for case in manifest.cases] == ["0", "0", "0", "1"]
    assert [case.cells["aortic_hu"] for case in manifest.cases][1] == "454.75"


def test_a_mask_on_the_grid_of_its_series_is_linked_whatever_way_its_axes_point(written, ratic):
    adapted, manifest = written("ratic", ratic)
    assert [bool(case.masks) for case in manifest.cases] == [True, False, False, False]
    scan, mask = manifest.cases[0].images["image"], manifest.cases[0].masks["mask"]
    stored = nibabel.load(mask)
    assert nibabel.aff2axcodes(stored.affine) != nibabel.aff2axcodes(read_volume(scan).affine)
    one, other = to_ras(read_volume(scan)), to_ras(read_volume(mask))
    assert one.shape == other.shape
    assert abs(one.affine - other.affine).max() < 1e-4
    told = "\n".join(line for finding in adapted.findings.listed() for line in finding.lines())
    assert "10007/47578" in told and "does not lie on the grid" in told
    assert "1 of 2 segmentations linked" in told


def test_the_later_label_table_wins_and_the_difference_is_told(written, ratic, warnings):
    write_csv(ratic / "train.csv", [ratic_row("10004"), ratic_row("10005"), ratic_row("10007", liver=1)])
    _, manifest = written("ratic", ratic)
    assert manifest.cases[0].cells["bowel_injury"] == "1"
    told = warnings("ratic", ratic)
    assert "train_2024.csv and train.csv disagree" in told and "10004" in told


def test_the_first_label_table_alone_will_do(written, ratic):
    (ratic / "train_2024.csv").rename(ratic / "train.csv")
    assert len(written("ratic", ratic)[1].cases) == 4


def test_a_missing_series_is_an_error_and_with_partial_a_warning(problems, warnings, ratic):
    shutil.rmtree(ratic / "train_images" / "10004" / "51033")
    assert problems("ratic", ratic) == ["a series of the table has no folder in train_images: 10004/51033"]
    assert "10004/51033" in warnings("ratic", ratic, partial=True)
    assert len(adapt("ratic", ratic.resolve()).rows) == 3


def test_what_lies_there_without_a_label_is_told(warnings, ratic):
    write_dicom(ratic / "train_images" / "10005" / "99999", slices=1)
    write_nifti(ratic / "segmentations" / "88888.nii")
    told = warnings("ratic", ratic)
    assert "10005/99999" in told and "88888" in told


def test_every_fault_is_in_one_report(problems, ratic):
    edit(ratic / "train_2024.csv", lambda rows: [{**rows[0], "liver_low": 1}, rows[1], rows[2]])
    edit(ratic / "train_series_meta.csv", lambda rows: [*rows, rows[1], {**rows[0], "series_id": "7"}])
    found = "\n".join(problems("ratic", ratic))
    assert "patient 10004: liver_healthy='1', liver_low='1', liver_high='0'" in found
    assert "series_id appears twice: 51033" in found


def test_an_empty_series_another_modality_and_a_patient_without_labels_are_errors(problems, ratic):
    (ratic / "train_images" / "10005" / "18667").rename(ratic / "kept")
    (ratic / "train_images" / "10005" / "18667").mkdir()
    shutil.rmtree(ratic / "train_images" / "10007" / "47578")
    write_dicom(ratic / "train_images" / "10007" / "47578", modality="MR")
    edit(ratic / "train_2024.csv", lambda rows: rows[1:])
    found = "\n".join(problems("ratic", ratic))
    assert "a series has no files: 10005/18667" in found
    assert "not CT: 10007/47578: MR" in found
    assert "a series is of a patient without labels: 10004/21057" in found


def test_a_series_in_the_folder_of_another_patient_is_an_error(problems, ratic):
    shutil.copytree(ratic / "train_images" / "10004" / "51033", ratic / "train_images" / "10005" / "51033")
    assert any("folder of another patient" in one and "10005/51033" in one for one in problems("ratic", ratic))


def test_any_injury_that_contradicts_the_organs_is_told(warnings, ratic):
    edit(ratic / "train_2024.csv", lambda rows: [{**rows[0], "any_injury": 0}, *rows[1:]])
    assert "any_injury contradicts the organs" in warnings("ratic", ratic)


def test_another_folder_says_what_is_expected(problems, tmp_path):
    (tmp_path / "empty").mkdir()
    found = "\n".join(problems("ratic", tmp_path / "empty"))
    assert "expected train_2024.csv or train.csv" in found and "train_series_meta.csv" in found
