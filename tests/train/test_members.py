"""Members of an ensemble: every case validated at most once, each calibrated on its own, joined to one file."""

import numpy as np
import pytest

from anymc3d.errors import ManifestError, RunFolderError, UsageError
from anymc3d.files.tables import read_table, write_table
from anymc3d.plugins import load_plugin
from anymc3d.predict.predictor import load
from anymc3d.settings.task_file import read_task
from anymc3d.train.folds import fit_folds
from anymc3d.train.members import fit_members

LABELS = ("block", "rare")


def write_two_labels(journey, folder, **columns):
    """The journey's scans, two a patient, with a rare second label and a test split of four."""
    folder.mkdir(exist_ok=True)
    rows = read_table(journey.data / "manifest.csv")
    for index, row in enumerate(rows):
        row["image"] = str(journey.data / row["image"])
        row |= {"patient": f"p{index // 2}", "split": "test" if index < 4 else "train"}
        row["rare"] = int(index % 4 == 3)
        row |= {name: value(index) for name, value in columns.items()}
    write_table(folder / "manifest.csv", list(rows[0]), rows)
    return folder / "manifest.csv"


def task_of(journey, manifest, *overrides):
    labels = "labels={columns: [block, rare], kind: multilabel}"
    wanted = [f"data.manifest={manifest}", "train.epochs=1", labels, "data.fractions=[0.67, 0.33, 0.0]"]
    return read_task(journey.task, [*wanted, "calibration=f1", *overrides])


def run(task, out, **more):
    return fit_members(task, out, device="cpu", quiet=True, **more)


@pytest.fixture(scope="module")
def manifest(journey, tmp_path_factory):
    return write_two_labels(journey, tmp_path_factory.mktemp("members"))


@pytest.fixture(scope="module")
def done(journey, manifest, tmp_path_factory):
    out = tmp_path_factory.mktemp("ensemble") / "run"
    return out, run(task_of(journey, manifest), out, members=3)


def test_B12_every_case_outside_test_is_validated_once_by_a_member_that_never_saw_its_patient(done):
    out, found = done
    rows = read_table(found.predictions)
    assert sorted(row["case"] for row in rows) == [f"case{i:02d}" for i in range(4, 20)]
    for name in ("member_00", "member_01", "member_02"):
        own = read_table(out / "members" / name / "manifest.csv")
        sides = {split: {row["patient"] for row in own if row["split"] == split} for split in ("train", "val")}
        assert sides["train"] and sides["val"] and not sides["train"] & sides["val"]
        assert {row["case"] for row in own if row["split"] == "val"} == {
            row["case"] for row in rows if row["member"] == name
        }
        assert {row["rare"] for row in own if row["split"] == "train"} == {"0", "1"}


def test_the_ensemble_averages_the_calibrated_logits_of_its_members(done, journey):
    out, found = done
    scan = journey.scans[0]
    logits = []
    for path in sorted((out / "calibrated").glob("*.safetensors")):
        card = load_plugin(path).card
        raw = load(path, device="cpu").predict(scan).logits
        logits.append([card.calibration.maps[name].apply(raw[name]) for name in LABELS])
    together = load(found.ensemble, device="cpu").predict(scan)
    assert [together.logits[name] for name in LABELS] == pytest.approx(np.mean(logits, axis=0), abs=1e-5)
    assert together.calibration == dict.fromkeys(LABELS, "shifted") and not together.calibrated


def test_rare_labels_are_calibrated_on_the_pooled_validation_cases_and_a_row_says_so(done):
    _, found = done
    rows = read_table(found.calibration)
    assert [(row["member"], row["label"]) for row in rows] == [
        (f"member_{i:02d}", label) for i in range(3) for label in LABELS
    ]
    assert {(row["source"], row["n"]) for row in rows} == {("pooled", "16")}
    assert len({row["threshold"] for row in rows if row["label"] == "rare"}) == 1
    assert any("pooled out-of-fold cases" in text and "rare (3 of 3)" in text for text in found.warnings)


def test_out_of_fold_rows_are_the_answers_of_the_calibrated_members(done, journey):
    out, found = done
    row = read_table(found.predictions)[7]
    predictor = load(out / "calibrated" / f"{row['member']}.safetensors", device="cpu")
    again = predictor.predict(journey.data / "scans" / f"{row['case']}.nii.gz").row()
    for label in LABELS:
        assert float(row[f"probability.{label}"]) == pytest.approx(float(again[f"probability.{label}"]), abs=1e-6)
    assert {m["n"] for m in read_table(found.metrics) if m["metric"] == "auroc" and m["label"] == "block"} == {"16"}


def test_C1_the_same_call_trains_nothing_and_writes_the_same_and_more_members_keep_the_old(done, journey, manifest):
    out, found = done
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in (*found.plugins, found.ensemble)}
    for path in (found.predictions, found.calibration, *(out / "calibrated").iterdir()):
        path.unlink()
    again = run(task_of(journey, manifest), out, members=3)
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in before} == before
    assert again == found
    fewer = run(task_of(journey, manifest), out, members=2)
    assert len(load_plugin(fewer.ensemble).card.members) == 2
    assert all(path.read_bytes() == before[path][1] for path in found.plugins)


def test_another_calibration_fits_again_and_trains_nothing(done, journey, manifest):
    out, found = done
    before = {p: p.stat().st_mtime_ns for p in found.plugins}
    run(task_of(journey, manifest, "calibration=crg"), out, members=3)
    assert {row["criterion"] for row in read_table(found.calibration)} == {"crg"}
    assert {p: p.stat().st_mtime_ns for p in found.plugins} == before
    none = run(task_of(journey, manifest, "calibration=none"), out, members=3)
    assert none.calibration is None and not load_plugin(none.ensemble).card.is_calibrated
    assert any("no member holds a calibration" in text for text in none.warnings)


def test_C13_other_settings_in_the_same_folder_are_refused(done, journey, manifest):
    with pytest.raises(RunFolderError, match=r"train\.seed was 0, now 5"):
        run(task_of(journey, manifest, "train.seed=5"), done[0], members=3)


def test_more_members_than_parts_deal_the_cases_again(journey, manifest, tmp_path):
    task = task_of(journey, manifest, "data.fractions=[0.5, 0.5, 0.0]")
    found = run(task, tmp_path / "run", members=3)
    validated = [
        {row["case"] for row in read_table(tmp_path / "run" / "members" / f"member_{i:02d}" / "predictions.val.csv")}
        for i in range(3)
    ]
    assert not validated[0] & validated[1] and validated[2] not in validated[:2]
    assert len(read_table(found.predictions)) == 16


def test_wrong_use_is_one_line_before_anything_is_trained(journey, manifest, tmp_path):
    with pytest.raises(UsageError, match="at least 1 member, got 0"):
        run(task_of(journey, manifest), tmp_path / "run", members=0)
    with pytest.raises(UsageError, match=r"expected no test share, got 0\.2"):
        run(task_of(journey, manifest, "data.fractions=[0.6, 0.2, 0.2]"), tmp_path / "run", members=2)
    folds = write_two_labels(journey, tmp_path / "folds", fold=lambda i: "ab"[i // 2 % 2])
    with pytest.raises(UsageError, match="fold column has 2; use at most 2 members"):
        run(task_of(journey, folds), tmp_path / "run", members=3)
    one = write_two_labels(journey, tmp_path / "one", rare=lambda i: int(i == 7))
    with pytest.raises(ManifestError, match=r"member_0\d: split 'train': no case of 'rare' has the class '1'"):
        run(task_of(journey, one), tmp_path / "run", members=3)
    assert not (tmp_path / "run" / "members" / "member_00").exists()


def test_folds_leave_pooled_plugins_for_an_ensemble_and_their_own_as_they_were(journey, manifest, tmp_path):
    """``train --folds``: out-of-fold figures stay of plugins that know nothing of what they held out (B16)."""
    out = tmp_path / "cv"
    found = fit_folds(task_of(journey, manifest), out, folds=2, device="cpu", quiet=True)
    assert [path.name for path in found.pooled] == ["fold_0.safetensors", "fold_1.safetensors"]
    assert any("rare (2 of 2)" in text for text in found.warnings)
    own, pooled = (load_plugin(paths[0]).card for paths in (found.plugins, found.pooled))
    assert own.tensors_sha256 == pooled.tensors_sha256
    assert own.operating_points[1]["source_split"] == "val"
    assert pooled.operating_points[1]["source_split"] == "pooled" and pooled.operating_points[1]["n"] == 16
    row = read_table(out / "oof.csv")[0]
    again = load(found.plugins[int(row["fold"])], device="cpu").predict(
        journey.data / "scans" / f"{row['case']}.nii.gz"
    )
    assert row["probability.rare"] == again.row()["probability.rare"]
    plain = fit_folds(
        task_of(journey, manifest, "calibration=none"), tmp_path / "plain", folds=2, device="cpu", quiet=True
    )
    assert plain.pooled == () and not (tmp_path / "plain" / "pooled").exists()
