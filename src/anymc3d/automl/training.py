"""The step that trains: the best sight of every outer fold with LoRA, where the time allows it for all folds."""

from __future__ import annotations

import logging

from anymc3d.automl.clock import in_words
from anymc3d.automl.deadline import OutOfTimeError
from anymc3d.automl.estimate import Scored
from anymc3d.automl.lora import (
    BLOCKS,
    FIRST,
    LEAST_EPOCHS,
    SAFETY,
    SECOND,
    TrainedFold,
    best_sight,
    better_start,
    epochs_that_fit,
    train_fold,
)
from anymc3d.automl.work import Work
from anymc3d.errors import BackboneError, TrainingDivergedError
from anymc3d.models.seam import check_blocks

logger = logging.getLogger(__name__)

LATEST = 0.97
"""Of the budget, by which training is given up that is slower than expected."""
GIVEN_UP = "training: given up, it took longer than its share of the time"


def train_best(work: Work, device: str) -> None:
    """Train one plugin per outer fold; with too little time for all of them, none."""
    able = [one for one in work.scored if one.candidate.kind == "frozen" and one.candidate.task.features == "class"]
    if not work.settings.train or not able:
        return
    folds, labels = len(work.data.pool.fold_names), work.data.labels
    chosen = [best_sight(able, work.data.pool.targets[work.data.pool.folds != k], labels, k) for k in range(folds)]
    epochs = _epochs(work, chosen)
    if not epochs:
        return
    answers = _answer_seconds(work, chosen)
    started = work.clock.spent_s
    before = float(work.remembered.decided.get("seconds: training", 0.0))
    trained = []
    for number, one in enumerate(chosen):
        begun = work.clock.spent_s
        if not work.decide(f"training: fold {number}", True):
            work.note(GIVEN_UP)
            return
        try:
            with work.reader.stop.within(work.ends_by(LATEST, answers)):
                found = _trained(work, number, one, epochs, device)
        except TrainingDivergedError as error:
            work.note(f"training: given up, {error}")
            return
        except OutOfTimeError:
            work.remembered.decided[f"training: fold {number}"] = False
            work.note(GIVEN_UP)
            return
        trained.append(found)
        work.remembered.decided["seconds: training"] = before + work.clock.spent_s - started
        work.keep()
        took = work.clock.spent_s - begun
        left = folds - number - 1
        logger.info("trained fold %d of %d in %s, %s", number + 1, folds, in_words(took), found.sight)
        goes = left * took < work.left_s(LATEST, answers)
        if left and not work.decide(f"training: after fold {number}", goes):
            work.note(f"training: given up after {number + 1} of {folds} folds, it was slower than expected")
            return
    work.trained = _second_starts(work, chosen, trained, epochs, device, answers)
    work.training_s = float(work.remembered.decided["seconds: training"])


def _second_starts(
    work: Work, chosen: list[Scored], first: list[TrainedFold], epochs: int, device: str, answers: float
) -> list[TrainedFold]:
    """Per fold the better of two starts, as its own validation cases say; those for which there is time, in order."""
    found = list(first)
    took = work.measured("training, first start", float(work.remembered.decided["seconds: training"])) / len(first)
    for number, one in enumerate(chosen):
        goes = SAFETY * took < work.left_s(work.settings.train_share, answers)
        if not work.decide(f"training: second start, fold {number}", goes):
            break
        try:
            with work.reader.stop.within(work.ends_by(LATEST, answers)):
                other = _trained(work, number, one, epochs, device, start=SECOND)
        except TrainingDivergedError as error:
            work.note(f"training from random values: given up, {error}")
            break
        except OutOfTimeError:
            work.remembered.decided[f"training: second start, fold {number}"] = False
            break
        found[number] = better_start(first[number], other, work.data.pool, work.settings)
    taken = sum(one is not before for one, before in zip(found, first, strict=True))
    if taken:
        work.note(f"training: in {taken} of {len(first)} folds random values on standardised embeddings were better")
    return found


def _trained(work: Work, number: int, one: Scored, epochs: int, device: str, *, start: str = FIRST) -> TrainedFold:
    """One fold, as the run's settings say."""
    seed, quiet = work.settings.seed, work.reader.quiet
    return train_fold(
        work.folder.lora, work.data, number, one, epochs, start=start, seed=seed, device=device, quiet=quiet
    )


def _epochs(work: Work, chosen: list[Scored]) -> int:
    """How many epochs all folds can have, as decided once."""
    if "training: epochs" in work.remembered.decided:
        return int(work.remembered.decided["training: epochs"])
    folds = len(chosen)
    passes = [_pass_seconds(work, one) for one in chosen]
    backbone = chosen[0].candidate.backbone.module
    try:
        check_blocks(backbone, BLOCKS)
    except BackboneError as error:
        work.note(f"training: left out, {error}")
        return 0
    seconds = work.left_s(work.settings.train_share, _answer_seconds(work, chosen))
    depth = len(backbone.block_paths)
    epochs = epochs_that_fit(seconds, max(passes), len(work.data.cases), folds, depth)
    if not epochs:
        work.note(
            f"training: left out, {LEAST_EPOCHS} epochs over {folds} folds would not fit in {in_words(max(0, seconds))}"
        )
    work.remembered.decided["training: epochs"] = epochs
    work.keep()
    return epochs


def _pass_seconds(work: Work, one: Scored) -> float:
    sight = one.candidate.name.partition("; ")[2]
    return float(work.remembered.decided.get(f"seconds: {sight}", work.paces["pass"].of(1)))


def _answer_seconds(work: Work, chosen: list[Scored]) -> float:
    """What the trained members of all folds take for one test case: they share the backbone as far as the seam."""
    one = max(work.reserve.members.get(one.candidate.name.partition("; ")[2], 0.0) for one in chosen)
    depth = len(chosen[0].candidate.backbone.module.block_paths) or 1
    return one * (1 + len(chosen) * min(1.0, BLOCKS / depth))
