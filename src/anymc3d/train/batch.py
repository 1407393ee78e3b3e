"""Cases -> one batch of packed slices on the device, augmented on the way when training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from anymc3d.config import ViewSettings
from anymc3d.data import augment
from anymc3d.models.classifier import PackedSlices
from anymc3d.train.draws import generator


class SliceSource(Protocol):
    """Something that gives view -> float16 slices (S, C, H, W) or None for the case at an index."""

    def load(self, index: int) -> Mapping[str, np.ndarray | None]: ...


def pack(cases: Sequence[Mapping[str, Tensor | None]], views: Mapping[str, ViewSettings]) -> dict[str, PackedSlices]:
    """Concatenate the real slices of several cases, view by view."""
    batch = {}
    for name, view in views.items():
        tensors = [case[name] for case in cases]
        counts = tuple(0 if t is None else t.shape[0] for t in tensors)
        there = [t for t in tensors if t is not None]
        height, width, _ = view.size
        slices = torch.cat(there) if there else torch.zeros(0, view.num_channels, height, width)
        batch[name] = PackedSlices(slices, counts)
    return batch


def value_range(view: ViewSettings) -> tuple[float, float] | None:
    """The range prepared intensities stay in; None for z-scores, which must not be clipped."""
    return None if view.normalise == "zscore" else (0.0, 1.0)


class BatchLoader:
    """Loads, augments and packs the steps of an epoch, one step ahead of the computation.

    ``augmentation``: entry of the augmentation table; the draws depend on (seed, epoch, case index, view) alone.
    """

    def __init__(
        self,
        source: SliceSource,
        views: Mapping[str, ViewSettings],
        *,
        device: torch.device,
        augmentation: str = "none",
        seed: int = 0,
    ) -> None:
        self.source, self.views, self.device, self.seed = source, dict(views), device, seed
        self.recipe = augment.recipe(augmentation)

    def load(self, indices: Sequence[int], epoch: int) -> dict[str, PackedSlices]:
        """One batch: the cases at ``indices`` as they are drawn in ``epoch``."""
        return pack([self._case(index, epoch) for index in indices], self.views)

    def steps(self, steps: Sequence[Sequence[int]], epoch: int):
        """Yield (indices, batch) for every step, preparing the next one in a thread meanwhile."""
        with ThreadPoolExecutor(max_workers=1) as pool:
            ahead = pool.submit(self.load, steps[0], epoch) if steps else None
            for number, indices in enumerate(steps):
                batch = ahead.result()
                if number + 1 < len(steps):
                    ahead = pool.submit(self.load, steps[number + 1], epoch)
                yield indices, batch

    def _case(self, index: int, epoch: int) -> dict[str, Tensor | None]:
        loaded = self.source.load(index)
        return {name: self._view(name, loaded[name], index, epoch) for name in self.views}

    def _view(self, name: str, slices: np.ndarray | None, index: int, epoch: int) -> Tensor | None:
        if slices is None:
            return None
        tensor = torch.from_numpy(slices).to(self.device).float()
        draws = generator(self.seed, "augmentation", epoch, index, name)
        parameters = augment.draw(self.recipe, generator=draws, shape=tuple(tensor.shape))
        return augment.apply(parameters, tensor, value_range=value_range(self.views[name]))
