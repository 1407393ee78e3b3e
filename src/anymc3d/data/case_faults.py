"""The boundary about one case: whatever goes wrong with it is said in its row, and the others go on.

Only what is no fault of the case passes: an output that cannot be written, and a wish to stop.
"""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from anymc3d.data.case import Case
from anymc3d.errors import TRACEBACKS, AnyMC3DError, InterruptedRunError, OutputError, ScanError, coded

logger = logging.getLogger(__name__)

T = TypeVar("T")
_PATH = re.compile(r"[^\s'\"(),;:=]*[/\\\\][^\s'\"(),;]*")
_MOST_LETTERS = 300
_SHORTEST_NAME = 3


@dataclass(frozen=True)
class CaseFault:
    """Why a case has no answer: one line without a path."""

    message: str


def attempt(
    work: Callable[[], T], case: Case, *, describe: Callable[[Exception, Case], str] | None = None
) -> T | CaseFault:
    """What ``work`` gives, or why it failed. ``describe`` says it in words; by default :func:`fault_of`.

    An unforeseen exception is shown with its traceback where this package logs at level ``TRACEBACKS``.

    Raises:
        OutputError: what is written cannot be written; no other case would fare better.
        InterruptedRunError, KeyboardInterrupt, SystemExit: a stop was asked for.
    """
    try:
        return work()
    except (OutputError, InterruptedRunError):
        raise
    except Exception as error:  # noqa: BLE001 (the boundary of a case)
        message = (describe or fault_of)(error, case)
        if not isinstance(error, AnyMC3DError):
            # Without the exception's own words, which may name a path: the message has them, cleaned.
            logger.log(TRACEBACKS, "case %r: %s", case.id, message)
            for line in "".join(traceback.format_tb(error.__traceback__)).splitlines():
                logger.log(TRACEBACKS, "%s", line)
        return CaseFault(message)


def fault_of(error: Exception, case: Case, more: str = "") -> str:
    """What the outputs say of a case that failed: one line that ends with ``more`` and the error's stable code.

    A scan is named by its manifest column: a path or file name may say who the patient is.
    """
    code = error.code if isinstance(error, AnyMC3DError) else "E-memory" if more else AnyMC3DError.code
    return coded(_words_of(error, case) + more, code)


def _words_of(error: Exception, case: Case) -> str:
    if isinstance(error, ScanError):
        return _named(error.what, case)
    if isinstance(error, AnyMC3DError):
        return _named(str(error), case)
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be used ({type(error).__name__}: {error.strerror})"
    text = _PATH.sub("…", _without_names(_named(str(error), case), case))[:_MOST_LETTERS]
    return f"cannot be used ({type(error).__name__}{': ' * bool(text)}{text})"


def _named(text: str, case: Case) -> str:
    text = " ".join(text.split())
    for column, reference in _references(case):
        text = text.replace(reference, column)
    return text


def _without_names(text: str, case: Case) -> str:
    """Also without the bare names of files, which libraries quote."""
    for column, reference in _references(case):
        name = Path(reference).name
        if len(name) >= _SHORTEST_NAME:
            text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", column, text)
    return text


def _references(case: Case) -> Iterable[tuple[str, str]]:
    return (*case.images.items(), *case.masks.items())
