"""What schedulers have in common: refusing jobs, stopping them, and losing them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from anymc3d.engines.work import Outcome, Work
from anymc3d.errors import InterruptedRunError, UsageError

_MOST_LETTERS = 300


def call(piece: Work) -> Outcome:
    """The work of one job, on its node. One that its scheduler stops, for its time or for others, is not finished."""
    try:
        return piece.call()
    except (InterruptedRunError, KeyboardInterrupt):
        return Outcome(
            piece.name, "waiting", "stopped by its scheduler (a time limit, a job of higher priority, or by hand)", 75
        )


@contextmanager
def submitting(name: str) -> Iterator[None]:
    """What a scheduler does not accept is wrong use: no cluster here, or a parameter it does not know.

    Raises:
        UsageError: in one line, with the scheduler's words.
    """
    try:
        yield
    except (RuntimeError, NameError, AssertionError, ValueError, TypeError, OSError) as error:
        raise UsageError(
            f"--backend {name}: the jobs were not accepted ({in_one_line(error)}); check --scheduler, and that the "
            "cluster can be reached from here, or leave out --backend to run them on this machine"
        ) from error


def collect(work: Sequence[Work], results: Sequence[Callable[[], Any]]) -> Iterator[Outcome]:
    """Wait for each; work that its scheduler lost is failed, the rest goes on."""
    for piece, result in zip(work, results, strict=True):
        try:
            outcome = result()
        except Exception as error:  # noqa: BLE001 - whatever a scheduler raises for lost work, it is this piece's alone
            outcome = lost(piece, f"lost by the scheduler ({type(error).__name__}: {in_one_line(error)})")
        yield final(piece, outcome)


def lost(piece: Work, why: str) -> Outcome:
    """The outcome of work without an answer: what its folder says, or that it is to be done again."""
    recorded = piece.recorded()
    return Outcome(piece.name, "waiting", why, 1) if recorded.state == "waiting" else recorded


def final(piece: Work, outcome: Outcome) -> Outcome:
    """The outcome of work that is not called again."""
    if outcome.state != "waiting":
        return outcome
    return Outcome(piece.name, "failed", f"{outcome.message}; run the same command again to continue", 1)


def in_one_line(error: BaseException) -> str:
    """What an error says, without its line ends."""
    return " ".join(str(error).split())[:_MOST_LETTERS] or type(error).__name__
