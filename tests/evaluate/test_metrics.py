"""Metrics against scikit-learn, hand-made examples and properties."""

import math
import warnings

import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import given
from hypothesis import strategies as st

from anymc3d.errors import UsageError
from anymc3d.evaluate import metrics

SEEDS = range(25)
EXACT = 1e-12


def random_cases(seed: int, *, with_weights: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Targets with both outcomes, scores with many ties, weights of which some are 0."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(4, 200))
    targets = rng.random(n) < rng.uniform(0.1, 0.9)
    targets[:2] = [True, False]
    scores = np.round(rng.normal(size=n) + targets, int(rng.integers(0, 3)))
    weights = rng.integers(0, 4, n).astype(float) if with_weights else np.ones(n)
    weights[:2] = 1
    return targets.astype(float), scores, weights


@pytest.mark.parametrize("with_weights", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_H12_ranking_metrics_equal_scikit_learn(seed, with_weights):
    targets, scores, weights = random_cases(seed, with_weights=with_weights)
    expected = sk.roc_auc_score(targets, scores, sample_weight=weights)
    assert metrics.auroc(targets, scores, weights).value == pytest.approx(expected, abs=EXACT)
    expected = sk.average_precision_score(targets, scores, sample_weight=weights)
    assert metrics.compute("average_precision", targets, scores, weights).value == pytest.approx(expected, abs=EXACT)


@pytest.mark.parametrize("with_weights", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_H12_decision_metrics_equal_scikit_learn(seed, with_weights):
    targets, scores, weights = random_cases(seed, with_weights=with_weights)
    decisions = (scores >= np.median(scores)).astype(float)
    decisions[0] = 1 - decisions[1]  # both decisions occur
    theirs = {
        "accuracy": sk.accuracy_score(targets, decisions, sample_weight=weights),
        "balanced_accuracy": sk.balanced_accuracy_score(targets, decisions, sample_weight=weights),
        "sensitivity": sk.recall_score(targets, decisions, sample_weight=weights),
        "specificity": sk.recall_score(targets, decisions, pos_label=0, sample_weight=weights),
        "ppv": sk.precision_score(targets, decisions, sample_weight=weights),
        "npv": sk.precision_score(targets, decisions, pos_label=0, sample_weight=weights),
        "f1": sk.f1_score(targets, decisions, sample_weight=weights),
    }
    ours = {name: metrics.compute(name, targets, decisions, weights).value for name in theirs}
    assert ours == pytest.approx(theirs, abs=EXACT)


@pytest.mark.parametrize("seed", SEEDS)
def test_H12_brier_and_calibration_error_equal_scikit_learn(seed):
    from sklearn.calibration import calibration_curve

    targets, scores, weights = random_cases(seed, with_weights=True)
    probabilities = np.round(1 / (1 + np.exp(-scores)), 2)
    expected = sk.brier_score_loss(targets, probabilities, sample_weight=weights)
    assert metrics.compute("brier", targets, probabilities, weights).value == pytest.approx(expected, abs=EXACT)

    observed, predicted = calibration_curve(targets, probabilities, n_bins=15)
    edges = np.linspace(0, 1, 16)
    sizes = np.bincount(np.searchsorted(edges[1:-1], probabilities), minlength=15)
    expected = np.sum(np.abs(observed - predicted) * sizes[sizes > 0]) / targets.size
    assert metrics.compute("expected_calibration_error", targets, probabilities).value == pytest.approx(
        expected, abs=EXACT
    )


def test_H12_hand_made_example_with_ties():
    targets, scores = [0, 0, 1, 1], [0.1, 0.4, 0.4, 0.8]
    assert metrics.auroc(targets, scores).value == (1 + 0.5 + 1 + 1) / 4
    # threshold .8: precision 1, recall 1/2; threshold .4: precision 2/3, recall 1
    assert metrics.compute("average_precision", targets, scores).value == pytest.approx(
        0.5 * 1 + 0.5 * 2 / 3, abs=EXACT
    )
    assert metrics.compute("brier", [0, 1], [0.2, 0.7]).value == pytest.approx((0.04 + 0.09) / 2, abs=EXACT)
    # 0.05 and 0.06 share the first of 15 bins, 0.9 is alone
    error = metrics.compute("expected_calibration_error", [0, 1, 1], [0.05, 0.06, 0.9]).value
    assert error == pytest.approx((abs(0.11 - 1) + 0.1) / 3, abs=EXACT)


UNDEFINED = [
    ("auroc", [1, 1], [0.2, 0.3], "both outcomes"),
    ("auroc", [0], [0.2], "1 case, 0 of them positive"),
    ("average_precision", [0, 0], [0.2, 0.3], "both outcomes"),
    ("balanced_accuracy", [1], [1], "both outcomes"),
    ("sensitivity", [0, 0], [0, 1], "no positive"),
    ("f1", [0, 0], [0, 1], "no positive"),
    ("crg", [0, 0], [0, 1], "no positive"),
    ("specificity", [1, 1], [0, 1], "no negative"),
    ("ppv", [1, 0], [0, 0], "called positive"),
    ("npv", [1, 0], [1, 1], "called negative"),
    ("accuracy", [], [], "no case"),
    ("brier", [], [], "no case"),
    ("expected_calibration_error", [], [], "no case"),
]


@pytest.mark.parametrize(("name", "targets", "values", "reason"), UNDEFINED)
def test_B14_an_undefined_metric_has_a_reason_and_no_value(name, targets, values, reason):
    metric = metrics.compute(name, targets, values)
    assert metric.value is None
    assert reason in metric.reason


def test_H12_one_case_has_the_metrics_that_need_only_one():
    assert metrics.compute("accuracy", [1], [1]).value == 1.0
    assert metrics.compute("sensitivity", [1], [0]).value == 0.0
    assert metrics.compute("brier", [1], [0.25]).value == 0.5625


def test_weights_of_zero_leave_cases_out():
    assert metrics.auroc([0, 1, 1], [0.1, 0.2, 0.0], [1, 1, 0]).value == 1.0
    assert metrics.auroc([0, 1], [0.1, 0.2], [1, 0]).value is None


class TestCrg:
    """docs/metrics.md."""

    def test_perfect_is_one(self):
        assert metrics.crg([1, 0, 0, 0], [1, 0, 0, 0]).value == 1.0

    @pytest.mark.parametrize("decision", [0, 1])
    def test_calling_all_cells_alike_gives_one_third(self, decision):
        targets = [1] * 7 + [0] * 90
        assert metrics.crg(targets, [decision] * 97).value == pytest.approx(1 / 3, abs=EXACT)

    @pytest.mark.parametrize("seed", SEEDS)
    def test_equals_the_published_formula(self, seed):
        targets, scores, _ = random_cases(seed, with_weights=False)
        decisions = (scores > 0.5).astype(float)
        tp, fp = np.sum(targets * decisions), np.sum((1 - targets) * decisions)
        fn = np.sum(targets * (1 - decisions))
        x, a = targets.size, targets.sum()
        r, u = (x - a) / (2 * a), (x - a) / 2
        s = r * tp - r * fn - fp
        assert metrics.crg(targets, decisions).value == pytest.approx(u / (2 * u - s), abs=EXACT)

    def test_all_cells_positive_is_zero_with_a_note(self):
        metric = metrics.crg([1, 1], [1, 0])
        assert metric.value == 0.0
        assert "official rule" in metric.reason


cases = st.lists(st.tuples(st.booleans(), st.integers(-20, 20)), min_size=2, max_size=40)


@given(cases)
def test_H11_auroc_keeps_under_monotone_transforms_and_mirrors_under_label_swap(rows):
    targets = np.array([target for target, _ in rows], dtype=float)
    scores = np.array([score for _, score in rows], dtype=float)
    value = metrics.auroc(targets, scores).value
    if value is None:
        assert targets.min() == targets.max()
        return
    assert metrics.auroc(targets, np.exp(scores / 5) * 3 - 7).value == value
    assert metrics.auroc(1 - targets, -scores).value == pytest.approx(value, abs=EXACT)
    assert metrics.auroc(1 - targets, scores).value == pytest.approx(1 - value, abs=EXACT)


@given(cases, st.randoms(use_true_random=False))
def test_metrics_do_not_depend_on_the_order_of_cases(rows, random):
    shuffled = list(rows)
    random.shuffle(shuffled)

    def values(table):
        targets, scores = np.array([t for t, _ in table], float), np.array([s for _, s in table], float)
        return [metrics.auroc(targets, scores), metrics.compute("f1", targets, (scores > 0).astype(float))]

    assert values(rows) == values(shuffled)


class TestSeveralLabels:
    def test_one_vs_rest_ranks_as_the_softmax_probability(self):
        rng = np.random.default_rng(0)
        logits, targets = rng.normal(size=(80, 3)), rng.integers(0, 3, 80)
        probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        log_odds = metrics.one_vs_rest(logits)
        np.testing.assert_allclose(1 / (1 + np.exp(-log_odds)), probabilities, atol=EXACT)
        ours = metrics.macro_auroc(np.eye(3)[targets], log_odds, ["a", "b", "c"])
        expected = sk.roc_auc_score(targets, probabilities, multi_class="ovr", average="macro")
        assert ours.value == pytest.approx(expected, abs=EXACT)

    def test_one_vs_rest_is_unchanged_by_a_constant_per_case(self):
        logits = np.random.default_rng(1).normal(size=(5, 4))
        shifted = logits + np.arange(5)[:, None] * 100
        np.testing.assert_allclose(metrics.one_vs_rest(shifted), metrics.one_vs_rest(logits), atol=1e-11)

    def test_one_vs_rest_does_not_saturate(self):
        log_odds = metrics.one_vs_rest([[900.0, 0.0], [1000.0, 0.0]])
        assert log_odds[1, 0] > log_odds[0, 0]

    def test_macro_leaves_out_and_names_undefined_labels(self):
        targets = np.array([[1, 0, np.nan], [0, 0, 1], [1, 0, 0]])
        scores = np.array([[2, 1, 9], [1, 2, 1], [3, 3, 0]], dtype=float)
        metric = metrics.macro_auroc(targets, scores, ["mass", "stone", "gas"])
        assert metric.value == 1.0
        assert metric.reason == "mean of 2 of 3 labels; undefined for stone"

    def test_macro_of_nothing_is_undefined(self):
        assert metrics.macro({"a": metrics.Metric(None, "no case")}).value is None
        assert metrics.macro({}).value is None

    @pytest.mark.parametrize("seed", SEEDS[:5])
    def test_permuting_classes_permutes_values(self, seed):
        rng = np.random.default_rng(seed)
        logits, targets, order = rng.normal(size=(30, 4)), rng.integers(0, 4, 30), rng.permutation(4)
        one_hot = np.eye(4)[targets]
        before = [metrics.auroc(one_hot[:, k], metrics.one_vs_rest(logits)[:, k]).value for k in order]
        swapped = metrics.one_vs_rest(logits[:, order])
        after = [metrics.auroc(one_hot[:, order][:, k], swapped[:, k]).value for k in range(4)]
        assert after == before


class TestRefusals:
    def test_other_targets(self):
        with pytest.raises(UsageError, match=r"targets of 0 and 1 only, got 2\.0"):
            metrics.auroc([0, 2], [1, 2])

    def test_scores_that_are_not_finite(self):
        with pytest.raises(UsageError, match="finite scores, got 1 of 2"):
            metrics.auroc([0, 1], [1, math.nan])

    def test_lengths_that_differ(self):
        with pytest.raises(UsageError, match=r"shapes \(2,\) and \(3,\)"):
            metrics.auroc([0, 1], [1, 2, 3])

    def test_probabilities_outside_0_and_1(self):
        with pytest.raises(UsageError, match=r"probabilities from 0 to 1, got -0\.5 to 0\.2"):
            metrics.compute("brier", [0, 1], [-0.5, 0.2])

    def test_decisions_that_are_scores(self):
        with pytest.raises(UsageError, match=r"decisions of 0 and 1 only, got 0\.3"):
            metrics.compute("f1", [0, 1], [0.3, 1])

    def test_negative_weights(self):
        with pytest.raises(UsageError, match="weights of 0 or more"):
            metrics.auroc([0, 1], [0.3, 1], [1, -1])

    def test_macro_shapes(self):
        with pytest.raises(UsageError, match=r"shape \(n, 2\)"):
            metrics.macro_auroc([[0, 1, 1]], [[0, 1, 1]], ["a", "b"])

    def test_no_warning_is_given_for_undefined_metrics(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            metrics.compute("ppv", [0, 0], [0, 0])
            metrics.auroc([0, 0], [0, 0])
