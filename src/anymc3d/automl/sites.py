"""Leave one site out: every choice and fit repeated without a site, which is then answered once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from anymc3d.automl.candidates import Candidate
from anymc3d.automl.clinical import Clinical, estimate_clinical
from anymc3d.automl.compare import auroc_of
from anymc3d.automl.estimate import estimate, score
from anymc3d.automl.joined import inner_logits
from anymc3d.automl.settings import AutoSettings
from anymc3d.train.quick.crossval import Pool, outcome_patients

NOTE = (
    "Candidates, members and weights were chosen and fitted on the other sites. Members that are trained with LoRA are "
    "not among them: they would have to be trained once for every site."
)


def leave_sites_out(
    candidates: Sequence[Candidate],
    pool: Pool,
    settings: AutoSettings,
    clinical: Clinical | None = None,
    progress: Callable[[], object] = lambda: None,
) -> dict[str, Any] | None:
    """``pool``: its folds are the sites. None where a site holds all cases of an outcome and cannot be left out.

    Returns: ``sites``: site -> AUROC (of a number R²) with interval and number of cases; ``together``: of all answers.
    """
    for number in range(len(pool.fold_names)):
        if min(outcome_patients(pool, np.flatnonzero(pool.folds != number)).values()) < 2:
            return None
    scored = [score(candidate, pool, progress) for candidate in candidates]
    nested = estimate(scored, pool, settings)
    logits = nested.logits
    if clinical is not None:
        logits = estimate_clinical(clinical, pool, logits, inner_logits(scored, nested), settings).logits
    sites: dict[str, Any] = {}
    for number, name in enumerate(pool.fold_names):
        rows = np.flatnonzero(pool.folds == number)
        part = _part(pool, rows)
        sites[name] = asdict(auroc_of(part, logits[rows])) | {"n": len(rows)}
    return {"sites": sites, "together": asdict(auroc_of(pool, logits)), "note": NOTE}


def _part(pool: Pool, rows: np.ndarray) -> Pool:
    return Pool(tuple(pool.of(rows)), pool.targets[rows], pool.labels, pool.folds[rows], pool.fold_names)
