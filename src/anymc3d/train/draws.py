"""Every random draw of a run as a function of (seed, what for, epoch, case): nothing depends on what ran before.

So a resumed run draws what the uninterrupted one would have drawn, whatever the number of processes or workers.
"""

from __future__ import annotations

import hashlib

import torch


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """Return a CPU generator seeded by the hash of ``seed`` and ``purpose``."""
    text = "|".join(str(part) for part in (seed, *purpose))
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1
    return torch.Generator().manual_seed(number)


def epoch_order(num_cases: int, seed: int, epoch: int) -> list[int]:
    """Return the order in which the cases of one epoch are visited."""
    return torch.randperm(num_cases, generator=generator(seed, "order", epoch)).tolist()


def batches(order: list[int], batch_size: int, rank: int = 0, world_size: int = 1) -> list[list[int]]:
    """Cut an epoch's order into steps and return the part of each step that process ``rank`` computes.

    A step holds ``batch_size * world_size`` cases; every process takes part in every step, with no case if need be.
    """
    width = batch_size * world_size
    steps = [order[start : start + width] for start in range(0, len(order), width)]
    return [step[rank::world_size] for step in steps]
