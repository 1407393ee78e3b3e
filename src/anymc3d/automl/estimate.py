"""Nested cross-validation of the whole choice: what chooses members and weights never sees what is scored.

In each outer fold every candidate is fitted on the training part; its logits there, each case by the fit without its
patient, choose the blend; only then the held-out cases are answered. The deployed blend is chosen in the same way on
all cases of the pool.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anymc3d.automl.blend import Blend, choose_blend
from anymc3d.automl.candidates import Candidate
from anymc3d.automl.settings import AutoSettings
from anymc3d.train.quick.crossval import Pool

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Scored:
    """What a candidate says: ``inner`` per outer fold of its training cases, ``out`` (n, K) of each case by the fit
    without its fold, ``whole`` (n, K) of each by the fit on all cases but its patient's."""

    candidate: Candidate
    inner: tuple[Floats, ...]
    out: Floats
    whole: Floats


@dataclass(frozen=True, eq=False)
class Estimate:
    """``logits`` (n, K): of each case by a blend that was chosen without its fold; ``chosen``: that blend per fold."""

    logits: Floats
    chosen: tuple[Blend, ...]


def score(candidate: Candidate, pool: Pool, progress: Callable[[], object] = lambda: None) -> Scored:
    """Fit a candidate once per outer fold, and on all cases."""
    out = np.full((len(pool), pool.labels.num_logits), np.nan)
    inner = []
    for number in range(len(pool.fold_names)):
        train, held_out = np.flatnonzero(pool.folds != number), np.flatnonzero(pool.folds == number)
        inner.append(candidate.learner.held_out(train))
        out[held_out] = candidate.answers(train, held_out)
        progress()
    return Scored(candidate, tuple(inner), out, candidate.learner.held_out(np.arange(len(pool))))


def estimate(scored: Sequence[Scored], pool: Pool, settings: AutoSettings) -> Estimate:
    """The out-of-fold logits of the choice; ``scored``: the simplest first."""
    logits = np.full((len(pool), pool.labels.num_logits), np.nan)
    chosen = []
    for number in range(len(pool.fold_names)):
        train, held_out = np.flatnonzero(pool.folds != number), np.flatnonzero(pool.folds == number)
        blend = _choose(scored, [candidate.inner[number] for candidate in scored], pool, train, settings)
        logits[held_out] = blend.logits([candidate.out[held_out] for candidate in scored])
        chosen.append(blend)
    return Estimate(logits, tuple(chosen))


def deployed(scored: Sequence[Scored], pool: Pool, settings: AutoSettings) -> Blend:
    """The blend that goes into the plugin."""
    return _choose(scored, [candidate.whole for candidate in scored], pool, np.arange(len(pool)), settings)


def _choose(
    scored: Sequence[Scored],
    candidate_logits: Sequence[Floats],
    pool: Pool,
    rows: NDArray[np.intp],
    settings: AutoSettings,
) -> Blend:
    return choose_blend(
        candidate_logits,
        [candidate.candidate.family for candidate in scored],
        pool.targets[rows],
        pool.labels,
        pool.of(rows),
        most=settings.most_members,
        margin=settings.margin,
    )
