"""Where a run takes place: its folder, its device, and the processes that share the work."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from anymc3d.train.callbacks import Callbacks
from anymc3d.train.processes import Processes
from anymc3d.train.run_folder import RunFolder


@dataclass(frozen=True)
class Run:
    """What every step of a run needs to know besides its task."""

    folder: RunFolder
    device: torch.device
    processes: Processes
    quiet: bool = False
    callbacks: Callbacks = field(default_factory=Callbacks)

    @property
    def hides_bars(self) -> bool:
        """Whether progress is not shown: one process shows it, unless it was asked to be quiet."""
        return self.quiet or not self.processes.is_first
