"""How training starts, and the settings that go with it: every number that ``train.start`` stands for, in one table.

``random`` is the recipe of the paper (supplement A3) with our choices where it is silent; ``frozen`` starts from the
solution on frozen features. A key of the task file that is null takes its value from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from anymc3d.settings.training import TrainSettings


@dataclass(frozen=True, kw_only=True)
class StartRecipe:
    """What the null keys of ``train`` mean; see :class:`anymc3d.settings.config.TrainSettings`."""

    standardise: bool
    loss: str
    lora_lr: float
    head_lr: float
    warmup: float
    clip: Literal["joint", "group"]
    trained_share: float


STARTS: Mapping[str, StartRecipe] = {
    "random": StartRecipe(
        standardise=False, loss="focal", lora_lr=1e-4, head_lr=1e-3, warmup=0.0, clip="joint", trained_share=1.0
    ),
    "frozen": StartRecipe(
        standardise=True, loss="cross-entropy", lora_lr=1e-3, head_lr=1e-4, warmup=0.1, clip="group", trained_share=0.5
    ),
}


PAPER = "random"
"""The start of the paper's recipe."""


def filled(train: TrainSettings, start: str | None = None) -> TrainSettings:
    """``train`` with every null key that a start answers filled in; ``start``: another than its own."""
    recipe = vars(STARTS[train.start if start is None else start])
    return replace(train, **{key: value for key, value in recipe.items() if getattr(train, key) is None})
