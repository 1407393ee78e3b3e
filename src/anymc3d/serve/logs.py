"""What the service logs: one JSON object per line, on stderr, without an identifier of a person.

A message of this program's own is written for the log and may stand in it. What libraries say, and the text of
exceptions, may hold names, paths and values of a scan: of those only the kind and the place in the program are kept.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
import traceback
from types import TracebackType
from typing import Any, TextIO

OWN = "anymc3d.serve"
FIELDS = ("job", "status", "method", "route", "seconds", "signal", "plugin", "studies")
"""What a line may hold beside its message; given as ``extra``. None of them is chosen by a client."""


class JsonLine(logging.Formatter):
    """``time`` (UTC), ``level``, ``message``, and those of :data:`FIELDS` that were given; ``error`` and ``at``."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {"time": f"{moment}.{int(record.msecs):03d}Z", "level": record.levelname.lower()}
        is_own = record.name == OWN or record.name.startswith(f"{OWN}.")
        line["message"] = record.getMessage() if is_own else f"a message of {record.name.partition('.')[0]}"
        line |= {name: getattr(record, name) for name in FIELDS if hasattr(record, name)}
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
            line["at"] = [
                f"{frame.filename.rpartition('site-packages/')[2].rpartition('/src/')[2]}:{frame.lineno}"
                for frame in traceback.extract_tb(record.exc_info[2])[-8:]
            ]
        return json.dumps(line)


def begin(stream: TextIO | None = None, level: int = logging.INFO) -> logging.Handler:
    """Let everything that is logged in this process go to a stream (stderr), as JSON; the handler, for its end."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLine())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(OWN).setLevel(level)
    logging.captureWarnings(True)
    return handler


def begin_last_words() -> None:
    """Write exceptions that were not caught as lines of the log too, in place of Python's own output."""
    logger = logging.getLogger(OWN)

    def thread_ended(hook_args: threading.ExceptHookArgs) -> None:
        error = hook_args.exc_value or hook_args.exc_type()
        logger.critical("a thread ended by an internal error", exc_info=error.with_traceback(hook_args.exc_traceback))

    def ended(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        logger.critical("ended by an internal error", exc_info=(kind, error, trace))

    def not_raised(hook_args: Any) -> None:
        logger.error("an internal error where none can be raised", exc_info=hook_args.exc_value)

    sys.excepthook, threading.excepthook, sys.unraisablehook = ended, thread_ended, not_raised


def begin_worker() -> None:
    """The same in the worker process; what a library in C prints, a path perhaps, goes nowhere."""
    log_stream = os.fdopen(os.dup(2), "w", buffering=1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        os.dup2(nowhere, number)
    os.close(nowhere)
    begin(log_stream)
    begin_last_words()
