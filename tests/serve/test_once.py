"""One study from folder to folder, as mercure and XNAT call the container; and the files that start it."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import dicom_makers as dicom
from anymc3d.predict.predictor import load
from anymc3d.serve import logs
from anymc3d.serve.once import main

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"


@pytest.fixture
def environment(journey, tmp_path, monkeypatch):
    """Plugins in a folder, a study as mercure leaves it, and nothing else."""
    monkeypatch.setattr(logs, "begin", lambda: None)
    (tmp_path / "plugins").mkdir()
    shutil.copy(journey.plugin, tmp_path / "plugins" / "p.safetensors")
    series = dicom.make_series(sop_class=dicom.MR)
    (tmp_path / "in").mkdir()
    for slice_ in series.slices:
        name = f"{slice_.SeriesInstanceUID}#{slice_.SOPInstanceUID}"
        (tmp_path / "in" / f"{name}.dcm").write_bytes(dicom.content(slice_))
        (tmp_path / "in" / f"{name}.tags").write_text('{"Modality": "MR"}')
    names = {"MERCURE_IN_DIR": str(tmp_path / "in"), "MERCURE_OUT_DIR": str(tmp_path / "out")}
    return names | {"ANYMC3D_PLUGINS": str(tmp_path / "plugins"), "ANYMC3D_DEVICE": "cpu"}


def task(tmp_path, **settings):
    (tmp_path / "in" / "task.json").write_text(json.dumps({"id": "x", "process": {"settings": settings}}))


def result(tmp_path):
    return json.loads((tmp_path / "out" / "result.json").read_text())


def test_mercure_gets_its_result_and_the_answer_is_that_of_predict(environment, tmp_path, journey):
    task(tmp_path, plugins=["block"])
    expected = load(journey.plugin, device="cpu").predict(tmp_path / "in")
    assert main([], environment) == 0
    found = result(tmp_path)
    (row,) = found["rows"]
    assert found["status"] == "done" and row["logit.block"] == pytest.approx(expected.logits["block"], abs=1e-6)
    assert "block.html" in found["files"] and all((tmp_path / "out" / name).is_file() for name in found["files"])
    assert found["__mercure_notification"]["requested"] is (row["status"] != "ok")
    assert "Research use only" in found["__mercure_notification"]["text"]


def test_a_study_without_an_answer_says_why_and_asks_for_a_notification(environment, tmp_path, caplog):
    """mercure sends its own notification after an exit code that is not 0; others may read this one."""
    damaged = next((tmp_path / "in").glob("*.dcm"))
    damaged.write_bytes(damaged.read_bytes()[:-400])
    assert main([environment["MERCURE_IN_DIR"], environment["MERCURE_OUT_DIR"]], environment) == 3
    found = result(tmp_path)
    assert found["status"] == "error" and found["rows"][0]["message"]
    assert found["__mercure_notification"]["requested"] is True


@pytest.mark.parametrize(
    ("settings", "text"),
    [({"plugin": ["x"]}, "did you mean 'plugins'?"), ({"plugins": ["blok"]}, "did you mean 'block'?"), (None, "JSON")],
)
def test_settings_that_cannot_be_meant_are_refused(environment, tmp_path, caplog, settings, text):
    if settings is None:
        (tmp_path / "in" / "task.json").write_text("[]")
    else:
        task(tmp_path, **settings)
    assert main([], environment) == 2
    assert text in caplog.text and not (tmp_path / "out" / "result.json").exists()


def test_no_folder_no_plugin_and_two_scans_are_refused(environment, tmp_path, caplog):
    assert main(["only-one"], environment) == 2 and "MERCURE_IN_DIR" in caplog.text
    assert main([], environment | {"ANYMC3D_PLUGINS": str(tmp_path)}) == 2 and "holds none" in caplog.text
    for name in ("a.nii.gz", "b.nii"):
        (tmp_path / "in" / name).touch()
    assert main([], environment) == 2 and "holds 2" in caplog.text
    (tmp_path / "in" / "b.nii").unlink()
    assert main([], environment) == 2 and "beside them a.nii.gz" in caplog.text


@pytest.mark.parametrize("status", ["warn", "error", "ok"])
def test_an_answer_with_a_warning_or_of_some_plugins_only_asks_for_a_look(environment, tmp_path, monkeypatch, status):
    from anymc3d.serve import answering, worker

    record = {"unlike_training": {"block": ["the header says CT"]} if status == "warn" else {}}
    rows = [{"plugin": "p", "status": "ok", "message": ""}, {"plugin": "block", "status": status, "message": "m"}]
    monkeypatch.setattr(answering, "answer", lambda *_: {"rows": rows, "files": [], "record": record})
    monkeypatch.setattr(worker, "load", lambda _: SimpleNamespace(plugins=[]))
    assert main([], environment) == 0
    notification = result(tmp_path)["__mercure_notification"]
    assert notification["requested"] is (status != "ok")
    assert ("block: do not use" in notification["text"]) is (status == "warn")


def entry(words, environment, tmp_path):
    """What the entry script would run: the programs are replaced by one that says its words."""
    for name in ("python", "anymc3d"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho {name} "$@"\n')
        (tmp_path / name).chmod(0o755)
    found = {"PATH": f"{tmp_path}:{os.environ['PATH']}", **environment}
    done = subprocess.run(["sh", DEPLOY / "entry.sh", *words], env=found, capture_output=True, text=True, check=True)
    return shlex.split(done.stdout)


def test_the_image_runs_the_service_one_study_or_a_command(tmp_path, environment):
    assert entry([], environment, tmp_path) == ["python", "-m", "anymc3d.serve.once"]
    plugins = {"ANYMC3D_PLUGINS": environment["ANYMC3D_PLUGINS"]}
    assert entry(["once", "/in", "/out"], plugins, tmp_path) == ["python", "-m", "anymc3d.serve.once", "/in", "/out"]
    assert entry(["doctor"], plugins, tmp_path) == ["anymc3d", "doctor"]
    served = entry(["serve", "--port", "9"], plugins, tmp_path)
    assert served[:2] == ["anymc3d", "serve"] and served[-4:] == [
        "-p",
        f"{tmp_path}/plugins/p.safetensors",
        "--port",
        "9",
    ]
    from anymc3d.cli.main import parse

    assert parse("serve", served[2:]).token_file == Path("/run/secrets/anymc3d-token")


def test_xnats_command_fits_the_program_and_the_image(environment):
    command = json.loads((DEPLOY / "command.json").read_text())
    assert command["command-line"].split()[:3] == ["python", "-m", "anymc3d.serve.once"]
    assert command["command-line"].split()[3:] == [mount["path"] for mount in command["mounts"]]
    mounts = {mount["name"]: mount["writable"] for mount in command["mounts"]}
    (wrapper,) = command["xnat"]
    assert [mounts[one["provides-files-for-command-mount"]] for one in wrapper["derived-inputs"]] == [False]
    assert [mounts[one["mount"]] for one in command["outputs"]] == [True]
    assert wrapper["output-handlers"][0]["accepts-command-output"] == command["outputs"][0]["name"]
    text = (DEPLOY / "Containerfile").read_text()
    assert re.search(r"^USER 10001:10001$", text, re.M) and text.index("USER") < text.index("ENTRYPOINT")
    for name in re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.M):
        assert all((DEPLOY.parent / part).exists() for part in name.split())


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze, which this machine lacks")
def test_the_unit_is_sound_and_shut_in(tmp_path):
    text = (DEPLOY / "anymc3d.service").read_text()
    unit = tmp_path / "anymc3d.service"
    unit.write_text(text.replace("/opt/anymc3d/bin/anymc3d", sys.executable))
    checked = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
    assert checked.returncode == 0 and checked.stderr == ""
    words = ["systemd-analyze", "security", "--offline=true", "--threshold=15", unit]
    shut = subprocess.run(words, capture_output=True, text=True)
    assert shut.returncode == 0, shut.stdout[-500:]
