"""Prediction sets: the coverage that is promised is kept, for every kind of task, and nothing else changes them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from anymc3d.errors import UsageError
from anymc3d.evaluate import conformal, outputs
from anymc3d.evaluate.conformal import fit_sets, needed_patients, too_few
from anymc3d.settings.config import LabelSettings

BINARY = LabelSettings(columns=("tear",), kind="binary", classes=("0", "1"))
SEVERAL = LabelSettings(columns=("mass", "fluid"), kind="multilabel")
CLASSES = LabelSettings(columns=("grade",), kind="multiclass", classes=("a", "b", "c"))


def draw(rng: np.random.Generator, labels: LabelSettings, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Targets and raw logits (n, labels) of cases with a rare outcome, and logits of a badly calibrated classifier."""
    width = len(labels.output_names)
    if labels.one_of_classes:
        truth = rng.choice(width, size=count, p=[0.6, 0.3, 0.1])
        targets = np.eye(width)[truth]
    else:
        targets = (rng.random((count, width)) < 0.2).astype(float)
    return targets, 3 * targets + rng.normal(scale=2, size=targets.shape) - 2


def held(sets: conformal.PredictionSets, targets: np.ndarray, raw: np.ndarray, labels: LabelSettings) -> np.ndarray:
    """Whether the set of each case and label holds the true answer."""
    return np.take_along_axis(sets.answers(raw, labels), targets.astype(int)[..., None], axis=2)[..., 0]


@pytest.mark.parametrize("coverage", [0.8, 0.9])
@pytest.mark.parametrize("labels", [BINARY, SEVERAL, CLASSES], ids=lambda one: one.kind)
def test_of_the_cases_of_every_answer_the_promised_share_is_covered(labels, coverage) -> None:
    """By simulation, on average over draws of calibration and test cases; above it by no more than one case allows."""
    rng = np.random.default_rng(0)
    found: dict[tuple[int, int], list[float]] = {}
    size = 600
    for _ in range(40):
        targets, raw = draw(rng, labels, size)
        sets = fit_sets(targets, raw, labels, [str(i) for i in range(size)], coverage=coverage, split="val")
        targets, raw = draw(rng, labels, 1000)
        right = held(sets, targets, raw, labels)
        for j in range(targets.shape[1]):
            for answer in (1,) if labels.one_of_classes else (0, 1):
                found.setdefault((j, answer), []).append(right[targets[:, j] == answer, j].mean())
    for values in found.values():
        error = np.std(values) / np.sqrt(len(values))
        assert coverage - 3 * error <= np.mean(values) <= coverage + 1 / 40 + 3 * error


def test_a_calibration_changes_no_set() -> None:
    targets, raw = draw(np.random.default_rng(1), BINARY, 200)
    patients = [str(i) for i in range(200)]
    before = fit_sets(targets, raw, BINARY, patients, coverage=0.9, split="val").answers(raw, BINARY)
    mapped = 0.3 * (raw + 1.7)
    after = fit_sets(targets, mapped, BINARY, patients, coverage=0.9, split="val").answers(mapped, BINARY)
    assert (before == after).all()


def test_too_few_cases_of_an_answer_leave_it_in_every_set_and_say_so() -> None:
    assert needed_patients(0.9) == 9 and needed_patients(0.8) == 4 and needed_patients(0.95) == 19
    targets = np.array([[1.0]] * 8 + [[0.0]] * 9)
    raw = np.linspace(2, -2, 17)[:, None]
    sets = fit_sets(targets, raw, BINARY, [str(i) for i in range(17)], coverage=0.9, split="val")
    assert sets.labels["tear"].positive_from is None and sets.labels["tear"].negative_to == raw[8, 0]
    assert sets.answers(np.array([[-1e9]]), BINARY)[0, 0].tolist() == [True, True]
    (line,) = too_few(sets, BINARY)
    assert (
        line == "tear: 8 patients with 1 are too few for a coverage of 0.9 (9 are needed): that answer is in every set"
    )


def test_cases_of_one_patient_count_once_by_the_least_fitting() -> None:
    targets, raw = draw(np.random.default_rng(2), BINARY, 60)
    twice = np.repeat(raw, 2, axis=0) + np.tile([[0.0], [0.5]], (60, 1))
    patients = [str(i // 2) for i in range(120)]
    sets = fit_sets(np.repeat(targets, 2, axis=0), twice, BINARY, patients, coverage=0.8, split="val")
    own = fit_sets(targets, raw, BINARY, patients[::2], coverage=0.8, split="val").labels["tear"]
    found = sets.labels["tear"]
    assert (found.n_positive, found.n_negative) == (own.n_positive, own.n_negative)
    assert found.positive_from == own.positive_from
    assert found.negative_to == pytest.approx(own.negative_to + 0.5)


def test_what_is_not_the_only_answer_is_not_answered() -> None:
    names = ("mass", "fluid")
    allowed = np.array([[True, False], [True, True]])
    assert conformal.set_cells(allowed, names, one_of_classes=False) == {"set.mass": "{0}", "set.fluid": "{0, 1}"}
    assert conformal.unanswered(allowed, np.array([0, 1]), names, one_of_classes=False) == ("fluid",)
    assert conformal.unanswered(allowed, np.array([1, 1]), names, one_of_classes=False) == names
    classes = ("grade=a", "grade=b", "grade=c")
    one, none, two = (np.array([[not x, x] for x in row]) for row in ([0, 1, 0], [0, 0, 0], [1, 1, 0]))
    decided = np.array([0, 1, 0])
    assert conformal.unanswered(one.astype(bool), decided, classes, one_of_classes=True) == ()
    for open_ in (none, two):
        assert conformal.unanswered(open_.astype(bool), decided, classes, one_of_classes=True) == classes
    assert conformal.set_cells(one.astype(bool), classes, one_of_classes=True)["set.grade=b"] == "1"


def test_settings_that_mean_nothing_are_refused() -> None:
    targets, raw = draw(np.random.default_rng(3), BINARY, 40)
    patients = [str(i) for i in range(40)]
    with pytest.raises(UsageError, match=r"expected 0\.5 to 0\.999, got 90"):
        fit_sets(targets, raw, BINARY, patients, coverage=90, split="val")
    sets = fit_sets(targets, raw, BINARY, patients, coverage=0.9, split="val")
    with pytest.raises(UsageError, match="expected mass, fluid, got tear"):
        sets.check_fits(SEVERAL)
    assert replace(sets, coverage=0.8).answers(raw, BINARY).shape == (40, 1, 2)
    assert outputs.NOT_ANSWERED == "not answered"
