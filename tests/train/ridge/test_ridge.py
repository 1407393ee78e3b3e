"""Closed-form linear classifiers against scikit-learn's, and against fitting again without each patient."""

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score

from anymc3d.settings.config import LabelSettings
from anymc3d.train.ridge.learner import RidgeLearner, cross_entropy
from anymc3d.train.ridge.maps import as_scores, grade_logits
from anymc3d.train.ridge.scale import CLIP, measure_scale
from anymc3d.train.ridge.solve import left_out, several, spectrum

BINARY = LabelSettings(columns=("y",), kind="binary", classes=("0", "1"))
CLASSES = LabelSettings(columns=("y",), kind="multiclass", classes=("a", "b", "c"))
GRADES = LabelSettings(columns=("y",), kind="ordinal", classes=("low", "mid", "high"))
SEVERAL = LabelSettings(columns=("y", "z"), kind="multilabel")


def drawn(n=80, width=12, seed=0):
    rng = np.random.default_rng(seed)
    numbers = rng.normal(3, 2, (n, width)).astype(np.float32)
    return numbers, numbers[:, 0] - numbers[:, 1] + rng.normal(0, 1, n)


def names(n):
    return [f"p{i}" for i in range(n)]


@pytest.mark.parametrize("width", [5, 200])
def test_the_scores_are_those_of_a_ridge_regression(width):
    numbers, score = drawn(width=width)
    targets = (score > 0).astype(float)[:, None]
    learner = RidgeLearner(numbers, targets, BINARY, names(80), penalties=(3.0,))
    train, ask = np.arange(60), np.arange(60, 80)
    fit = learner._fit(train)
    standard = (numbers - numbers[train].mean(axis=0)) / numbers[train].std(axis=0) / np.sqrt(width)
    other = Ridge(alpha=3.0).fit(standard[train], 2 * targets[train, 0] - 1)
    np.testing.assert_allclose(fit.slopes[:, 0], other.coef_, atol=1e-5)
    (logits,) = learner.path(train, ask)
    np.testing.assert_allclose(
        np.argsort(logits[:, 1] - logits[:, 0]), np.argsort(other.predict(standard[ask])), err_msg="Platt's map rises"
    )


@pytest.mark.parametrize("rows_a_patient", [1, 3])
def test_held_out_scores_are_those_of_fits_without_each_patient(rows_a_patient):
    """But for the mean of the targets, which stays that of all."""
    numbers, score = drawn(n=30, width=40)
    targets = np.stack([np.where(score > 0, 1.0, -1.0), score], axis=1)
    patients = np.array([str(i // rows_a_patient) for i in range(30)])
    rows = (numbers - numbers.mean(axis=0)) / np.sqrt(40)
    vectors, values = spectrum(rows)
    shrunk = values / (values + 2.0)
    mean = targets.mean(axis=0)
    residuals = targets - mean - vectors @ (shrunk[:, None] * (vectors.T @ (targets - mean)))
    found = left_out(vectors, shrunk, residuals, targets, several(patients))
    for patient in set(patients):
        out = patients == patient
        other = Ridge(alpha=2.0).fit(rows[~out], targets[~out])
        expected = other.predict(rows[out]) - targets[~out].mean(axis=0) + mean
        np.testing.assert_allclose(found[out], expected, atol=1e-6)


def test_a_label_that_a_case_lacks_takes_nothing_from_its_other_labels():
    numbers, score = drawn()
    full = np.stack([score > 0, numbers[:, 2] > 3], axis=1).astype(float)
    gaps = full.copy()
    lacking, everybody = np.arange(0, 80, 5), np.arange(80)
    gaps[lacking, 1] = np.nan
    with_gaps, without = (RidgeLearner(numbers, t, SEVERAL, names(80), penalties=(1.0,)) for t in (gaps, full))
    found = with_gaps.held_out(everybody)
    np.testing.assert_allclose(found[:, 0], without.held_out(everybody)[:, 0], rtol=1e-9)
    np.testing.assert_allclose(found[lacking, 1], with_gaps.path(everybody, lacking)[0][:, 1], rtol=1e-4)


def test_numbers_that_know_nothing_are_not_held_out_against_their_own_target():
    """Leaving one out lowers the mean for a positive case: pooled held-out scores of noise would rank the wrong way."""
    aurocs = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        targets = (np.arange(30) % 2)[:, None].astype(float)
        learner = RidgeLearner(rng.normal(size=(30, 20)), targets, BINARY, names(30), penalties=(100.0,))
        logits = learner._fit(np.arange(30)).held_out
        aurocs.append(roc_auc_score(targets, logits))
    assert abs(np.mean(aurocs) - 0.5) < 0.06
    assert min(aurocs) > 0.1


def test_a_score_of_the_wrong_sign_by_chance_does_not_turn_the_classifier_over():
    for seed in range(10):
        rng = np.random.default_rng(seed)
        targets = (np.arange(24) % 2)[:, None].astype(float)
        learner = RidgeLearner(rng.normal(size=(24, 10)), targets, BINARY, names(24), penalties=(1.0,))
        fit = learner._fit(np.arange(24))
        assert fit.map.weight[1, 0] >= 0


@pytest.mark.parametrize("labels", [BINARY, CLASSES, GRADES, SEVERAL], ids=lambda one: one.kind)
def test_a_head_in_raw_units_gives_the_logits_of_the_path(labels):
    numbers, score = drawn(n=120)
    levels = np.digitize(score, np.quantile(score, (1 / 3, 2 / 3))).astype(float)
    targets = {
        "binary": (score > 0).astype(float)[:, None],
        "multiclass": levels[:, None],
        "ordinal": levels[:, None],
        "multilabel": np.stack([score > 0, numbers[:, 2] > 3], axis=1).astype(float),
    }[labels.kind]
    if labels.kind == "multilabel":
        targets[::5, 1] = np.nan
    learner = RidgeLearner(numbers, targets, labels, names(120))
    train, ask = np.arange(90), np.arange(90, 120)
    (logits,) = learner.path(train, ask)
    head = learner.head(train)
    weight, bias = head.raw()
    expected = numbers[ask].astype(float) @ weight.T + bias
    expected = expected if head.cuts is None else grade_logits(expected[:, 0], head.cuts)
    np.testing.assert_allclose(logits, expected, atol=1e-3)
    assert np.isfinite(learner.held_out(train)[~np.isnan(targets[train]).any(axis=1)]).all()


def test_logits_are_probabilities_and_rank_as_a_logistic_regression():
    numbers, score = drawn(n=400, width=30)
    targets = (score > 1.5).astype(float)[:, None]
    train, ask = np.arange(300), np.arange(300, 400)
    (logits,) = RidgeLearner(numbers, targets, BINARY, names(400)).path(train, ask)
    own = logits[:, 1] - logits[:, 0]
    other = LogisticRegression(max_iter=1000).fit(numbers[train], targets[train, 0])
    assert roc_auc_score(targets[ask], own) > roc_auc_score(targets[ask], other.decision_function(numbers[ask])) - 0.01
    assert expit(own).mean() == pytest.approx(targets[ask].mean(), abs=0.08)


def test_five_classes_of_a_few_numbers_are_not_masked_by_each_other():
    """Least squares alone would never choose a class between two others on a line; the map of its scores does."""
    rng = np.random.default_rng(0)
    classes = LabelSettings(columns=("y",), kind="multiclass", classes=tuple("abcde"))
    angle = rng.integers(0, 5, 400)
    numbers = np.stack([np.cos(angle * 1.2566), np.sin(angle * 1.2566)], axis=1) + rng.normal(0, 0.2, (400, 2))
    learner = RidgeLearner(numbers, angle[:, None].astype(float), classes, names(400))
    (logits,) = learner.path(np.arange(300), np.arange(300, 400))
    assert (logits.argmax(axis=1) == angle[300:]).mean() > 0.95
    assert softmax(logits, axis=1).max(axis=1).mean() > 0.8


def test_measures_that_are_missing_stand_at_the_middle_and_outliers_are_cut_off():
    numbers = np.array([[1.0, np.nan], [2.0, 5.0], [3.0, 7.0], [4.0, 9.0], [1e9, 6.0]])
    scale = measure_scale(numbers, "robust")
    rows = scale.standardised(numbers) * np.sqrt(2)
    assert rows[0, 1] == 0 and rows[4, 0] == CLIP and scale.center[0] == 3
    flags = np.array([[0.0]] * 9 + [[1.0]])
    flag = measure_scale(flags, "robust")
    assert flag.spread[0] == pytest.approx(flags.std()), "quartiles do not see a rare flag"
    common = measure_scale(np.array([[1.0, 10.0], [3.0, 10.0]]), "common")
    assert common.spread.shape == (1,) and common.count == 1


def test_a_strong_and_a_weak_signal_choose_other_penalties():
    rng = np.random.default_rng(0)
    targets = (np.arange(60) % 2)[:, None].astype(float)
    shared = rng.normal(0, 1, (60, 1))
    strong = np.concatenate([shared + 0.05 * targets, shared - 0.05 * targets], axis=1)  # in a small difference
    noise = rng.normal(size=(60, 300))
    every = np.arange(60)
    assert RidgeLearner(strong, targets, BINARY, names(60)).penalty(every) < 1
    assert RidgeLearner(noise, targets, BINARY, names(60)).penalty(every) >= 1


def test_cross_entropy_by_hand():
    logits = np.array([[0.0, np.log(3.0)], [0.0, 0.0]])
    targets = np.array([[1.0], [0.0]])
    assert cross_entropy(logits, targets, BINARY) == pytest.approx(-(np.log(0.75) + np.log(0.5)) / 2)
    many = cross_entropy(np.array([[np.log(3.0), 1.0]]), np.array([[1.0, np.nan]]), SEVERAL)
    assert many == pytest.approx(-np.log(0.75))
    assert as_scores(np.array([[2.0]]), GRADES)[0, 0] == 1
