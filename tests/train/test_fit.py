"""Training end to end on tiny scans: what a run leaves, that it can be killed, and that it means what it says."""

import json
import re
import shutil

import pytest
import torch
from PIL import Image

from anymc3d.errors import ManifestError, RunFolderError, TrainingDivergedError
from anymc3d.files.tables import read_table
from anymc3d.models.store import find_backbone
from anymc3d.models.tensor_hash import tensors_hash
from anymc3d.plugins import load_plugin
from anymc3d.settings.task_file import read_task
from anymc3d.train.fit import fit
from anymc3d.train.start import settings_of_run
from anymc3d.train.study import load_study


def test_a_run_leaves_everything_needed_to_repeat_it(journey):
    names = {path.name for path in journey.run.iterdir()}
    assert names >= {
        "plugin.safetensors",
        "task.yaml",
        "manifest.csv",
        "metrics.csv",
        "predictions.val.csv",
        "log.csv",
        "log.jsonl",
        "curves.png",
        "run.json",
        "checkpoints",
    }
    log = read_table(journey.run / "log.csv")
    assert [row["epoch"] for row in log] == ["1", "2"]
    assert len((journey.run / "log.jsonl").read_text().splitlines()) == 2
    assert {row["split"] for row in read_table(journey.run / "manifest.csv")} == {"train", "val", "test"}


def test_the_resolved_task_repeats_the_run_to_the_last_bit(journey, tmp_path, drawn):
    again = fit(read_task(journey.run / "task.yaml"), tmp_path / "again", device="cpu", quiet=True)
    assert again.read_bytes() == journey.plugin.read_bytes()
    assert (tmp_path / "again/predictions.val.csv").read_bytes() == (journey.run / "predictions.val.csv").read_bytes()
    with Image.open(tmp_path / "again/curves.png") as picture:
        assert picture.size == (960, 384)


def test_it_learns(journey):
    rows = read_table(journey.run / "log.csv")
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])


def test_the_operating_point_comes_from_validation(journey):
    (point,) = load_plugin(journey.plugin).card.operating_points
    val = [row for row in read_table(journey.run / "manifest.csv") if row["split"] == "val"]
    assert point["source_split"] == "val"
    assert (point["n"], point["n_positive"]) == (len(val), sum(row["block"] == "1" for row in val))


def test_B16_test_labels_change_no_byte_of_the_plugin(journey, tmp_path):
    rows = (journey.run / "manifest.csv").read_text().replace("../scans", str(journey.data / "scans")).splitlines()
    flipped = [re.sub(r",([01]),(\w*),test$", lambda m: f",{1 - int(m[1])},{m[2]},test", row) for row in rows]
    assert rows != flipped
    (tmp_path / "manifest.csv").write_text("\n".join(flipped) + "\n")
    task = read_task(journey.run / "task.yaml", [f"data.manifest={tmp_path / 'manifest.csv'}"])
    assert fit(task, tmp_path / "run", device="cpu", quiet=True).read_bytes() == journey.plugin.read_bytes()


def test_a_finished_run_is_left_alone(journey):
    before = {
        path: path.stat().st_mtime_ns for path in journey.run.rglob("*") if path.is_file() and path.name != ".lock"
    }
    fit(read_task(journey.task), journey.run, device="cpu", quiet=True)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_C13_other_settings_in_the_same_folder_are_refused_and_named(journey):
    with pytest.raises(RunFolderError, match=r"settings\.train\.seed was 0, now 1"):
        fit(read_task(journey.task, ["train.seed=1"]), journey.run, device="cpu", quiet=True)


def test_H5_training_does_not_change_the_backbone(journey, tmp_path):
    before = find_backbone("tiny-random")
    fit(read_task(journey.task, ["train.epochs=1"]), tmp_path / "run", device="cpu", quiet=True)
    assert tensors_hash(find_backbone("tiny-random").module.state_dict()) == tensors_hash(before.module.state_dict())


def test_H1_the_number_of_threads_changes_no_decision_and_no_logit_beyond_rounding(journey, tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(2 if threads == 1 else 1)
    try:
        fit(read_task(journey.task), tmp_path / "run", device="cpu", quiet=True)
    finally:
        torch.set_num_threads(threads)
    ours, theirs = (read_table(run / "predictions.val.csv") for run in (journey.run, tmp_path / "run"))
    for a, b in zip(ours, theirs, strict=True):
        assert float(a["logit.block"]) == pytest.approx(float(b["logit.block"]), abs=1e-2)
        assert a["decision.block"] == b["decision.block"]


@pytest.mark.parametrize("patience", [1, 3])
def test_training_stops_after_so_many_epochs_without_a_rise(journey, tmp_path, patience):
    still = ["train.lora_lr=0", "train.head_lr=0", "train.epochs=50", f"train.patience={patience}"]
    fit(read_task(journey.task, still), tmp_path / "run", device="cpu", quiet=True)
    log = read_table(tmp_path / "run" / "log.csv")
    assert [row["epoch"] for row in log] == [str(epoch) for epoch in range(1, patience + 2)]
    assert {row["best_epoch"] for row in log} == {"1"}


def test_only_the_selection_metric_keeps_training_going():
    """A loss that falls while AUROC stands still keeps the better tensors, but is no reason to go on."""
    from anymc3d.settings.training import TrainSettings
    from anymc3d.train.checkpoint import TrainingState
    from anymc3d.train.loop import _out_of_patience

    def after(*figures):
        history = [{"epoch": n + 1, "val_auroc": a, "val_loss": loss} for n, (a, loss) in enumerate(figures)]
        return _out_of_patience(TrainingState(epoch=len(history), history=history), TrainSettings(patience=2))

    assert not after((0.8, 0.5), (0.8, 0.4))
    assert after((0.8, 0.5), (0.8, 0.4), (0.8, 0.3))
    assert not after((0.8, 0.5), (0.7, 0.4), (0.9, 0.6), (0.8, 0.3))
    assert not after((None, 0.5), (None, 0.4), (None, 0.3))
    assert after((None, 0.3), (None, 0.4), (None, 0.5))


def test_C9_divergence_stops_names_the_cases_and_keeps_checkpoints_finite(journey, tmp_path):
    task = read_task(journey.task, ["train.lora_lr=1e30", "train.clip_norm=1e30", "train.schedule=constant"])
    with pytest.raises(TrainingDivergedError, match=r"not both finite at a step with cases case\d\d"):
        fit(task, tmp_path / "run", device="cpu", quiet=True)
    assert not (tmp_path / "run" / "plugin.safetensors").exists()


def test_every_unreadable_scan_is_named_before_the_first_step(journey, tmp_path):
    shutil.copytree(journey.data / "scans", tmp_path / "scans")
    for name in ("case03", "case07"):
        (tmp_path / "scans" / f"{name}.nii.gz").write_bytes(b"not a scan")
    shutil.copy(journey.data / "manifest.csv", tmp_path / "manifest.csv")
    (tmp_path / "task.yaml").write_text(journey.task.read_text())
    with pytest.raises(ManifestError) as caught:
        fit(
            read_task(tmp_path / "task.yaml", ["data.fractions=[0.6,0.4,0.0]"]),
            tmp_path / "run",
            device="cpu",
            quiet=True,
        )
    assert [name for name in ("case03", "case07") if name in str(caught.value)] == ["case03", "case07"]


def test_a_split_without_cases_is_refused(journey, tmp_path):
    rows = (journey.data / "manifest.csv").read_text().replace("scans/", f"{journey.data}/scans/").splitlines()
    (tmp_path / "manifest.csv").write_text(
        "\n".join([rows[0] + ",split", *(row + ",train" for row in rows[1:])]) + "\n"
    )
    with pytest.raises(ManifestError, match="split 'val': expected cases with labels, got none"):
        load_study(read_task(journey.task, [f"data.manifest={tmp_path / 'manifest.csv'}"]))


def test_G4_a_plugin_holds_no_id_path_host_or_user(journey):
    import getpass
    import socket

    content = journey.plugin.read_bytes().decode("latin-1")
    ids = [row["case"] for row in read_table(journey.run / "manifest.csv")]
    for secret in (*ids, str(journey.data), "scans/", getpass.getuser() + "@"):
        assert secret not in content
    text = content[: 8 + int.from_bytes(content[:8].encode("latin-1"), "little")]  # among weights it would be chance
    assert not re.search(rf"\b{re.escape(socket.gethostname())}\b", text)
    assert json.loads((journey.run / "run.json").read_text())["settings"]["data"]["manifest"] == ""


def test_the_settings_of_a_run_are_written_as_before_null_meant_the_methods_own(journey):
    """Folders of quick runs, folds and members made before are known again."""
    task = read_task(journey.task)
    assert task.segmentation.weight is None
    assert settings_of_run(task)["segmentation"]["weight"] == 1.0
    assert settings_of_run(task)["data"]["manifest"] == ""
