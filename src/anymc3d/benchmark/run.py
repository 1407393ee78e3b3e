"""``run_benchmark``: a plan and a folder in, one long table of results out. The same call again goes on."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from anymc3d.benchmark.jobs import Job, RunOptions, job_state, read_json, run_job
from anymc3d.benchmark.plan import Plan
from anymc3d.benchmark.prepare import JOBS, data_set_rows, prepare_jobs
from anymc3d.benchmark.results import RESULTS, write_results
from anymc3d.engines.table import chosen_engine
from anymc3d.engines.work import EngineOptions, Outcome, Work
from anymc3d.errors import RunFolderError
from anymc3d.files import atomic
from anymc3d.files.folders import claim, locked
from anymc3d.files.private import make_private
from anymc3d.files.tables import write_table

logger = logging.getLogger(__name__)

RECORD, PLAN, DATA_SETS = "benchmark.json", "plan.yaml", "datasets.csv"


@dataclass(frozen=True)
class BenchmarkRun:
    """What became of every job of the plan, and the table."""

    outcomes: Mapping[str, Outcome]
    results: Path
    reused: int
    """Jobs that an earlier command had finished."""

    @property
    def exit_code(self) -> int:
        """0 all well, 3 some jobs failed, 4 all failed."""
        failed = [outcome for outcome in self.outcomes.values() if outcome.state == "failed"]
        if not failed:
            return 0
        return 4 if len(failed) == len(self.outcomes) else 3


def run_benchmark(
    plan: Plan,
    out: Path | str,
    *,
    backend: str = "local",
    options: RunOptions | None = None,
    engine: EngineOptions | None = None,
) -> BenchmarkRun:
    """Run every job of ``plan`` that is not done yet, and write ``out/results.csv``.

    Raises:
        ProblemsError, UsageError: the plan cannot start; nothing was run.
        RunFolderError: ``out`` or one of its jobs was made with other settings.
        InterruptedRunError: a stop was asked for; what was finished is in the table.
    """
    run_all = chosen_engine(backend)
    out = Path(out)
    cohorts, jobs = prepare_jobs(plan, out)
    with locked(out):
        claim(out / RECORD, {"kind": "benchmark", "name": plan.settings.name}, "a benchmark")
        states = {job.name: job_state(job) for job in jobs}
        atomic.write_text(out / PLAN, plan.source.read_text(encoding="utf-8-sig"))
        write_table(out / DATA_SETS, _DATA_COLUMNS, data_set_rows(plan, cohorts))
        for cohort in cohorts:
            cohort.write()
        make_private(out / JOBS)
        done_before = {name: state for name, state in states.items() if state.state == "done"}
        open_jobs = [job for job in jobs if job.name not in done_before]
        logger.info("%d jobs: %d done before, %d to do", len(jobs), len(done_before), len(open_jobs))
        outcomes = dict(done_before)
        try:
            work = work_of(open_jobs, options or RunOptions())
            for outcome in run_all(work, engine or EngineOptions(folder=out)) if work else ():
                outcomes[outcome.job] = outcome
                logger.info("%s: %s (%d of %d)", outcome.job, outcome.state, len(outcomes), len(jobs))
                _write(plan, jobs, outcomes, out)
        finally:
            _write(plan, jobs, outcomes, out)
    return BenchmarkRun(outcomes, out / RESULTS, len(done_before))


def work_of(jobs: Sequence[Job], options: RunOptions) -> list[Work]:
    """The jobs for an engine."""
    return [Work(name=job.name, call=partial(run_job, job, options), recorded=partial(job_state, job)) for job in jobs]


def check_folder(plan: Plan, out: Path) -> None:
    """Check that ``out`` is new, or of this benchmark; nothing is written.

    Raises:
        RunFolderError: it is of another one.
    """
    record = out / RECORD
    if record.exists():
        other = read_json(record).get("name")
        if other != plan.settings.name:
            raise RunFolderError(f"{out}: is the folder of benchmark {other!r}, not of {plan.settings.name!r}")


def _write(plan: Plan, jobs: list[Job], outcomes: Mapping[str, Outcome], out: Path) -> None:
    write_results(out / RESULTS, jobs, outcomes, reference=plan.settings.reference)


_DATA_COLUMNS = (
    *("task", "name", "modality", "normalise", "size", "views"),
    *("total", "train", "val", "test", "positive_percent"),
)
