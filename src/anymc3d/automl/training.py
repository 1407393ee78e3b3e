"""The step that trains: the best sight of every outer fold with LoRA, where the time allows it for all folds."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Sequence
from dataclasses import replace

from anymc3d.automl.amount import DEPTHS, LEAST_EPOCHS, SAFETY, Amount, Job, amount_that_fits, reduced, tokens_s
from anymc3d.automl.clock import in_words
from anymc3d.automl.deadline import OutOfTimeError
from anymc3d.automl.estimate import Scored
from anymc3d.automl.lora import (
    FIRST,
    SECOND,
    TrainedFold,
    best_sight,
    better_start,
    train_fold,
)
from anymc3d.automl.sights import patches_of
from anymc3d.automl.work import Work
from anymc3d.errors import BackboneError, TrainingDivergedError
from anymc3d.models.seam import check_blocks

logger = logging.getLogger(__name__)

Plan = tuple[Scored, Amount]

NOISE = 1.5
LATEST = 0.97
"""Of the budget, by which training is given up that is slower than expected."""
GIVEN_UP = "training: given up, it took longer than its share of the time"


def train_best(work: Work, device: str) -> None:
    """Train one plugin per outer fold; with too little time for all of them, none."""
    able = [
        scored
        for scored in work.scored
        if scored.candidate.kind == "frozen" and scored.candidate.task.features == "class"
    ]
    if not work.settings.train or not able:
        return
    plans = _plans(work, able)
    if not plans:
        return
    answers = _answer_seconds(work, plans)
    first = _first_starts(work, plans, device, answers)
    if first:
        work.trained = _second_starts(work, plans, first, device, answers)
        work.training_s = float(work.remembered.decided["seconds: training"])


def _first_starts(work: Work, plans: list[Plan], device: str, answers: float) -> list[TrainedFold]:
    """Every fold from the frozen solution, or none. ``plans`` of later folds become smaller where one took longer than
    was expected; ``answers``: seconds of a test case."""
    started = work.clock.spent_s
    before = float(work.remembered.decided.get("seconds: training", 0.0))
    trained: list[TrainedFold] = []
    for number, plan in enumerate(plans):
        begun = work.clock.spent_s
        if not work.decide(f"training: fold {number}", True):
            work.note(GIVEN_UP)
            return []
        try:
            with work.reader.stop.within(work.ends_by(LATEST, answers)):
                fold = _trained(work, number, plan, device)
        except TrainingDivergedError as error:
            work.note(f"training: given up, {error}")
            return []
        except OutOfTimeError:
            work.remembered.decided[f"training: fold {number}"] = False
            work.note(GIVEN_UP)
            return []
        trained.append(fold)
        work.remembered.decided["seconds: training"] = before + work.clock.spent_s - started
        work.keep()
        took = work.clock.spent_s - begun
        logger.info("trained fold %d of %d in %s, %s", number + 1, len(plans), in_words(took), fold.sight)
        if number == 0:  # whose tokens the others read
            took = max(took / 2, took - tokens_s(plan[1], _job(work, plan[0], answers)))
        rest = _reduced_plans(work, number, plans[number + 1 :], took, answers)
        if rest is None:
            work.note(f"training: given up after {number + 1} of {len(plans)} folds, it was slower than expected")
            return []
        plans[number + 1 :] = rest
    return trained


def _reduced_plans(work: Work, number: int, rest: Sequence[Plan], took: float, answers: float) -> list[Plan] | None:
    """The plans of the folds after fold ``number``, which ``took`` so many seconds: as they are where the time is
    enough, otherwise with less of everything; None where even the least does not fit."""
    if not rest:
        return []
    fits = work.left_s(LATEST, answers) / max(len(rest) * took, 1e-9)
    share = work.decided_share(f"training: after fold {number}", fits if fits >= 1 else fits / SAFETY)
    if share >= 1:
        return list(rest)
    smaller = [(scored, reduced(amount, share)) for scored, amount in rest]
    return None if any(amount is None for _, amount in smaller) else smaller


def _second_starts(
    work: Work, plans: Sequence[Plan], first: list[TrainedFold], device: str, answers: float
) -> list[TrainedFold]:
    """Per fold the better of two starts, as its own validation cases say; those for which there is time, in order."""
    better = list(first)
    took = work.measured("training, first start", float(work.remembered.decided["seconds: training"])) / len(first)
    for number, plan in enumerate(plans):
        goes = SAFETY * took < work.left_s(work.settings.train_share, answers)
        if not work.decide(f"training: second start, fold {number}", goes):
            break
        try:
            with work.reader.stop.within(work.ends_by(LATEST, answers)):
                other = _trained(work, number, plan, device, start=SECOND)
        except TrainingDivergedError as error:
            work.note(f"training from random values: given up, {error}")
            break
        except OutOfTimeError:
            work.remembered.decided[f"training: second start, fold {number}"] = False
            break
        better[number] = better_start(first[number], other, work.data.pool, work.settings)
    num_second = sum(fold is not before for fold, before in zip(better, first, strict=True))
    if num_second:
        work.note(
            f"training: in {num_second} of {len(first)} folds random values on standardised embeddings were better"
        )
    return better


def _trained(work: Work, number: int, plan: Plan, device: str, *, start: str = FIRST) -> TrainedFold:
    """One fold, as the run's settings say."""
    folder, seed, quiet = work.folder.lora, work.settings.seed, work.reader.quiet
    scored, amount = plan
    return train_fold(folder, work.data, number, scored, amount, start=start, seed=seed, device=device, quiet=quiet)


def _plans(work: Work, able: Sequence[Scored]) -> list[Plan]:
    """For every outer fold its best sight among those that all folds could be trained on, and how much; or none."""
    try:
        check_blocks(able[0].candidate.backbone.module, min(DEPTHS))
    except BackboneError as error:
        work.note(f"training: left out, {error}")
        return []
    pool = work.data.pool
    folds = range(len(pool.fold_names))
    frozen = [scored for scored in work.scored if scored.candidate.kind == "frozen"]
    for sights in range(1, len(folds) + 1):  # each further sight costs tokens of its own
        amounts = _amounts(work, able, sights)
        fits = [scored for scored in able if scored.candidate.family in amounts]
        if not fits:
            break
        chosen = [best_sight(fits, frozen, pool.targets[pool.folds != k], work.data.labels, k) for k in folds]
        if len({scored.candidate.family for scored in chosen}) <= sights:
            return [(scored, amounts[scored.candidate.family]) for scored in chosen]
    work.note(f"training: left out, {LEAST_EPOCHS} epochs over {len(folds)} folds would not fit")
    return []


def _amounts(work: Work, able: Sequence[Scored], sights: int) -> dict[str, Amount]:
    """Sight -> how much all folds could be trained on it, where the time is enough; as decided once."""
    what = f"training: amounts, {sights} sights"
    if what not in work.remembered.decided:
        amounts: dict[str, Amount | None] = {}
        passes = _passes(work, able)
        for scored in able:
            sight = scored.candidate.family
            if sight in amounts:
                continue
            deepest = [(scored, Amount(max(DEPTHS), 0))]
            job = replace(_job(work, scored, _answer_seconds(work, deepest)), pass_s=passes[sight], sights=sights)
            amounts[sight] = amount_that_fits(job)
        work.remembered.decided[what] = {
            name: [amount.blocks, amount.epochs, amount.copies] for name, amount in amounts.items() if amount
        }
        work.keep()
    return {name: Amount(*map(int, amount)) for name, amount in work.remembered.decided[what].items()}


def _job(work: Work, scored: Scored, answers: float) -> Job:
    """Training on one sight in the time that is left; ``answers``: seconds of a test case that it adds."""
    sight = scored.candidate.family
    return Job(
        seconds=work.left_s(work.settings.train_share, answers),
        pass_s=_pass_s(work, scored),
        answer_s=work.reserve.members.get(sight, 0.0) + work.reserve.read_s,
        cases=len(work.data.cases),
        folds=len(work.data.pool.fold_names),
        depth=len(scored.candidate.backbone.module.block_paths),
    )


def _pass_s(work: Work, scored: Scored) -> float:
    """Seconds of a training pass over one case of a sight, as measured once."""
    what = f"training pass, {scored.candidate.family}"
    known = f"seconds: {what}" in work.remembered.decided
    return work.measured(what, 0.0 if known else work.reader.training_pass_s(scored.candidate.task))


def _passes(work: Work, able: Sequence[Scored]) -> dict[str, float]:
    """Sight -> seconds of a training pass over one case. In the moment of a measurement the machine may be busier or
    idler than in the minutes to come: none counts that is more than ``NOISE`` times off the pace of all of them."""
    measured, patches = {}, {}
    for scored in able:
        sight, task = scored.candidate.family, scored.candidate.task
        if sight not in measured:
            measured[sight] = _pass_s(work, scored)
            patch_size = scored.candidate.backbone.module.patch_size
            patches[sight] = sum(patches_of(view, patch_size) for view in task.views.values())
    pace = statistics.median(measured[sight] / patches[sight] for sight in measured)
    return {
        sight: min(max(seconds, pace * patches[sight] / NOISE), pace * patches[sight] * NOISE)
        for sight, seconds in measured.items()
    }


def _answer_seconds(work: Work, plans: Sequence[Plan]) -> float:
    """What the trained members of all folds take for one test case: they share the backbone as far as the seam."""
    member_s = max(work.reserve.members.get(scored.candidate.family, 0.0) for scored, _ in plans)
    depth = len(plans[0][0].candidate.backbone.module.block_paths) or 1
    adapted = max(amount.blocks for _, amount in plans) / depth
    return member_s * (1 + len(work.data.pool.fold_names) * min(1.0, adapted))
