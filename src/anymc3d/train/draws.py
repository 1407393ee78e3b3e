"""Every random draw of a run as a function of (seed, what for, epoch, case): nothing depends on what ran before.

So a resumed run draws what the uninterrupted one would have drawn, whatever the number of processes or workers.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch


class Visit(NamedTuple):
    """One case drawn for an epoch; ``again``: how often it was drawn before in that epoch."""

    case: int
    again: int = 0

    @property
    def key(self) -> tuple[int, ...]:
        """What stands for this visit in the purpose of a draw."""
        return (self.case, self.again) if self.again else (self.case,)


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """Return a CPU generator seeded by the hash of ``seed`` and ``purpose``."""
    text = "|".join(str(part) for part in (seed, *purpose))
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1
    return torch.Generator().manual_seed(number)


def epoch_order(num_cases: int, seed: int, epoch: int) -> list[int]:
    """Return the order in which the cases of one epoch are visited."""
    return torch.randperm(num_cases, generator=generator(seed, "order", epoch)).tolist()


def balanced_order(weights: np.ndarray, seed: int, epoch: int) -> list[int]:
    """Draw as many cases as there are, with replacement, each as likely as its weight (n,) says."""
    draws = generator(seed, "balanced order", epoch)
    return torch.multinomial(torch.from_numpy(weights), len(weights), replacement=True, generator=draws).tolist()


def balancing_weights(targets: np.ndarray) -> np.ndarray:
    """Weights (n,) under which every class of a label is equally likely; targets (n, L), NaN where missing.

    A case weighs 1 / (cases with the same value), as the mean over the labels that it has.
    """
    inverse = np.full(targets.shape, np.nan)
    for column, values in enumerate(targets.T):
        for value in np.unique(values[~np.isnan(values)]):
            inverse[values == value, column] = 1 / (values == value).sum()
    return np.nanmean(inverse, axis=1)


def visits(order: Sequence[int]) -> list[Visit]:
    """Number the draws of every case."""
    seen: Counter[int] = Counter()
    numbered = []
    for case in order:
        numbered.append(Visit(case, seen[case]))
        seen[case] += 1
    return numbered


def batches(order: Sequence[Visit], batch_size: int, rank: int = 0, world_size: int = 1) -> list[Sequence[Visit]]:
    """Cut an epoch's visits into steps and return the part of each step that process ``rank`` computes.

    A step holds ``batch_size * world_size`` cases; every process takes part in every step, with no case if need be.
    """
    width = batch_size * world_size
    steps = [order[start : start + width] for start in range(0, len(order), width)]
    return [step[rank::world_size] for step in steps]
