"""What commands print: the one way to the terminal, in which no text of a file, server or person can act on it.

Names, labels, licences and messages come from files. Each argument of :func:`say` is one line; whatever does not print,
line ends too, is shown by its code (:mod:`anymc3d.printable`).
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TextIO

from anymc3d.printable import printable

_hushed: ContextVar[bool] = ContextVar("hushed", default=False)


@contextmanager
def hushed(quiet: bool) -> Iterator[None]:
    """In the block nothing is said of what is done, if ``quiet``: the one meaning of ``--quiet``."""
    token = _hushed.set(quiet)
    try:
        yield
    finally:
        _hushed.reset(token)


def say(*lines: object) -> None:
    """Print each argument as one line, of what was done; not with ``--quiet``."""
    if not _hushed.get():
        _write(lines, sys.stdout)


def say_text(text: str) -> None:
    """Print a text of several lines that this program wrote, as :func:`say`; a last line end is not doubled."""
    if not _hushed.get():
        answer_text(text)


def answer(*lines: object) -> None:
    """Print each argument as one line, of what was asked for: a list, a record, a verdict; with ``--quiet`` too."""
    _write(lines, sys.stdout)


def answer_text(text: str) -> None:
    """Print a text of several lines, as :func:`answer`."""
    _write(text.removesuffix("\n").split("\n"), sys.stdout, keep="\t")


def warn(text: object) -> None:
    """Print one warning on the error stream."""
    _write([f"warning: {text}"], sys.stderr)


def show(*lines: object) -> None:
    """Print each argument as one line for the person at the terminal, on the error stream: no output goes there."""
    _write(lines, sys.stderr)


def fail(text: object) -> None:
    """Print why a command ends, on the error stream; the problems of one input stand on lines of their own."""
    _write(str(text).split("\n"), sys.stderr)


def _write(lines: Iterable[object], stream: TextIO, keep: str = "") -> None:
    for line in lines:
        print(printable(str(line), keep), file=stream, flush=True)


class LogLine(logging.Formatter):
    """One line per message, whatever was put into it."""

    def format(self, record: logging.LogRecord) -> str:
        """The message of a record, printable; a traceback, where one was asked for, keeps its lines."""
        trace = f"\n{self.formatException(record.exc_info)}" if record.exc_info else ""
        return printable(record.getMessage()) + trace
