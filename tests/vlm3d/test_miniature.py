"""The miniature set has the folders, names and tables of CT-RATE, and every label in both outcomes."""

import numpy as np
import pytest

from anymc3d.cli.main import main
from anymc3d.data.readers import read_volume
from anymc3d.data.volume import to_ras
from anymc3d.errors import UsageError
from anymc3d.files.tables import read_table
from anymc3d.vlm3d.labels import LABELS
from anymc3d.vlm3d.miniature import RARE, write_miniature
from anymc3d.vlm3d.scores import read_truth


@pytest.fixture(scope="module")
def mini(tmp_path_factory):
    folder = tmp_path_factory.mktemp("miniature") / "set"
    write_miniature(folder, patients=12)
    return folder


def test_folders_names_and_tables_are_those_of_ct_rate(mini):
    assert (mini / "dataset/train/train_1/train_1_a/train_1_a_1.nii.gz").is_file()
    assert (mini / "dataset/train/train_1/train_1_a/train_1_a_2.nii.gz").is_file()
    assert (mini / "dataset/valid/valid_1/valid_1_a/valid_1_a_1.nii.gz").is_file()
    for part, long in (("train", "train"), ("valid", "validation")):
        labels = read_table(mini / f"dataset/multi_abnormality_labels/{part}_predicted_labels.csv")
        assert list(labels[0]) == ["VolumeName", *LABELS]
        on_disk = {path.name for path in (mini / "dataset" / part).rglob("*.nii.gz")}
        assert {row["VolumeName"] for row in labels} == on_disk
        metadata = read_table(mini / f"dataset/metadata/{long}_metadata.csv")
        assert metadata[0]["XYSpacing"] == "[10.0, 10.0]" and metadata[0]["ZSpacing"] == "20.0"


def test_every_label_has_both_outcomes_and_some_are_rare(mini):
    rows = [row for row in read_table(mini / "manifest.csv") if row["split"] == "train"]
    for label in LABELS:
        holders = {row["patient"] for row in rows if row[label] == "1"}
        assert 4 <= len(holders) < 12
        assert label not in RARE or len(holders) == 4
    by_patient = {}
    for row in rows:
        assert by_patient.setdefault(row["patient"], [row[name] for name in LABELS]) == [row[name] for name in LABELS]


def test_the_exams_are_the_scans_of_the_valid_part_in_another_format(mini):
    truth = read_truth(mini / "ground_truth.csv")
    assert {path.stem for path in (mini / "input").iterdir()} == set(truth.exams)
    for exam in truth.exams[:2]:
        patient = "_".join(exam.split("_")[:2])
        scan = read_volume(mini / f"dataset/valid/{patient}/{patient}_a/{exam}.nii.gz")
        same = read_volume(mini / f"input/{exam}.mha")
        assert np.array_equal(to_ras(scan).voxels, to_ras(same).voxels)
        assert same.spacing == pytest.approx((10, 10, 20))
        assert scan.voxels.min() < -950 and scan.voxels.max() > 400


def test_the_same_seed_gives_the_same_scans(mini, tmp_path):
    write_miniature(tmp_path / "again", patients=12)
    for name in ("manifest.csv", "dataset/train/train_3/train_3_a/train_3_a_1.nii.gz"):
        old, new = (
            read_volume(f / name).voxels if "nii" in name else (f / name).read_text()
            for f in (mini, tmp_path / "again")
        )
        assert np.array_equal(old, new) if "nii" in name else old == new


def test_a_folder_with_something_in_it_and_too_few_patients_are_refused(mini, tmp_path):
    with pytest.raises(UsageError, match="expected a new or empty folder"):
        write_miniature(mini)
    with pytest.raises(UsageError, match="at least 12"):
        write_miniature(tmp_path / "few", patients=3)


def test_the_adapter_of_ct_rate_reads_it(mini, tmp_path):
    words = ["data", "adapt", "ct-rate", str(mini), "-o", str(tmp_path / "manifest.csv"), "--release", "v2"]
    assert main(words) == 0
    adapted = {row["case"]: row for row in read_table(tmp_path / "manifest.csv")}
    own = {row["case"]: row for row in read_table(mini / "manifest.csv")}
    assert set(adapted) == set(own)
    for case, row in own.items():
        assert (row["split"] == "test") == (adapted[case]["split"] == "test")
        assert [row[label] for label in LABELS] == [adapted[case][label] for label in LABELS]
