"""What ``train --quick`` does: every number of it in one place.

The decays were set beforehand; the steps and the scaling of the query while looking at AdrenalMNIST3D training cases.
"""

from __future__ import annotations

from dataclasses import dataclass

from anymc3d.errors import UsageError
from anymc3d.settings.config import TaskSettings

FUSIONS = ("mean", "max", "median", "query")
"""The fusions that can be trained on cached features in seconds; the others have parameters by the hundred thousand."""


@dataclass(frozen=True)
class Candidate:
    """One entry of the grid: how slices are pooled, and the weight decay of head and queries.

    The decay is the factor of half the squared norm beside the mean cross-entropy of a case, on standardised features.
    """

    fusion: str
    decay: float


@dataclass(frozen=True, kw_only=True)
class QuickSettings:
    """How much is done. The defaults are documented in docs/quick.md."""

    outer_folds: int = 5
    """Of the nested cross-validation, unless the manifest has a ``fold`` column."""
    inner_folds: int = 3
    """Inside each training part: they choose among the candidates."""
    decays: tuple[float, ...] = (1.0, 0.1, 0.01)
    """From strong to weak; each fit starts from the one before."""
    fractions: tuple[float, ...] = (0.25, 0.5)
    """Of the training cases, besides all of them: the sizes of the learning curve."""
    repeats: int = 3
    """Different draws of the training cases at each of these fractions."""
    resamples: int = 1000
    """Bootstrap resamples of the patients, for averages over labels and for the learning curve."""
    slices: int | None = None
    """At most so many slices per view; None: as :mod:`anymc3d.train.quick.slices` says."""


def candidates(task: TaskSettings, settings: QuickSettings) -> tuple[Candidate, ...]:
    """The grid, simplest first: the mean over slices and views, and the task's own fusion.

    Raises:
        UsageError: the task's fusion is not one of ``FUSIONS``.
    """
    if task.fusion not in FUSIONS:
        raise UsageError(
            f"fusion: {task.fusion} cannot be trained by --quick, which takes {', '.join(FUSIONS)}; "
            "add fusion=query to the command, or train without --quick"
        )
    fusions = dict.fromkeys(("mean", task.fusion))
    return tuple(Candidate(fusion, decay) for fusion in fusions for decay in settings.decays)
