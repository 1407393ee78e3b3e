"""Whether a scan's anatomy fits the others only when it is turned or flipped: its affine is then wrong.

Each scan is compared with the mean of the others of its column, all in RAS order and 16 voxels a side, as it is and in
the 47 other ways of turning and mirroring a cube. Mirroring left and right is left out: bodies are too symmetric, and
a set of left and right organs is mirrored by nature. Whether left and right are swapped cannot be determined.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations, product

import numpy as np
from numpy.typing import NDArray

from anymc3d.doctor.checks import Finding, finding_of
from anymc3d.doctor.facts import SIGNATURE_SIDE
from anymc3d.doctor.scans import Readable

LEAST_TO_COMPARE = 8
ALIKE = 0.3
"""Median correlation with the mean of the others: below, the set shows no common anatomy."""
BETTER = 0.03
"""How much more a turned scan must correlate than the scan as it is, at least."""
FAR_SPREADS = 8.0
"""And so many robust standard deviations more than turning the other scans gains: what they lose by it depends on how
symmetric the anatomy is."""
FITS = 0.7
"""Times the median: how well the turned scan must then fit; what fits in no position is no flip."""
_NAMES = ("left-right", "front-back", "up-down")

Turn = tuple[tuple[int, ...], tuple[int, ...]]
"""The order of the axes, and which of them are flipped."""


def flip_faults(readable: Sequence[Readable]) -> list[Finding]:
    """One finding per scan that fits the others better in another position."""
    if len(readable) < LEAST_TO_COMPARE:
        return []
    vectors = np.stack([entry.voxels.vector() for entry in readable])
    findings = []
    agreements = [_agreement(vectors, index) for index in range(len(vectors))]
    if float(np.median(agreements)) < ALIKE:
        return []
    best = [_best_turn(vectors, index, agreements[index]) for index in range(len(vectors))]
    gains = np.array([gain for _, gain in best])
    spread = 1.4826 * float(np.median(np.abs(gains - np.median(gains))))
    limit = max(BETTER, float(np.median(gains)) + FAR_SPREADS * spread)
    for entry, (turn, gain), before in zip(readable, best, agreements, strict=True):
        if gain > limit and before + gain > FITS * float(np.median(agreements)):
            text = f"fits the others after {_describe(turn)}: correlation {before:.2f}, then {before + gain:.2f}"
            findings.append(finding_of("flip-suspected", text, [entry.scan.case], entry.scan.column))
    return findings


def turns() -> list[Turn]:
    """The ways of turning and mirroring a cube, without those that only mirror left and right."""
    all_turns = [(order, flips) for order in permutations(range(3)) for flips in product((0, 1), repeat=3)]
    return [(order, flips) for order, flips in all_turns if not (order == (0, 1, 2) and flips[1:] == (0, 0))]


def turned(vector: NDArray[np.float32], turn: Turn) -> NDArray[np.float32]:
    """A signature (4096,) in another position."""
    order, flips = turn
    cube = vector.reshape((SIGNATURE_SIDE,) * 3).transpose(order)
    return np.flip(cube, [axis for axis in range(3) if flips[axis]]).ravel()


def _mean_of_others(vectors: NDArray[np.float32], index: int) -> NDArray[np.float32]:
    mean = vectors.sum(axis=0) - vectors[index]
    return mean / max(float(np.linalg.norm(mean)), 1e-6)


def _agreement(vectors: NDArray[np.float32], index: int) -> float:
    return float(vectors[index] @ _mean_of_others(vectors, index))


def _best_turn(vectors: NDArray[np.float32], index: int, agreement_now: float) -> tuple[Turn, float]:
    mean = _mean_of_others(vectors, index)
    agreement, turn = max(((float(turned(vectors[index], turn) @ mean), turn) for turn in turns()), key=lambda x: x[0])
    return turn, agreement - agreement_now


def _describe(turn: Turn) -> str:
    order, flips = turn
    moved = "exchanging axes" if order != (0, 1, 2) else ""
    mirrored = ", ".join(_NAMES[axis] for axis in range(3) if flips[axis])
    return " and ".join(part for part in (moved, f"flipping {mirrored}" if mirrored else "") if part)
