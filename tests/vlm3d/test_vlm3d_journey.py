"""The whole recipe on the miniature set: train, predict, evaluate, container; every exam has its entry."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save_file

from anymc3d.cli.main import main
from anymc3d.errors import PluginError
from anymc3d.files.tables import read_table
from anymc3d.models.store import find_backbone
from anymc3d.plugins import load_plugin, save_plugin
from anymc3d.predict.predictor import load
from anymc3d.vlm3d.container import requirements, write_container
from anymc3d.vlm3d.labels import LABELS
from anymc3d.vlm3d.miniature import write_miniature

SMALL = ["backbone=tiny-random", "views.image.size=[28,28,4]", "train.epochs=1", "augmentation=flips"]
SPLIT = "data.fractions=[0.67,0.33,0.0]"


@pytest.fixture(scope="module")
def mini(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vlm3d")
    write_miniature(folder / "set", patients=12)
    return folder


def vlm3d(*words):
    return main(["vlm3d", *map(str, words)])


def train(mini, *words):
    manifest, out = mini / "set" / "manifest.csv", mini / "run"
    return vlm3d("train", manifest, "-o", out, *SMALL, SPLIT, "--members", 3, "--device", "cpu", *words)


@pytest.fixture(scope="module")
def ensemble(mini):
    assert train(mini, "--quiet") == 0
    return mini / "run" / "plugin.safetensors"


@pytest.fixture(scope="module")
def backbone(mini):
    """The tiny network in a file, as a real one would be."""
    (mini / "backbone").mkdir()
    save_file(find_backbone("tiny-random").module.state_dict(), mini / "backbone" / "model.safetensors")
    return mini / "backbone"


@pytest.fixture(scope="module")
def answered(mini, ensemble):
    assert vlm3d("predict", "-p", ensemble, "-i", mini / "set" / "input", "-o", mini / "results.json", "--quiet") == 0
    return mini / "results.json"


def test_the_ensemble_has_three_calibrated_members_of_the_18_labels(ensemble):
    card = load_plugin(ensemble).card
    assert card.kind == "ensemble" and len(card.members) == 3 and card.holds_calibration
    assert card.labels.columns == LABELS
    assert {member.card.calibration.criterion for member in card.members} == {"f1"}


def test_a_warning_says_which_labels_were_fitted_on_pooled_cases(ensemble, mini, capsys):
    assert train(mini) == 0
    printed = capsys.readouterr()
    assert "fitted on the pooled out-of-fold cases, in members: " in printed.err
    assert "Pericardial effusion (3 of 3)" in printed.err
    assert "members out of fold, mean AUROC of the labels: 0." in printed.out
    assert {row["member"] for row in read_table(mini / "run" / "calibration.csv")} == {
        "member_00",
        "member_01",
        "member_02",
    }


def test_results_are_exactly_in_the_format_of_the_challenge(answered, mini):
    found = json.loads(answered.read_text())
    assert list(found) == ["name", "type", "version", "predictions"]
    assert (found["name"], found["type"]) == ("Generated probabilities", "Abnormality Classification")
    assert found["version"] == {"major": 1, "minor": 0}
    exams = sorted(path.name.removesuffix(".mha") for path in (mini / "set" / "input").iterdir())
    assert [entry["input_image_name"] for entry in found["predictions"]] == exams
    for entry in found["predictions"]:
        assert list(entry) == ["input_image_name", "probabilities"]
        assert list(entry["probabilities"]) == list(LABELS)
        assert all(isinstance(value, float) and 0 < value < 1 for value in entry["probabilities"].values())
    assert answered.stat().st_mode & 0o777 == 0o644
    assert not (mini / ".results.work").exists() and not (mini / "results.warnings.json").exists()


def test_B15_an_entry_is_what_the_library_says_of_the_same_scan(answered, ensemble, mini):
    entry = json.loads(answered.read_text())["predictions"][2]
    name = entry["input_image_name"]
    patient = "_".join(name.split("_")[:2])
    scan = mini / "set" / "dataset" / "valid" / patient / f"{patient}_a" / f"{name}.nii.gz"
    again = load(ensemble, device="cpu").predict(scan).probabilities
    assert [entry["probabilities"][label] for label in LABELS] == pytest.approx([again[n] for n in LABELS], abs=1e-6)


def test_evaluate_reads_what_predict_wrote(answered, mini, capsys):
    assert vlm3d("evaluate", answered, mini / "set" / "ground_truth.csv", "-o", mini / "metrics.json") == 0
    printed = capsys.readouterr()
    assert "macro AUROC 0." in printed.out and "CRG 0." in printed.out and printed.err == ""


def test_D1_a_broken_exam_has_its_entry_a_note_and_exit_code_3(ensemble, mini, answered, tmp_path, capsys):
    shutil.copytree(mini / "set" / "input", tmp_path / "input")
    (tmp_path / "input" / "broken.mha").write_bytes(b"NDims = 3\nnothing else")
    (tmp_path / "input" / "._valid_1_a_1.mha").write_bytes(b"a hidden file is no exam")
    (tmp_path / "input" / "valid_2_a_1.mha").rename(tmp_path / "input" / "valid.2.mha")
    words = ("predict", "-p", ensemble, "-i", tmp_path / "input", "-o", tmp_path / "out" / "results.json")
    assert vlm3d(*words) == 3
    assert "1 exams failed and have probability 0.0 for every label" in capsys.readouterr().err
    found = {
        e["input_image_name"]: e["probabilities"]
        for e in json.loads((tmp_path / "out" / "results.json").read_text())["predictions"]
    }
    assert found["broken"] == dict.fromkeys(LABELS, 0.0)
    before = {e["input_image_name"]: e["probabilities"] for e in json.loads(answered.read_text())["predictions"]}
    assert len(found) == len(before) + 1
    assert all(found[name] == before[name] for name in set(before) & set(found))
    notes = {
        n["input_image_name"]: n for n in json.loads((tmp_path / "out" / "results.warnings.json").read_text())["exams"]
    }
    assert set(notes) == {"broken", "valid.2"}
    assert notes["broken"]["status"] == "error" and str(tmp_path) not in notes["broken"]["message"]
    assert notes["valid.2"]["status"] == "warn" and "takes it for 'valid'" in notes["valid.2"]["message"]
    assert vlm3d(*words, "--allow-failed", "--quiet") == 0


def test_D10_all_exams_broken_still_gives_every_entry_and_exit_code_4(ensemble, tmp_path):
    (tmp_path / "input").mkdir()
    (tmp_path / "input" / "a.mha").write_bytes(b"")
    words = ("predict", "-p", ensemble, "-i", tmp_path / "input", "-o", tmp_path / "results.json", "--quiet")
    assert vlm3d(*words, "--allow-failed") == 4
    assert len(json.loads((tmp_path / "results.json").read_text())["predictions"]) == 1


def test_D3_kept_work_is_not_done_again(ensemble, mini, answered, tmp_path, monkeypatch):
    words = (
        "predict",
        "-p",
        ensemble,
        "-i",
        mini / "set" / "input",
        "-o",
        tmp_path / "r.json",
        "--work",
        tmp_path / "w",
    )
    assert vlm3d(*words, "--quiet") == 0
    monkeypatch.setattr("anymc3d.predict.predictor.Predictor.predict_case", lambda *_: pytest.fail("computed again"))
    (tmp_path / "r.json").unlink()
    assert vlm3d(*words, "--quiet") == 0
    assert (tmp_path / "r.json").read_bytes() == answered.read_bytes()


def test_wrong_input_is_one_line_with_exit_code_2(ensemble, journey, mini, tmp_path, capsys):
    def error(*words):
        assert vlm3d(*words) == 2
        text = capsys.readouterr().err
        assert text.count("\n") == 1
        return text

    (tmp_path / "empty").mkdir()
    out = ("-o", tmp_path / "results.json")
    assert "expected .mha files, it is empty" in error("predict", "-p", ensemble, "-i", tmp_path / "empty", *out)
    assert "expected a folder of .mha files, found nothing" in error(
        "predict", "-p", ensemble, "-i", tmp_path / "no", *out
    )
    (tmp_path / "empty" / "scan.nii.gz").write_bytes(b"")
    assert "it holds scan.nii.gz" in error("predict", "-p", ensemble, "-i", tmp_path / "empty", *out)
    (tmp_path / "empty" / "a.1.mha").write_bytes(b"")
    (tmp_path / "empty" / "a.2.mha").write_bytes(b"")
    assert "would be one exam, 'a'" in error("predict", "-p", ensemble, "-i", tmp_path / "empty", *out)
    nowhere = error("predict", "-p", ensemble, "-i", mini / "set" / "input", "-o", "/proc/none/results.json", "--quiet")
    assert "--out: the folder /proc/none cannot be made" in nowhere
    other = error("predict", "-p", journey.plugin, "-i", mini / "set" / "input", *out)
    assert "expected the 18 labels of the challenge, got 1" in other and "'block' is none of them" in other
    assert not (tmp_path / "results.json").exists()


def test_members_without_a_calibration_are_told(mini, ensemble, tmp_path, capsys):
    plugin = load_plugin(mini / "run" / "members" / "member_00" / "plugin.safetensors")
    save_plugin(tmp_path / "raw.safetensors", plugin.card, plugin.tensors)
    calibrated = mini / "run" / "calibrated" / "member_01.safetensors"
    assert (
        main(["ensemble", str(tmp_path / "raw.safetensors"), str(calibrated), "-o", str(tmp_path / "e.safetensors")])
        == 2
    )
    assert "raw.safetensors has none" in capsys.readouterr().err
    words = ("-i", mini / "set" / "input", "-o", tmp_path / "r.json")
    assert vlm3d("predict", "-p", tmp_path / "raw.safetensors", *words, "--quiet") == 0
    assert "is not calibrated: the challenge decides at 0.5" in capsys.readouterr().err


def test_the_container_folder_holds_everything_and_its_entry_point_runs_without_home_and_network(
    mini, ensemble, backbone, answered, tmp_path
):
    folder = tmp_path / "container"
    assert vlm3d("container", "-o", folder, "-p", ensemble, "--backbone", backbone, "--quiet") == 0
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}
    assert vlm3d("container", "-o", folder, "-p", ensemble, "--backbone", backbone, "--quiet") == 0
    assert {path: path.read_bytes() for path in before} == before
    docker = (folder / "Dockerfile").read_text()
    assert docker.count("\nFROM ") == 1 and "\nUSER user\n" in docker and "python:3.11" in docker
    words = json.loads(docker[docker.index("ENTRYPOINT [") + len("ENTRYPOINT ") :].replace("\\\n", ""))
    (tmp_path / "output").mkdir()
    places = {"/opt/app": folder, "/input": mini / "set" / "input", "/output": tmp_path / "output"}
    for place, path in places.items():
        words = [word.replace(place, str(path)) for word in words]
    blocked = (
        "import socket, runpy, sys\n"
        "def refuse(*_): raise AssertionError('network')\n"
        "socket.socket.connect = refuse\n"
        "sys.argv[0] = 'anymc3d'\n"
        "import anymc3d; assert anymc3d.__file__.startswith(sys.path[1])\n"
        "runpy.run_module('anymc3d', run_name='__main__', alter_sys=True)\n"
    )
    assert words[:3] == ["python", "-m", "anymc3d"]
    environment = {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "PATH": os.environ["PATH"]}
    environment |= {"ANYMC3D_HOME": "/proc/no-such-folder", "OMP_NUM_THREADS": "1"}
    # A suite that is held to older instructions compares with a child that is held to them, too.
    environment |= {
        name: os.environ[name] for name in ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA") if name in os.environ
    }
    done = subprocess.run([sys.executable, "-c", blocked, *words[3:]], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "output" / "results.json").read_bytes() == answered.read_bytes()


def test_the_container_refuses_other_weights_and_a_backbone_that_is_in_no_file(ensemble, backbone, tmp_path):
    with pytest.raises(PluginError, match="expected the backbone that the plugin was trained on, tiny-random"):
        write_container(tmp_path / "c", ensemble, backbone="tiny-random-dinov3")
    assert vlm3d("container", "-o", tmp_path / "c", "-p", ensemble, "--backbone", "tiny-random") == 2


def test_the_required_versions_are_exact_of_no_one_processor_and_of_all_dependencies():
    declared = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["dependencies"]
    found = dict(text.split("==") for text in requirements())
    assert set(found) == {re.match(r"[A-Za-z0-9._-]+", text)[0] for text in declared}
    assert all(number and "+" not in number for number in found.values())


def test_the_label_order_of_a_plugin_does_not_matter(mini, ensemble, answered, tmp_path):
    """A plugin whose labels stand in another order answers in the order of the challenge."""
    plugin = load_plugin(mini / "run" / "members" / "member_00" / "plugin.safetensors")
    order = np.arange(18)[::-1]
    tensors = {
        name: tensor[order.copy()] if name.startswith("head.") else tensor for name, tensor in plugin.tensors.items()
    }
    card = replace(
        plugin.card,
        labels=replace(plugin.card.labels, columns=LABELS[::-1]),
        operating_points=plugin.card.operating_points[::-1],
    )
    save_plugin(tmp_path / "turned.safetensors", card, tensors)
    found = []
    for path in (mini / "run" / "members" / "member_00" / "plugin.safetensors", tmp_path / "turned.safetensors"):
        out = tmp_path / f"{path.stem}.json"
        assert vlm3d("predict", "-p", path, "-i", mini / "set" / "input", "-o", out, "--quiet") == 0
        found.append(json.loads(out.read_text())["predictions"])
    for one, two in zip(*found, strict=True):
        assert list(one["probabilities"]) == list(two["probabilities"]) == list(LABELS)
        assert list(one["probabilities"].values()) == pytest.approx(list(two["probabilities"].values()), abs=1e-6)
