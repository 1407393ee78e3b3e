"""Wilson, bootstrap by patient and Holm: against definitions, by properties and by simulated coverage."""

import numpy as np
import pytest
from scipy import stats

from anymc3d.errors import UsageError
from anymc3d.evaluate import intervals, weighted


@pytest.mark.parametrize(("successes", "total"), [(0, 5), (5, 5), (1, 1), (17, 40), (399, 400)])
def test_H12_wilson_equals_scipy(successes, total):
    theirs = stats.binomtest(successes, total).proportion_ci(method="wilson")
    ours = intervals.wilson_interval(successes, total)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert ours.method == "wilson"


def test_wilson_of_no_case_has_a_reason():
    assert intervals.wilson_interval(0, 0).reason == "no case"
    with pytest.raises(UsageError, match="3 of 2"):
        intervals.wilson_interval(3, 2)


def all_weights(patients, strata, **options):
    return np.concatenate(list(intervals.resample_weights(patients, strata, **options)))


class TestResampling:
    patients = ["a", "a", "b", "c", "d", "d", "d", "e"]
    strata = [0, 1, 0, 0, 1, 1, 1, 0]  # a and d are positive patients; b, c, e negative

    def test_H12_rows_of_a_patient_are_drawn_together(self):
        weights = all_weights(self.patients, self.strata, num_resamples=50)
        assert (weights[:, 0] == weights[:, 1]).all()
        assert (weights[:, 4] == weights[:, 5]).all()
        assert (weights[:, 5] == weights[:, 6]).all()

    def test_each_stratum_keeps_its_number_of_patients(self):
        weights = all_weights(self.patients, self.strata, num_resamples=50)
        assert (weights[:, [0, 4]].sum(axis=1) == 2).all()
        assert (weights[:, [2, 3, 7]].sum(axis=1) == 3).all()
        assert len(np.unique(weights, axis=0)) > 5

    def test_H12_same_seed_same_resamples_whatever_the_batches(self, monkeypatch):
        at_once = all_weights(self.patients, self.strata, num_resamples=40, seed=3)
        monkeypatch.setattr(intervals, "_CELLS_AT_ONCE", 24)
        in_batches = list(intervals.resample_weights(self.patients, self.strata, num_resamples=40, seed=3))
        assert len(in_batches) > 1
        np.testing.assert_array_equal(at_once, np.concatenate(in_batches))
        other = all_weights(self.patients, self.strata, num_resamples=40, seed=4)
        assert (at_once != other).any()

    def test_every_patient_is_drawn_as_often_on_average(self):
        weights = all_weights([str(i) for i in range(10)], np.arange(10) < 4, num_resamples=4000)
        np.testing.assert_allclose(weights.mean(axis=0), 1, atol=0.07)

    def test_H12_repeating_each_row_of_a_patient_changes_nothing(self):
        rng = np.random.default_rng(0)
        targets, scores = (rng.random(40) < 0.4).astype(float), rng.normal(size=40)
        once = intervals.bootstrap(
            {"auroc": lambda w: weighted.auroc(targets, scores, w)}, [str(i) for i in range(40)], targets
        )
        targets3, scores3 = np.repeat(targets, 3), np.repeat(scores, 3)
        thrice = intervals.bootstrap(
            {"auroc": lambda w: weighted.auroc(targets3, scores3, w)},
            [str(i) for i in np.repeat(np.arange(40), 3)],
            targets3,
        )
        np.testing.assert_allclose(once["auroc"], thrice["auroc"], atol=1e-12)

    def test_refuses_no_resample_and_unequal_lengths(self):
        with pytest.raises(UsageError, match="at least 1 resample"):
            all_weights(["a"], [0], num_resamples=0)
        with pytest.raises(UsageError, match="one stratum per row"):
            all_weights(["a"], [0, 1])


class TestPercentileInterval:
    def test_is_the_central_part_of_the_values(self):
        interval = intervals.percentile_interval(np.arange(1001) / 1000)
        assert (interval.low, interval.high) == pytest.approx((0.025, 0.975))

    def test_no_interval_when_nothing_varies(self):
        interval = intervals.percentile_interval(np.ones(100))
        assert interval.low is None
        assert "same value" in interval.reason

    def test_no_interval_when_often_undefined(self):
        values = np.r_[np.full(10, np.nan), np.linspace(0, 1, 90)]
        interval = intervals.percentile_interval(values)
        assert interval.low is None
        assert "undefined in 10 of 100" in interval.reason


def test_bootstrap_interval_covers_the_truth_about_as_often_as_it_says():
    """Patients of two scans each, specificity-like share with strong correlation within a patient."""
    rng = np.random.default_rng(5)
    truth, runs, hits = 0.7, 200, 0
    patients = np.repeat([str(i) for i in range(60)], 2)
    for run in range(runs):
        right = np.repeat(rng.random(60) < truth, 2).astype(float)
        values = intervals.bootstrap(
            {"share": lambda w, right=right: weighted.ratio(w @ right, w.sum(axis=1))},
            patients,
            np.zeros(120),
            num_resamples=400,
            seed=run,
        )["share"]
        interval = intervals.percentile_interval(values)
        hits += interval.low <= truth <= interval.high
    assert 0.89 <= hits / runs <= 0.99


class TestHolm:
    def test_hand_made_example(self):
        assert intervals.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])

    def test_never_above_one_nor_below_the_plain_value(self):
        plain = [0.9, 0.5, 0.2]
        adjusted = intervals.holm(plain)
        assert max(adjusted) <= 1
        assert all(a >= p for a, p in zip(adjusted, plain, strict=True))

    def test_equals_statsmodels_definition_on_random_values(self):
        plain = np.random.default_rng(0).random(9)
        order = np.argsort(plain)
        expected = np.empty(9)
        expected[order] = np.minimum(1, np.maximum.accumulate(plain[order] * np.arange(9, 0, -1)))
        np.testing.assert_allclose(intervals.holm(list(plain)), expected, atol=1e-15)

    def test_of_nothing_is_nothing(self):
        assert intervals.holm([]) == []
