"""The exceptions of this package.

Every message is written for the person at the terminal: what was expected, what came, what to do. One line each;
only :class:`ProblemsError` has several, one per problem. The command line prints it and exits with ``exit_code``
(0 well, 1 internal or diverged, 2 wrong use, 3 some cases failed, 4 all cases failed, 75 interrupted and resumable).
Each kind has a stable ``code``; what it means and what to do is in :mod:`anymc3d.error_codes` and in
docs/troubleshooting.md.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import ClassVar, Self

from anymc3d.printable import printable

_LONGEST_WORD = 100
"""Longer words are compared with no known one: a file may hold one of many millions of letters."""

_MOST_COMPARED = 5000
"""Known words that a word is compared with: each takes some microseconds."""

_OF_ROW = re.compile(r"row (?P<row>\d+): (?P<what>.+)", re.DOTALL)
_SAME_ROWS = 5
"""Rows that are named where more have the same problem."""

_MOST_KNOWN = 60
"""Known words that a message lists."""


_MOST_PROBLEMS = 200
"""Problems of one input that a message lists; ``problems`` has them all."""
TRACEBACKS = 5
"""The level of log lines that hold tracebacks, below all others: they are written where ``--debug`` asks for them."""


class AnyMC3DError(Exception):
    """Base of all errors a user can meet; wrong use unless a subclass says otherwise.

    A message names files, keys and texts that others wrote: whatever does not print is shown by its code.
    ``code``: the stable name of what went wrong; given where it is another than that of the class.
    """

    exit_code: ClassVar[int] = 2
    code: str = "E-internal"

    def __init__(self, *arguments: object, code: str | None = None) -> None:
        super().__init__(*(printable(argument) if isinstance(argument, str) else argument for argument in arguments))
        if code is not None:
            self.code = code

    @property
    def with_code(self) -> str:
        """The message, with the code at the end of its first line."""
        return coded(str(self), self.code)


def coded(message: str, code: str) -> str:
    """``message [E-code]``; of several lines the first has it."""
    first, end, others = message.partition("\n")
    return f"{first} [{code}]{end}{others}"


class UsageError(AnyMC3DError):
    """A command was called in a way that cannot work."""

    code = "E-usage"


class OptionError(UsageError):
    """An option, action or value of a command is unknown, missing, or contradicts another."""

    code = "E-option"


class SettingError(UsageError):
    """A setting of a task file has a value that cannot work, alone or with the others."""

    code = "E-setting"


class PackageError(UsageError):
    """An optional package is needed that is not installed."""

    code = "E-package"


class DeviceError(UsageError):
    """The computing device that was asked for cannot be used."""

    code = "E-device"


class LabelsError(UsageError):
    """Labels are missing, or not what the task expects."""

    code = "E-labels"


class CovariatesError(UsageError):
    """Clinical columns cannot be used."""

    code = "E-covariates"


class TableError(UsageError):
    """A table of predictions or scores is not as this program wrote it, or does not fit the manifest."""

    code = "E-table"


class CalibrationError(UsageError):
    """A calibration or operating point cannot be fitted, or is not valid."""

    code = "E-calibration"


class LayoutError(UsageError):
    """A folder is not of the layout that was named."""

    code = "E-layout"


class SegmenterError(UsageError):
    """The network or program that finds a region cannot be used."""

    code = "E-segmenter"


class ServiceError(UsageError):
    """The resident service cannot start, or was set up in a way that cannot work."""

    code = "E-service"


class UploadError(UsageError):
    """What was sent to the service is not one scan or study that it takes."""

    code = "E-upload"


def _once(problems: Sequence[str]) -> list[str]:
    """Problems of many rows in the same words in one line, at the place of the first."""
    rows: dict[str, list[str]] = {}
    for problem in problems:
        if found := _OF_ROW.fullmatch(problem):
            rows.setdefault(found["what"], []).append(found["row"])
    lines: dict[str, None] = {}
    for problem in problems:
        found = _OF_ROW.fullmatch(problem)
        numbers = rows[found["what"]] if found else []
        if found and len(numbers) > _SAME_ROWS:
            first = ", ".join(numbers[:_SAME_ROWS])
            problem = f"rows {first} and {len(numbers) - _SAME_ROWS} more: {found['what']}"
        lines[problem] = None
    return list(lines)


class ProblemsError(AnyMC3DError):
    """Several problems found in one pass; they are all reported, never just the first."""

    code = "E-problems"

    def __init__(self, what: str, problems: Sequence[str], *, most: int = _MOST_PROBLEMS) -> None:
        self.problems = tuple(map(printable, problems))
        noun = "problem" if len(self.problems) == 1 else "problems"
        lines = [f"{printable(what)}: {len(self.problems)} {noun}"]
        shown = _once(self.problems)
        lines += [f"  - {problem}" for problem in shown[:most]]
        if len(shown) > most:
            lines.append(f"  … and {len(shown) - most} more")
        # Past the base class: only here a line end is one of ours.
        Exception.__init__(self, "\n".join(lines))


class ManifestError(ProblemsError):
    """The manifest cannot be used."""

    code = "E-manifest"


class TaskFileError(ProblemsError):
    """The task file cannot be used."""

    code = "E-task-file"


class ScanError(AnyMC3DError):
    """One scan cannot be read or used; other cases are not affected.

    ``what``: the message without the scan's path, which may say who the patient is. Outputs and logs take this one.
    """

    code = "E-scan"

    def __init__(self, message: str, *, what: str | None = None, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.what = printable(message if what is None else what)

    @classmethod
    def of(cls, reference: object, what: str) -> Self:
        """The error of one scan: one line that begins with the reference as given, control characters escaped."""
        place = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(reference))
        line = " ".join(what.split())
        return cls(f"{place}: {line}", what=line)


class MissingScanError(ScanError):
    """There is no scan, or it cannot be opened."""

    code = "E-scan-missing"


class DamagedScanError(ScanError):
    """A file is truncated, damaged, or would grow beyond all bounds."""

    code = "E-scan-damaged"


class HeaderError(ScanError):
    """A header says something that no scan of this format can say."""

    code = "E-scan-header"


class FormatError(ScanError):
    """The file is in no format that is read, or not one 3D scan."""

    code = "E-scan-format"


class SeriesError(ScanError):
    """Which DICOM files are the scan is not clear, or the rule that chooses them does not fit."""

    code = "E-series"


class SlicesError(ScanError):
    """The slices of a series do not make one straight, even stack."""

    code = "E-slices"


class UnitsError(ScanError):
    """The values of a scan have no known unit, or other ones than the task expects."""

    code = "E-units"


class RegionError(ScanError):
    """The region of interest cannot be found: no mask, no point, an empty segmentation."""

    code = "E-region"


class MaskError(ScanError):
    """A mask does not fit its scan."""

    code = "E-mask"


class ViewError(ScanError):
    """The size or region that a view asks for does not suit this scan."""

    code = "E-view"


class TooLargeError(ScanError):
    """A case needed more memory than it was given, or than there is."""

    code = "E-memory"


class RemoteError(ScanError):
    """A scan at an address cannot be fetched."""

    code = "E-remote"


class CredentialsError(RemoteError):
    """A store does not take the credentials, or the signature of an address; they may have expired."""

    code = "E-credentials"


class ExcludedError(ScanError):
    """One scan is left out because the task's settings say so; that is no fault of the data set."""

    code = "E-excluded"


class BackboneError(AnyMC3DError):
    """Backbone weights are missing, damaged or not the expected ones."""

    code = "E-backbone"


class MissingWeightsError(BackboneError):
    """The weights are not on this machine."""

    code = "E-weights-missing"


class DownloadError(AnyMC3DError):
    """A file cannot be fetched, or is another than expected. ``answer``: what the server answered, where it did."""

    code = "E-download"

    def __init__(self, message: str, *, answer: int | None = None) -> None:
        super().__init__(message)
        self.answer = answer


class UnknownLayoutError(BackboneError):
    """A weights file names its tensors as no backbone that is known."""

    code = "E-weights-unknown"


class PluginError(AnyMC3DError):
    """A plugin file is damaged, or does not fit what it is used with."""

    code = "E-plugin"


class RunFolderError(AnyMC3DError):
    """An output folder belongs to another run, or is in use."""

    code = "E-folder"


class OutputError(RunFolderError, OSError):
    """What a command writes cannot be written: a full disk, a limit, rights, a folder that is gone.

    It ends the command, whichever case was at work; what was finished before is kept.
    """

    code = "E-write"


class TrainingDivergedError(AnyMC3DError):
    """Loss or gradient stopped being finite."""

    exit_code = 1
    code = "E-diverged"


class ProcessError(AnyMC3DError):
    """A process that this command started does not start, or ended with an error."""

    code = "E-process"


class InterruptedRunError(AnyMC3DError):
    """The run was asked to stop; its state is saved and the same command resumes it."""

    exit_code = 75
    code = "E-interrupted"


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
