"""A real Slurm of one node and a real Ray cluster of two: kills cost unfinished cases only, the table is the same."""

import importlib.util
import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from one_node_slurm import missing, one_node_slurm

from anymc3d.cli.main import main
from anymc3d.data.manifest import read_manifest
from anymc3d.errors import UsageError
from anymc3d.files import journal
from anymc3d.files.parts import RECORD, Part
from anymc3d.files.tables import write_table

CASES, JOBS = 300, 2
pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]


@dataclass
class Cohort:
    """A command over 300 small cases, and what one process makes of it."""

    words: list[str]
    table: bytes

    def run(self, out, *engine):
        return main([*self.words, "-o", str(out), *engine])


@pytest.fixture(scope="module")
def cohort(journey, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    scans = [case.images["image"] for case in read_manifest(journey.data / "manifest.csv").cases]
    scans[7] = str(folder / "gone.nii.gz")
    rows = [{"case": f"case {number}", "image": scans[number % len(scans)]} for number in range(CASES)]
    write_table(folder / "manifest.csv", ("case", "image"), rows)
    words = ["predict", "-p", str(journey.plugin), "-i", str(folder / "manifest.csv"), "--device", "cpu", "--quiet"]
    assert main([*words, "-o", str(folder / "whole")]) == 3
    return Cohort(words, (folder / "whole" / "predictions.csv").read_bytes())


def finished(out, number):
    """How many cases a part has finished."""
    path = Part(JOBS, number).folder(out) / "journal.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def process_of(out, number):
    """The process id in a part's lock."""
    return int((Part(JOBS, number).folder(out) / ".lock").read_text().split()[1])


class WhenUnderWay(threading.Thread):
    """Does harm to each part once some of its cases are finished and others are not."""

    def __init__(self, out, harms):
        super().__init__(daemon=True)
        self.out, self.waiting, self.seen = out, dict(harms), {}

    def run(self):
        while self.waiting:
            for number in list(self.waiting):
                count = finished(self.out, number)
                if count >= 5:
                    assert not (Part(JOBS, number).folder(self.out) / RECORD).exists(), "it was finished already"
                    self.waiting.pop(number)(self.out, number)
                    self.seen[number] = count
            time.sleep(0.02)


def check_joined(cohort, out, killed):
    """The table of one process; what a killed part had finished was not computed again."""
    assert (out / "predictions.csv").read_bytes() == cohort.table
    for number in killed:
        lines = journal.read(Part(JOBS, number).folder(out) / "journal.jsonl")
        names = [line["case"] for line in lines if line["rows"][0]["status"] != "error"]
        assert len(names) == len(set(names)), "a finished case was computed twice"


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    if missing():
        pytest.skip(f"needs Slurm and munge (Debian's slurm-wlm): no {', '.join(missing())} here")
    if importlib.util.find_spec("submitit") is None:
        pytest.skip("needs submitit (the extra slurm)")
    try:
        with one_node_slurm(tmp_path_factory.mktemp("slurm")) as env, pytest.MonkeyPatch.context() as patch:
            for name, value in env.items():
                patch.setenv(name, value)
            yield
    except RuntimeError as error:
        pytest.skip(str(error))


def cancelled(out, number):
    """Kill the element of a part, as an administrator or a lost node would."""
    path = Path(f"/proc/{process_of(out, number)}/environ")
    env = dict(entry.partition("=")[::2] for entry in path.read_text().split("\0") if entry)
    subprocess.run(["scancel", "--signal=KILL", env["SLURM_JOB_ID"]], check=True)


def killed(out, number):
    os.kill(process_of(out, number), signal.SIGKILL)


def test_slurm_runs_parts_one_of_which_is_cancelled(slurm, cohort, tmp_path, monkeypatch):
    monkeypatch.setattr("anymc3d.engines.slurm.FILE_SECONDS", 1.0)
    harm = WhenUnderWay(tmp_path / "out", {1: cancelled})
    harm.start()
    assert cohort.run(tmp_path / "out", "--backend", "slurm", "--jobs", str(JOBS)) == 3
    check_joined(cohort, tmp_path / "out", harm.seen)
    assert set(harm.seen) == {1}


def test_a_scheduler_that_refuses_says_why_in_one_line(slurm, cohort, tmp_path, capsys):
    wanted = ["--backend", "slurm", "--jobs", "2", "--scheduler", "slurm_partition=gpus"]
    assert cohort.run(tmp_path / "out", *wanted) == UsageError.exit_code
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and "invalid partition specified: gpus" in said[0] and "check --scheduler" in said[0]


def is_below(process, node):
    """Whether a process was started by a node of a Ray cluster."""
    nodes = {info.process.pid for infos in node.all_processes.values() for info in infos}
    while process > 1 and process not in nodes:
        status = Path(f"/proc/{process}/status").read_text()
        process = int(status.partition("PPid:")[2].split()[0])
    return process in nodes


def test_ray_runs_parts_whose_worker_is_killed_and_whose_node_is_removed(cohort, tmp_path, monkeypatch):
    ray = pytest.importorskip("ray", reason="needs Ray (the extra ray)")
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    try:
        try:
            cluster.add_node(num_cpus=1)
            node = cluster.add_node(num_cpus=1)
        except Exception as error:  # noqa: BLE001 - it has no class for this
            pytest.skip(f"Ray does not come up here: {error}")
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        on_node = threading.Lock()

        def lost(out, number):
            """Of the two tasks one loses its worker, the other its node."""
            if is_below(process_of(out, number), node) and on_node.acquire(blocking=False):
                cluster.remove_node(node)
            else:
                killed(out, number)

        harm = WhenUnderWay(tmp_path / "out", {1: lost, 2: lost})
        harm.start()
        assert cohort.run(tmp_path / "out", "--backend", "ray", "--jobs", str(JOBS)) == 3
        check_joined(cohort, tmp_path / "out", harm.seen)
        assert set(harm.seen) == {1, 2} and on_node.locked(), "the node was removed"
    finally:
        ray.shutdown()
        cluster.shutdown()
