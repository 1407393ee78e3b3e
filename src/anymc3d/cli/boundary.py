"""What a command lets through to the terminal, and how it ends: log lines, stop signals, unforeseen errors."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from anymc3d.cli.say import LogLine
from anymc3d.cost.heartbeat import heard
from anymc3d.errors import TRACEBACKS, AnyMC3DError, OutputError, coded
from anymc3d.printable import shown

OWN = "anymc3d"
_OWN_HANDLERS = ("nibabel.global",)
"""Loggers of libraries that write to stderr by themselves, past every handler of the program."""
WAITING = ("serve", "mcp")
"""Commands that are silent while they have no requests."""
_OUTPUT_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
_NO_PATHS = (errno.ENAMETOOLONG, errno.ELOOP)
"""Of texts, from a file or the command line, that this system cannot take for a path at all."""


@contextmanager
def stoppable() -> Iterator[None]:
    """SIGTERM, SIGUSR1, SIGUSR2 and SIGHUP end a command as Ctrl-C does, with exit code 75 (only in the main thread).

    A signal that is ignored stays so: ``nohup`` asks for that.
    """
    before = {}
    try:
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:
                before[number] = signal.signal(number, signal.default_int_handler)
    except ValueError:
        logging.getLogger(__name__).debug("not the main thread: stop signals keep their usual effect")
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def private() -> Iterator[None]:
    """Whatever a command makes, libraries and other programs for it included, is for this user alone."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def logged(args: argparse.Namespace) -> Iterator[None]:
    """This program's own log on stderr: warnings alone with ``--quiet``, every detail with ``--verbose``.

    What libraries log and warn of is there with ``--debug`` alone, as are tracebacks: it is about their own business,
    and where a case fails because of it, its row says so.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LogLine())
    if not args.debug:
        handler.addFilter(_is_own)
        for name in _OWN_HANDLERS:
            logging.getLogger(name).addFilter(_is_own)
    root, own_logger = logging.getLogger(), logging.getLogger(OWN)
    levels = root.level, own_logger.level
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    own_logger.setLevel(_level(args))
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        for name in _OWN_HANDLERS:
            logging.getLogger(name).removeFilter(_is_own)
        root.removeHandler(handler)
        root.setLevel(levels[0])
        own_logger.setLevel(levels[1])


def alive(command: str, args: argparse.Namespace) -> AbstractContextManager[None]:
    """In the block a line now and then says that a command goes on: where no bar is drawn, of one process of several.

    Those that wait for others say nothing, and none that was asked for numbers alone.
    """
    is_silent = args.quiet or getattr(args, "json", False) or sys.stderr.isatty()
    if is_silent or command in WAITING or os.environ.get("RANK", "0") != "0":
        return nullcontext()
    return heard()


def _level(args: argparse.Namespace) -> int:
    if args.debug:
        return TRACEBACKS
    return logging.WARNING if args.quiet else logging.DEBUG if args.verbose else logging.INFO


def _is_own(record: logging.LogRecord) -> bool:
    return record.name.partition(".")[0] == OWN


def last_words(error: Exception, *, debug: bool) -> tuple[str, int]:
    """One line for an exception that is none of this program's, and the exit code.

    A full disk or the like, and a text that can be no path, is said as such (2); the rest is an internal error (1).
    """
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno in _OUTPUT_FAULTS:
        where = f"{error.filename}: " if error.filename else ""
        message = f"error: {where}cannot be written ({error.strerror}); make room, then run the same command again"
        return coded(message, OutputError.code), 2
    if isinstance(error, OSError) and error.errno in _NO_PATHS:
        message = f"error: {shown(str(error.filename), 100)}: expected a path or a name, got none ({error.strerror})"
        return coded(message, "E-path"), 2
    if debug:
        traceback.print_exception(error)
    # Some say nothing by themselves, such as the key that a KeyError missed.
    place = _place(error) if isinstance(error, LookupError) or not text else ""
    message = f"{type(error).__name__}{': ' * bool(text)}{text}"
    return coded(f"internal error: {message}{place} (run again with --debug for the traceback)", AnyMC3DError.code), 1


def _place(error: Exception) -> str:
    """Where in this program an exception arose, or what it called."""
    package = Path(__file__).parents[1]
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if package in Path(frame.filename).parents]
    return f" at {Path(frames[-1].filename).relative_to(package).as_posix()}:{frames[-1].lineno}" if frames else ""


@contextmanager
def fetching(args: argparse.Namespace) -> Iterator[None]:
    """Let the addresses be opened that the person at the keyboard named, or whose beginning."""
    prefixes = list(getattr(args, "remote", None) or ())
    given = getattr(args, "input", None)
    given = given if isinstance(given, list) else []
    prefixes += [text.rpartition("/")[0] + "/" for text in given if "://" in text]
    if not prefixes:
        yield
        return
    from anymc3d.data.remote import allowing

    with allowing(prefixes):
        yield
