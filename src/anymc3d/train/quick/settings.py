"""What ``train --quick`` does: every number of it in one place.

The decays were set beforehand; the steps and the scaling of the query while looking at AdrenalMNIST3D training cases.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from anymc3d.errors import UsageError
from anymc3d.models import fusion as fusions_of_slices
from anymc3d.models.features import representation
from anymc3d.models.fusion import CONCAT
from anymc3d.settings.config import TaskSettings

FUSIONS = ("mean", "concat", "max", "median", "query")
"""The fusions that can be trained on cached features in seconds; the others have parameters by the hundred thousand.
Own ones can that have none at all."""


@dataclass(frozen=True)
class Candidate:
    """One entry of the grid: how slices are pooled, the weight decay of head and queries, and what stands for a slice.

    The decay is the factor of half the squared norm beside the mean cross-entropy of a case, on standardised features.
    """

    fusion: str
    decay: float
    features: str = "class"


@dataclass(frozen=True, kw_only=True)
class QuickSettings:
    """How much is done. The defaults are documented in docs/quick.md."""

    outer_folds: int = 5
    """Folds of the nested cross-validation, unless the manifest has a ``fold`` column."""
    inner_folds: int = 3
    """Inside each training part: they choose among the candidates."""
    decays: tuple[float, ...] = (1.0, 0.1, 0.01)
    """From strong to weak; each fit starts from the one before."""
    fractions: tuple[float, ...] = (0.25, 0.5)
    """Shares of the training cases, besides all of them: the sizes of the learning curve."""
    repeats: int = 3
    """Different draws of the training cases at each of these fractions."""
    resamples: int = 1000
    """Bootstrap resamples of the patients, for averages over labels and for the learning curve."""
    slices: int | None = None
    """At most this many slices per view; None: as :mod:`anymc3d.train.quick.slices` says."""


def candidates(
    task: TaskSettings, settings: QuickSettings, features: Sequence[str] = ("class",)
) -> tuple[Candidate, ...]:
    """The grid, simplest first: for each representation the mean over slices and views, and the task's own fusion.
    What keeps places or is pooled over masks has its views side by side instead.

    Raises:
        UsageError: the task's fusion is not one of ``FUSIONS``, nor an own one without parameters.
    """
    if task.method.head is not None:
        raise UsageError("method.head: --quick solves the program's own heads alone; leave it out, or --quick")
    if task.fusion not in FUSIONS and not fusions_of_slices.is_fixed(task.fusion):
        more_fusions = " and own fusions without parameters" if fusions_of_slices.FUSIONS.is_own(task.fusion) else ""
        raise UsageError(
            f"fusion: {task.fusion} cannot be trained by --quick, which takes {', '.join(FUSIONS)}{more_fusions}; "
            "add fusion=query to the command, or train without --quick"
        )
    grid = []
    for name in features:
        fusions = dict.fromkeys([CONCAT] if representation(name).of_scan else ["mean", task.fusion])
        grid += [Candidate(fusion, decay, name) for fusion in fusions for decay in settings.decays]
    return tuple(grid)
