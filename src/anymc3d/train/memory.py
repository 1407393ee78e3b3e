"""Out of memory while training: one line that names the settings that need less."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from anymc3d.cost.device import ran_out_of_memory
from anymc3d.errors import UsageError
from anymc3d.settings.training import TrainSettings


@contextmanager
def enough_memory(settings: TrainSettings, device: torch.device) -> Iterator[None]:
    """Turn running out of memory into advice; every other error passes.

    Raises:
        UsageError: the device, or this machine, has too little memory for these settings.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not ran_out_of_memory(error):
            raise
        message = " ".join(str(error).split())[:160]
        raise UsageError(
            f"not enough memory on {device} to train with these settings ({message or type(error).__name__}); "
            f"less is needed with {' or '.join(smaller(settings))}; in a new run folder",
            code="E-memory",
        ) from None


def smaller(settings: TrainSettings) -> list[str]:
    """The overrides that lower the memory of a step, the ones that leave the result alone first."""
    overrides = [] if settings.recompute else ["train.recompute=true"]
    if settings.chunk_size > 1:
        overrides.append(f"train.chunk_size={max(1, settings.chunk_size // 4)} (now {settings.chunk_size})")
    if settings.batch_size > 1:
        accumulate = settings.accumulate * settings.batch_size
        overrides.append(f"train.batch_size=1 train.accumulate={accumulate} (now {settings.batch_size} at once)")
    return [*overrides, "fewer slices or pixels in views.<view>.size"]
