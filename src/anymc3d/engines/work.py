"""What an engine is given and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

State = Literal["waiting", "done", "failed"]


@dataclass(frozen=True)
class Outcome:
    """What became of a piece of work."""

    job: str
    state: State
    message: str = ""
    exit_code: int = 0


@dataclass(frozen=True, kw_only=True)
class Work:
    """One piece. What it finished lies in a folder that all machines see, so after a kill it can be called again."""

    name: str
    call: Callable[[], Outcome]
    """Can be pickled. Failures are returned, not raised; InterruptedRunError: a stop was asked for."""
    recorded: Callable[[], Outcome]
    """What its folder says after its process died."""


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """How many pieces at once, and what a scheduler wants to know."""

    jobs: int = 1
    threads: int | None = None
    """Threads of torch in a process of its own; None: the processors shared out among ``jobs``."""
    retries: int = 0
    """How often a piece that its process or node took with it is called again."""
    folder: Path = Path()
    """For a scheduler's own logs."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """The scheduler's own parameters: of submitit (``timeout_min``, ``slurm_partition``) or of Ray (``num_cpus``)."""
