"""How much can be trained in the time that is left: blocks, epochs and copies, for all outer folds."""

from __future__ import annotations

from dataclasses import dataclass, replace

DEPTHS = (6, 3, 2)
"""How many of the last blocks may be adapted, the best first; what lies before them is computed once and kept."""
ENOUGH_EPOCHS = 4
"""With which a deeper training is worth more than a longer one."""
COPIES = (2, 1)
"""Augmented copies of each training scan, the best first; with one it is shown as it is, so that its tokens are those
of validation."""
LEAST_EPOCHS, MOST_EPOCHS = 3, 12
BATCH = 2
"""Cases a step: there are few epochs, so steps must not be few, too (benchmarks/short_training.md)."""
STEP, LAST_BLOCK = 2.9, 0.7
"""A training step and its share of validation cost as much as ``STEP`` passes of the blocks that are adapted, all but
``LAST_BLOCK`` of a block. Measured on 40 scans with three and six blocks: benchmarks/auto.md."""
START_S = 5.0
"""Before the first step of a training: cases, features and tokens are read, a network is built."""
SAFETY = 1.3
"""Factor on what training is expected to take."""


@dataclass(frozen=True)
class Amount:
    """How much is trained: the last ``blocks`` are adapted for so many ``epochs``, on so many ``copies``."""

    blocks: int
    epochs: int
    copies: int = COPIES[0]


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is to be trained, and what it costs here.

    ``seconds``: that may be spent. ``pass_s``: of the frozen backbone of ``depth`` blocks over the slices of one case,
    in the number format of training; ``answer_s``: of one case from its file to an answer. ``sights``: different ones
    that the ``folds`` take. The test split is answered later, by the finished plugin.
    """

    seconds: float
    pass_s: float
    answer_s: float
    cases: int
    folds: int
    depth: int
    sights: int = 1


def amount_that_fits(job: Job) -> Amount | None:
    """How much all folds can be trained; None where not even ``LEAST_EPOCHS`` of the fewest blocks fit.

    The deepest of ``DEPTHS`` for which there are ``ENOUGH_EPOCHS``, with the most of ``COPIES``; otherwise what has the
    most epochs.
    """
    asked = [Amount(blocks, 0, copies) for blocks in DEPTHS if blocks <= job.depth for copies in COPIES]
    able = [replace(one, epochs=epochs) for one in asked if (epochs := epochs_that_fit(one, job))]
    enough = [amount for amount in able if amount.epochs >= ENOUGH_EPOCHS]
    return enough[0] if enough else max(able, key=lambda amount: amount.epochs, default=None)


def reduced(amount: Amount, share: float) -> Amount | None:
    """At most ``share`` of a training: the deepest for which there are still ``ENOUGH_EPOCHS``, otherwise what has the
    most epochs; None where not even ``LEAST_EPOCHS`` of the fewest blocks are left."""
    steps = share * amount.epochs * (amount.blocks - LAST_BLOCK)
    able = [
        replace(amount, blocks=blocks, epochs=min(amount.epochs, int(steps / (blocks - LAST_BLOCK))))
        for blocks in DEPTHS
        if blocks <= amount.blocks
    ]
    able = [smaller for smaller in able if smaller.epochs >= LEAST_EPOCHS]
    enough = [smaller for smaller in able if smaller.epochs >= ENOUGH_EPOCHS]
    return enough[0] if enough else max(able, key=lambda smaller: smaller.epochs, default=None)


def epochs_that_fit(amount: Amount, job: Job) -> int:
    """How many epochs of such an ``amount`` all folds can have; 0 where not even ``LEAST_EPOCHS`` fit.

    Once for all folds, because a frozen trunk says the same in each: the trunk's tokens of all cases and their copies
    (for each of the sights), and the answers for every fold's cases. In every fold and epoch: the adapted blocks
    forward and backward, and again for validation; most of the last block is needed for one token only. The frozen
    features are there already.
    """
    once = job.sights * tokens_s(amount, job) + job.cases * job.answer_s + job.folds * START_S
    trained = job.cases * (job.folds - 1)
    epoch = trained * STEP * max(amount.blocks - LAST_BLOCK, 0.0) / job.depth * job.pass_s
    epochs = int((job.seconds / SAFETY - once) / max(epoch, 1e-9))
    return min(MOST_EPOCHS, epochs) if epochs >= LEAST_EPOCHS else 0


def tokens_s(amount: Amount, job: Job) -> float:
    """Seconds for the trunk's tokens of all cases and their copies, of one sight: the first fold takes most of them."""
    drawn = amount.copies + 1 if amount.copies > 1 else 1
    return job.cases * drawn * (1 - amount.blocks / job.depth) * job.pass_s
