"""What a network is trained on where its authors ask for more than the label of the whole volume.

A :class:`Lesson` is what one batch gives: beside the logits of every case, answers of parts of a volume that are each
compared with the label of their case, and the losses of the masks. Networks that make one are :class:`Teaching`; all
others are trained on their logits alone. What is there for the masks alone is a :class:`Branch`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from anymc3d.models.decoders.interface import MaskTarget


@dataclass(frozen=True)
class Answers:
    """N answers of a batch. The loss of a case is the sum, by ``weight``, of those of its answers."""

    logits: Tensor
    """(N, K)."""
    case: Tensor
    """(N,): position of its case in the batch."""
    weight: Tensor
    """(N,)."""
    visible: Tensor
    """(N,), 0 to 1: how much of the region this answer was made from. Its label is that of the case to this part, and
    "nothing there" (0, the lowest grade) to the rest."""

    @classmethod
    def of_cases(cls, logits: Tensor, weight: float = 1.0) -> Answers:
        """One answer (B, K) per case, of the whole volume."""
        whole = torch.ones(len(logits), device=logits.device)
        return cls(logits, torch.arange(len(logits), device=logits.device), weight * whole, whole)

    @classmethod
    def none(cls, logits: Tensor) -> Answers:
        """No answer of a batch with these logits."""
        return cls.of_cases(logits).only([])

    @classmethod
    def of_parts(cls, logits: Tensor, real: Tensor, visible: Tensor | None = None) -> Answers:
        """Answers (B, T, K) of the parts of each case; ``real`` (B, T) says which are there. All parts of a case weigh
        the same, 1 together. ``visible``: (B, T), None = all of the region in each."""
        case, _ = real.nonzero(as_tuple=True)
        weight = (1 / real.sum(dim=1))[case]
        return cls(logits[real], case, weight, torch.ones_like(weight) if visible is None else visible[real])

    def only(self, cases: Sequence[int]) -> Answers:
        """The answers of some cases."""
        chosen = torch.isin(self.case, torch.tensor(list(cases), dtype=torch.long, device=self.case.device))
        return Answers(self.logits[chosen], self.case[chosen], self.weight[chosen], self.visible[chosen])

    def moved(self, positions: Sequence[int]) -> Answers:
        """The same, case i at ``positions[i]`` of a larger batch."""
        return replace(self, case=torch.tensor(list(positions), device=self.case.device)[self.case])

    def weighted(self, factors: Tensor) -> Answers:
        """The same, the answers of case i with ``factors[i]`` of their weight."""
        return replace(self, weight=self.weight * factors.to(self.weight.device)[self.case])


def joined(parts: Sequence[Answers]) -> Answers:
    """All answers, one after the other."""
    columns = ((part.logits, part.case, part.weight, part.visible) for part in parts)
    return Answers(*(torch.cat(column) for column in zip(*columns, strict=True)))


@dataclass(frozen=True)
class Lesson:
    """What a network learns from one batch."""

    logits: Tensor
    """(B, K): what the network answers. A case without answers of its own is trained on this."""
    answers: Answers
    """Answers of the cases that are trained on more than their label."""
    mask_losses: Mapping[int, Tensor] = field(default_factory=dict)
    """Position of a case -> the loss of its mask, of the cases that have one."""


@runtime_checkable
class Teaching(Protocol):
    """A network of the zoo with an objective of its own."""

    def lesson(
        self, volume: Tensor, slice_mask: Tensor, masks: Sequence[MaskTarget | None], branch: Branch | None
    ) -> Lesson:
        """Volume (B, C, S, H, W), real slices (B, S), and of each case the structures on its slices, where the branch
        learns from them. Without ``branch`` there are none."""


class Branch(nn.Module):
    """What a network has for its masks alone."""

    def __init__(self, num_structures: int) -> None:
        super().__init__()
        self.num_structures = num_structures

    def learns_from(self, target: MaskTarget) -> bool:
        """Whether a mask has something to say; others cost nothing, and are not counted."""
        return bool(target.annotated)

    def knows_region(self, target: MaskTarget) -> bool:
        """Whether all structures were looked for and one is there: otherwise it is not known where the region is."""
        return len(target.annotated) == self.num_structures and bool((target.labels > 0).any())


def is_learned(target: MaskTarget | None, decoder: nn.Module) -> bool:
    """Whether a decoder or branch learns from a mask. AnyMC3D's decoders do where anything was looked for."""
    if target is None or not target.annotated:
        return False
    return not isinstance(decoder, Branch) or decoder.learns_from(target)


def visible_share(target: MaskTarget) -> Tensor:
    """(S,): the area of all structures on each slice, as a part of the largest one; there must be one."""
    areas = (target.labels > 0).sum(dim=(1, 2)).float()
    return areas / areas.max()


def largest_slice(target: MaskTarget) -> int:
    """The slice with most of all structures, the first of equal ones."""
    return int((target.labels > 0).sum(dim=(1, 2)).argmax())
