"""Which sight is trained, and how much of it."""

from types import SimpleNamespace

import numpy as np
import pytest

from anymc3d.automl import training
from anymc3d.automl.amount import LAST_BLOCK, LEAST_EPOCHS, Amount
from anymc3d.automl.clock import Clock
from anymc3d.automl.folder import AutoFolder, Remembered
from anymc3d.automl.lora import best_sight, fold_scales, spread
from anymc3d.automl.settings import AutoSettings
from anymc3d.automl.work import Work
from anymc3d.settings.config import LabelSettings
from anymc3d.settings.views import ViewSettings


def _says(family: str, *logits: float) -> SimpleNamespace:
    """A candidate with these log-odds of the training cases of its one outer fold."""
    return SimpleNamespace(candidate=SimpleNamespace(family=family), inner=(np.outer(logits, (-0.5, 0.5)),))


def test_the_sight_is_trained_that_shows_most_in_any_representation():
    targets, labels = np.array([[0.0], [1.0]]), LabelSettings(columns=("nodule",), kind="binary", classes=("0", "1"))
    coarse, fine = _says("coarse", -1.0, 1.0), _says("fine", 0.5, 0.5)
    patches = _says("fine", -3.0, 3.0)
    assert best_sight([coarse, fine], [coarse, fine], targets, labels, 0) is coarse
    assert best_sight([coarse, fine], [coarse, fine, patches], targets, labels, 0) is fine
    unaffordable = _says("finest", -9.0, 9.0)
    assert best_sight([coarse, fine], [coarse, fine, patches, unaffordable], targets, labels, 0) is fine


def test_folds_that_took_longer_than_expected_leave_less_for_the_others_and_not_nothing(tmp_path):
    clock = Clock(1000.0, now=lambda: 0.0)
    remembered = Remembered.read(AutoFolder(tmp_path).progress)
    work = Work(AutoFolder(tmp_path), AutoSettings(), clock, remembered, SimpleNamespace(), None, {})
    left = work.left_s(training.LATEST)
    rest = [("sight", Amount(6, 10, 2))] * 4
    assert training._reduced_plans(work, 0, rest, left / 5, 0.0) == rest
    ((_, smaller), *_) = training._reduced_plans(work, 1, rest, left / 2, 0.0)
    cost = [amount.epochs * (amount.blocks - LAST_BLOCK) for amount in (smaller, rest[0][1])]
    assert smaller.epochs >= LEAST_EPOCHS and 0.2 < cost[0] / cost[1] <= 0.5
    assert training._reduced_plans(work, 2, rest, 10 * left, 0.0) is None
    assert training._reduced_plans(work, 1, rest, 10 * left, 0.0)[0][1] == smaller, (
        "what was decided before a kill stays"
    )
    assert training._reduced_plans(work, 3, [], 10 * left, 0.0) == []


def test_one_measurement_far_off_the_pace_of_the_others_does_not_count(tmp_path):
    task = SimpleNamespace(views={"image": ViewSettings(size=(28, 28, 5))})
    seconds = {"a": 1.0, "b": 1.2, "c": 9.0, "d": 0.1}
    able = [
        SimpleNamespace(
            candidate=SimpleNamespace(
                family=name, task=task, backbone=SimpleNamespace(module=SimpleNamespace(patch_size=14))
            )
        )
        for name in seconds
    ]
    given = iter(seconds.values())
    reader = SimpleNamespace(training_pass_s=lambda task: next(given))
    remembered = SimpleNamespace(decided={})
    work = SimpleNamespace(reader=reader, remembered=remembered, measured=lambda what, value: value)
    passes = training._passes(work, able)
    assert (passes["a"], passes["b"]) == (1.0, 1.2)
    assert passes["c"] == pytest.approx(1.5 * 1.1) and passes["d"] == pytest.approx(1.1 / 1.5)


def test_trainings_that_are_surer_than_others_do_not_speak_for_them():
    labels = LabelSettings(columns=("nodule",), kind="binary", classes=("0", "1"))
    margin = np.random.default_rng(0).normal(size=40)

    def fold(scale, shift):
        logits = np.stack([np.full(40, shift), shift + scale * margin], axis=1)
        logits[0] = np.nan  # a case without an answer
        return SimpleNamespace(val_logits=logits)

    trained = [fold(1.0, 0.0), fold(50.0, -9.0), fold(0.0, 3.0)]
    scales = fold_scales(trained, labels)
    assert np.mean(scales) == pytest.approx(1.0)
    sure = [scale * spread(one.val_logits, labels) for scale, one in zip(scales, trained, strict=True)]
    assert scales[0] == pytest.approx(scales[2]) and sure[0] == pytest.approx(0.4 * sure[1]), "a floor of a twentieth"
    assert fold_scales([fold(1.0, 0.0), fold(4.0, 0.0)], labels) == pytest.approx([1.6, 0.4])
    assert fold_scales([fold(0.0, 0.0)] * 2, labels) == [1.0, 1.0]
    number = LabelSettings(columns=("age",), kind="regression")
    assert fold_scales(trained, number) == [1.0, 1.0, 1.0]
