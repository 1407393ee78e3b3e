"""Cross-validation: every case held out once, by patient, and what is held out takes no part."""

import csv

import pytest

from anymc3d.cli.main import main
from anymc3d.errors import ManifestError, RunFolderError, UsageError
from anymc3d.files.tables import read_table
from anymc3d.plugins import load_plugin
from anymc3d.predict.predictor import load
from anymc3d.settings.task_file import read_task
from anymc3d.train.folds import fit_folds


def with_columns(journey, path, columns):
    """The journey's manifest with more columns, ``name -> value of row i``, and absolute scan paths."""
    rows = read_table(journey.data / "manifest.csv")
    for index, row in enumerate(rows):
        row["image"] = str(journey.data / row["image"])
        row |= {name: value(index) for name, value in columns.items()}
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def task_of(journey, manifest, *overrides):
    return read_task(journey.task, [f"data.manifest={manifest}", "train.epochs=1", *overrides])


@pytest.fixture(scope="module")
def manifest(journey, tmp_path_factory):
    """Two scans a patient; four cases are a test set of their own."""
    path = tmp_path_factory.mktemp("folds") / "manifest.csv"
    return with_columns(
        journey,
        path,
        {"patient": lambda i: f"p{i // 2}", "split": lambda i: "test" if i < 4 else ["train", "val"][i % 4 > 1]},
    )


@pytest.fixture(scope="module")
def done(journey, manifest, tmp_path_factory):
    out = tmp_path_factory.mktemp("cv") / "run"
    return out, fit_folds(task_of(journey, manifest), out, folds=3, device="cpu", quiet=True)


def test_every_case_outside_the_test_split_is_held_out_once(done, manifest):
    out, found = done
    assert [path.parent.name for path in found.plugins] == ["fold_0", "fold_1", "fold_2"]
    rows = read_table(out / "oof.csv")
    assert [row["case"] for row in rows] == [f"case{i:02d}" for i in range(4, 20)]
    assert {row["status"] for row in rows} <= {"ok", "warn"}
    assert {row["fold"] for row in rows} == {"0", "1", "2"}


def test_no_patient_is_on_both_sides_of_a_fold_and_every_fold_validates_on_others(done, manifest):
    out, _ = done
    patients = {f"case{i:02d}": f"p{i // 2}" for i in range(20)}
    held_out = {row["case"]: row["fold"] for row in read_table(out / "oof.csv")}
    for fold in "012":
        rows = read_table(out / f"fold_{fold}" / "manifest.csv")
        sides = {
            split: {patients[row["case"]] for row in rows if row["split"] == split}
            for split in ("train", "val", "test")
        }
        assert sides["train"] and sides["val"] and sides["test"]
        assert not sides["train"] & sides["val"] and not (sides["train"] | sides["val"]) & sides["test"]
        assert {row["case"] for row in rows if row["split"] == "test"} == {c for c, f in held_out.items() if f == fold}
        assert not {f"case{i:02d}" for i in range(4)} & {row["case"] for row in rows}


def test_the_out_of_fold_row_is_what_the_plugin_of_that_fold_says(done, journey):
    out, found = done
    row = read_table(out / "oof.csv")[5]
    predictor = load(found.plugins[int(row["fold"])], device="cpu")
    again = predictor.predict(journey.data / "scans" / f"{row['case']}.nii.gz").row()
    assert {name: again[name] for name in again if "block" in name} == {n: c for n, c in row.items() if "block" in n}


def test_figures_are_over_all_folds_and_per_fold(done):
    out, _ = done
    rows = [row for row in read_table(out / "metrics.csv") if row["metric"] == "auroc"]
    assert {row["group"]: row["n"] for row in rows}["all"] == "16"
    assert {row["group"] for row in rows} == {"all", "fold=0", "fold=1", "fold=2"}


def test_plugins_of_folds_can_be_used_together(done):
    _, found = done
    assert len({load_plugin(path).card.name for path in found.plugins}) == 3


def test_the_same_call_again_trains_nothing_and_gives_the_same(done, journey, manifest):
    out, found = done
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in found.plugins}
    table = (out / "oof.csv").read_bytes()
    (out / "oof.csv").unlink()
    fit_folds(task_of(journey, manifest), out, folds=3, device="cpu", quiet=True)
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in found.plugins} == before
    assert (out / "oof.csv").read_bytes() == table


def test_C13_other_folds_in_the_same_folder_are_refused(done, journey, manifest):
    with pytest.raises(RunFolderError, match="folds was 3, now 2"):
        fit_folds(task_of(journey, manifest), done[0], folds=2, device="cpu", quiet=True)


def test_the_fold_column_of_the_manifest_is_kept_to(journey, tmp_path):
    path = with_columns(journey, tmp_path / "m.csv", {"fold": lambda i: "ab"[i // 2 % 2]})
    with pytest.raises(UsageError, match=r"--folds 5: the manifest's fold column has 2 \(a, b\)"):
        fit_folds(task_of(journey, path), tmp_path / "run", folds=5, device="cpu", quiet=True)
    out = tmp_path / "two"
    fit_folds(task_of(journey, path), out, folds=2, repeats=2, device="cpu", quiet=True)
    rows = read_table(out / "oof.csv")
    assert [(row["case"], row["plugin"]) for row in rows] == [
        (f"case{i:02d}", f"repeat_{r}") for r in range(2) for i in range(20)
    ]
    assert all(row["fold"] == "ab"[int(row["case"][4:]) // 2 % 2] for row in rows)
    assert (out / "repeat_1" / "fold_1" / "plugin.safetensors").exists()
    logits = [[row["logit.block"] for row in rows if row["plugin"] == f"repeat_{r}"] for r in range(2)]
    assert logits[0] != logits[1]


def test_a_row_without_a_fold_and_a_patient_in_two_are_named(journey, tmp_path):
    path = with_columns(journey, tmp_path / "m.csv", {"fold": lambda i: "" if i == 3 else str(i % 2)})
    with pytest.raises(ManifestError, match="row 5: fold is empty"):
        fit_folds(task_of(journey, path), tmp_path / "run", folds=2, device="cpu", quiet=True)
    columns = {"fold": lambda i: str(i % 2), "patient": lambda i: f"p{i // 2}"}
    path = with_columns(journey, tmp_path / "m.csv", columns)
    with pytest.raises(ManifestError, match="patient 'p0' is in 2"):
        fit_folds(task_of(journey, path), tmp_path / "run", folds=2, device="cpu", quiet=True)


def test_B14_a_class_missing_from_a_fold_is_named_before_any_fold_is_trained(journey, tmp_path):
    path = with_columns(journey, tmp_path / "m.csv", {"fold": lambda i: str(i % 2)})
    with pytest.raises(ManifestError) as caught:
        fit_folds(task_of(journey, path), tmp_path / "run", folds=2, device="cpu", quiet=True)
    assert "fold 0: split 'train': no case of 'block' has the class '0'" in str(caught.value)
    assert "fold 1: split 'train': no case of 'block' has the class '1'" in str(caught.value)
    assert not (tmp_path / "run" / "fold_0").exists()


def test_the_command_prints_the_out_of_fold_figure(done, journey, manifest, capsys):
    arguments = ["train", str(journey.task), "-o", str(done[0]), f"data.manifest={manifest}", "train.epochs=1"]
    assert main([*arguments, "--folds", "3", "--device", "cpu"]) == 0
    assert "out-of-fold AUROC block: " in capsys.readouterr().out
    assert main([*arguments, "--folds", "3", "--device", "cpu", "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    assert main([*arguments, "--repeats", "2"]) == 2
