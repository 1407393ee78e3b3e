"""Whatever is killed: every accepted study ends in exactly one recorded state, with the right answer or a reason."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import httpx
import pytest

from anymc3d.errors import PluginError, RunFolderError
from anymc3d.predict.predictor import load
from anymc3d.serve.jobs import DONE, ERROR, RUNNING
from anymc3d.serve.service import Service, new_job
from anymc3d.serve.settings import ServeSettings


def settings_of(journey, store, **changed):
    return ServeSettings(plugins=(str(journey.plugin),), store=store, device="cpu", heatmaps=False, **changed)


def submit(service, scan):
    return service.submit(job_id=new_job(), source="test", case=scan.name.partition(".")[0], scan=scan)


def kill_while_running(service, job_id):
    """End the worker as soon as it has the job; False where the job was faster."""
    before = service.supervisor.restarts
    while (job := service.jobs.get(job_id)).state != RUNNING:
        if job.state in (DONE, ERROR):
            return False
        time.sleep(0.001)
    os.kill(service.supervisor.worker_pid, signal.SIGKILL)
    while service.supervisor.restarts == before and service.jobs.get(job_id).state == RUNNING:
        time.sleep(0.005)
    return service.supervisor.restarts > before


def test_a_killed_worker_costs_no_study_and_one_that_always_ends_it_is_given_up(journey, tmp_path, monkeypatch):
    with Service(settings_of(journey, tmp_path / "store", max_attempts=2)) as service:
        poison = submit(service, journey.scans[0])
        others = [submit(service, scan) for scan in journey.scans[1:4]]
        killed = 0
        while service.jobs.get(poison).state not in (DONE, ERROR):
            killed += kill_while_running(service, poison)
        given_up = service.jobs.get(poison)
        if killed == 2:
            assert given_up.state == ERROR and "2 times, so it was given up" in given_up.message
        jobs = [service.wait(job_id, 120) for job_id in others]
        assert [job.state for job in jobs] == [DONE] * 3 and service.supervisor.is_ready
        expected = load(journey.plugin, device="cpu")
        for job, scan in zip(jobs, journey.scans[1:4], strict=True):
            assert job.rows[0]["logit.block"] == pytest.approx(expected.predict(scan).logits["block"], abs=1e-6)


def test_a_study_that_takes_too_long_is_ended_and_says_so(journey, tmp_path):
    with Service(settings_of(journey, tmp_path / "store", max_attempts=1, case_timeout_s=1e-6)) as service:
        job = service.wait(submit(service, journey.scans[0]), 120)
        assert job.state in (DONE, ERROR)  # an answer that was there at the first look is taken


def test_a_plugin_that_cannot_be_loaded_ends_the_start_with_its_reason(tmp_path):
    (tmp_path / "p.safetensors").write_bytes(b"nothing")
    settings = ServeSettings(plugins=(str(tmp_path / "p.safetensors"),), store=tmp_path / "store")
    with pytest.raises(PluginError, match="safetensors"), Service(settings):
        pass


@contextmanager
def started(journey, store):
    """A service as a program of its own, and where it answers; it is killed at the end, if it still runs."""
    command = [sys.executable, "-m", "anymc3d", "serve", "-p", str(journey.plugin), "--store", str(store)]
    command += ["--port", "0", "--device", "cpu", "--no-heatmaps"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            lines = []
            while not lines or "http://" not in lines[-1]:
                lines.append(process.stderr.readline())
                assert lines[-1], lines
            yield process, re.search(r"http://[\d.:]+", lines[-1])[0]
        finally:
            process.kill()


def test_C1_a_killed_service_goes_on_where_it_was(journey, tmp_path):
    store = tmp_path / "store"
    with started(journey, store) as (_, url), httpx.Client(base_url=url, timeout=60) as client:
        with pytest.raises(RunFolderError, match="in use by process"):
            Service(settings_of(journey, store))
        sent = [
            client.post("/v1/jobs", files={"file": scan.read_bytes()}, data={"case": f"c{number}"}).json()["id"]
            for number, scan in enumerate(journey.scans[:6])
        ]
    with started(journey, store) as (process, url), httpx.Client(base_url=url, timeout=90) as client:
        jobs = [client.get(f"/v1/jobs/{job_id}", params={"wait": 60}).json() for job_id in sent]
        listed = [job["id"] for job in client.get("/v1/jobs").json()["jobs"]]
        assert [job["status"] for job in jobs] == ["done"] * 6
        assert sorted(listed) == sorted(sent)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
