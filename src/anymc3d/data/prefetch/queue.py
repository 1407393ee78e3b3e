"""Answers of several reading processes in the order of the jobs, and never more of them waiting than fit a bound.

Each process has a thread here that gives it the next job and takes its answer. An answer is taken out of its process
only when there is room: what waits here has at most ``most_bytes``, or is the one answer that is needed next. So at any
time there is that, one answer in each process, and the one that is worked on.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, Protocol

from anymc3d.data.prefetch.process import Answer, Reader
from anymc3d.data.readers import FORMATS

MOST_BYTES = 1 << 30
"""Bytes of all answers that wait to be taken."""
FEW_CASES = 8
"""Fewer are read by the process itself: those that read take a second to start."""
MOST_WORKERS = 8
"""More are not started unless they are asked for; 0 is in this process, without any."""

Job = tuple[str, Mapping[str, Any]]
"""An entry of :data:`anymc3d.data.prefetch.child.JOBS` and its arguments."""


class JobReader(Protocol):
    """What is asked for answers: :class:`Reader`, or in tests what stands for one."""

    def ask(
        self, name: str, arguments: Mapping[str, Any], *, limit_s: float | None, room: Callable[[int], object]
    ) -> Answer:
        """The answer to one job; ``room`` is called before it takes memory here."""

    def stop(self) -> None:
        """End it, from whichever thread."""


_asked: ContextVar[int | None] = ContextVar("workers", default=None)


@contextmanager
def asking_for(workers: int | None) -> Iterator[None]:
    """In the block this many processes read unless another number is given; results do not depend on it, so it is no
    setting that is handed down with those of a run."""
    before = _asked.set(workers)
    try:
        yield
    finally:
        _asked.reset(before)


def workers_for(cases: int, requested: int | None = None, *, alone: bool = False) -> int:
    """How many processes read: as many as were asked for, else what suits the machine; never more than cases.

    ``alone``: nothing computes meanwhile, so all cores read, else half of them.
    """
    if FORMATS.registered_here:
        return 0  # another process has no reader that was registered in this one
    requested = _asked.get() if requested is None else requested
    if requested is not None:
        return min(requested, cases)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores //= int(os.environ.get("LOCAL_WORLD_SIZE") or 1)  # as torchrun says it: others on this machine read, too
    return 0 if cases < FEW_CASES else min(cores if alone else cores // 2, MOST_WORKERS, cases // FEW_CASES)


class _Stopped(Exception):
    """Nobody waits for the answer."""


class Ahead:
    """The answers to ``jobs``, in their order, by :meth:`answers`; see :func:`read_ahead`."""

    def __init__(
        self,
        jobs: Sequence[Job],
        readers: Sequence[JobReader],
        *,
        limit_s: float | None = None,
        most_bytes: int,
        arrived: Callable[[Answer], object] = lambda answer: None,
    ) -> None:
        self._jobs, self._readers, self._limit_s, self._most_bytes = jobs, readers, limit_s, most_bytes
        self._arrived, self._changed = arrived, threading.Condition()
        self._answers: dict[int, Answer | BaseException] = {}
        self._begun, self._wanted, self._held, self._is_stopped = 0, 0, 0, False
        self.most_held = 0
        """The most bytes that waited at one time."""
        self._threads = [threading.Thread(target=self._work, args=(reader,), daemon=True) for reader in readers]

    def answers(self) -> Iterator[Answer]:
        """One for every job. Lines that a reader logged are logged when its answer's turn comes.

        Raises:
            ProcessError: no process can be started.
        """
        for thread in self._threads:
            thread.start()
        for index in range(len(self._jobs)):
            with self._changed:
                self._wanted = index
                self._changed.notify_all()
                self._changed.wait_for(lambda index=index: index in self._answers)
                answer = self._answers.pop(index)
            if isinstance(answer, BaseException):
                raise answer
            for name, level, text in answer.logged:
                logging.getLogger(name).log(level, "%s", text)
            yield answer
            with self._changed:
                self._held -= answer.num_bytes

    def stop(self) -> None:
        """End all processes and threads."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()
        for reader in self._readers:
            reader.stop()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _work(self, reader: JobReader) -> None:
        while (index := self._next()) is not None:
            try:
                name, arguments = self._jobs[index]
                answer = reader.ask(name, arguments, limit_s=self._limit_s, room=partial(self._take_room, index))
                self._arrived(answer)
            except _Stopped:
                return
            except BaseException as error:  # noqa: BLE001 (raised again where the answer is waited for)
                self._put(index, error)
                return
            self._put(index, answer)

    def _next(self) -> int | None:
        with self._changed:
            if self._is_stopped or self._begun == len(self._jobs):
                return None
            self._begun += 1
            return self._begun - 1

    def _take_room(self, index: int, count: int) -> None:
        def fits() -> bool:
            return self._is_stopped or index == self._wanted or self._held + count <= self._most_bytes

        with self._changed:
            self._changed.wait_for(fits)
            if self._is_stopped:
                raise _Stopped
            self._held += count
            self.most_held = max(self.most_held, self._held)

    def _put(self, index: int, answer: Answer | BaseException) -> None:
        with self._changed:
            self._answers[index] = answer
            self._changed.notify_all()


@contextmanager
def read_ahead(
    jobs: Sequence[Job],
    *,
    workers: int,
    limit_s: float | None = None,
    arrived: Callable[[Answer], object] = lambda answer: None,
) -> Iterator[Iterator[Answer]]:
    """The answers to ``jobs`` in their order, made by ``workers`` processes, all of which are gone at the end.

    ``limit_s``: seconds that one job may take before its process is ended. A process that is lost is the answer to its
    job, :class:`~anymc3d.data.prefetch.process.LostReaderError`, and is replaced. ``arrived``: called with each answer
    as soon as it is here, by a thread of its own.
    """
    ahead = Ahead(jobs, [Reader() for _ in range(workers)], limit_s=limit_s, most_bytes=MOST_BYTES, arrived=arrived)
    try:
        yield ahead.answers()
    finally:
        ahead.stop()
