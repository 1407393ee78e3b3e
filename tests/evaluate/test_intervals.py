"""Wilson, plain and by patient, and Holm: against definitions, by properties and by simulated coverage."""

import numpy as np
import pytest
from scipy import stats

from anymc3d.errors import UsageError
from anymc3d.evaluate import intervals


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


class TestClusteredWilson:
    def test_cases_that_agree_within_their_patient_count_once_each(self):
        """Five patients of twelve alike scans say what five scans say, not sixty."""
        right = np.repeat([1.0, 1.0, 0.0, 1.0, 1.0], 12)
        patients = np.repeat([f"p{i}" for i in range(5)], 12)
        found = intervals.clustered_wilson_interval(right, np.ones(60), patients)
        five, sixty = intervals.wilson_interval(4, 5), intervals.wilson_interval(48, 60)
        assert found.low < five.low < sixty.low
        assert found.high > five.high > sixty.high

    def test_patients_that_all_agree_have_an_interval_as_wide_as_their_number_allows(self):
        found = intervals.clustered_wilson_interval(np.ones(60), np.ones(60), np.repeat([str(i) for i in range(5)], 12))
        assert found.high == 1
        assert found.low < intervals.wilson_interval(5, 5).low

    def test_one_patient_has_none(self):
        found = intervals.clustered_wilson_interval([1, 0, 1], [1, 1, 1], ["a", "a", "a"])
        assert found.low is None
        assert "one patient" in found.reason

    def test_only_counted_cases_matter(self):
        counted = np.array([1, 1, 0, 1, 1, 0, 1, 1])
        patients = np.array(list("aabbccdd"))
        some = intervals.clustered_wilson_interval([1, 0, 1, 1, 1, 1, 0, 1], counted, patients)
        used = counted == 1
        alone = intervals.clustered_wilson_interval(
            np.array([1, 0, 1, 1, 1, 1, 0, 1])[used], np.ones(6), patients[used]
        )
        assert (some.low, some.high) == (alone.low, alone.high)

    @pytest.mark.parametrize(("num_patients", "scans"), [(5, 12), (20, 4)])
    def test_covers_about_as_often_as_it_says(self, num_patients, scans):
        rng = np.random.default_rng(num_patients)
        truth, runs = 0.8, 400
        patients = np.repeat([str(i) for i in range(num_patients)], scans)
        own = rng.normal(size=(runs, num_patients, 1)) + rng.normal(size=(runs, num_patients, scans))
        right = (own / np.sqrt(2) < stats.norm.ppf(truth)).astype(float).reshape(runs, -1)
        found = [intervals.clustered_wilson_interval(one, np.ones(one.size), patients) for one in right]
        assert np.mean([one.low <= truth <= one.high for one in found]) >= 0.92


def test_satterthwaite_of_equal_parts_adds_up_and_of_one_part_is_its_own():
    assert intervals.satterthwaite([2.0, 2.0], [5, 5]) == pytest.approx(10)
    assert intervals.satterthwaite([3.0, 0.0], [4, 90]) == pytest.approx(4)
    assert intervals.satterthwaite([0.0, 0.0], [4, 90]) == 94


def test_t_quantile_and_p_value_equal_scipy():
    assert intervals.t_quantile(0.9, 3.5) == pytest.approx(stats.t.ppf(0.95, 3.5))
    assert intervals.two_sided_p(-2.2, 7.3) == pytest.approx(2 * stats.t.sf(2.2, 7.3))
    with pytest.raises(UsageError, match="confidence level"):
        intervals.t_quantile(1.0, 4)


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
