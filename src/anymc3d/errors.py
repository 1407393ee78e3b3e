"""The exceptions of this package.

Every message is written for the person at the terminal: what was expected, what came, what to do. One line each;
only :class:`ProblemsError` has several, one per problem. The command line prints it and exits with ``exit_code``
(0 well, 1 internal or diverged, 2 wrong use, 3 some cases failed, 4 all cases failed, 75 interrupted and resumable).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import ClassVar

from anymc3d.printable import printable

_LONGEST_WORD = 100
"""Longer words are compared with no known one: a file may hold one of many millions of letters."""

_MOST_COMPARED = 5000
"""Known words that a word is compared with: each takes some microseconds."""

_MOST_KNOWN = 60
"""Known words that a message lists."""


_MOST_PROBLEMS = 200
"""Problems of one input that a message lists; ``problems`` has them all."""
TRACEBACKS = 5
"""The level of log lines that hold tracebacks, below all others: they are written where ``--debug`` asks for them."""


class AnyMC3DError(Exception):
    """Base of all errors a user can meet; wrong use unless a subclass says otherwise.

    A message names files, keys and texts that others wrote: whatever does not print is shown by its code.
    """

    exit_code: ClassVar[int] = 2

    def __init__(self, *arguments: object) -> None:
        super().__init__(*(printable(one) if isinstance(one, str) else one for one in arguments))


class UsageError(AnyMC3DError):
    """A command was called in a way that cannot work."""


class ProblemsError(AnyMC3DError):
    """Several problems found in one pass; they are all reported, never just the first."""

    def __init__(self, what: str, problems: Sequence[str], *, most: int = _MOST_PROBLEMS) -> None:
        self.problems = tuple(map(printable, problems))
        noun = "problem" if len(self.problems) == 1 else "problems"
        lines = [f"{printable(what)}: {len(self.problems)} {noun}"]
        lines += [f"  - {one}" for one in self.problems[:most]]
        if len(self.problems) > most:
            lines.append(f"  … and {len(self.problems) - most} more")
        # Past the base class: only here a line end is one of ours.
        Exception.__init__(self, "\n".join(lines))


class ManifestError(ProblemsError):
    """The manifest cannot be used."""


class TaskFileError(ProblemsError):
    """The task file cannot be used."""


class ScanError(AnyMC3DError):
    """One scan cannot be read or used; other cases are not affected.

    ``what``: the message without the scan's path, which may tell who the patient is. Outputs and logs take this one.
    """

    def __init__(self, message: str, *, what: str | None = None) -> None:
        super().__init__(message)
        self.what = printable(message if what is None else what)


class ExcludedError(ScanError):
    """One scan is left out because the task's settings say so; that is no fault of the data set."""


class BackboneError(AnyMC3DError):
    """Backbone weights are missing, damaged or not the expected ones."""


class DownloadError(AnyMC3DError):
    """A file cannot be fetched. ``code``: what the server answered, where it did."""

    def __init__(self, message: str, *, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class UnknownLayoutError(BackboneError):
    """A weights file names its tensors as no backbone that is known."""


class PluginError(AnyMC3DError):
    """A plugin file is damaged, or does not fit what it is used with."""


class RunFolderError(AnyMC3DError):
    """An output folder belongs to another run, or is in use."""


class OutputError(RunFolderError, OSError):
    """What a command writes cannot be written: a full disk, a limit, rights, a folder that is gone.

    It ends the command, whichever case was at work; what was finished before is kept.
    """


class TrainingDivergedError(AnyMC3DError):
    """Loss or gradient stopped being finite."""

    exit_code = 1


class InterruptedRunError(AnyMC3DError):
    """The run was asked to stop; its state is saved and the same command resumes it."""

    exit_code = 75


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``", did you mean 'x'?"`` for the nearest known word, or ``" (known: a, b)"`` when none is near."""
    known = sorted(known)
    near = (
        []
        if len(word) > _LONGEST_WORD or len(known) > _MOST_COMPARED
        else difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    )
    more = f" and {len(known) - _MOST_KNOWN} more" if len(known) > _MOST_KNOWN else ""
    return f", did you mean {near[0]!r}?" if near else f" (known: {', '.join(known[:_MOST_KNOWN])}{more})"
