"""Cases -> one batch of packed slices on the device, augmented on the way when training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from anymc3d.data.augmentation import augment
from anymc3d.models.classifier import PackedSlices
from anymc3d.models.decoders.interface import MaskTarget
from anymc3d.models.seam import TrunkTokens
from anymc3d.settings.views import ViewSettings
from anymc3d.train.draws import Visit, generator
from anymc3d.train.segmentation import MaskSource
from anymc3d.train.trunk_tokens import Piece, TrunkPass

DrawnCase = tuple[Mapping[str, Tensor | Piece | None], Mapping[str, MaskTarget]]
"""View -> slices, or what tokens are made of; and view -> mask."""


class SliceSource(Protocol):
    """Something that gives view -> float16 slices (S, C, H, W) or None for the case at an index."""

    def load(self, index: int) -> Mapping[str, np.ndarray | None]: ...


def pack(
    cases: Sequence[Mapping[str, Tensor | TrunkTokens | None]], views: Mapping[str, ViewSettings]
) -> dict[str, PackedSlices]:
    """Concatenate the real slices of several cases, view by view, or their trunk tokens."""
    batch = {}
    for name, view in views.items():
        parts = [case[name] for case in cases]
        tensors = [part.tokens if isinstance(part, TrunkTokens) else part for part in parts]
        counts = tuple(0 if t is None else t.shape[0] for t in tensors)
        present = [t for t in tensors if t is not None]
        height, width, _ = view.size
        nothing = torch.zeros(0, view.num_channels, height, width)
        trunk = next((part for part in parts if isinstance(part, TrunkTokens)), None)
        if trunk is not None:
            nothing = nothing.to(trunk.tokens.device)
            batch[name] = PackedSlices(nothing, counts, trunk=trunk._replace(tokens=torch.cat(present)))
        else:
            batch[name] = PackedSlices(torch.cat(present) if present else nothing, counts)
    return batch


def kept_views(views: Sequence[str], dropout: float, draws: torch.Generator) -> list[str]:
    """Leave out each view with probability ``dropout``; where all would go, one of them stays, each equally likely."""
    if not dropout or len(views) < 2:
        return list(views)
    drawn = [view for view, draw in zip(views, torch.rand(len(views), generator=draws), strict=True) if draw >= dropout]
    return drawn or [views[int(torch.randint(len(views), (), generator=draws))]]


class BatchLoader:
    """Loads, augments and packs the steps of an epoch, one step ahead of the computation.

    ``augmentation``: entry of the augmentation table. ``view_dropout``: probability of leaving out each view of a
    case. ``masks``: where the batches hold them. ``trunk``: how slices become tokens, where tokens of augmented copies
    stand for slices. All draws depend on (seed, epoch, visit, view) alone.
    """

    def __init__(
        self,
        source: SliceSource,
        views: Mapping[str, ViewSettings],
        *,
        device: torch.device,
        augmentation: str = "none",
        view_dropout: float = 0.0,
        masks: MaskSource | None = None,
        trunk: TrunkPass | None = None,
        seed: int = 0,
    ) -> None:
        self.masks, self.trunk = masks, trunk
        self.source, self.views, self.device, self.seed = source, dict(views), device, seed
        self.recipe = augment.recipe(augmentation)
        self.view_dropout = view_dropout

    def in_float32(self) -> BatchLoader:
        """The same batches, with trunk tokens computed in float32 where there are such."""
        if self.trunk is None:
            return self
        other = copy(self)
        other.trunk = self.trunk.in_float32()
        return other

    def load(self, visits: Sequence[Visit], epoch: int) -> dict[str, PackedSlices]:
        """One batch: the visited cases as they are drawn in ``epoch``."""
        return self._batch(self._draw(visits, epoch))

    def _draw(self, visits: Sequence[Visit], epoch: int) -> list[DrawnCase]:
        return [self._case(visit, epoch) for visit in visits]

    def _batch(self, drawn: Sequence[DrawnCase]) -> dict[str, PackedSlices]:
        """Runs the trunk over what has no tokens yet; so it is called where the model is trained."""
        batch = pack(
            [{name: self._filled(name, part) for name, part in parts.items()} for parts, _ in drawn], self.views
        )
        if self.masks is None:
            return batch
        return {n: packed._replace(masks=tuple(masks.get(n) for _, masks in drawn)) for n, packed in batch.items()}

    def steps(
        self, steps: Sequence[Sequence[Visit]], epoch: int
    ) -> Iterator[tuple[Sequence[Visit], dict[str, PackedSlices]]]:
        """Yield (visits, batch) for every step, preparing the next one in a thread meanwhile."""
        with ThreadPoolExecutor(max_workers=1) as pool:
            ahead = pool.submit(self._draw, steps[0], epoch) if steps else None
            for number, visits in enumerate(steps):
                drawn = ahead.result()
                if number + 1 < len(steps):
                    ahead = pool.submit(self._draw, steps[number + 1], epoch)
                yield visits, self._batch(drawn)

    def _filled(self, name: str, part: Tensor | Piece | None) -> Tensor | TrunkTokens | None:
        return self.trunk.tokens(name, part) if isinstance(part, Piece) and self.trunk is not None else part

    def _case(self, visit: Visit, epoch: int) -> DrawnCase:
        loaded = self.source.load(visit.case)
        present = [name for name in self.views if loaded[name] is not None]
        drawn = kept_views(present, self.view_dropout, generator(self.seed, "views", epoch, *visit.key))
        masks = {} if self.masks is None else self.masks.load(visit.case)
        annotated = () if self.masks is None else self.masks.annotated(visit.case)
        slices: dict[str, Tensor | Piece | None] = dict.fromkeys(self.views)
        targets = {}
        for name in drawn:
            if self.trunk is not None:
                slices[name] = self.trunk.piece(name, loaded[name], visit, epoch, self.device)
                continue
            slices[name], mask = self._view(name, loaded[name], masks.get(name), visit, epoch)
            if mask is not None:
                targets[name] = MaskTarget(mask, annotated)
        return slices, targets

    def _view(
        self, name: str, slices: np.ndarray, mask: np.ndarray | None, visit: Visit, epoch: int
    ) -> tuple[Tensor, Tensor | None]:
        """Slices and, where there is one, their mask, changed by the same draw."""
        tensor = torch.from_numpy(slices).to(self.device).float()
        draws = generator(self.seed, "augmentation", epoch, *visit.key, name)
        parameters = augment.draw(self.recipe, generator=draws, shape=tuple(tensor.shape))
        bounds = augment.value_range(self.views[name])
        if mask is None:
            return augment.apply(parameters, tensor, value_range=bounds), None
        return augment.apply(parameters, tensor, mask=torch.from_numpy(mask).to(self.device), value_range=bounds)
