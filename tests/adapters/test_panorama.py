"""PANORAMA: batches, masks, the clinical workbook, and everything that can be wrong with them."""

from __future__ import annotations

import pytest
from public_layouts import (
    PANORAMA_HEADER,
    SHAPE,
    make_panorama,
    panorama_rows,
    write_csv,
    write_nifti,
    write_xlsx,
)


@pytest.fixture
def panorama(tmp_path):
    return make_panorama(tmp_path / "panorama")


def test_a_study_is_a_case_and_the_patient_is_the_tables(written, panorama):
    _, manifest = written("panorama", panorama)
    assert [case.id for case in manifest.cases] == [f"{n}_00001" for n in (100000, 100001, 100002, 100700, 100800)]
    assert [case.patient for case in manifest.cases] == ["100000", "100001", "100001", "100700", "100800"]
    assert [case.cells["pdac"] for case in manifest.cases] == ["1", "0", "0", "1", "0"]


def test_manual_masks_win_and_every_mask_says_where_it_is_from(written, panorama):
    adapted, manifest = written("panorama", panorama)
    sources = [case.cells["mask_source"] for case in manifest.cases]
    assert sources == ["manual", "automatic", "", "manual", "automatic"]
    assert "manual_labels" in manifest.cases[3].masks["mask"]
    told = "\n".join(line for finding in adapted.findings.listed() for line in finding.lines())
    assert "2 manual, 2 automatic" in told
    assert "100700_00001" in told and "100002_00001" in told  # both masks; no mask


def test_metadata_is_cleaned_and_dates_stay_out(written, panorama):
    _, manifest = written("panorama", panorama)
    cells = [case.cells for case in manifest.cases]
    assert [one["age"] for one in cells] == ["65", "71", "71", "", "58"]
    assert [one["scanner"] for one in cells] == ["SIEMENS", "", "TOSHIBA", "", "GE"]
    assert [one["cohort"] for one in cells] == ["PANORAMA"] * 3 + ["MSD", "NIH"]
    assert "2017" not in manifest.path.read_text() and "date" not in manifest.path.read_text()


def test_a_table_as_csv_will_do(written, panorama):
    (panorama / "panorama_labels" / "clinical_information.xlsx").unlink()
    rows = [dict(zip(PANORAMA_HEADER, row, strict=True)) for row in panorama_rows()]
    write_csv(panorama / "clinical_information.csv", [{**row, "anonymized_study_date": ""} for row in rows])
    assert len(written("panorama", panorama)[1].cases) == 5


def test_missing_scans_are_errors_and_with_partial_warnings(problems, warnings, panorama):
    (panorama / "batch_2" / "100700_00001_0000.nii.gz").unlink()
    assert problems("panorama", panorama) == ["a study of the table has no image: 100700_00001"]
    assert "100700_00001" in warnings("panorama", panorama, partial=True)


def test_scans_and_masks_of_no_study_are_told(warnings, panorama):
    write_nifti(panorama / "batch_3" / "100999_00001_0000.nii.gz")
    write_nifti(panorama / "panorama_labels" / "manual_labels" / "100998_00001.nii.gz")
    told = warnings("panorama", panorama)
    assert "100999_00001" in told and "no label: left out" in told and "100998_00001" in told


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({6: "PDAC?"}, "expected PDAC or non-PDAC: 100000_00001: 'PDAC?'"),
        ({6: None}, "expected PDAC or non-PDAC: 100000_00001: ''"),
        ({0: None}, "no patient in the table: 100000_00001"),
        ({1: "100001_00001"}, "PANORAMA_study_id appears twice: 100001_00001"),
    ],
)
def test_faults_of_the_table_are_errors(problems, tmp_path, change, message):
    rows = panorama_rows()
    rows[0] = [change.get(place, value) for place, value in enumerate(rows[0])]
    found = problems("panorama", make_panorama(tmp_path / "p", rows), partial=True)
    assert any(message in one for one in found), found


def test_an_image_twice_or_of_a_second_channel_is_an_error(problems, panorama):
    write_nifti(panorama / "batch_1" / "100000_00001_0001.nii.gz")
    write_nifti(panorama / "batch_3" / "100001_00001_0000.nii.gz")
    found = "\n".join(problems("panorama", panorama))
    assert "another channel" in found and "a study has two images" in found


def test_a_folder_without_the_table_says_where_it_comes_from(problems, tmp_path):
    write_nifti(tmp_path / "p" / "100000_00001_0000.nii.gz")
    assert any("clinical_information.xlsx" in one for one in problems("panorama", tmp_path / "p"))


def test_a_workbook_without_the_columns_is_an_error(problems, panorama):
    write_xlsx(panorama / "panorama_labels" / "clinical_information.xlsx", [["a", "b"], [1, 2]])
    found = "\n".join(problems("panorama", panorama))
    assert "lacks columns" in found and "PANORAMA_study_id" in found


def test_masks_keep_the_scans_grid(written, panorama):
    import nibabel

    _, manifest = written("panorama", panorama)
    assert nibabel.load(manifest.cases[0].masks["mask"]).shape == SHAPE
