"""One table from name to engine. Each calls every piece of work and yields what became of it."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection

from anymc3d.engines.ray import run_ray
from anymc3d.engines.slurm import run_slurm
from anymc3d.engines.work import EngineOptions, Outcome, Work
from anymc3d.errors import InterruptedRunError, UsageError, did_you_mean

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.2
INTERRUPTED = 75
MOST_REASON = 4000
"""Letters; a pipe holds them without a reader."""


def run_local(work: Sequence[Work], options: EngineOptions) -> Iterator[Outcome]:
    """In order, in this process; with several at once each in a process of its own."""
    if options.parameters:
        raise UsageError(f"--scheduler: the local backend has no scheduler, got {', '.join(options.parameters)}")
    if options.jobs == 1:
        yield from (piece.call() for piece in work)
        return
    yield from _in_processes(work, options, options.threads or max(1, (os.cpu_count() or 1) // options.jobs))


def _in_processes(work: Sequence[Work], options: EngineOptions, threads: int) -> Iterator[Outcome]:
    """A process that is killed, for instance by the system for its memory, costs its own work and no other."""
    context = multiprocessing.get_context("spawn")
    waiting, running = [(piece, options.retries) for piece in work], {}
    try:
        while waiting or running:
            while waiting and len(running) < options.jobs:
                piece, left = waiting.pop(0)
                receiver, sender = context.Pipe(duplex=False)
                process = context.Process(target=_in_child, args=(piece, threads, sender), name=piece.name)
                process.start()
                sender.close()
                running[piece.name] = (piece, left, process, receiver)
            for name, (piece, left, process, receiver) in list(running.items()):
                if process.is_alive():
                    continue
                del running[name]
                if left and (process.exitcode or 0) < 0:
                    logger.warning("%s: its process was killed by signal %d; started again", name, -process.exitcode)
                    waiting.append((piece, left - 1))
                else:
                    yield outcome_of(piece, process.exitcode, _failure_text(receiver))
            time.sleep(POLL_SECONDS)
    finally:
        for _, _, process, _ in running.values():
            process.terminate()
        for _, _, process, _ in running.values():
            process.join()


def _failure_text(receiver: Connection) -> str:
    """Why the work of a process failed, in its own words; nothing where it was killed."""
    with receiver:
        try:
            return receiver.recv_bytes().decode(errors="replace") if receiver.poll() else ""
        except EOFError:
            return ""


def _in_child(piece: Work, threads: int, sender: Connection) -> None:
    """The whole life of a process; a stop signal lets the work save its state first."""
    import torch

    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup asks for
            signal.signal(number, signal.default_int_handler)
    torch.set_num_threads(threads)
    try:
        outcome = piece.call()
    except (KeyboardInterrupt, InterruptedRunError):
        raise SystemExit(INTERRUPTED) from None
    if outcome.state == "failed":
        sender.send_bytes(outcome.message[:MOST_REASON].encode())
    raise SystemExit(0 if outcome.state == "done" else outcome.exit_code or 1)


def outcome_of(piece: Work, exit_code: int | None, reason: str = "") -> Outcome:
    """What became of work whose process ended; ``reason``: by itself, before it did.

    Raises:
        InterruptedRunError: it was stopped, and so is this command.
    """
    if exit_code == INTERRUPTED:
        raise InterruptedRunError(f"{piece.name} was stopped; the same command continues")
    recorded = piece.recorded()
    if recorded.state != "waiting":
        return recorded
    ended = (
        f"was killed by signal {-exit_code}"
        if exit_code is not None and exit_code < 0
        else f"ended with exit code {exit_code}"
    )
    if reason:
        return Outcome(piece.name, "failed", reason, exit_code or 1)
    return Outcome(piece.name, "failed", f"its process {ended}; run the same command again to continue", 1)


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
