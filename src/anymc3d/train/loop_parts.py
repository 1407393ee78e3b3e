"""What the loop is handed: the cases of the splits, and all that they are trained with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from anymc3d.cost.energy import EnergyMeter
from anymc3d.models.build import Classifier
from anymc3d.models.classifier import Encoding
from anymc3d.settings.config import LabelSettings
from anymc3d.settings.training import TrainSettings
from anymc3d.train.batch import BatchLoader
from anymc3d.train.losses import Loss
from anymc3d.train.processes import Processes
from anymc3d.train.segmentation import Segmentation


@dataclass
class LabelledSet:
    """Cases of one split as the loop sees them: ids for messages, a loader, and targets (n, L) with NaN = missing."""

    ids: Sequence[str]
    loader: BatchLoader
    targets: np.ndarray
    patients: Sequence[str] | None = None
    """The patients of the cases; None: each case is a patient of its own."""

    def __len__(self) -> int:
        return len(self.ids)

    def in_float32(self) -> LabelledSet:
        """The same cases for a backbone that computes in float32: with trunk tokens of that precision."""
        return replace(self, loader=self.loader.in_float32())


@dataclass
class Parts:
    """What the loop is handed."""

    backbone: nn.Module | None
    classifier: Classifier
    optimizer: torch.optim.Optimizer
    encoding: Encoding
    train: LabelledSet
    val: LabelledSet
    labels: LabelSettings
    loss: Loss
    settings: TrainSettings
    processes: Processes
    checkpoints: Path
    run_hash: str
    meter: EnergyMeter
    segmentation: Segmentation | None = None
    quiet: bool = False
    on_step: Callable[[Mapping[str, Any]], None] | None = None
    """Called after every step; None where no callback wants steps."""
    start: dict[str, Tensor] = field(default_factory=dict)
    """Where training began, where only a share of the way from there is kept."""

    @property
    def device(self) -> torch.device:
        """Where the classifier is."""
        return next(self.classifier.parameters()).device
