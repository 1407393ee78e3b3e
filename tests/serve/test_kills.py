"""Whatever is killed: every accepted study ends in exactly one recorded state, with the right answer or a reason."""

import importlib.util
import json
import os
import signal
import time
from pathlib import Path

import httpx
import pytest

from anymc3d.errors import PluginError, RunFolderError
from anymc3d.predict.predictor import load
from anymc3d.serve.jobs import DONE, ERROR, RUNNING
from anymc3d.serve.service import Service, new_job
from anymc3d.serve.settings import ServeSettings

ROOT = Path(__file__).resolve().parents[2]


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


SPEC = importlib.util.spec_from_file_location("service_load", ROOT / "benchmarks" / "service_load.py")
load_test = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(load_test)


def test_C1_E5_E10_E13_G1_nothing_is_lost_or_done_twice_under_kills_and_the_log_names_nobody(journey, tmp_path):
    """The small version of benchmarks/service_load.py."""
    scans = [scan.read_bytes() for scan in journey.scans[:4]]
    expected = load_test.expected_of(journey.plugin, journey.scans[:4])
    service = load_test.Running(journey.plugin, tmp_path / "store", ["--no-heatmaps"])
    service.start()
    try:
        with pytest.raises(RunFolderError, match="in use by process"):
            Service(settings_of(journey, tmp_path / "store"))
        found, kills = load_test.under_fire(service, scans, studies=20, clients=3, worker_kills=1, service_kills=1)
        counts = load_test.judged(service, found, expected)
        assert kills == {"worker": 1, "service": 1}
        assert (counts.pop("right"), counts.pop("errors_with_reason")) == (18, 2) and set(counts.values()) == {0}
        fields = {"files": {"file": ("MEIER^ANNA.nii.gz", scans[0][:3000])}, "data": {"case": "MEIER-ANNA-1961"}}
        bad = httpx.post(f"{service.url}/v1/jobs", **fields, timeout=60).json()["id"]
        job = httpx.get(f"{service.url}/v1/jobs/{bad}", params={"wait": 60}, timeout=90).json()
        assert job["status"] == "error" and job["message"]
        httpx.get(f"{service.url}/v1/jobs/MEIER", params={"x": "MEIER"}, timeout=60)
        assert service.stop() < 30
    finally:
        service.kill()
    text = service.log.read_text()
    lines = [json.loads(line) for line in text.splitlines()]  # of three starts, three ends and all between
    assert "MEIER" not in text and "nii" not in text
    assert {"a study has ended", "request", "the worker process ended or was too slow"} <= {
        line["message"] for line in lines
    }
    assert any(line.get("route") == "/v1/jobs/{job_id}" and line["status"] == 422 for line in lines)
