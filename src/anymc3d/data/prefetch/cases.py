"""The scans of many cases, one case after the other: found beforehand by other processes, or in this one when asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from anymc3d.data.case import Case
from anymc3d.data.case_scans import CaseScans
from anymc3d.data.prefetch.needs import Needs
from anymc3d.data.prefetch.process import Answer
from anymc3d.data.prefetch.queue import read_ahead
from anymc3d.data.preprocess import PreparedView
from anymc3d.data.readers import FORMATS
from anymc3d.data.scan import Known
from anymc3d.errors import OutputError, ScanError
from anymc3d.settings.views import ViewSettings

_STEPS = 8
"""Steps of one case, each of which the reading process itself ends after the time limit; then it is ended."""


@dataclass(frozen=True, eq=False)
class CaseAhead:
    """One case. ``seconds``: what its reading took elsewhere; ``decode``: its scans will be looked at, not only their
    hashes."""

    case: Case
    scans: CaseScans
    seconds: float = 0.0
    decode: bool = True

    def hashes(self, views: Sequence[ViewSettings]) -> dict[str, str]:
        """See :meth:`anymc3d.data.case_scans.CaseScans.hashes`."""
        return self.scans.hashes(views, decode=self.decode)


class _Lost(dict[str, Any]):
    """Of a case whose reader was lost: whatever is asked for, the answer is why."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def __bool__(self) -> bool:
        return True

    def __contains__(self, name: object) -> bool:
        return True

    def __getitem__(self, name: str) -> Any:
        return self._error


@contextmanager
def cases_ahead(
    cases: Sequence[Case],
    needs: Needs,
    scans_of: Callable[[Case, Known | None], CaseScans],
    *,
    workers: int,
    timeout_s: float | None = None,
    memory_bytes: int | None = None,
    arrived: Callable[[list[NDArray[Any]]], object] | None = None,
) -> Iterator[Iterator[CaseAhead]]:
    """The cases in their order, each with its scans: by ``workers`` processes that find what ``needs`` names before it
    is asked for, or with none of them in this process, as before there were any.

    Args:
        scans_of: makes the scans of a case, with what is known of it.
        timeout_s: seconds that a step of the reading may take.
        memory_bytes: that such a step may take.
        arrived: called, by another thread, with the slices of each case as soon as they are in this process.

    Raises:
        OutputError: something cannot be written; no other case would fare better.
        ProcessError: no process can be started.
    """
    if not workers or FORMATS.registered_here:
        yield (CaseAhead(case, scans_of(case, None), decode=needs.slices) for case in cases)
        return
    jobs = [_job(scans_of(case, None).case, needs, timeout_s, memory_bytes) for case in cases]
    limit_s = None if timeout_s is None else _STEPS * timeout_s

    def slices_are_here(answer: Answer) -> None:
        if arrived is not None and isinstance(answer.value, dict):
            arrived([view.slices for view in answer.value.values() if isinstance(view, PreparedView)])

    with read_ahead(jobs, workers=workers, limit_s=limit_s, arrived=slices_are_here) as answers:
        yield (
            CaseAhead(case, scans_of(case, _known(answer)), answer.seconds)
            for case, answer in zip(cases, answers, strict=True)
        )


def _job(case: Case, needs: Needs, timeout_s: float | None, memory_bytes: int | None) -> tuple[str, Mapping[str, Any]]:
    return "read", {"case": case, "needs": needs, "timeout_s": timeout_s, "memory_bytes": memory_bytes}


def _known(answer: Answer) -> Known:
    if isinstance(answer.value, OutputError):
        raise answer.value
    if isinstance(answer.value, dict):
        return answer.value
    error = answer.value if isinstance(answer.value, Exception) else ScanError("its reader gave no answer; run again")
    return _Lost(error)
