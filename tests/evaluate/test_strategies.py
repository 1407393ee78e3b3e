"""The paper's calibration strategies: fitted on validation, scored on test, AUROC never moves."""

import numpy as np
import pytest
from scipy import special
from sklearn.metrics import f1_score, roc_auc_score

from anymc3d.errors import UsageError
from anymc3d.evaluate.strategies import METRICS, STRATEGIES, compare_strategies
from anymc3d.evaluate.strategy_picture import draw_strategies
from anymc3d.settings.config import LabelSettings

LABELS = LabelSettings(columns=("a", "b", "c"), kind="multilabel")


def cases(seed, n=300):
    rng = np.random.default_rng(seed)
    raw = rng.normal(-4, 3, (n, 3))
    targets = (rng.random(raw.shape) < special.expit(raw + np.array([1.0, 2.0, 3.0]))).astype(float)
    targets[rng.random(raw.shape) < 0.05] = np.nan
    return targets, raw


@pytest.fixture(scope="module")
def scores():
    patients = [f"p{i // 2}" for i in range(300)]
    found = compare_strategies(LABELS, cases(0), cases(1), patients, num_resamples=100)
    return {(score.strategy, score.metric): score for score in found}


def test_every_strategy_has_every_metric_with_an_interval(scores):
    assert set(scores) == {(name, metric) for name in STRATEGIES for metric in METRICS}
    for score in scores.values():
        assert score.interval.low < score.value < score.interval.high
        assert (score.n, score.fitted_on) == (300, 300)


def test_auroc_is_the_same_to_the_last_digit_and_equals_scikit_learn(scores):
    targets, raw = cases(1)
    expected = np.mean([roc_auc_score(targets[k, j], raw[k, j]) for j, k in enumerate((~np.isnan(targets)).T)])
    values = {scores[(name, "auroc")].value for name in STRATEGIES}
    assert len(values) == 1
    assert values.pop() == pytest.approx(expected, abs=1e-12)
    assert len({scores[(name, "auroc")].interval for name in STRATEGIES}) == 1


def test_uncalibrated_f1_and_pooled_crg_are_those_of_the_raw_half(scores):
    targets, raw = cases(1)
    known = ~np.isnan(targets)
    expected = np.mean([f1_score(targets[k, j], raw[k, j] >= 0) for j, k in enumerate(known.T)])
    assert scores[("none", "f1")].value == pytest.approx(expected, abs=1e-12)
    truth, called = targets[known] == 1, (raw >= 0)[known]
    x, a = truth.size, truth.sum()
    r, u = (x - a) / (2 * a), (x - a) / 2
    s = r * (truth & called).sum() - r * (truth & ~called).sum() - (~truth & called).sum()
    assert scores[("none", "crg")].value == pytest.approx(u / (2 * u - s), abs=1e-12)


def test_calibrating_for_a_score_raises_it_and_the_average_is_the_mean(scores):
    assert scores[("F1", "f1")].value > scores[("none", "f1")].value + 0.02
    assert scores[("CRG", "crg")].value > scores[("none", "crg")].value + 0.02
    for name in STRATEGIES:
        parts = [scores[(name, metric)].value for metric in METRICS[:3]]
        assert scores[(name, "average")].value == pytest.approx(np.mean(parts), abs=1e-12)


def test_B16_test_labels_choose_no_operating_point(scores):
    targets, raw = cases(1)
    flipped = compare_strategies(LABELS, cases(0), (1 - targets, raw), [str(i) for i in range(300)], num_resamples=100)
    aurocs = [score.value for score in flipped if score.metric == "auroc"]
    assert aurocs[1] == pytest.approx(1 - scores[("F1", "auroc")].value, abs=1e-12)
    assert next(s for s in flipped if s.metric == "f1" and s.strategy == "F1").value < 0.5


def test_several_classes_and_a_one_outcome_test_set_are_refused():
    targets, raw = cases(0)
    with pytest.raises(UsageError, match="largest probability"):
        multiclass = LabelSettings(columns=("k",), kind="multiclass", classes=("x", "y", "z"))
        compare_strategies(multiclass, (targets, raw), (targets, raw), [])
    with pytest.raises(UsageError, match="no label has both outcomes among the test cases"):
        compare_strategies(LABELS, (targets, raw), (np.zeros_like(targets), raw), [str(i) for i in range(300)])


def test_the_picture_is_written_and_equal_scores_are_equal_pictures(scores, tmp_path):
    for name in ("a.png", "b.png"):
        draw_strategies(tmp_path / name, list(scores.values()), title="demo: fitted on 300, scored on 300")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
