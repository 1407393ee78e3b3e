"""A step that would outlast its share of the time is given up; what it computed stays in the caches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from anymc3d.automl.clock import Clock
from anymc3d.errors import InterruptedRunError
from anymc3d.train.stopping import OUT_OF_TIME, StopRequest, ending_when


class OutOfTimeError(InterruptedRunError):
    """A step has used its share of the time."""


@dataclass(eq=False)
class Deadline:
    """A wish to stop that comes from the user or from the clock; steps ask for ``signal`` as of a
    :class:`anymc3d.train.stopping.StopRequest`."""

    request: StopRequest
    clock: Clock
    until_s: float | None = None
    """Of the budget's seconds; None = no limit."""
    beat: Callable[[], object] = lambda: None

    @property
    def signal(self) -> int | None:
        """The signal of the user, or that the step's time is over."""
        if self.request.asked is not None:
            return self.request.asked
        return OUT_OF_TIME if self.is_over else None

    @property
    def is_over(self) -> bool:
        """Whether the step's time is over."""
        return self.until_s is not None and self.clock.spent_s > self.until_s

    def check(self, *_: object) -> None:
        """To be called between cases.

        Raises:
            OutOfTimeError: the step's time is over.
            InterruptedRunError: the user asked for a stop.
        """
        self.beat()
        if self.request.asked is not None:
            raise InterruptedRunError("stopped; what is computed is kept: the same command goes on")
        if self.is_over:
            raise OutOfTimeError("the time of this step is over")

    @contextmanager
    def within(self, until_s: float) -> Iterator[None]:
        """Hold the steps inside to the budget's second ``until_s``.

        Raises:
            OutOfTimeError: it passed before they ended.
        """
        before, self.until_s = self.until_s, until_s
        try:
            with ending_when(lambda: self.is_over):
                yield
        except InterruptedRunError as error:
            if self.request.asked is None and self.is_over:
                raise OutOfTimeError("the time of this step is over") from error
            raise
        finally:
            self.until_s = before
