"""nnU-Net, MONAI, MedMNIST, BIDS and folder-per-class: the layouts that anybody uses, whole and broken."""

from __future__ import annotations

import json
import random
import shutil
import zlib

import numpy as np
import pytest
from damaged_bytes import damaged
from public_layouts import (
    make_bids,
    make_class_folders,
    make_monai,
    make_nnunet,
    write_csv,
    write_dicom,
    write_nifti,
)

from anymc3d.adapters.registry import adapt
from anymc3d.adapters.rows import AdaptOptions, write_adapted
from anymc3d.data.manifest import read_manifest
from anymc3d.data.medmnist import inspect_npz
from anymc3d.errors import ManifestError

# ---------------------------------------------------------------------------------------------------- nnU-Net


@pytest.fixture
def nnunet(tmp_path):
    folder = make_nnunet(tmp_path / "Dataset001_X")
    rows = [{"case": f"PAT{number:02d}_{number % 2}", "grade": number % 3, "sex": "F"} for number in range(6)]
    write_csv(folder / "classes.csv", rows)
    return folder


def test_nnunet_one_channel_is_image_and_mask_with_given_folds(written, nnunet):
    adapted, manifest = written("nnunet", nnunet, labels=nnunet / "classes.csv", patient=r"^(PAT\d+)")
    assert manifest.image_columns == ("image",)
    assert [case.fold for case in manifest.cases] == ["0", "1"] * 3
    assert [case.cells["grade"] for case in manifest.cases] == ["0", "1", "2"] * 2
    assert manifest.cases[0].patient == "PAT00" and manifest.cases[0].masks["mask"].endswith("PAT00_0.nii.gz")
    assert adapted.labels == ("grade", "sex")
    assert not manifest.has_splits  # imagesTs has no labels


def test_nnunet_channels_are_views_and_the_mask_is_of_each(written, tmp_path):
    _, manifest = written("nnunet", make_nnunet(tmp_path / "d", channels=2))
    assert manifest.image_columns == ("image.T1", "image.T2")
    assert set(manifest.cases[0].masks) == {"mask.T1", "mask.T2"}


def test_nnunet_test_images_with_labels_become_the_test_split(written, nnunet):
    with (nnunet / "classes.csv").open("a") as file:
        file.write("PAT90_0_0000.nii.gz,1,M\n")
    _, manifest = written("nnunet", nnunet, labels=nnunet / "classes.csv")
    assert [case.split for case in manifest.cases] == ["train"] * 6 + ["test"]


def test_nnunet_label_table_may_name_patients_and_splits(written, nnunet):
    rows = [{"case_id": f"PAT{n:02d}_{n % 2}", "subject": f"s{n // 2}", "split": "train", "y": 1} for n in range(6)]
    (nnunet / "splits_final.json").unlink()
    write_csv(nnunet / "classes.csv", rows)
    adapted, manifest = written("nnunet", nnunet, labels=nnunet / "classes.csv")
    assert [case.patient for case in manifest.cases] == ["s0", "s0", "s1", "s1", "s2", "s2"]
    assert manifest.has_splits and adapted.labels == ("y",)


def test_nnunet_without_labels_says_so(warnings, nnunet):
    told = warnings("nnunet", nnunet)
    assert "no class labels" in told and "patient of its own" in told


def test_B12_nnunet_folds_that_part_a_patient_are_an_error(nnunet, tmp_path):
    from anymc3d.adapters import AdaptOptions, adapt, write_adapted
    from anymc3d.errors import ManifestError

    (nnunet / "splits_final.json").write_text(
        json.dumps([{"train": [], "val": [f"PAT0{n}_{n % 2}" for n in half]} for half in ((0, 1, 2), (3, 4, 5))])
    )
    adapted = adapt("nnunet", nnunet, AdaptOptions(patient=r"_(\d)$"))
    with pytest.raises(ManifestError, match="patient '0' is in 2 folds"):
        write_adapted(adapted, tmp_path / "m.csv", "x")
    assert not (tmp_path / "m.csv").exists()


def test_nnunet_faults_are_in_one_report(problems, tmp_path):
    folder = make_nnunet(tmp_path / "d", channels=2)
    (folder / "imagesTr" / "PAT01_1_0001.nii.gz").unlink()
    shutil.copy(folder / "imagesTr" / "PAT02_0_0000.nii.gz", folder / "imagesTr" / "PAT02_0_0002.nii.gz")
    (folder / "splits_final.json").write_text(json.dumps([{"train": [], "val": ["PAT00_0", "nobody"]}]))
    found = "\n".join(problems("nnunet", folder))
    assert "PAT01_1: _0001" in found
    assert "PAT02_0_0002.nii.gz" in found
    assert "not in imagesTr: nobody" in found
    assert "in val of no fold: PAT05_1" in found


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (None, "dataset.json: expected this file, there is none"),
        ("{", "dataset.json cannot be read as JSON"),
        ("[]", "expected dataset.json"),
        ('{"file_ending": ".png", "channel_names": {"0": "CT"}}', "'.png' is not read"),
        ('{"channel_names": {}}', "channel_names"),
    ],
)
def test_nnunet_without_a_right_header_is_an_error(problems, nnunet, header, message):
    (nnunet / "dataset.json").unlink()
    if header is not None:
        (nnunet / "dataset.json").write_text(header)
    assert any(message in one for one in problems("nnunet", nnunet))


def test_nnunet_counts_and_masks_that_do_not_fit_are_told(warnings, nnunet):
    (nnunet / "labelsTr" / "PAT03_1.nii.gz").rename(nnunet / "labelsTr" / "ghost.nii.gz")
    (nnunet / "imagesTr" / "readme.nii.gz").write_bytes(b"")
    header = json.loads((nnunet / "dataset.json").read_text()) | {"numTraining": 7}
    (nnunet / "dataset.json").write_text(json.dumps(header))
    told = warnings("nnunet", nnunet, labels=nnunet / "classes.csv")
    for word in ("numTraining 7", "no mask in labelsTr", "PAT03_1", "ghost", "readme.nii.gz"):
        assert word in told


# ------------------------------------------------------------------------------------------------------ MONAI


@pytest.fixture
def monai(tmp_path):
    return make_monai(tmp_path / "monai")


def rewrite(folder, change):
    path = folder / "dataset_0.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def test_monai_lists_become_splits_folds_and_labels(written, monai):
    adapted, manifest = written("monai", monai)
    assert [case.split for case in manifest.cases] == ["train"] * 6 + ["test"]
    assert [case.fold for case in manifest.cases] == ["0", "1", "2"] * 2 + [None]
    assert [case.cells["label"] for case in manifest.cases] == ["0", "1"] * 3 + ["1"]
    assert manifest.cases[2].cells["age"] == "42" and adapted.labels == ("label",)


def test_monai_the_file_itself_will_do(written, monai):
    assert len(written("monai", monai / "dataset_0.json")[1].cases) == 7


def test_monai_channels_masks_and_patients(written, monai):
    for number in range(2):
        write_nifti(monai / "m" / f"c{number}.nii.gz", np.ones((4, 4, 4), np.uint8))
        write_nifti(monai / "m" / f"a{number}.nii.gz")
        write_nifti(monai / "m" / f"b{number}.nii.gz")
    entries = [
        {"image": [f"m/a{n}.nii.gz", f"m/b{n}.nii.gz"], "label": f"m/c{n}.nii.gz", "subject": n, "split": "x"}
        for n in range(2)
    ]
    rewrite(monai, lambda _: {"training": entries})
    adapted, manifest = written("monai", monai)
    assert manifest.image_columns == ("image.c0", "image.c1") and adapted.labels == ()
    assert set(manifest.cases[0].masks) == {"mask.c0", "mask.c1"}
    assert [case.patient for case in manifest.cases] == ["0", "1"]
    assert not manifest.has_splits and manifest.cases[0].cells["split_"] == "x"


def test_monai_a_dictionary_of_folds(written, monai):
    entries = [{"image": f"imagesTr/case_{n}.nii.gz", "label": [n % 2, 1]} for n in range(6)]
    rewrite(monai, lambda _: {"0": {"train": entries[3:], "val": entries[:3]}, "1": {"train": [], "val": entries[3:]}})
    adapted, manifest = written("monai", monai)
    assert [case.fold for case in manifest.cases] == ["0"] * 3 + ["1"] * 3
    assert adapted.labels == ("label_0", "label_1")


def test_monai_one_case_in_two_lists_is_an_error(monai, tmp_path):
    from anymc3d.adapters import adapt, write_adapted
    from anymc3d.errors import ManifestError

    rewrite(monai, lambda content: content | {"validation": content["training"][:1]})
    with pytest.raises(ManifestError, match=r"is in 2 splits(.|\n)*case 'case_0' is also row 2"):
        write_adapted(adapt("monai", monai), tmp_path / "m.csv", "x")


def test_monai_faults_are_in_one_report(problems, warnings, monai):
    rewrite(
        monai,
        lambda content: {
            "training": [*content["training"], {"image": "gone.nii.gz"}, {"label": 1}, 7],
            "testing": "all",
            "trainig": [],
        },
    )
    found = "\n".join(problems("monai", monai))
    assert (
        "gone.nii.gz" in found
        and "training 7" in found
        and "training 8" in found
        and "'testing' is not a list" in found
    )
    rewrite(monai, lambda content: {"training": content["training"][:7], "trainig": []})
    told = warnings("monai", monai, partial=True)
    assert "gone.nii.gz" in told and "trainig" in told


@pytest.mark.parametrize("content", ["[]", "{}", "nonsense", '{"a": 1}'])
def test_monai_a_file_that_is_no_data_list_is_an_error(problems, monai, content):
    (monai / "dataset_0.json").write_text(content)
    assert problems("monai", monai)


def test_monai_two_lists_in_a_folder_ask_for_one(problems, monai):
    shutil.copy(monai / "dataset_0.json", monai / "dataset_1.json")
    assert any("expected one .json" in one for one in problems("monai", monai))


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ('{"training": [{"image": "a.nii.gz", "label": NaN}]}', "no JSON"),
        ('{"training": [{"image": "a.nii.gz", "label": Infinity}]}', "no JSON"),
        ('{"training": [], "training": [{"image": "a.nii.gz", "label": 1}]}', "appears twice"),
        ('{"training": [{"image": "a.nii.gz", "label": 1, "patient": true}]}', "neither a text nor"),
        ('{"training": [{"image": "a.nii.gz", "label": 1, "patient": 1.5}]}', "neither a text nor"),
        ('{"training": [{"image": "a.nii.gz", "label": 1, "fold": {"a": 1}}]}', "neither a text nor"),
        (json.dumps({"training": [{"image": 5000 * "a" + ".nii.gz"}]}), "not here"),
    ],
)
def test_A14_monai_cells_that_mislead_are_errors(tmp_path, problems, text, word):
    write_nifti(tmp_path / "a.nii.gz")
    (tmp_path / "list.json").write_text(text)
    (problem,) = problems("monai", tmp_path / "list.json")
    assert word in problem and len(problem) < 1000


def test_B12_monai_patients_that_are_whole_numbers_stay_patients(written, tmp_path):
    entries = [{"image": f"{n}.nii.gz", "label": n % 2, "patient": float(n // 2)} for n in range(4)]
    for n in range(4):
        write_nifti(tmp_path / f"{n}.nii.gz")
    (tmp_path / "list.json").write_text(json.dumps({"training": entries}))
    _, manifest = written("monai", tmp_path / "list.json")
    assert [case.patient for case in manifest.cases] == ["0", "0", "1", "1"]


def test_A14_cells_that_no_table_can_hold_are_told(tmp_path):
    write_nifti(tmp_path / "a.nii.gz")
    (tmp_path / "list.json").write_text('{"training": [{"image": "a.nii.gz", "label": "\\ud800"}]}')
    adapted = adapt("monai", tmp_path / "list.json", AdaptOptions())
    with pytest.raises(ManifestError, match="UTF-8"):
        write_adapted(adapted, tmp_path / "manifest.csv", "list.json")
    assert not (tmp_path / "manifest.csv").exists()


# --------------------------------------------------------------------------------------------------- MedMNIST


def make_npz(path, num=4, *, compressed=False):
    rng = np.random.default_rng(0)
    arrays = {
        f"{split}_images": rng.integers(0, 255, (num, 8, 8, 8), dtype=np.uint8) for split in ("train", "val", "test")
    }
    arrays |= {f"{split}_labels": np.arange(num, dtype=np.uint8)[:, None] % 2 for split in ("train", "val", "test")}
    path.parent.mkdir(parents=True, exist_ok=True)
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    return path


def test_medmnist_a_file_becomes_a_table_that_refers_into_it(written, tmp_path):
    adapted, manifest = written("medmnist", make_npz(tmp_path / "x" / "organmnist3d.npz"))
    assert [case.split for case in manifest.cases] == ["train"] * 4 + ["val"] * 4 + ["test"] * 4
    assert manifest.cases[5].images["image"].endswith("organmnist3d.npz#val/1")
    told = "\n".join(line for finding in adapted.findings.listed() for line in finding.lines())
    assert "not the published one" in told and "0 liver" in told and "names no patients" in told


def test_medmnist_another_file_is_an_error(problems, tmp_path):
    np.savez(tmp_path / "other.npz", images=np.zeros(3))
    assert any("got the keys ['images']" in one for one in problems("medmnist", tmp_path / "other.npz"))
    (tmp_path / "empty").mkdir()
    assert any("expected one .npz" in one for one in problems("medmnist", tmp_path / "empty"))


def test_A14_medmnist_damage_at_random_never_breaks_the_command(tmp_path):
    path = make_npz(tmp_path / "x" / "organmnist3d.npz", compressed=True)
    whole = path.read_bytes()
    refused = 0
    for seed in range(200):
        path.write_bytes(damaged(whole, random.Random(seed)))
        refused += bool(inspect_npz(path)[2])
    assert refused > 50


@pytest.mark.real_data
def test_medmnist_the_real_file_has_the_published_hash(shared, tmp_path):
    from anymc3d.adapters import adapt

    adapted = adapt("medmnist", shared / "data" / "adrenalmnist3d")
    assert len(adapted.rows) == 1584
    assert any("the content is the published one" in finding.text for finding in adapted.findings.listed())


# ------------------------------------------------------------------------------------------------------- BIDS


def test_bids_scans_bear_the_columns_of_their_participants(written, tmp_path):
    _, manifest = written("bids", make_bids(tmp_path / "bids"))
    assert [case.id for case in manifest.cases] == [f"sub-0{n}_T1w" for n in range(1, 5)]
    assert [case.patient for case in manifest.cases] == ["01", "02", "03", "04"]
    assert [case.cells["group"] for case in manifest.cases] == ["C", "A", "C", "A"]
    assert manifest.cases[1].cells["sex"] == ""


def test_bids_sessions_keep_their_patient_and_bear_their_own_columns(written, tmp_path):
    _, manifest = written("bids", make_bids(tmp_path / "bids", sessions=True))
    assert len(manifest.cases) == 8 and len({case.patient for case in manifest.cases}) == 4
    assert [case.cells["session"] for case in manifest.cases[:2]] == ["01", "02"]
    assert [case.cells["score"] for case in manifest.cases[:2]] == ["1", "2"]


def test_bids_several_suffixes_are_views_and_a_missing_one_is_told(written, tmp_path):
    adapted, manifest = written("bids", make_bids(tmp_path / "bids"), suffixes=("T1w", "T2w"))
    assert manifest.image_columns == ("image.T1w", "image.T2w")
    assert [len(case.images) for case in manifest.cases] == [2, 2, 1, 2]
    assert any("sub-03: T2w" in finding.items for finding in adapted.findings.listed())


def test_bids_runs_are_rows_or_must_be_chosen(written, problems, tmp_path):
    folder = make_bids(tmp_path / "bids")
    for run in (1, 2):
        write_nifti(folder / "sub-01" / "anat" / f"sub-01_run-{run}_T1w.nii.gz")
    assert len(written("bids", folder)[1].cases) == 6
    assert any("--match run-1" in one for one in problems("bids", folder, suffixes=("T1w", "T2w")))
    assert len(written("bids", folder, match="run-1", partial=True)[1].cases) == 1


def test_bids_who_is_missing_is_told(problems, warnings, tmp_path):
    folder = make_bids(tmp_path / "bids")
    with (folder / "participants.tsv").open("a") as file:
        file.write("sub-77\t1\tM\tA\n")
    write_nifti(folder / "sub-88" / "anat" / "sub-88_T1w.nii.gz")
    (folder / "sub-04" / "anat" / "sub-04_T1w.nii.gz").unlink()
    found = "\n".join(problems("bids", folder))
    assert "no folder: sub-77" in found and "no T1w scan: sub-04" in found
    told = warnings("bids", folder, partial=True)
    assert "sub-88" in told


def test_bids_names_without_sub_and_reserved_columns_are_mended_and_told(written, tmp_path):
    folder = make_bids(tmp_path / "bids")
    rows = [{"participant_id": f"{n:02d}", "mask": "yes", "dx": n % 2} for n in range(1, 5)]
    write_csv(folder / "participants.tsv", rows, "\t")
    adapted, manifest = written("bids", folder)
    assert manifest.cases[0].cells["mask_"] == "yes"
    assert any("lacks 'sub-'" in finding.text for finding in adapted.findings.listed())


def test_bids_another_folder_says_what_is_expected(problems, tmp_path):
    (tmp_path / "x").mkdir()
    assert any("sub-" in one for one in problems("bids", tmp_path / "x"))


# -------------------------------------------------------------------------------------------- class folders


@pytest.fixture
def classes(tmp_path):
    return make_class_folders(tmp_path / "classes")


def test_folders_the_class_is_the_label_and_the_patient_is_found_in_the_name(written, classes):
    _, manifest = written("folders", classes, patient=r"^(p\d+)")
    assert len(manifest.cases) == 9 and len({case.patient for case in manifest.cases}) == 5
    labels = {case.id: case.cells["label"] for case in manifest.cases}
    assert (labels["p1_s1"], labels["p5_s1"]) == ("healthy", "lesion")


def test_folders_without_a_rule_every_scan_is_a_patient_and_that_is_told(warnings, classes):
    assert "--patient REGEX" in warnings("folders", classes)


def test_folders_a_folder_between_is_the_patient(written, tmp_path):
    for label in ("a", "b"):
        for patient in ("x", "y"):
            for scan in ("one", "two"):
                write_nifti(
                    tmp_path / "c" / label / f"{label}{patient}" / f"{scan}.nii.gz",
                    np.random.default_rng(len(list(tmp_path.rglob("*")))).normal(size=(6, 6, 4)).astype("f4"),
                )
    _, manifest = written("folders", tmp_path / "c")
    assert {case.patient for case in manifest.cases} == {"ax", "ay", "bx", "by"}
    assert {case.id for case in manifest.cases} >= {"ax_one", "by_two"}


def test_folders_of_splits_become_splits(written, tmp_path):
    for split in ("train", "valid", "test"):
        for label in ("a", "b"):
            write_nifti(tmp_path / "c" / split / label / f"{split}_{label}.nii.gz")
    _, manifest = written("folders", tmp_path / "c")
    assert sorted({case.split for case in manifest.cases}) == ["test", "train", "val"]


def test_B13_folders_one_scan_in_two_classes_is_an_error(problems, classes):
    shutil.copy(classes / "healthy" / "p1_s1.nii.gz", classes / "lesion" / "other_name.nii.gz")
    assert any("two classes" in one and "other_name" in one for one in problems("folders", classes))


def test_folders_two_modalities_strangers_and_empty_classes(problems, warnings, classes):
    (classes / "lesion" / "note.txt").write_text("x")
    (classes / "readme.md").write_text("x")
    (classes / "unsure").mkdir()
    told = warnings("folders", classes)
    assert "lesion/note.txt" in told and "readme.md" in told and "unsure" in told
    write_dicom(classes / "healthy" / "p9_s1", modality="MR")
    found = "\n".join(problems("folders", classes))
    assert "several modalities" in found and "MR: 1 scans" in found


def test_folders_one_class_a_loose_slice_and_a_bad_name_are_errors(problems, tmp_path):
    write_nifti(tmp_path / "one" / "a" / "x.nii.gz")
    assert any("at least two class folders" in one for one in problems("folders", tmp_path / "one"))
    write_nifti(tmp_path / "one" / "nan" / "y.nii.gz")
    write_dicom(tmp_path / "one" / "a", slices=1)
    found = "\n".join(problems("folders", tmp_path / "one"))
    assert "missing value" in found and "1.dcm" in found


def test_folders_the_same_name_in_two_classes_gets_its_class_in_the_id(written, tmp_path):
    for seed, label in enumerate(("a", "b")):
        voxels = np.random.default_rng(seed).normal(size=(6, 6, 4)).astype("f4")
        write_nifti(tmp_path / "c" / label / "scan.nii.gz", voxels)
    _, manifest = written("folders", tmp_path / "c")
    assert [case.id for case in manifest.cases] == ["a_scan", "b_scan"]


def test_folders_a_rule_that_finds_no_patient_is_an_error(problems, classes):
    assert any("is not found" in one for one in problems("folders", classes, patient=r"^(q\d+)"))


def test_manifests_written_elsewhere_lead_back_to_the_scans(written, classes):
    _, manifest = written("folders", classes)
    assert read_manifest(manifest.path).cases[0].images["image"].startswith(str(manifest.path.parent))


def distinct(path, seed):
    return write_nifti(path, np.random.default_rng(seed).normal(size=(6, 6, 4)).astype("f4"))


@pytest.fixture
def split_classes(tmp_path):
    """<split>/<class>/<scan>: 8 / 4 / 4 scans of each class."""
    folder = tmp_path / "data"
    for number, (split, count) in enumerate((("train", 8), ("val", 4), ("test", 4))):
        for label in ("healthy", "lesion"):
            for k in range(count):
                distinct(
                    folder / split / label / f"{split}_{label}_{k}.nii.gz", zlib.crc32(f"{number}{label}{k}".encode())
                )
    return folder


def table_of(manifest):
    return sorted((case.id, case.patient, case.cells["label"], case.split) for case in manifest.cases)


@pytest.mark.parametrize("stranger", ["_CodeSignature", "masks", "docs", "labels", ".ipynb_checkpoints", "__MACOSX"])
def test_B14_folders_one_without_a_scan_beside_the_splits_changes_nothing(written, warnings, split_classes, stranger):
    before = table_of(written("folders", split_classes)[1])
    (split_classes / stranger / "deeper").mkdir(parents=True)
    (split_classes / stranger / "notes.txt").write_text("x")
    (split_classes / stranger / "deeper" / "._train_lesion_0.nii.gz").write_bytes(b"x")
    _, manifest = written("folders", split_classes)
    assert table_of(manifest) == before
    assert [sum(row[2] == name for row in before) for name in ("healthy", "lesion")] == [16, 16]
    assert [sum(row[3] == name for row in before) for name in ("train", "val", "test")] == [16, 8, 8]


@pytest.mark.parametrize("stranger", ["masks", "external", "internal_test", "healthy"])
def test_B14_folders_a_stranger_with_scans_beside_the_splits_is_an_error(problems, split_classes, stranger):
    distinct(split_classes / stranger / "a" / "x.nii.gz", 1)
    (problem,) = problems("folders", split_classes)
    assert (
        problem.endswith(f"move or rename them: {stranger}") and "test, train and val are named like a split" in problem
    )


@pytest.mark.parametrize(
    "names",
    [("Train_Set", "VALIDATION", "test-data"), ("training", "dev", "Testing"), ("01_train", "02_val", "03_test")],
)
def test_folders_splits_in_other_spellings(written, split_classes, names):
    before = table_of(written("folders", split_classes)[1])
    for old, new in zip(("train", "val", "test"), names, strict=True):
        (split_classes / old).rename(split_classes / new)
    assert table_of(written("folders", split_classes)[1]) == before


def test_B12_folders_splits_inside_classes_are_splits_not_patients(written, tmp_path):
    for split in ("train", "val", "test"):
        for label in ("healthy", "lesion"):
            for k in range(2):
                distinct(
                    tmp_path / "c" / label / split / f"{label}_{split}_{k}.nii.gz",
                    zlib.crc32(f"{split}{label}{k}".encode()),
                )
    _, manifest = written("folders", tmp_path / "c")
    assert {(case.cells["label"], case.split) for case in manifest.cases} == {
        (label, split) for label in ("healthy", "lesion") for split in ("train", "val", "test")
    }
    assert len({case.patient for case in manifest.cases}) == 12


def test_folders_parts_of_another_layout_are_no_classes(problems, warnings, tmp_path):
    for number, name in enumerate(("imagesTr", "labelsTr")):
        distinct(tmp_path / "c" / name / "x.nii.gz", number)
    assert any("not like a class" in one for one in problems("folders", tmp_path / "c"))
    for number, name in enumerate(("a/p1.nii.gz", "a/p1_seg.nii.gz", "b/p2.nii.gz", "b/p2-mask.nii.gz")):
        distinct(tmp_path / "d" / name, number)
    assert "p1_seg.nii.gz" in warnings("folders", tmp_path / "d") and "named like a mask" in warnings(
        "folders", tmp_path / "d"
    )


# ------------------------------------------------------------------- ids of side tables in another spelling


@pytest.mark.parametrize("form", ["{0}", "{0}.0", "00{0}", "P{0}", "SUB-{0:04d}"])
def test_B12_bids_ids_that_went_through_a_spreadsheet_find_their_folders(written, warnings, tmp_path, form):
    folder = make_bids(tmp_path / "bids")
    before = written("bids", folder)[1].cases
    rows = [{"participant_id": form.format(n), "group": "AC"[n % 2]} for n in range(1, 5)]
    write_csv(folder / "participants.tsv", rows, "\t")
    after = written("bids", folder)[1].cases
    assert [(c.id, c.patient, c.cells["group"]) for c in after] == [(c.id, c.patient, c.cells["group"]) for c in before]
    assert "differ from the scans' names in zeros, signs or letter case alone" in warnings("bids", folder)


def test_bids_ids_that_could_be_two_folders_are_not_guessed(problems, tmp_path):
    folder = make_bids(tmp_path / "bids")
    distinct(folder / "sub-001" / "anat" / "sub-001_T1w.nii.gz", 1)
    write_csv(folder / "participants.tsv", [{"participant_id": str(n)} for n in range(1, 5)], "\t")
    assert any("a participant has no folder: sub-1" in one for one in problems("bids", folder))


@pytest.mark.parametrize("column", ["Case ID", "file-name", "IMAGE", "scan.id"])
def test_nnunet_a_label_table_in_other_spellings(written, warnings, nnunet, column):
    rows = [{column: f"pat-{n}_{n % 2}", "grade": n % 3, "Patient ID": f"PAT{n:02d}"} for n in range(6)]
    write_csv(nnunet / "classes.csv", rows)
    _, manifest = written("nnunet", nnunet, labels=nnunet / "classes.csv")
    assert [case.cells["grade"] for case in manifest.cases] == [str(n % 3) for n in range(6)]
    assert [case.patient for case in manifest.cases] == [f"PAT{n:02d}" for n in range(6)]


def test_a_label_table_with_two_columns_for_one_is_an_error(problems, nnunet):
    write_csv(nnunet / "classes.csv", [{"case": "PAT00_0", "subject": "1", "MRN": "2", "Split": "a", "split": "b"}])
    found = "\n".join(problems("nnunet", nnunet, labels=nnunet / "classes.csv"))
    assert "several columns may name the patient" in found and "two columns would be one column" in found


def test_nnunet_the_decathlon_s_own_layout_is_named(problems, written, tmp_path):
    folder = tmp_path / "Task99"
    training = []
    for k in range(6):
        distinct(folder / "imagesTr" / f"thing_{k:03d}.nii.gz", k)
        (folder / "imagesTr" / f"._thing_{k:03d}.nii.gz").write_bytes(b"x")
        write_nifti(folder / "labelsTr" / f"thing_{k:03d}.nii.gz", np.ones((6, 6, 4), np.uint8))
        training.append({"image": f"./imagesTr/thing_{k:03d}.nii.gz", "label": f"./labelsTr/thing_{k:03d}.nii.gz"})
    header = {"name": "Thing", "modality": {"0": "CT"}, "numTraining": 6, "training": training, "test": []}
    (folder / "dataset.json").write_text(json.dumps(header))
    (problem,) = problems("nnunet", folder)
    assert problem.endswith(f"anymc3d data adapt monai {folder / 'dataset.json'}") and "Decathlon" in problem
    assert len(written("monai", folder / "dataset.json")[1].cases) == 6
