"""Every random draw of a run as a function of (seed, what for, epoch, case): nothing depends on what ran before.

So a resumed run draws what the uninterrupted one would have drawn, whatever the number of processes or workers.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
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


def stratified_order(targets: np.ndarray, step_size: int, seed: int, epoch: int) -> list[int]:
    """An epoch of as many visits as there are cases, in which every step of ``step_size`` cases has a rarer one.

    Targets (n, L), NaN where missing. A case is rarer where one of its labels has another value than most cases. Every
    step gets the rarer cases' share of all cases, at least one. Each group is gone through case by case, in a new order
    when it is through, so that none comes twice before all have come once.
    """
    rarer = np.zeros(len(targets), dtype=bool)
    for values in targets.T:
        is_known = ~np.isnan(values)
        outcomes, counts = np.unique(values[is_known], return_counts=True)
        if len(outcomes) > 1:
            rarer |= is_known & (values != outcomes[counts.argmax()])
    groups = [np.flatnonzero(rarer).tolist(), np.flatnonzero(~rarer).tolist()]
    if not all(groups):
        return epoch_order(len(targets), seed, epoch)
    streams = [_rounds(group, seed, "stratified order", number, epoch) for number, group in enumerate(groups)]
    order: list[int] = []
    for start in range(0, len(targets), step_size):
        width = min(step_size, len(targets) - start)
        of_rarer = max(1, round(width * len(groups[0]) / len(targets)))
        order += [next(streams[0]) for _ in range(of_rarer)] + [next(streams[1]) for _ in range(width - of_rarer)]
    return order


def _rounds(cases: Sequence[int], seed: int, *purpose: str | int) -> Iterator[int]:
    """The cases again and again, each time in another order."""
    for number in count():
        yield from (cases[i] for i in torch.randperm(len(cases), generator=generator(seed, *purpose, number)).tolist())


@contextmanager
def drawing(device: torch.device, seed: int, *purpose: str | int) -> Iterator[None]:
    """Seed the global generators by ``seed`` and ``purpose`` while the block runs, for what draws from nothing else:
    dropout. Afterwards they are as before."""
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        number = generator(seed, *purpose).initial_seed()
        torch.default_generator.manual_seed(number)
        if cuda:
            torch.cuda.manual_seed(number)
        yield


def visits(order: Sequence[int]) -> list[Visit]:
    """Number the draws of every case."""
    num_visits: Counter[int] = Counter()
    numbered = []
    for case in order:
        numbered.append(Visit(case, num_visits[case]))
        num_visits[case] += 1
    return numbered


def num_steps(num_visits: int, batch_size: int, world_size: int = 1, least: int = 1) -> int:
    """How many steps :func:`batches` makes of an epoch."""
    full, rest = divmod(num_visits, batch_size * world_size)
    return full + (rest >= least * world_size or (rest > 0 and full == 0))


def batches(
    order: Sequence[Visit], batch_size: int, rank: int = 0, world_size: int = 1, least: int = 1
) -> list[Sequence[Visit]]:
    """Cut an epoch's visits into steps and return the part of each step that process ``rank`` computes.

    A step holds ``batch_size * world_size`` cases; every process takes part in every step, with no case if need be.
    A last step with fewer than ``least`` cases for each process joins the one before it, as batch norm needs.
    """
    width = batch_size * world_size
    number = num_steps(len(order), batch_size, world_size, least)
    steps = [order[start * width : (start + 1) * width] for start in range(number)]
    if steps:
        steps[-1] = order[(number - 1) * width :]
    return [step[rank::world_size] for step in steps]
