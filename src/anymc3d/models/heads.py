"""Embedding (B, D) -> one logit per class or label (B, K)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, softplus

from anymc3d.registry import Registry, expected, takes

MIN_GAP = 1e-3
"""Least distance between two cut points, in log-odds; it keeps every grade possible."""


class LinearHead(nn.Linear):
    """One linear map (supplement A1): weights truncated normal 0.02, biases 0 (docs/method.md)."""

    def __init__(self, width: int, num_logits: int, generator: torch.Generator) -> None:
        super().__init__(width, num_logits)
        nn.init.trunc_normal_(self.weight, std=0.02, generator=generator)
        nn.init.zeros_(self.bias)


class OrdinalHead(nn.Module):
    """Cumulative link for ordered grades (McCullagh 1980): P(grade > k) = sigmoid(score - cut_k).

    One linear score and K - 1 cut points. The cuts rise whatever the parameters are: the first one is free, each next
    one is the one before plus a positive gap. The logits are the log probabilities of the K grades, so softmax gives
    the probabilities and the likelihood of a grade is the cross-entropy.
    """

    def __init__(self, width: int, num_logits: int, generator: torch.Generator) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, width), std=0.02, generator=generator))
        # At a score of 0 all grades are equally likely.
        cuts = torch.tensor([math.log(k / (num_logits - k)) for k in range(1, num_logits)])
        self.cuts = nn.Parameter(torch.cat([cuts[:1], (cuts.diff() - MIN_GAP).expm1().log()]))

    def gaps(self) -> Tensor:
        """Distances of neighbouring cut points (K - 2,), at least ``MIN_GAP``."""
        return softplus(self.cuts[1:]) + MIN_GAP

    def forward(self, embeddings: Tensor) -> Tensor:
        gaps = self.gaps()
        cut_points = torch.cat([self.cuts[:1], self.cuts[:1] + gaps.cumsum(0)])
        above = embeddings @ self.weight.T - cut_points  # (B, K - 1): log-odds of a grade above each cut
        lowest, highest = logsigmoid(-above[:, :1]), logsigmoid(above[:, -1:])
        # sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)): exact where both are nearly 0 or 1.
        between = logsigmoid(above[:, :-1]) + logsigmoid(-above[:, 1:]) + (-torch.expm1(-gaps)).log()
        return torch.cat([lowest, between, highest], dim=1)


MakeHead = Callable[[int, int, torch.Generator], nn.Module]
_EXPECTED = "a callable (width: int, num_logits: int, generator: torch.Generator) that makes a torch.nn.Module"


def _admit(name: str, make: Any) -> MakeHead:
    if not takes(make, "width", "num_logits", "generator") or (
        isinstance(make, type) and not (issubclass(make, nn.Module) and takes(make.forward, "self", "embeddings"))
    ):
        raise expected("head", name, _EXPECTED, make)
    return make


HEADS: Registry[MakeHead] = Registry(
    "head", {"linear": LinearHead, "ordinal": OrdinalHead}, group="anymc3d.heads", admit=_admit
)
"""The kind of label chooses (:attr:`anymc3d.settings.config.LabelSettings.head`), unless ``method.head`` names an own
one."""


def register_head(name: str, make: MakeHead) -> None:
    """Add an own head, to be named by ``method.head`` in a task file.

    Args:
        name: what task files and plugins call it.
        make: ``(width, num_logits, generator)`` -> a module that maps embeddings (B, width) to logits (B, num_logits):
            two of a yes/no label, one per class, or one per column. All randomness comes from ``generator``.

    Raises:
        UsageError: the name is taken, or ``make`` is not called like that.
    """
    HEADS.register(name, make)


def check_head(name: str) -> None:
    """Whether there is a head of this name.

    Raises:
        SettingError: there is none.
    """
    HEADS.check(name, key="method.head", function="anymc3d.register_head")


def build_head(name: str, width: int, num_logits: int, generator: torch.Generator) -> nn.Module:
    """Build one entry of ``HEADS``.

    Raises:
        UsageError: no head has this name, or an own one is no module.
    """
    check_head(name)
    head = HEADS[name](width, num_logits, generator)
    if not isinstance(head, nn.Module):
        raise expected("head", name, _EXPECTED, head)
    return head
