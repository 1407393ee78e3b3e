"""``train --launch N``: one command starts the N processes of a node, of one or of several, and ends as they do.

What ``torchrun`` does, with two differences: a run that was stopped ends with 75, which a scheduler's script can ask
for, and nothing is started again by itself: the same command resumes.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from anymc3d.errors import InterruptedRunError, ProcessError, UsageError

PROGRAM: tuple[str, ...] = (sys.executable, "-m", "anymc3d")
INTERRUPTED = InterruptedRunError.exit_code
POLL_SECONDS = 0.1
GRACE_SECONDS = 60.0
"""How long the others may take to end by themselves when one was lost or failed: they notice it in their next step."""
_ENDPOINT = re.compile(r"(\[[0-9a-fA-F:]+\]|[^\s:\[\]]+):(\d{1,5})")
_DIE_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of Linux's prctl."""


class LaunchedError(ProcessError):
    """A process of the run ended with an error, which it has said itself."""

    def __init__(self, text: str, exit_code: int) -> None:
        super().__init__(text)
        self.exit_code = exit_code


@dataclass(frozen=True, kw_only=True)
class Launch:
    """How many processes, and where they meet.

    Raises:
        UsageError: the numbers or the meeting place are not possible.
    """

    processes: int
    """On this node; one for each graphics card."""
    nodes: int = 1
    node_rank: int = 0
    """Rank of this node, from 0; the first one hosts the meeting place."""
    rendezvous: str | None = None
    """``HOST:PORT`` on node 0, the same on all nodes; None on one node: a free port of it."""

    def __post_init__(self) -> None:
        if self.processes < 1 or self.nodes < 1:
            raise UsageError(f"--launch and --nodes: expected 1 or more, got {self.processes} and {self.nodes}")
        if not 0 <= self.node_rank < self.nodes:
            raise UsageError(
                f"--node-rank: expected 0 to {self.nodes - 1} (of --nodes {self.nodes}), got {self.node_rank}"
            )
        if self.nodes > 1 and self.rendezvous is None:
            raise UsageError("--nodes: needs --rendezvous HOST:PORT of node 0, the same on all nodes")
        if self.rendezvous is not None:
            endpoint = _ENDPOINT.fullmatch(self.rendezvous)
            if endpoint is None or not 0 < int(endpoint[2]) < 2**16:
                raise UsageError(f"--rendezvous: expected HOST:PORT, as node0:29500, got {self.rendezvous!r}")

    def environments(self) -> list[dict[str, str]]:
        """What each process of this node gets to know of the group, by the names that PyTorch reads."""
        host, _, port = (self.rendezvous or f"127.0.0.1:{_free_port()}").rpartition(":")
        shared = {
            "MASTER_ADDR": host.strip("[]"),
            "MASTER_PORT": port,
            "WORLD_SIZE": str(self.processes * self.nodes),
            "LOCAL_WORLD_SIZE": str(self.processes),
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // self.processes))),
        }
        first = self.node_rank * self.processes
        return [shared | {"RANK": str(first + local), "LOCAL_RANK": str(local)} for local in range(self.processes)]


def run_launched(launch: Launch, words: Sequence[str]) -> None:
    """Run ``anymc3d`` with these words in all processes of this node, until all have ended well.

    A stop signal is passed on to all of them.

    Raises:
        InterruptedRunError: they were stopped, or one of them was lost; the same command resumes.
        LaunchedError: one of them failed; its exit code.
    """
    group = []
    with _passed_on(group) as stopped:
        for environment in launch.environments():
            # Left alone, processes whose launcher was killed would go on, and hold the folder against the next try.
            die = partial(_die_with, os.getpid())
            group.append(subprocess.Popen([*PROGRAM, *words], env=os.environ | environment, preexec_fn=die))
            if stopped:  # the signal came before this process was there to get it
                group[-1].terminate()
        codes = _codes(group)
    _judge(codes, launch)


def _judge(codes: Sequence[int], launch: Launch) -> None:
    if not any(codes):
        return
    lost = [(number, -code) for number, code in enumerate(codes) if code < 0]
    failed = [code for code in codes if code not in (0, INTERRUPTED) and code > 0]
    rank = launch.node_rank * launch.processes
    if lost:
        number, sent = lost[0]
        which = f"process {rank + number} of {launch.processes * launch.nodes} was killed by signal {sent}"
        raise InterruptedRunError(f"{which} (9 mostly means that the memory was full); the same command resumes")
    if failed:
        raise LaunchedError(
            f"{len(failed)} of {len(codes)} processes of this node failed; each has said why", failed[0]
        )
    raise InterruptedRunError("all processes have stopped; the same command resumes")


def _codes(group: Sequence[subprocess.Popen[bytes]]) -> list[int]:
    """The exit code of each. When one is lost or fails, the others are stopped after ``GRACE_SECONDS``."""
    until = None
    while None in [process.poll() for process in group]:  # all of them, not up to the first that runs
        if until is None and any(process.returncode not in (None, 0, INTERRUPTED) for process in group):
            until = time.monotonic() + GRACE_SECONDS
        if until is not None and time.monotonic() > until:
            for process in group:
                process.kill()
        time.sleep(POLL_SECONDS)
    ended_here = {-signal.SIGKILL} if until is not None and time.monotonic() > until else set()
    codes = [process.returncode for process in group]
    failed = [code for code in codes if code > 0 and code != INTERRUPTED]
    return [failed[0] if failed and code in ended_here else code for code in codes]


@contextmanager
def _passed_on(group: Sequence[subprocess.Popen[bytes]]) -> Iterator[list[int]]:
    """Pass stop signals on to the group as SIGTERM; those that came are in the list."""
    came: list[int] = []

    def pass_on(number: int, _frame: object) -> None:
        came.append(number)
        for process in group:
            if process.returncode is None:
                process.terminate()

    before = {}
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGINT):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup asks for
            before[number] = signal.signal(number, pass_on)
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _die_with(launcher: int) -> None:
    """In a new process: end when the launcher is gone, however that ended (Linux)."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_DIE_WITH_PARENT, signal.SIGTERM)
        if os.getppid() != launcher:
            os.kill(os.getpid(), signal.SIGTERM)
