"""Confident learning: planted wrong labels come first, and their number is estimated."""

from __future__ import annotations

import numpy as np
import pytest

from anymc3d.evaluate.label_noise import LEAST, doubts


def planted(classes: int, share: float, *, strength: float = 4.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels with a share exchanged, out-of-fold probabilities of the truth, and which labels are wrong."""
    rng = np.random.default_rng(0)
    truth = rng.choice(classes, size=1000, p=np.arange(1, classes + 1) / np.arange(1, classes + 1).sum())
    logits = rng.normal(size=(1000, classes)) + strength * np.eye(classes)[truth]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    wrong = rng.random(1000) < share
    given = np.where(wrong, (truth + 1) % classes, truth)
    return given, probabilities, wrong


@pytest.mark.parametrize("classes", [2, 4])
def test_planted_wrong_labels_come_first_and_are_counted(classes) -> None:
    given, probabilities, wrong = planted(classes, 0.05)
    found = doubts(given, probabilities)
    first = found.cases[: wrong.sum()]
    assert wrong[first].mean() > 0.9 and wrong[found.cases].sum() > 0.75 * wrong.sum()
    assert found.noise == pytest.approx(wrong.mean(), abs=0.02)
    assert (np.diff(found.lead) <= 0).all() and (found.answers != given[found.cases]).all()


def test_without_wrong_labels_hardly_any_is_doubted() -> None:
    given, probabilities, _ = planted(3, 0.0, strength=6.0)
    found = doubts(given, probabilities)
    assert len(found.cases) < 10 and found.noise < 0.01


def test_neither_the_order_of_the_cases_nor_a_shift_of_all_answers_matters() -> None:
    """Thresholds are means of the class, so a classifier that leans to one class is no accusation of the other."""
    given, probabilities, _ = planted(2, 0.05)
    order = np.random.default_rng(1).permutation(len(given))
    assert set(order[doubts(given[order], probabilities[order]).cases]) == set(doubts(given, probabilities).cases)
    logits = np.log(probabilities[:, 1] / probabilities[:, 0]) - 2
    leaning = 1 / (1 + np.exp(-np.stack([-logits, logits], axis=1)))
    assert doubts(given, leaning).noise == pytest.approx(doubts(given, probabilities).noise, abs=0.03)


def test_of_a_class_with_too_few_cases_nothing_is_said() -> None:
    given = np.array([0] * 20 + [1] * (LEAST - 1))
    assert (
        doubts(given, np.full((len(given), 2), 0.5))
        == f"a class has 4 labelled cases, at least {LEAST} are needed to know a confident answer"
    )
