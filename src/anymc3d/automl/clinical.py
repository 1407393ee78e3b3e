"""Clinical columns beside the image: whether they answer alone, the image alone, or both, chosen as members are.

The columns alone are a logistic regression (of a number a ridge regression), both are a slope for the image's logit,
one for that of the columns and a shift, as in every plugin with covariates. Of the three the simplest is taken that is
within the margin of the lowest cross-entropy: the columns alone, the image alone, both. For that comparison each has
slopes and a shift of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from anymc3d.automl.blend import best_single
from anymc3d.automl.settings import AutoSettings
from anymc3d.evaluate import outputs
from anymc3d.plugins.covariates import CovariateRecord
from anymc3d.settings.config import LabelSettings, TaskSettings
from anymc3d.train.covariates.record import Answers, Cells, TrainedCovariates, answers_of
from anymc3d.train.quick.covariates import trained
from anymc3d.train.quick.crossval import Pool

Floats = NDArray[np.float64]

CHOICES = ("covariates", "image", "both")
"""From simple to not."""


@dataclass(frozen=True, eq=False)
class Clinical:
    """``task``: with the names of the columns; ``cells``: of every case of the pool."""

    task: TaskSettings
    cells: Sequence[Cells]


@dataclass(frozen=True, eq=False)
class ClinicalEstimate:
    """``answers``: raw logits of each case by fits without its fold, of all three; ``chosen``: one of ``CHOICES`` per
    fold; ``logits`` (n, K): by that choice."""

    answers: Answers
    chosen: tuple[str, ...]
    logits: Floats


@dataclass(frozen=True, eq=False)
class ClinicalMember:
    """What is deployed: one of ``CHOICES``, and the record of the plugin's members, None where the image is alone."""

    chosen: str
    record: CovariateRecord | None

    def raw(self, image: Floats, covariates: Floats) -> Floats:
        """Raw logits (n, labels) of either -> what such a plugin answers."""
        return image if self.record is None else self.record.model.both(image, covariates)


def estimate_clinical(
    clinical: Clinical, pool: Pool, image: Floats, inner: Sequence[Floats], settings: AutoSettings
) -> ClinicalEstimate:
    """Nested: every fit and choice is made without the fold that it answers.

    Args:
        clinical: the columns.
        pool: with its folds.
        image: (n, K) of each case by the blend that was chosen without its fold.
        inner: per fold, head logits of its training cases by that blend, each by fits without its patient.
        settings: of the run.
    """
    labels = clinical.task.labels
    whole = outputs.raw_logits(image, labels.kind)
    both, alone, logits = (np.full(whole.shape, np.nan) for _ in range(3))
    chosen = []
    for number, name in enumerate(pool.fold_names):
        held_out, train = np.flatnonzero(pool.folds == number), np.flatnonzero(pool.folds != number)
        fitted = trained(clinical.task, pool, clinical.cells, train, purpose=f"auto, fold {name}")
        part = outputs.raw_logits(inner[number], labels.kind)
        record = fitted.joined_held_out(part)
        fold_answers = answers_of(record, whole[held_out], [clinical.cells[row] for row in held_out])
        both[held_out], alone[held_out] = fold_answers.both, fold_answers.alone
        choice = _choose(fitted, part, pool, train, settings)
        logits[held_out] = {"covariates": fold_answers.alone, "image": fold_answers.image, "both": fold_answers.both}[
            choice
        ]
        chosen.append(choice)
    return ClinicalEstimate(Answers(both, whole, alone), tuple(chosen), head_logits(logits, labels))


def deployed_clinical(clinical: Clinical, pool: Pool, image: Floats, settings: AutoSettings) -> ClinicalMember:
    """What the plugin takes; ``image`` (n, K): what its blend says of each case by fits without its fold."""
    rows = np.arange(len(pool))
    fitted = trained(clinical.task, pool, clinical.cells, rows, purpose="auto, plugin")
    part = outputs.raw_logits(image, clinical.task.labels.kind)
    record = fitted.joined_held_out(part)
    choice = _choose(fitted, part, pool, rows, settings)
    if choice == "image":
        return ClinicalMember(choice, None)
    if choice == "covariates":
        model = record.model
        zero, ones = tuple(0.0 for _ in model.image), tuple(1.0 for _ in model.covariates)
        shift = tuple(0.0 for _ in model.shift)
        record = replace(record, model=replace(model, image=zero, covariates=ones, shift=shift))
    return ClinicalMember(choice, record)


def head_logits(raw: Floats, labels: LabelSettings) -> Floats:
    """Raw logits (n, labels) -> (n, K), as a head gives them."""
    return np.concatenate([np.zeros_like(raw), raw], axis=1) if labels.kind == "binary" else raw


def _choose(
    fitted: TrainedCovariates,
    image: Floats,
    pool: Pool,
    rows: NDArray[np.intp],
    settings: AutoSettings,
) -> str:
    """On answers of the cases ``rows`` by fits that never saw them; slopes and shifts are fitted on these, of all three
    alike: otherwise columns that know nothing win by a slope that the image alone lacks."""
    answers, targets = fitted.level_held_out(image), pool.targets[rows]
    heads = [head_logits(logits, pool.labels) for logits in (answers.alone, answers.image, answers.both)]
    return CHOICES[best_single(heads, targets, pool.labels, pool.of(rows), margin=settings.margin)]
