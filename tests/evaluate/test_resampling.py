"""The bootstrap by patient: resamples, and intervals that hold their own estimate and cover as often as they say."""

import numpy as np
import pytest

from anymc3d.errors import UsageError
from anymc3d.evaluate import resampling, weighted
from anymc3d.evaluate.resampling import Draws, bootstrap_interval


def all_weights(patients, strata, **options):
    return np.concatenate(list(resampling.resample_weights(patients, strata, **options)))


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
        np.testing.assert_allclose(weights[:, [2, 3, 7]].sum(axis=1), 3)
        assert len(np.unique(weights, axis=0)) > 5

    def test_H12_same_seed_same_resamples_whatever_the_batches(self, monkeypatch):
        at_once = all_weights(self.patients, self.strata, num_resamples=40, seed=3)
        monkeypatch.setattr(resampling, "_CELLS_AT_ONCE", 24)
        in_batches = list(resampling.resample_weights(self.patients, self.strata, num_resamples=40, seed=3))
        assert len(in_batches) > 1
        np.testing.assert_array_equal(at_once, np.concatenate(in_batches))
        other = all_weights(self.patients, self.strata, num_resamples=40, seed=4)
        assert (at_once != other).any()

    def test_the_names_of_patients_decide_nothing(self):
        renamed = dict(zip("abcde", ("x9", "a3", "x1", "Z", "m"), strict=True))
        mine, theirs = (
            all_weights(names, self.strata, num_resamples=50)
            for names in (self.patients, [renamed[one] for one in self.patients])
        )
        np.testing.assert_array_equal(mine, theirs)

    def test_every_patient_is_drawn_as_often_on_average(self):
        weights = all_weights([str(i) for i in range(10)], np.arange(10) < 4, num_resamples=4000)
        np.testing.assert_allclose(weights.mean(axis=0), 1, atol=0.07)

    def test_H12_repeating_each_row_of_a_patient_changes_nothing(self):
        rng = np.random.default_rng(0)
        targets, scores = (rng.random(40) < 0.4).astype(float), rng.normal(size=40)
        once = resampling.bootstrap(
            {"auroc": lambda w: weighted.auroc(targets, scores, w)}, [str(i) for i in range(40)], targets
        )
        targets3, scores3 = np.repeat(targets, 3), np.repeat(scores, 3)
        thrice = resampling.bootstrap(
            {"auroc": lambda w: weighted.auroc(targets3, scores3, w)},
            [str(i) for i in np.repeat(np.arange(40), 3)],
            targets3,
        )
        np.testing.assert_allclose(once["auroc"].values, thrice["auroc"].values, atol=1e-12)
        assert once["auroc"].freedom == pytest.approx(thrice["auroc"].freedom)

    @pytest.mark.parametrize("num_patients", [2, 5])
    def test_the_variance_of_a_mean_is_right_also_of_few(self, num_patients):
        values = np.arange(num_patients, dtype=float)
        weights = all_weights([str(i) for i in range(num_patients)], np.zeros(num_patients), num_resamples=40000)
        means = weights @ values / weights.sum(axis=1)
        assert means.var() == pytest.approx(values.var(ddof=1) / num_patients, rel=0.03)

    def test_one_stratum_alone_leaves_the_others_as_they_are(self):
        weights = all_weights(self.patients, self.strata, num_resamples=50, only=1)
        assert (weights[:, [2, 3, 7]] == 1).all()
        assert (weights[:, [0, 4]].std(axis=0) > 0).all()

    def test_a_patient_alone_in_its_stratum_always_counts_once(self):
        assert (all_weights(["a", "b", "c"], [1, 0, 0], num_resamples=20)[:, 0] == 1).all()

    def test_refuses_no_resample_and_unequal_lengths(self):
        with pytest.raises(UsageError, match="at least 1 resample"):
            all_weights(["a"], [0], num_resamples=0)
        with pytest.raises(UsageError, match="one stratum per row"):
            all_weights(["a"], [0, 1])


class TestInterval:
    def draws(self, values, freedom=30.0):
        return Draws(np.asarray(values, dtype=float), freedom, 31)

    def test_is_about_the_estimate_wherever_the_resamples_lie(self):
        beside = np.random.default_rng(0).normal(0.8, 0.02, 500)
        found = bootstrap_interval(0.6, self.draws(beside))
        assert 0 < found.low < 0.6 < found.high < 0.8

    def test_stays_in_its_range_near_the_ends(self):
        found = bootstrap_interval(0.99, self.draws(np.clip(np.random.default_rng(0).normal(0.97, 0.05, 500), 0, 1)))
        assert 0.5 < found.low < 0.99 < found.high < 1

    def test_a_small_share_keeps_its_spread(self):
        """A Brier score of 0.002 of 31 cases: no resample may be taken for half a case."""
        draws = 0.002 * np.exp(np.random.default_rng(0).normal(0, 0.3, 2000))
        found = bootstrap_interval(0.002, self.draws(draws))
        assert found.low == pytest.approx(0.002 * np.exp(-2.04 * 0.3), rel=0.05)

    def test_few_degrees_of_freedom_widen_it(self):
        draws = np.random.default_rng(0).normal(0.5, 0.05, 500)
        few, many = (bootstrap_interval(0.5, self.draws(draws, freedom)) for freedom in (2, 200))
        assert few.high - few.low > 1.8 * (many.high - many.low)

    def test_a_difference_is_on_its_own_scale(self):
        found = bootstrap_interval(-0.1, self.draws(np.random.default_rng(0).normal(0, 0.1, 4000)), scale="real")
        assert (found.low, found.high) == pytest.approx((-0.304, 0.104), abs=0.01)

    def test_no_interval_when_nothing_varies(self):
        interval = bootstrap_interval(1.0, self.draws(np.ones(100)))
        assert interval.low is None
        assert "same value" in interval.reason

    def test_no_interval_when_often_undefined(self):
        interval = bootstrap_interval(0.5, self.draws(np.r_[np.full(10, np.nan), np.linspace(0, 1, 90)]))
        assert interval.low is None
        assert "undefined in 10 of 100" in interval.reason


def test_degrees_of_freedom_are_of_the_stratum_that_varies():
    """Only positives differ: the variance is that of 4 patients, whatever the 90 negatives are."""
    targets = np.r_[np.ones(4), np.zeros(90)]
    right = np.r_[1, 0, 1, 0, np.ones(90)]
    draws = resampling.bootstrap(
        {"balanced": lambda w: (weighted.ratio(w[:, :4] @ right[:4], w[:, :4].sum(axis=1)) + 1) / 2},
        [str(i) for i in range(94)],
        targets,
        num_resamples=300,
    )["balanced"]
    assert draws.freedom == pytest.approx(3)


def test_covers_the_truth_about_as_often_as_it_says():
    """Patients of two scans each, a share with strong correlation within a patient."""
    rng = np.random.default_rng(5)
    truth, runs, hits = 0.7, 200, 0
    patients = np.repeat([str(i) for i in range(60)], 2)
    for run in range(runs):
        right = np.repeat(rng.random(60) < truth, 2).astype(float)
        share = {"share": lambda w, right=right: weighted.ratio(w @ right, w.sum(axis=1))}
        draws = resampling.bootstrap(share, patients, np.zeros(120), num_resamples=400, seed=run)["share"]
        interval = bootstrap_interval(float(right.mean()), draws)
        hits += interval.low <= truth <= interval.high
    assert 0.91 <= hits / runs <= 0.99
