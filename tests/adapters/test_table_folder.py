"""A folder and a table become a manifest, however ids and files are spelled; nothing is joined that is not alike."""

import pytest

from anymc3d.adapters import AdaptOptions, adapt
from anymc3d.cli.main import main
from anymc3d.files.tables import read_table
from dicom_makers import make_series


def make(folder, names, table):
    for name in names:
        path = folder / "scans" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    (folder / "labels.csv").write_text(table)
    return folder / "scans"


def adapted(scans, **more):
    found = adapt("csv", scans, AdaptOptions(labels=scans.parent / "labels.csv", **more))
    return found, {row["case"]: row for row in found.rows}


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (["a1.nii.gz", "b2.nii.gz"], ["a1", "b2"]),
        (["a1.nii.gz", "b2.nii.gz"], ["a1.nii.gz", "b2.nii.gz"]),
        (["a1_0000.nii.gz", "b2_0000.nii.gz"], ["a1", "b2"]),
        (["x/a1/ct.nii.gz", "y/b2/ct.nii.gz"], ["a1", "b2"]),
        (["a1/deep/ct.nii.gz", "b2/deep/ct.nii.gz"], ["a1", "b2"]),
        (["s1/t1/ct.nii.gz", "s1/t2/ct.nii.gz"], ["s1_t1_ct", "s1_t2_ct"]),
        (["001.nii.gz", "002.nii.gz"], ["1", "2"]),
        (["sub/A1.nii.gz", "sub/B2.nii.gz"], ["a1", "b2"]),
    ],
)
def test_scans_are_found_under_their_ids(tmp_path, names, ids):
    table = "StudyID,tumour,age\n" + "".join(f"{one},{i},6{i}\n" for i, one in enumerate(ids))
    found, rows = adapted(make(tmp_path, names, table), id="StudyID")
    assert not found.findings.has_errors, found.findings.problems()
    assert len(rows) == 2 and [row["tumour"] for row in rows.values()] == ["0", "1"]
    assert [row["image"].endswith(name) for row, name in zip(rows.values(), names, strict=True)] == [True, True]
    assert found.labels == ("tumour", "age")


def test_masks_lie_beside_their_scans(tmp_path):
    _, rows = adapted(make(tmp_path, ["a.nii.gz", "a_mask.nii.gz", "b.nii.gz"], "case,y\na,1\nb,0\n"))
    assert rows["a"]["mask"].endswith("a_mask.nii.gz") and "mask" not in rows["b"]


def test_what_does_not_meet_is_said(tmp_path):
    scans = make(tmp_path, ["a.nii.gz", "b.nii.gz", "extra.nii.gz"], "case,y\na,1\nb,0\ngone,1\n")
    found, _ = adapted(scans)
    assert any("gone" in line for line in found.findings.problems())
    found, rows = adapted(scans, partial=True)
    assert not found.findings.has_errors and set(rows) == {"a", "b"}
    (scans.parent / "labels.csv").write_text("case,y\nq,1\nr,0\n")
    found, _ = adapted(scans)
    assert "--id COLUMN says which" in str(found.findings.problems())
    (scans.parent / "labels.csv").write_text("who,y\na,1\n")
    assert "say --id COLUMN" in str(adapted(scans)[0].findings.problems())


def test_two_scans_of_one_id_are_not_chosen_between(tmp_path):
    scans = make(tmp_path, ["a_0000.nii.gz", "a_0001.nii.gz", "b_0000.nii.gz"], "case,y\na,1\nb,0\n")
    assert "several scans have this id" in str(adapted(scans)[0].findings.problems())
    found, rows = adapted(scans, match="_0000")
    assert not found.findings.has_errors and set(rows) == {"a", "b"}


def test_an_export_of_an_archive_is_a_row_for_each_series(tmp_path, capsys):
    for number in (1, 2):
        make_series(series=number).write(tmp_path / "export" / f"study{number}")
    (tmp_path / "labels.csv").write_text("case,y\nstudy1,1\nstudy2,0\n")
    command = ["data", "adapt", "dicom-tree", str(tmp_path / "export"), "-o", str(tmp_path / "manifest.csv")]
    assert main(command) == 0, capsys.readouterr()
    rows = read_table(tmp_path / "manifest.csv")
    assert len(rows) == 2 and all(row["series"] and row["image"].startswith("export/study") for row in rows)
