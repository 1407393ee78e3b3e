"""One reading process: started by its first job, replaced when it is lost, ended by the process that began it."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from anymc3d.data import remote
from anymc3d.data.prefetch.wire import READY, BrokenMessageError, LogLine, receive, send
from anymc3d.errors import ProcessError, ScanError

START_SECONDS = 120.0
_LAST_SECONDS = 2.0
_NO_START = "--workers: a reading process does not start"
_LONGEST_REASON = 300
_PIPE_BYTES = 1 << 18
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class LostReaderError(ScanError):
    """The process that read a case was lost with it."""


class Answer(NamedTuple):
    """``value``: what the job gave, or the exception it ended with; ``seconds``: what it took there; ``num_bytes``: of
    its arrays; ``said``: lines for the log."""

    value: Any
    seconds: float = 0.0
    num_bytes: int = 0
    logged: tuple[LogLine, ...] = ()


class Reader:
    """A process for one thread of this one; :meth:`stop` may be called from another."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock, self._stopped = threading.Lock(), False

    @property
    def pid(self) -> int | None:
        """The process id, while there is a process."""
        return None if self._process is None else self._process.pid

    def ask(
        self, name: str, arguments: Mapping[str, Any], *, limit_s: float | None, room: Callable[[int], object]
    ) -> Answer:
        """Have one job done. A process that ends, or takes longer than ``limit_s``, is the job's answer, too.

        Raises:
            ProcessError: no process can be started.
        """
        process, took, too_slow = self._started(), 0, threading.Event()

        def give_up() -> None:
            too_slow.set()
            process.kill()

        def admitted(count: int) -> None:
            nonlocal took
            stopwatch.cancel()  # it is done, and now waits for room
            took = count
            room(count)

        stopwatch = _stopwatch(limit_s, give_up)
        try:
            send(process.stdin, (name, dict(arguments)))  # type: ignore[arg-type]
            value, seconds, lines = receive(process.stdout, admitted)  # type: ignore[arg-type]
            return Answer(value, float(seconds), took, tuple(lines))
        except (OSError, BrokenMessageError, TypeError, ValueError):
            late = limit_s if too_slow.is_set() else None
            return Answer(LostReaderError(self._lost(late), code=None if late is None else "E-timeout"))
        finally:
            stopwatch.cancel()

    def stop(self) -> None:
        """End the process, and start no other."""
        with self._lock:
            self._stopped = True
        self._end()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is not None:
            return self._process
        with tempfile.TemporaryFile() as errors:
            with self._lock:
                if self._stopped:
                    raise ProcessError("no more is read")
                try:
                    process = self._process = _start(errors)
                except OSError as error:
                    raise ProcessError(f"{_NO_START} ({error.strerror}); --workers 0 reads without any") from error
            stopwatch = _stopwatch(START_SECONDS, process.kill)
            try:
                send(process.stdin, (logging.getLogger("anymc3d").getEffectiveLevel(), remote.allowed()))  # type: ignore[arg-type]
                if receive(process.stdout) == READY:  # type: ignore[arg-type]
                    return process
            except (OSError, BrokenMessageError):
                pass
            finally:
                stopwatch.cancel()
            self._end()
            errors.seek(0)
            lines = errors.read().decode(errors="replace").strip().splitlines()
        why = f" ({lines[-1][:_LONGEST_REASON]})" if lines else ""
        raise ProcessError(f"{_NO_START}{why}; --workers 0 reads without any")

    def _lost(self, limit_s: float | None) -> str:
        """End what is left of the process, and say why it was lost."""
        process = self._process
        if process is not None:
            with suppress(subprocess.TimeoutExpired):  # its pipe is closed before it is quite gone
                process.wait(_LAST_SECONDS)
        code = self._end()
        if limit_s is not None:
            return f"reading did not end within {limit_s:g} s (--timeout); give it more time, or look at the scan"
        how = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        return (
            f"the process that read it ended {how}: too little memory, or a file that breaks its decoder; look at the "
            "scan, or run again with fewer --workers"
        )

    def _end(self) -> int:
        with self._lock:
            process, self._process = self._process, None
        if process is None:
            return -signal.SIGKILL
        code = process.poll()
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with suppress(OSError):  # what was still to be sent to a dead process
                pipe.close()  # type: ignore[union-attr]
        return process.returncode if code is None else code


def _stopwatch(seconds: float | None, give_up: Callable[[], object]) -> threading.Timer:
    """Calls ``give_up`` after so many seconds, unless it is cancelled; None: never."""
    stopwatch = threading.Timer(0 if seconds is None else seconds, give_up)
    stopwatch.daemon = True
    if seconds is not None:
        stopwatch.start()
    return stopwatch


def _start(errors: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-m", "anymc3d.data.prefetch.child"]
    alone = {**dict.fromkeys(_ONE_THREAD, "1"), "PYTHONWARNINGS": "ignore"}
    pipe, environment = subprocess.PIPE, {**os.environ, **alone}
    # A session of its own: Ctrl-C is for the parent, which ends its children itself.
    return subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=errors, env=environment, start_new_session=True, pipesize=_PIPE_BYTES
    )
