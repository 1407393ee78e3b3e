"""Reading many scans in child processes: a scan that breaks its reader, hangs or eats memory costs one row, no more.

Each child reads one scan at a time, so memory is bounded by the number of children. Results come back in the order of
the jobs, whatever the children do. Jobs and facts are lines of JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass
from typing import BinaryIO

from anymc3d.data.readers import FORMATS
from anymc3d.doctor.facts import Job, ScanFacts, from_plain

START_SECONDS = 120.0
Progress = Callable[[int], object]
"""Called with the number of scans just read."""


@dataclass(frozen=True)
class Limits:
    """What one scan may take."""

    header_seconds: float = 30.0
    scan_seconds: float = 300.0
    memory_bytes: int = 6 << 30
    """Address space of a child, program included."""

    def seconds(self, job: Job) -> float:
        """How long this job may take."""
        return self.header_seconds if job.headers_only else self.scan_seconds


def measure_all(
    jobs: Sequence[Job], *, processes: int, limits: Limits | None = None, progress: Progress = lambda count: None
) -> list[ScanFacts]:
    """Measure every job; ``processes=0`` reads in this process, without limits of time and memory, and so it is where
    a reader was registered in this process alone."""
    if processes == 0 or FORMATS.registered_here:
        return list(_measured_here(jobs, progress))
    results: list[ScanFacts | None] = [None] * len(jobs)
    waiting = iter(range(len(jobs)))
    stopped, lock = threading.Event(), threading.Lock()
    children = [_Child(limits or Limits()) for _ in range(min(processes, len(jobs)))]

    def work(child: _Child) -> None:
        while not stopped.is_set():
            with lock:
                index = next(waiting, None)
            if index is None:
                return
            results[index] = child.measure(jobs[index])
            with lock:
                progress(1)

    threads = [threading.Thread(target=work, args=(child,), daemon=True) for child in children]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        stopped.set()
        for child in children:
            child.stop()
    return [facts or ScanFacts(error="it was not read") for facts in results]


def _measured_here(jobs: Sequence[Job], progress: Progress) -> Iterator[ScanFacts]:
    from anymc3d.doctor.measure import measure

    for job in jobs:
        yield measure(job)
        progress(1)


class _Child(AbstractContextManager["_Child"]):
    """A process that measures scans one by one; started by the first, started again after it was lost."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._process: subprocess.Popen[bytes] | None = None

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with suppress(OSError):  # what was still to be sent to a dead process
                    pipe.close()  # type: ignore[union-attr]

    def measure(self, job: Job) -> ScanFacts:
        """The facts of one scan; what happens to the child is a fact too."""
        if self._process is None:
            self._process = _start(self._limits)
            self._answer(b"", START_SECONDS)  # once it is ready: its start is not the scan's fault
        seconds = self._limits.seconds(job)
        line, in_time = self._answer(json.dumps(asdict(job)).encode() + b"\n", seconds)
        if line.endswith(b"\n"):
            return from_plain(json.loads(line))
        self.stop()
        if not in_time:
            return ScanFacts(error=f"reading did not end within {seconds:g} s; check the file, or the disk")
        return ScanFacts(error="its reader broke down (a damaged file, or too little memory); get the file again")

    def _answer(self, request: bytes, seconds: float) -> tuple[bytes, bool]:
        """The next line of the process, empty where it died; and whether it had not to be killed for it."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            return b"", True
        too_slow = threading.Event()

        def give_up() -> None:
            too_slow.set()
            process.kill()

        stopwatch = threading.Timer(seconds, give_up)
        stopwatch.start()
        try:
            process.stdin.write(request)
            process.stdin.flush()
            return process.stdout.readline(), not too_slow.is_set()
        except (OSError, ValueError):
            return b"", not too_slow.is_set()
        finally:
            stopwatch.cancel()


def _start(limits: Limits) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-m", "anymc3d.doctor.workers", str(limits.memory_bytes)]
    alone = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    # A session of its own: Ctrl-C is for the parent, which ends its children itself.
    return subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=nothing, env={**os.environ, **alone}, start_new_session=True
    )


def serve(requests: BinaryIO, replies: BinaryIO) -> None:
    """What a child does until its input ends."""
    from anymc3d.doctor.measure import measure

    replies.write(b"\n")
    replies.flush()
    for line in requests:
        plain = json.loads(line)
        spacing = plain["spacing"] and tuple(plain["spacing"])
        try:
            facts = measure(Job(**{**plain, "spacing": spacing}))
        except Exception as error:  # noqa: BLE001 (one scan's trouble is one row, and its text may quote the file)
            facts = ScanFacts(error=f"it cannot be measured ({type(error).__name__}); check the file")
        replies.write(json.dumps(asdict(facts)).encode() + b"\n")
        replies.flush()


def _limit_memory(count: int) -> None:
    import resource

    # The soft limit alone: the decoder of DICOM frames, a child of this one, has a limit of its own.
    resource.setrlimit(resource.RLIMIT_AS, (count, resource.getrlimit(resource.RLIMIT_AS)[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    # What the libraries print must not stand between the replies.
    _replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _limit_memory(int(sys.argv[1]))
    serve(sys.stdin.buffer, _replies)
