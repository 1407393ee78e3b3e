"""Every executor calls the same function; a job that is lost is failed, and a missing extra is one line."""

from __future__ import annotations

import sys
import types
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from anymc3d.benchmark import jobs as jobs_module
from anymc3d.benchmark.jobs import RECORD, RESULT, Job, RunOptions, job_state, run_job
from anymc3d.benchmark.plan import Trial
from anymc3d.benchmark.run import work_of
from anymc3d.engines.table import outcome_of, run_local, run_ray, run_slurm
from anymc3d.engines.work import EngineOptions, Outcome, Work
from anymc3d.errors import UsageError
from anymc3d.files import atomic
from anymc3d.settings.task_file import read_task
from tiny_scans import TASK


@pytest.fixture
def two_jobs(tmp_path):
    """One that is done already, and one that must fail: its manifest is not there. Neither needs seconds."""
    (tmp_path / "task.yaml").write_text(TASK)
    task = read_task(tmp_path / "task.yaml")
    jobs = [replace(fake_job(name, tmp_path / "jobs"), trials=(Trial({}, task),)) for name in ("done", "fails")]
    atomic.write_json(jobs[0].folder / RECORD, jobs[0].identity())
    atomic.write_json(jobs[0].folder / RESULT, {})
    return jobs


def fake_job(name: str, folder: Path) -> Job:
    return Job(
        task="t",
        method="m",
        seed=0,
        train_cases=1,
        folder=folder / name,
        manifest=folder / "m.csv",
        cases_hash="",
        trials=(),
    )


def only(job: Job) -> Work:
    """The job as an engine gets it."""
    return work_of([job], RunOptions(device="cpu"))[0]


def check_both(found, jobs):
    states = {outcome.job: outcome for outcome in found}
    assert {name: outcome.state for name, outcome in states.items()} == {"done": "done", "fails": "failed"}
    assert "manifest.csv" in states["fails"].message
    assert job_state(jobs[1]) == states["fails"]


def test_two_processes_do_two_jobs(two_jobs):
    check_both(run_local(work_of(two_jobs, RunOptions(device="cpu")), EngineOptions(jobs=2)), two_jobs)


def test_a_process_that_is_killed_fails_its_job_alone(tmp_path):
    outcome = outcome_of(only(fake_job("a", tmp_path)), -9)
    assert (outcome.state, outcome.exit_code) == ("failed", 1)
    assert "killed by signal 9" in outcome.message


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_slurm_runs_each_job_as_one_element(two_jobs, tmp_path):
    """Submitit's own executor inside this process, which leaves its log open; a cluster differs in the name alone."""
    pytest.importorskip("submitit")
    where = EngineOptions(folder=tmp_path / "out", parameters={"cluster": "debug"})
    check_both(run_slurm(work_of(two_jobs, RunOptions(device="cpu")), where), two_jobs)


@pytest.mark.parametrize("parameters", [{"cluster": "slrm"}, {"cluster": "debug", "tiemout": 1}])
def test_what_a_scheduler_does_not_accept_is_wrong_use_in_one_line(tmp_path, parameters):
    pytest.importorskip("submitit")
    where = EngineOptions(folder=tmp_path / "out", parameters=parameters)
    with pytest.raises(UsageError, match=r"--backend slurm: the jobs were not accepted \([^\n]*\); check --scheduler"):
        list(run_slurm([only(fake_job("a", tmp_path))], where))


def test_an_earlier_reason_is_not_that_of_a_job_that_was_killed_now(two_jobs, monkeypatch):
    (_, job) = two_jobs
    run_job(job, RunOptions(device="cpu"))
    assert job_state(job).state == "failed"

    def killed(*_given):
        raise KeyboardInterrupt

    monkeypatch.setattr(jobs_module, "_work", killed)
    with pytest.raises(KeyboardInterrupt):
        run_job(job, RunOptions(device="cpu"))
    assert "killed by signal 9" in outcome_of(only(job), -9).message


class StandInRay(types.ModuleType):
    """As much of Ray as is called: tasks run when they are asked for."""

    def __init__(self, failing: str) -> None:
        super().__init__("ray")
        self.failing, self.started, self.asked = failing, False, {}

    def is_initialized(self):
        return self.started

    def init(self, **options):
        self.started = True

    def remote(self, function):
        def submit(work):
            return lambda: function(work)

        handle = types.SimpleNamespace(remote=submit)
        handle.options = lambda **wanted: self.asked.update(wanted) or handle
        return handle

    def get(self, task):
        outcome = task()
        if outcome.job == self.failing:
            raise ConnectionError("node lost")
        return outcome


def test_ray_runs_each_job_as_one_task(monkeypatch, tmp_path):
    ray = StandInRay(failing="b")
    monkeypatch.setitem(sys.modules, "ray", ray)
    work = [
        Work(name=name, call=partial(Outcome, name, "done"), recorded=partial(Outcome, name, "waiting"))
        for name in "abc"
    ]
    found = list(run_ray(work, EngineOptions(parameters={"num_cpus": 4})))
    assert [outcome.state for outcome in found] == ["done", "failed", "done"]
    assert "node lost" in found[1].message
    assert ray.started
    assert ray.asked == {"max_retries": 0, "num_cpus": 4}


@pytest.mark.parametrize(("run", "module", "extra"), [(run_slurm, "submitit", "slurm"), (run_ray, "ray", "ray")])
def test_a_missing_extra_is_one_line(monkeypatch, tmp_path, run, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError, match=rf"--backend {extra}: needs .*'anymc3d\[{extra}\]'"):
        list(run([only(fake_job("a", tmp_path))], EngineOptions()))


def test_a_scheduler_option_without_a_scheduler_is_refused():
    with pytest.raises(UsageError, match="timeout_min"):
        list(run_local([], EngineOptions(parameters={"timeout_min": 3})))
