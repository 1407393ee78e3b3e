"""Where jobs run: one table from name to executor. All of them call :func:`anymc3d.benchmark.jobs.run_job`."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from anymc3d.benchmark.jobs import Job, Outcome, RunOptions, job_state, run_job
from anymc3d.errors import InterruptedRunError, UsageError

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.2
INTERRUPTED = 75


@dataclass(frozen=True, kw_only=True)
class BackendOptions:
    """How many jobs at once, and what a scheduler wants to know."""

    jobs: int = 1
    folder: Path = Path()
    """For a scheduler's own logs."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Of the scheduler, by its own names: submitit's (``timeout_min``, ``slurm_partition``) or Ray's (``num_cpus``)."""


def run_local(jobs: Sequence[Job], options: RunOptions, backend: BackendOptions) -> Iterator[Outcome]:
    """In order, in this process; with several jobs at once each in a process of its own."""
    _no_parameters(backend, "local")
    if backend.jobs == 1:
        yield from (run_job(job, options) for job in jobs)
        return
    threads = options.threads or max(1, (os.cpu_count() or 1) // backend.jobs)
    yield from _in_processes(jobs, replace(options, threads=threads), backend.jobs)


def _in_processes(jobs: Sequence[Job], options: RunOptions, at_once: int) -> Iterator[Outcome]:
    """A process that is killed, by the system for memory for one, fails its job and no other."""
    context = multiprocessing.get_context("spawn")
    waiting, running = list(jobs), {}
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                job = waiting.pop(0)
                process = context.Process(target=_in_child, args=(job, options), name=job.name)
                process.start()
                running[job.name] = (job, process)
            for name, (job, process) in list(running.items()):
                if not process.is_alive():
                    del running[name]
                    yield _outcome_of(job, process.exitcode)
            time.sleep(POLL_SECONDS)
    finally:
        for _, process in running.values():
            process.terminate()
        for _, process in running.values():
            process.join()


def _in_child(job: Job, options: RunOptions) -> None:
    """The whole life of a job's process; a stop signal lets training save its state first."""
    import torch

    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.default_int_handler)
    torch.set_num_threads(options.threads or 1)
    try:
        run_job(job, options)
    except (KeyboardInterrupt, InterruptedRunError):
        raise SystemExit(INTERRUPTED) from None


def _outcome_of(job: Job, exit_code: int | None) -> Outcome:
    if exit_code == INTERRUPTED:
        raise InterruptedRunError(f"{job.name} was stopped; the same command continues")
    found = job_state(job)
    if found.state != "waiting":
        return found
    ended = f"was killed by signal {-exit_code}" if exit_code is not None and exit_code < 0 else f"ended ({exit_code})"
    return Outcome(job.name, "failed", f"its process {ended}; run the same command again to continue", 1)


def run_slurm(jobs: Sequence[Job], options: RunOptions, backend: BackendOptions) -> Iterator[Outcome]:
    """As one array of a Slurm cluster, by submitit; every element runs one job."""
    try:
        import submitit
    except ImportError:
        raise UsageError("--backend slurm: needs submitit; pip install '.[slurm]'") from None
    parameters = dict(backend.parameters)
    with _submitting("slurm"):
        executor = submitit.AutoExecutor(folder=backend.folder / "slurm", cluster=parameters.pop("cluster", "slurm"))
        at_once = {"slurm_array_parallelism": backend.jobs} if backend.jobs > 1 else {}
        executor.update_parameters(**at_once | parameters)
        handles = executor.map_array(run_job, list(jobs), [options] * len(jobs))
    yield from _collect(jobs, [handle.result for handle in handles])


def run_ray(jobs: Sequence[Job], options: RunOptions, backend: BackendOptions) -> Iterator[Outcome]:
    """As tasks of a Ray cluster: that of ``RAY_ADDRESS``, or one started here."""
    try:
        import ray
    except ImportError:
        raise UsageError("--backend ray: needs Ray; pip install '.[ray]'") from None
    if not ray.is_initialized():
        ray.init(log_to_driver=False)
    with _submitting("ray"):
        remote = ray.remote(run_job).options(**{"max_retries": 0, **backend.parameters})
        handles = [remote.remote(job, options) for job in jobs]
    yield from _collect(jobs, [lambda handle=handle: ray.get(handle) for handle in handles])


@contextmanager
def _submitting(name: str) -> Iterator[None]:
    """What a scheduler does not accept is wrong use: no cluster here, or a parameter it does not know."""
    try:
        yield
    except (RuntimeError, NameError, AssertionError, ValueError, TypeError) as error:
        text = " ".join(str(error).split())[:300]
        raise UsageError(
            f"--backend {name}: the jobs were not accepted ({text}); check --scheduler, and that the cluster can be "
            "reached from here, or leave out --backend to run them on this machine"
        ) from error


def _collect(jobs: Sequence[Job], results: Sequence[Callable[[], Outcome]]) -> Iterator[Outcome]:
    """Wait for each; a job that its scheduler lost is failed, the others go on."""
    for job, result in zip(jobs, results, strict=True):
        try:
            yield result()
        except InterruptedRunError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a scheduler raises for a lost job, it is this job's alone
            text = " ".join(str(error).split())[:300]
            yield Outcome(job.name, "failed", f"lost by the scheduler ({type(error).__name__}: {text})", 1)


def _no_parameters(backend: BackendOptions, name: str) -> None:
    if backend.parameters:
        raise UsageError(f"--scheduler: the {name} backend has no scheduler, got {', '.join(backend.parameters)}")


Backend = Callable[[Sequence[Job], RunOptions, BackendOptions], Iterator[Outcome]]

BACKENDS: dict[str, Backend] = {"local": run_local, "slurm": run_slurm, "ray": run_ray}
