"""How a network of the zoo is trained where the task file does not say otherwise (docs/methods.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from anymc3d.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Optimiser and loss of a network.

    The defaults are those for networks without a published recipe: AdamW with a learning rate that a comparison
    searches over 1e-4, 3e-4 and 1e-3 with the same budget for all (docs/methods.md). Schedule, epochs and batch size
    are the task's.
    """

    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr: float = 3e-4
    weight_decay: float = 1e-4
    momentum: float = 0.0
    """Of SGD, with Nesterov's correction left out; AdamW has its usual betas 0.9 and 0.999."""
    loss: str = "focal"
    """Entry of ``anymc3d.train.losses.LOSSES``."""
    slow: Mapping[str, float] = field(default_factory=dict)
    """Beginning of the names of a part's parameters (``encoder.``) -> factor on their learning rate."""
    mask_weight: float = 1.0
    """Of the loss of the masks beside that of the labels, with ``segmentation: own``."""
    objective: int = 1
    """Raise it when what is trained on changes: a run that began with another one is not gone on with."""
    structures: tuple[str, ...] = ()
    """What the network draws, where that is fixed: ``segmentation.classes`` names the labels in this order."""
    whole: tuple[int, ...] = ()
    """How many of the structures may be named: those of whole heads."""
    hides: bool = False
    """With masks: parts of a volume that do not show the region are trained on "nothing there"."""
    view_weight: float | None = None
    """With several views: of the loss of each view's own answer beside that of their mean. None: each view is trained
    on its own answers, where the network has an objective of its own; otherwise the mean alone."""

    def __post_init__(self) -> None:
        if self.lr <= 0 or self.weight_decay < 0 or not 0 <= self.momentum < 1:
            raise UsageError(f"recipe: expected lr above 0, weight decay of 0 or more, momentum below 1, got {self}")
        if self.optimizer == "adamw" and self.momentum:
            raise UsageError(f"recipe: momentum is of sgd, adamw has its own, got {self.momentum}")
        if any(not 0 <= factor <= 1 for factor in self.slow.values()):
            raise UsageError(f"recipe: slow parts have a factor between 0 and 1, got {dict(self.slow)}")
