"""A manifest is read whole or refused with every fault of it."""

import time
from pathlib import Path

import numpy as np
import pytest

from anymc3d.data.case import default_id
from anymc3d.data.manifest import Manifest, inspect_manifest, read_manifest, write_manifest
from anymc3d.errors import ManifestError

SHARED = Path(__file__).parents[3] / "shared" / "data"


def scans(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def manifest_of(folder, text) -> Manifest:
    path = folder / "m.csv"
    path.write_text(text)
    return read_manifest(path)


def faults_of(path, **options) -> tuple[str, ...]:
    with pytest.raises(ManifestError) as caught:
        read_manifest(path, **options)
    return caught.value.problems


def test_a_full_row_becomes_a_case(tmp_path):
    scans(tmp_path, "im/a.nii.gz", "im/a_sag.nii.gz", "m/a.nii.gz")
    (case,) = manifest_of(
        tmp_path,
        "case,patient,image.axial,image.sagittal,image.coronal,mask.axial,series.axial,center_x,center_y,center_z,"
        "spacing,split,fold,tumour,sex\n"
        "007,p1,im/a.nii.gz,im/a_sag.nii.gz,,m/a.nii.gz,1.2.3,-1,2.5,3,0.7x0.7x5,train,2,1,f\n",
    ).cases
    assert (case.id, case.patient, case.split, case.fold, case.row) == ("007", "p1", "train", "2", 2)
    assert case.images == {
        "image.axial": str(tmp_path / "im/a.nii.gz"),
        "image.sagittal": str(tmp_path / "im/a_sag.nii.gz"),
    }
    assert case.masks == {"mask.axial": str(tmp_path / "m/a.nii.gz")}
    assert case.cells == {"series.axial": "1.2.3", "tumour": "1", "sex": "f"}
    assert (case.center, case.spacing) == ((-1.0, 2.5, 3.0), (0.7, 0.7, 5.0))


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("/x/scan.nii.gz", "scan"),
        ("/x/SCAN.NII.GZ", "SCAN"),
        ("/x/a.b.nii", "a.b"),
        ("/x/series_folder/", "series_folder"),
        ("/x/v1.0", "v1.0"),
        ("/x/set.npz#test/12", "test_0012"),
        ("/x/a#b.npy", "a#b"),
    ],
)
def test_the_default_id_is_the_name_without_extension(reference, expected):
    assert default_id(reference) == expected


def test_A14_ids_are_text_never_numbers(tmp_path):
    scans(tmp_path, "a.nii", "b.nii")
    cases = manifest_of(tmp_path, "case,patient,image\n007,01,a.nii\n7,1e3,b.nii\n").cases
    assert [(case.id, case.patient) for case in cases] == [("007", "01"), ("7", "1e3")]


def test_two_rows_that_would_get_one_id_are_refused_and_a_case_column_allows_them(tmp_path):
    scans(tmp_path, "a.nii")
    (tmp_path / "m.csv").write_text("image,y\na.nii,0\na.nii,1\n")
    (fault,) = faults_of(tmp_path / "m.csv")
    assert fault.startswith("row 3: case 'a' is also row 2")
    assert len(manifest_of(tmp_path, "case,image,y\nn1,a.nii,0\nn2,a.nii,1\n").cases) == 2


def test_A14_thirty_faults_give_at_least_thirty_lines_each_with_its_row(tmp_path):
    scans(tmp_path, "a.nii", "b.nii")
    rows = ["case,patient,image,split,spacing,center_x,center_y,center_z,sex,sex,Fold"]
    good = "{id},p{id},a.nii,train,,,,,m,m,1"
    faulty = [
        "1,p1,a.nii,train",
        "2,p2,a.nii,train,,,,,m,m,1,extra",
        "3,p3,missing.nii,train,,,,,m,m,1",
        "4,p4,nofolder/a.nii,train,,,,,m,m,1",
        "5,p5,,train,,,,,m,m,1",
        "6,p6,a.nii,training,,,,,m,m,1",
        "7,p7,a.nii,holdout,,,,,m,m,1",
        "8,p8,a.nii,,,,,,m,m,1",
        "9,p9,a.nii,train,0 1 1,,,,m,m,1",
        "10,p10,a.nii,train,1 1,,,,m,m,1",
        "11,p11,a.nii,train,a b c,,,,m,m,1",
        "12,p12,a.nii,train,,1,,3,m,m,1",
        "13,p13,a.nii,train,,1,x,3,m,m,1",
        "14,p14,a.nii,train,,1,inf,3,m,m,1",
        "../up,p15,a.nii,train,,,,,m,m,1",
        "a/b,p16,a.nii,train,,,,,m,m,1",
        "17,p/17,a.nii,train,,,,,m,m,1",
        f"{'x' * 300},p18,a.nii,train,,,,,m,m,1",
        "19,p19,A.NII,train,,,,,m,m,1",
        "20,p20,a.nii.gz,train,,,,,m,m,1",
        "21,p21,a.nii,train,,,,,m\x00,m,1",
        "22,p22,a.nii,train,,,,,m\udcff,m,1",
        *(good.format(id="twin") for _ in range(3)),
        *(f"s{i},leak{i // 2},b.nii,{('train', 'test')[i % 2]},,,,,m,m,1" for i in range(10)),
    ]
    path = tmp_path / "m.csv"
    path.write_bytes("\n".join(rows + faulty).encode(errors="surrogateescape"))
    faults = faults_of(path, labels=["sexx"])
    assert len(faults) >= 30
    rows_named = {fault.split(":")[0] for fault in faults}
    assert {f"row {number}" for number in range(1, 24)} <= rows_named
    assert all(fault.startswith("row ") for fault in faults)
    text = "\n".join(faults)
    for expected in (
        "row 1: column 'sex' appears twice",
        "row 1: column 'Fold': reserved columns are lower case, write 'fold'",
        "row 1: no label column 'sexx', did you mean 'sex'?",
        "split 'training': expected one of train, val, test, did you mean 'train'?",
        "not found in",
        "did you mean 'a.nii'?",
        "there is no folder",
        "patient 'leak0' is in 2 splits (train: rows 27; test: rows 28)",
    ):
        assert expected in text, expected


def test_B12_a_column_that_names_the_patient_otherwise_is_refused(tmp_path):
    scans(tmp_path, "a.nii")
    (tmp_path / "m.csv").write_text("image,PatientID\na.nii,1\n")
    (fault,) = faults_of(tmp_path / "m.csv")
    assert "rename it 'patient'" in fault


def test_a_missing_label_column_suggests_the_nearest(tmp_path):
    scans(tmp_path, "a.nii")
    (tmp_path / "m.csv").write_text("image,tumour\na.nii,1\n")
    assert "did you mean 'tumour'?" in faults_of(tmp_path / "m.csv", labels=["tumor"])[0]
    assert "reserved" in faults_of(tmp_path / "m.csv", labels=["image"])[0]


@pytest.mark.parametrize("text", ["", "\n\n", "image\n", "tumour\n1\n"])
def test_a_table_without_cases_or_scans_is_refused(tmp_path, text):
    (tmp_path / "m.csv").write_text(text)
    assert faults_of(tmp_path / "m.csv")


def test_inspect_returns_the_good_rows_beside_the_faults(tmp_path):
    scans(tmp_path, "a.nii")
    (tmp_path / "m.csv").write_text("image\na.nii\nb.nii\n")
    manifest, problems = inspect_manifest(tmp_path / "m.csv")
    assert [case.id for case in manifest.cases] == ["a", "b"]
    assert len(problems) == 1


def test_for_prediction_a_missing_scan_is_a_fault_of_its_case_alone(tmp_path):
    (tmp_path / "m.csv").write_text("case,image\na,gone.nii\nb,\n")
    assert len(faults_of(tmp_path / "m.csv")) == 2
    assert [case.id for case in read_manifest(tmp_path / "m.csv", check_scans=False).cases] == ["a", "b"]
    (tmp_path / "m.csv").write_text("case,image,sex\n,gone.nii,m\n,,f\n")
    assert faults_of(tmp_path / "m.csv", check_scans=False) == ("row 3: no scan: every image cell is empty",)


def test_a_written_manifest_reads_back_the_same_from_another_folder(tmp_path):
    scans(tmp_path, "data/a.nii.gz", "data/b.nii.gz", "masks/a.nii.gz")
    first = manifest_of(
        tmp_path,
        "image,mask,patient,center_x,center_y,center_z,spacing,label\n"
        "data/a.nii.gz,masks/a.nii.gz,=p1,1,2,3,1 1 2,0\n"
        "data/b.nii.gz,,p2,,,,,1\n",
    )
    out = tmp_path / "runs" / "one" / "manifest.csv"
    write_manifest(out, first, {"split": ["train", "val"]})
    second = read_manifest(out)
    assert str(tmp_path) not in out.read_text()
    assert [case.split for case in second.cases] == ["train", "val"]
    for before, after in zip(first.cases, second.cases, strict=True):
        assert (before.id, before.patient, before.cells) == (after.id, after.patient, after.cells)
        assert (before.center, before.spacing) == (after.center, after.spacing)
        for old, new in ((before.images, after.images), (before.masks, after.masks)):
            assert old.keys() == new.keys()
            assert all((tmp_path / new[key]).samefile(old[key]) for key in old)


def test_writing_a_column_of_the_wrong_length_is_refused(tmp_path):
    scans(tmp_path, "a.nii")
    with pytest.raises(ValueError, match="one per case"):
        write_manifest(tmp_path / "o.csv", manifest_of(tmp_path, "image\na.nii\n"), {"split": []})


def medmnist(path, width=1, splits=("train", "val", "test"), volume=(4, 4, 4)):
    rng = np.random.default_rng(0)
    members = {}
    for count, split in enumerate(splits, start=2):
        members[f"{split}_images"] = rng.integers(0, 255, (count, *volume), dtype=np.uint8)
        members[f"{split}_labels"] = rng.integers(0, 2, (count, width), dtype=np.uint8)
    np.savez_compressed(path, **members)
    return members


def test_a_medmnist_file_is_a_whole_manifest(tmp_path):
    members = medmnist(tmp_path / "set.npz")
    manifest = read_manifest(tmp_path / "set.npz", labels=["label"])
    assert [case.id for case in manifest.cases][:3] == ["train_0000", "train_0001", "val_0000"]
    assert [case.split for case in manifest.cases] == ["train"] * 2 + ["val"] * 3 + ["test"] * 4
    assert manifest.cases[2].images == {"image": f"{tmp_path}/set.npz#val/0"}
    for split in ("train", "val", "test"):
        read = [case.cells["label"] for case in manifest.cases if case.split == split]
        assert read == [str(value) for value in members[f"{split}_labels"][:, 0]]
    write_manifest(tmp_path / "run" / "m.csv", manifest)
    again = read_manifest(tmp_path / "run" / "m.csv")
    assert [case.id for case in again.cases] == [case.id for case in manifest.cases]
    assert again.cases[0].images["image"].endswith("set.npz#train/0")


def test_wide_medmnist_labels_become_columns(tmp_path):
    medmnist(tmp_path / "set.npz", width=3)
    assert read_manifest(tmp_path / "set.npz").columns[-3:] == ("label_0", "label_1", "label_2")


def test_A10_a_foreign_npz_is_refused_with_its_keys(tmp_path):
    np.savez(tmp_path / "x.npz", volume=np.zeros((2, 2, 2)))
    assert "got the keys ['volume']" in faults_of(tmp_path / "x.npz")[0]
    (tmp_path / "y.npz").write_bytes(b"no zip")
    assert "not readable" in faults_of(tmp_path / "y.npz")[0]


def test_A9_pickled_labels_are_never_loaded(tmp_path):
    members = medmnist(tmp_path / "set.npz")
    members["train_labels"] = np.array([{"a": 1}, None], dtype=object)
    np.savez(tmp_path / "set.npz", **members)
    assert "expected integer labels" in faults_of(tmp_path / "set.npz")[0]


def test_two_dimensional_medmnist_is_refused(tmp_path):
    medmnist(tmp_path / "set.npz", volume=(28, 28))
    assert "2D sets are not scans" in faults_of(tmp_path / "set.npz")[0]


def test_a_hundred_thousand_rows_take_at_most_ten_seconds(tmp_path):
    count = 100_000
    (tmp_path / "im").mkdir()
    for number in range(100):
        (tmp_path / "im" / f"{number}.nii").write_bytes(b"")
    lines = [f"c{i},p{i // 2},im/{i % 100}.nii,{('train', 'val')[i // 2 % 2]},{i % 2},m" for i in range(count)]
    path = tmp_path / "m.csv"
    path.write_text("\n".join(["case,patient,image,split,label,sex", *lines]))
    start = time.process_time()  # not the clock on the wall: other tests may run beside this one
    assert len(read_manifest(path).cases) == count
    assert time.process_time() - start < 10


@pytest.mark.real_data
@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data beside the repository")
def test_adrenalmnist3d_has_its_published_counts():
    manifest = read_manifest(SHARED / "adrenalmnist3d" / "adrenalmnist3d_64.npz", labels=["label"])
    counts = {split: [0, 0] for split in ("train", "val", "test")}
    for case in manifest.cases:
        counts[case.split][int(case.cells["label"])] += 1
    assert counts == {"train": [929, 259], "val": [76, 22], "test": [229, 69]}


def test_A14_paths_of_windows_and_other_codes_of_letters_find_the_scans(tmp_path):
    scans(tmp_path, "im/Münster_0.nii.gz", "m/a.nii.gz")
    nfd = "im\\Mu\u0308nster_0.nii.gz"
    (case,) = manifest_of(tmp_path, f"image,mask\n{nfd},m\\a.nii.gz\u200b\n").cases
    assert case.id == "Münster_0" and case.images == {"image": str(tmp_path / "im/Münster_0.nii.gz")}
    assert case.masks == {"mask": str(tmp_path / "m/a.nii.gz")}
    (same,) = read_manifest(tmp_path / "m.csv", check_scans=False).cases
    assert same == case


def test_A14_a_path_of_another_computer_and_a_link_to_nothing_are_told(tmp_path):
    scans(tmp_path, "a.nii")
    (tmp_path / "b.nii").symlink_to(".git/annex/objects/xx/b")
    (tmp_path / "m.csv").write_text("image\nC:\\data\\a.nii\nb.nii\n\\\\server\\share\\c.nii\n")
    first, second, third = faults_of(tmp_path / "m.csv")
    assert "a path of another computer" in first and "a path of another computer" in third
    assert second.startswith(
        "row 3: image 'b.nii': a link to a file that is not there: it was not fetched (datalad get"
    )


def test_A14_ids_with_signs_that_are_not_seen_are_refused(tmp_path):
    scans(tmp_path, "a.nii")
    (tmp_path / "m.csv").write_text("case,image\nx\u200by,a.nii\nmi\u200cdan,a.nii\n", encoding="utf-8")
    (fault,) = faults_of(tmp_path / "m.csv")
    assert fault.startswith("row 2: case 'x\\u200by': an id names files, so no signs that are not seen")


@pytest.mark.parametrize("column", ["path", "File Name", "scan_path", "NIfTI"])
def test_a_column_that_seems_to_name_the_scans_is_named(tmp_path, column):
    (tmp_path / "m.csv").write_text(f"id,{column},y\n1,a.nii,0\n")
    assert any(
        fault.endswith(f"if {column!r} names them, rename it 'image'") for fault in faults_of(tmp_path / "m.csv")
    )
