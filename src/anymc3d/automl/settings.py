"""What ``anymc3d auto`` does: every number of it in one place."""

from __future__ import annotations

from dataclasses import dataclass

from anymc3d.data.outcome_counts import AUTO_PATIENTS
from anymc3d.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class AutoSettings:
    """How much is done. The defaults are documented in docs/auto.md."""

    minutes: float = 30.0
    """The whole budget: reading, candidates, training, scoring, report."""
    outer_folds: int = 5
    """Unless the manifest has a ``fold`` column."""
    least_cases: int = AUTO_PATIENTS
    """Of each outcome, outside the test split: with fewer no number below would mean anything."""
    frozen_share: float = 0.7
    """Of the budget, up to which frozen candidates may begin; where no training would fit, up to ``train_share``. Where
    time is short a finer sight brought more than training on a coarse one (benchmarks/auto.md)."""
    train_share: float = 0.85
    """Of the budget, by which training must have ended; what follows is scoring and the report."""
    train: bool = True
    """Whether the best few are trained with LoRA, where the time allows it."""
    most_members: int = 6
    """Frozen and plain members of the blend."""
    margin: float = 1.0
    """Standard errors (paired) by which a larger candidate of a family, or a blend with a trained member, must be
    better than a smaller one."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.minutes < 1e6:
            raise UsageError(f"--minutes: expected a number above 0, got {self.minutes:g}")
        if self.outer_folds < 2:
            raise UsageError(f"expected 2 outer folds or more, got {self.outer_folds}")
