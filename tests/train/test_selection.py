"""The best epoch: by AUROC, by loss where AUROC is undefined."""

import numpy as np

from anymc3d.evaluate.delong import delong_paired_test
from anymc3d.settings.config import LabelSettings
from anymc3d.settings.training import TrainSettings
from anymc3d.train.losses import make_loss
from anymc3d.train.selection import beats_start, score_validation

BINARY = LabelSettings(columns=("y",), kind="binary", classes=("0", "1"))


def test_auroc_decides_where_it_is_defined():
    targets, logits = np.array([[0.0], [1.0], [1.0]]), np.array([[0.0, -1.0], [0.0, 2.0], [0.0, -2.0]])
    score = score_validation(targets, logits, BINARY, loss=0.3)
    assert (score.value, score.auroc, score.rule) == (0.5, 0.5, "auroc")


def test_one_outcome_alone_is_scored_by_loss_and_says_so_never_as_0_or_1():
    score = score_validation(np.ones((3, 1)), np.zeros((3, 2)), BINARY, loss=0.3)
    assert (score.value, score.auroc) == (-0.3, None)
    assert score.rule.startswith("loss: undefined")


def test_missing_labels_take_no_part():
    labels = LabelSettings(columns=("a", "b"), kind="multilabel")
    targets = np.array([[0.0, np.nan], [1.0, np.nan], [np.nan, np.nan]])
    score = score_validation(targets, np.array([[0.0, 1.0], [1.0, 2.0], [-9.0, 3.0]]), labels, loss=0.3)
    assert score.auroc == 1.0


def beats(later, start, targets, labels=BINARY, patients=None):
    loss = make_loss(TrainSettings(loss="cross-entropy"), labels, targets)
    return beats_start(later, start, targets, patients, labels, loss)


def two_logits(scores):
    return np.stack([np.zeros(len(scores)), scores], axis=1)


def noisy(num_cases=100, noise=2.0, seed=0):
    rng = np.random.default_rng(seed)
    targets = (np.arange(num_cases) % 4 == 0).astype(float)
    return targets[:, None], two_logits(targets + rng.normal(0, noise, num_cases)), rng


def test_the_same_answers_do_not_beat_the_start():
    targets, start, _ = noisy()
    assert not beats(start.copy(), start, targets)
    assert not beats(3 * start + 1, start, targets), "another scale ranks the cases alike"


def test_of_equal_aurocs_a_lower_loss_beats_the_start_beyond_its_noise():
    """As on few cases that both rank perfectly."""
    targets = (np.arange(12) % 2).astype(float)[:, None]
    start = two_logits(np.where(targets[:, 0] == 1, 0.5, -0.5) + np.linspace(0, 0.2, 12))
    assert beats(4 * start, start, targets)
    assert not beats(start, 4 * start, targets)
    assert not beats(start + 0.0, start, targets)


def test_a_better_auroc_within_noise_does_not_beat_the_start_and_one_beyond_it_does():
    """The bound is half DeLong's standard error: the same gain counts with more cases."""
    targets, start, rng = noisy()
    swapped = start.copy()
    positive, negative = int(np.flatnonzero(targets[:, 0])[0]), int(np.argmax(np.where(targets[:, 0], -9, start[:, 1])))
    swapped[[positive, negative]] = start[[negative, positive]]
    test = delong_paired_test(targets[:, 0], swapped[:, 1], start[:, 1])
    error = (test.interval.high - test.interval.low) / 2 / 1.959964
    assert test.difference > 0
    assert beats(swapped, start, targets) == (test.difference > error / 2)
    assert beats(two_logits(targets[:, 0] + rng.normal(0, 0.3, 100)), start, targets)
    assert not beats(start, two_logits(targets[:, 0] + rng.normal(0, 0.3, 100)), targets)


def test_scans_of_one_patient_count_together():
    """What sixteen scans of one patient gain is one gain."""
    targets, start, _ = noisy(64, noise=1.0)
    later, own = start.copy(), np.flatnonzero(targets[:, 0])
    later[own, 1] += np.linspace(-0.4, 0.6, len(own))
    patients = [f"p{i}" for i in range(64)]
    for i in own[8:]:
        patients[i] = "same"
    assert beats(later, start, targets)
    assert not beats(later, start, targets, patients=patients)


def test_where_auroc_is_undefined_the_loss_decides_beyond_its_own_noise():
    targets = np.ones((20, 1))
    start = two_logits(np.linspace(0, 1, 20))
    assert beats(two_logits(np.linspace(0.5, 1.5, 20)), start, targets)
    assert not beats(start, start, targets)
    mixed = np.linspace(0, 1, 20) + np.where(np.arange(20) % 2, 1.0, -0.99)
    assert not beats(two_logits(mixed), start, targets)


def test_several_labels_and_classes_are_compared_by_their_mean():
    rng = np.random.default_rng(0)
    several = LabelSettings(columns=("a", "b"), kind="multilabel")
    targets = rng.integers(0, 2, (80, 2)).astype(float)
    targets[::5, 1] = np.nan
    start = targets * 0.5 + rng.normal(0, 1, (80, 2))
    start[np.isnan(start)] = 0
    better = np.nan_to_num(targets) + rng.normal(0, 0.3, (80, 2))
    assert beats(better, start, targets, several)
    assert not beats(start, better, targets, several)
    classes = LabelSettings(columns=("y",), kind="multiclass", classes=("a", "b", "c"))
    true = (np.arange(60) % 3).astype(float)[:, None]
    sharp = 2 * (true == np.arange(3)) + rng.normal(0, 0.5, (60, 3))
    assert beats(sharp, rng.normal(0, 1, (60, 3)), true, classes)
