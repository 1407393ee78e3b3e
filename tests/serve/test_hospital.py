"""docs/hospital.md, command by command, with a real archive: a study goes out at night and its answers come back."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import httpx
import pytest
from senders import study

import dicom_makers as dicom

PAGE = Path(__file__).resolve().parents[2] / "docs" / "hospital.md"
PORTS = ("8080", "11112", "8042", "4242")
NEEDED = ("Orthanc", "curl", "bash")
STUDY_COMES_BEFORE = "cat > nightly.sh"


def commands():
    """What the page has a reader type, before and after the archive gets a study."""
    text = "\n".join(re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.M | re.S))
    ports = {}
    for port in PORTS:
        with socket.create_server(("127.0.0.1", 0)) as one:
            ports[port] = str(one.getsockname()[1])
        assert port in text
        text = re.sub(rf"\b{port}\b", ports[port], text)
    before, found, after = text.partition(STUDY_COMES_BEFORE)
    assert found and "--backbone backbone" in before
    return before.replace("--backbone backbone", "--backbone tiny-random --device cpu"), found + after, ports


@pytest.fixture
def folder(tmp_path, journey):
    """A folder to work in, and programs in place of those that would change the machine."""
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}:/usr/sbin"
    for name in NEEDED:
        if shutil.which(name, path=path) is None:
            pytest.skip(f"needs {name}, which this machine lacks (Debian: orthanc, curl)")
    (tmp_path / "bin").mkdir()
    stubs = dict.fromkeys(("sudo", "pip", "crontab"), 'echo "$0 $*" >> called; cat > /dev/null < /dev/stdin')
    for name, text in (stubs | {"anymc3d": f'exec {sys.executable} -m anymc3d "$@"'}).items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    shutil.copy(journey.plugin, tmp_path / "plugin.safetensors")
    return tmp_path


def typed(folder, text, started):
    """Run commands as a person would; what they leave running is noted, for its end."""
    path = f"{folder / 'bin'}:{os.environ['PATH']}:/usr/sbin"
    with (folder / "typed.log").open("ab") as log:
        words = ["bash", "-euo", "pipefail", "-c", text]
        environment = os.environ | {"PATH": path}
        process = subprocess.Popen(
            words, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
        started.append(process.pid)
        assert process.wait(280) == 0, (folder / "typed.log").read_text()[-2000:]


def test_every_command_of_the_page_works_and_the_answers_are_in_the_archive(folder):
    before, after, ports = commands()
    started = []
    series = study(77)
    try:
        typed(folder, before, started)
        with httpx.Client(base_url=f"http://127.0.0.1:{ports['8042']}", timeout=60) as archive:
            for dataset in series.slices:
                dataset.StudyDate = date.today().strftime("%Y%m%d")
                assert archive.post("/instances", content=dicom.content(dataset)).status_code == 200
            typed(folder, after, started)
            deadline = time.monotonic() + 120
            found = set()
            while not {"SR", "SEG"} <= found and time.monotonic() < deadline:
                time.sleep(0.3)
                found = {one["MainDicomTags"]["Modality"] for one in archive.get("/series?expand").json()}
            assert {"MR", "SR", "SEG"} <= found and len(archive.get("/studies").json()) == 1
        (job,) = httpx.get(f"http://127.0.0.1:{ports['8080']}/v1/jobs", timeout=60).json()["jobs"]
        assert job["status"] == "done" and job["source"] == "dicom ORTHANC"
    finally:
        for pid in started:
            with_children = subprocess.run(["pgrep", "-s", str(pid)], capture_output=True, text=True).stdout.split()
            for one in with_children:
                os.kill(int(one), signal.SIGTERM)
    called = (folder / "called").read_text()
    assert "apt-get install" in called and "anymc3d[serve]" in called and "crontab -" in called
