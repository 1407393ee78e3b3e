"""One table from name to engine. Each calls every piece of work and yields what became of it."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from anymc3d.engines.work import EngineOptions, Outcome, Work
from anymc3d.errors import InterruptedRunError, UsageError, did_you_mean

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.2
INTERRUPTED = 75


def run_local(work: Sequence[Work], options: EngineOptions) -> Iterator[Outcome]:
    """In order, in this process; with several at once each in a process of its own."""
    if options.parameters:
        raise UsageError(f"--scheduler: the local backend has no scheduler, got {', '.join(options.parameters)}")
    if options.jobs == 1:
        yield from (one.call() for one in work)
        return
    yield from _in_processes(work, options, options.threads or max(1, (os.cpu_count() or 1) // options.jobs))


def _in_processes(work: Sequence[Work], options: EngineOptions, threads: int) -> Iterator[Outcome]:
    """A process that is killed, by the system for memory for one, costs its own work and no other."""
    context = multiprocessing.get_context("spawn")
    waiting, running = [(one, options.retries) for one in work], {}
    try:
        while waiting or running:
            while waiting and len(running) < options.jobs:
                one, left = waiting.pop(0)
                process = context.Process(target=_in_child, args=(one, threads), name=one.name)
                process.start()
                running[one.name] = (one, left, process)
            for name, (one, left, process) in list(running.items()):
                if process.is_alive():
                    continue
                del running[name]
                if left and (process.exitcode or 0) < 0:
                    logger.warning("%s: its process was killed by signal %d; begun again", name, -process.exitcode)
                    waiting.append((one, left - 1))
                else:
                    yield outcome_of(one, process.exitcode)
            time.sleep(POLL_SECONDS)
    finally:
        for _, _, process in running.values():
            process.terminate()
        for _, _, process in running.values():
            process.join()


def _in_child(one: Work, threads: int) -> None:
    """The whole life of a process; a stop signal lets the work save its state first."""
    import torch

    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup asks for
            signal.signal(number, signal.default_int_handler)
    torch.set_num_threads(threads)
    try:
        outcome = one.call()
    except (KeyboardInterrupt, InterruptedRunError):
        raise SystemExit(INTERRUPTED) from None
    raise SystemExit(0 if outcome.state == "done" else outcome.exit_code or 1)


def outcome_of(one: Work, exit_code: int | None) -> Outcome:
    """What became of work whose process ended.

    Raises:
        InterruptedRunError: it was stopped, and so is this command.
    """
    if exit_code == INTERRUPTED:
        raise InterruptedRunError(f"{one.name} was stopped; the same command continues")
    found = one.found()
    if found.state != "waiting":
        return found
    ended = (
        f"was killed by signal {-exit_code}"
        if exit_code is not None and exit_code < 0
        else f"ended with exit code {exit_code}"
    )
    return Outcome(one.name, "failed", f"its process {ended}; run the same command again to continue", 1)


def run_slurm(work: Sequence[Work], options: EngineOptions) -> Iterator[Outcome]:
    """As one array of a Slurm cluster, by submitit; every element is one piece."""
    try:
        import submitit
    except ImportError:
        raise UsageError("--backend slurm: needs submitit; pip install 'anymc3d[slurm]'") from None
    parameters = dict(options.parameters)
    with _submitting("slurm"):
        executor = submitit.AutoExecutor(folder=options.folder / "slurm", cluster=parameters.pop("cluster", "slurm"))
        at_once = {"slurm_array_parallelism": options.jobs} if options.jobs > 1 else {}
        executor.update_parameters(**at_once | parameters)
        handles = executor.map_array(_call, list(work))
    yield from _collect(work, [handle.result for handle in handles])


def run_ray(work: Sequence[Work], options: EngineOptions) -> Iterator[Outcome]:
    """As tasks of a Ray cluster: that of ``RAY_ADDRESS``, or one started here."""
    try:
        import ray
    except ImportError:
        raise UsageError("--backend ray: needs Ray; pip install 'anymc3d[ray]'") from None
    if not ray.is_initialized():
        ray.init(log_to_driver=False)
    with _submitting("ray"):
        remote = ray.remote(_call).options(**{"max_retries": options.retries, **options.parameters})
        handles = [remote.remote(one) for one in work]
    yield from _collect(work, [lambda handle=handle: ray.get(handle) for handle in handles])


def _call(one: Work) -> Outcome:
    return one.call()


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


def _collect(work: Sequence[Work], results: Sequence[Callable[[], Any]]) -> Iterator[Outcome]:
    """Wait for each; work that its scheduler lost is failed, the rest goes on."""
    for one, result in zip(work, results, strict=True):
        try:
            yield result()
        except InterruptedRunError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a scheduler raises for lost work, it is this piece's alone
            text = " ".join(str(error).split())[:300]
            yield Outcome(one.name, "failed", f"lost by the scheduler ({type(error).__name__}: {text})", 1)


Engine = Callable[[Sequence[Work], EngineOptions], Iterator[Outcome]]

ENGINES: dict[str, Engine] = {"local": run_local, "slurm": run_slurm, "ray": run_ray}


def chosen_engine(name: str) -> Engine:
    """The engine of a name.

    Raises:
        UsageError: there is none; the nearest name is suggested.
    """
    if name not in ENGINES:
        raise UsageError(f"--backend: unknown name {name!r}{did_you_mean(name, ENGINES)}")
    return ENGINES[name]
