"""DeLong's interval and paired test against the definition over all pairs, and by simulated coverage."""

import math

import numpy as np
import pytest
from scipy import stats

from anymc3d.errors import UsageError
from anymc3d.evaluate.delong import delong_interval, delong_paired_test, placements


def by_definition(targets: np.ndarray, scores: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Areas and covariance from the kernel psi(x, y) over every pair, as in DeLong 1988."""
    positive, negative = np.flatnonzero(targets == 1), np.flatnonzero(targets == 0)
    m, n = len(positive), len(negative)
    areas, v10, v01 = [], [], []
    for score in scores:
        psi = np.zeros((m, n))
        for i, p in enumerate(positive):
            for j, q in enumerate(negative):
                psi[i, j] = 1.0 if score[p] > score[q] else 0.5 if score[p] == score[q] else 0.0
        areas.append(psi.mean())
        v10.append(psi.mean(axis=1))
        v01.append(psi.mean(axis=0))
    covariance = np.zeros((len(scores), len(scores)))
    for a in range(len(scores)):
        for b in range(len(scores)):
            s10 = np.sum((v10[a] - areas[a]) * (v10[b] - areas[b])) / (m - 1)
            s01 = np.sum((v01[a] - areas[a]) * (v01[b] - areas[b])) / (n - 1)
            covariance[a, b] = s10 / m + s01 / n
    return np.array(areas), covariance


def random_pair(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(12, 80))
    targets = (rng.random(n) < 0.4).astype(float)
    targets[:4] = [0, 0, 1, 1]
    shared = rng.normal(size=n)
    first = np.round(targets * 0.8 + shared + rng.normal(size=n), 1)
    second = np.round(targets * 0.4 + shared + rng.normal(size=n), 1)
    return targets, first, second


@pytest.mark.parametrize("seed", range(20))
def test_H12_interval_equals_the_definition(seed):
    targets, scores, _ = random_pair(seed)
    (area,), covariance = by_definition(targets, [scores])
    logit, error = math.log(area / (1 - area)), math.sqrt(covariance[0, 0]) / (area * (1 - area))
    z = stats.norm.ppf(0.975)
    expected = [1 / (1 + math.exp(-(logit + sign * z * error))) for sign in (-1, 1)]
    interval = delong_interval(targets, scores)
    assert [interval.low, interval.high] == pytest.approx(expected, abs=1e-7)
    assert interval.low < area < interval.high


@pytest.mark.parametrize("seed", range(20))
def test_H12_paired_test_equals_the_definition(seed):
    targets, first, second = random_pair(seed)
    areas, covariance = by_definition(targets, [first, second])
    error = math.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    result = delong_paired_test(targets, first, second)
    assert result.difference == pytest.approx(areas[0] - areas[1], abs=1e-12)
    assert result.p_value == pytest.approx(2 * stats.norm.sf(abs(areas[0] - areas[1]) / error), abs=1e-7)
    width = 2 * stats.norm.ppf(0.975) * error
    assert result.interval.high - result.interval.low == pytest.approx(width, abs=1e-7)


def test_swapping_the_scores_mirrors_the_test():
    targets, first, second = random_pair(1)
    forward, backward = delong_paired_test(targets, first, second), delong_paired_test(targets, second, first)
    assert forward.difference == -backward.difference
    assert forward.p_value == backward.p_value
    assert forward.interval.low == pytest.approx(-backward.interval.high)


def test_perfect_separation_claims_no_certainty():
    interval = delong_interval([0, 0, 1, 1], [1, 2, 3, 4])
    assert interval.low is None
    assert "perfectly" in interval.reason


def test_equal_scores_claim_no_certainty():
    interval = delong_interval([0, 0, 1, 1], [3, 3, 3, 3])
    assert (interval.low, interval.high) == (None, None)
    assert "same score" in interval.reason


def test_a_perfect_score_and_a_constant_one_are_not_said_to_order_alike():
    result = delong_paired_test([0, 0, 1, 1], [1, 2, 3, 4], [5, 5, 5, 5])
    assert result.difference == 0.5
    assert result.p_value is None
    assert "variance is 0" in result.reason


@pytest.mark.parametrize("targets", [[0, 0, 0], [1, 0, 0]])
def test_B14_too_few_of_an_outcome_has_a_reason(targets):
    interval = delong_interval(targets, [0.1, 0.3, 0.2])
    assert interval.low is None
    assert interval.reason


def test_identical_scores_have_a_difference_of_zero_and_no_p_value():
    targets, first, _ = random_pair(2)
    result = delong_paired_test(targets, first, first * 2 + 1)
    assert result.difference == 0
    assert result.p_value is None
    assert "alike" in result.reason


def test_one_outcome_has_no_difference():
    result = delong_paired_test([1, 1], [0.1, 0.2], [0.3, 0.1])
    assert result.difference is None
    assert "both outcomes" in result.reason


@pytest.mark.parametrize("separation", [0.8, 1.8])
def test_interval_covers_the_true_area_about_as_often_as_it_says(separation):
    """Two normal distributions have a known area; 40 positives and 80 negatives, 400 repetitions."""
    rng = np.random.default_rng(11)
    truth = stats.norm.cdf(separation / math.sqrt(2))
    targets = np.repeat([1.0, 0.0], [40, 80])
    hits = 0
    for _ in range(400):
        interval = delong_interval(targets, rng.normal(size=120) + separation * targets)
        hits += interval.low <= truth <= interval.high
    assert 0.92 <= hits / 400 <= 0.98


def test_paired_test_rejects_about_one_in_twenty_when_nothing_differs():
    rng = np.random.default_rng(12)
    targets = np.repeat([1.0, 0.0], [40, 60])
    rejected = 0
    for _ in range(400):
        shared = targets + rng.normal(size=100)
        first, second = shared + rng.normal(size=100), shared + rng.normal(size=100)
        rejected += delong_paired_test(targets, first, second).p_value < 0.05
    assert 0.02 <= rejected / 400 <= 0.08


def clustered(seed: int, num_patients: int, scans: int) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """Outcomes that differ within patients, two scores with a patient's own shift; a few patients lack scans."""
    rng = np.random.default_rng(seed)
    own = np.repeat(np.arange(num_patients), scans)
    targets = (rng.random(own.size) < 0.4).astype(float)
    shift = rng.normal(size=num_patients)[own]
    scores = [np.round(targets * 0.8 + shift + rng.normal(size=own.size), 1) for _ in range(2)]
    kept = rng.permutation(own.size)[: own.size - scans // 2]
    return targets[kept], [score[kept] for score in scores], own[kept]


def obuchowski_by_definition(targets: np.ndarray, scores: list[np.ndarray], own: np.ndarray) -> np.ndarray:
    """Covariance from the sums S10, S01 and S11 over clusters, as in Obuchowski 1997, kernel by kernel."""
    positive, negative = np.flatnonzero(targets == 1), np.flatnonzero(targets == 0)
    m, n = len(positive), len(negative)
    names = np.unique(own)
    first, second = np.zeros((len(scores), len(names))), np.zeros((len(scores), len(names)))
    for a, score in enumerate(scores):
        psi = (score[positive][:, None] > score[negative]) + 0.5 * (score[positive][:, None] == score[negative])
        area = psi.mean()
        for i, name in enumerate(names):
            mine = own[positive] == name
            first[a, i] = psi.mean(axis=1)[mine].sum() - mine.sum() * area
            mine = own[negative] == name
            second[a, i] = psi.mean(axis=0)[mine].sum() - mine.sum() * area
    i10, i01, i11 = (len(set(own[positive])), len(set(own[negative])), len(names))
    s10 = i10 / ((i10 - 1) * m) * first @ first.T
    s01 = i01 / ((i01 - 1) * n) * second @ second.T
    s11 = i11 / (i11 - 1) * first @ second.T
    return s10 / m + s01 / n + (s11 + s11.T) / (m * n)


def noise(rng: np.random.Generator, own: np.ndarray, of_patients: float, of_scans: float) -> np.ndarray:
    """(n,) with these variances between patients and between scans of one."""
    shift = rng.normal(size=own.max() + 1)[own]
    return math.sqrt(of_patients) * shift + math.sqrt(of_scans) * rng.normal(size=own.size)


class TestClusters:
    @pytest.mark.parametrize("seed", range(10))
    def test_H12_covariance_equals_obuchowskis_definition(self, seed):
        targets, scores, own = clustered(seed, 6 + seed, 5)
        found = placements(targets, np.stack(scores), np.unique(own, return_inverse=True)[1]).covariance
        np.testing.assert_allclose(found, obuchowski_by_definition(targets, scores, own), atol=1e-14)

    @pytest.mark.parametrize("seed", range(5))
    def test_H12_one_scan_a_patient_is_delong_exactly(self, seed):
        targets, first, second = random_pair(seed)
        patients = [f"p{i}" for i in np.random.default_rng(seed).permutation(targets.size)]
        assert delong_interval(targets, first, patients=patients) == delong_interval(targets, first)
        assert delong_paired_test(targets, first, second, patients=patients) == delong_paired_test(
            targets, first, second
        )
        # The variance itself, too, and not because patients are looked at first.
        groups = np.unique(patients, return_inverse=True)[1]
        clusters, plain = (placements(targets, np.stack([first, second]), g).covariance for g in (groups, None))
        np.testing.assert_allclose(clusters, plain, atol=1e-15)

    def test_repeating_each_scan_of_a_patient_adds_no_certainty(self):
        targets, first, second = random_pair(3)
        patients = [str(i) for i in range(targets.size)]
        once = delong_paired_test(targets, first, second)
        often = delong_paired_test(
            *(np.repeat(one, 4) for one in (targets, first, second)), patients=np.repeat(patients, 4)
        )
        assert often.difference == pytest.approx(once.difference)
        assert often.interval.method == "obuchowski_paired"
        assert often.interval.high - often.interval.low >= 0.999 * (once.interval.high - once.interval.low)
        assert often.p_value >= once.p_value

    def test_one_patient_with_the_positives_has_a_reason(self):
        found = delong_interval([1, 1, 0, 0, 0], [3, 1, 2, 0, 1], patients=list("aabcd"))
        assert found.low is None
        assert "two patients with each outcome" in found.reason

    def test_as_many_patients_as_cases_are_needed(self):
        with pytest.raises(UsageError, match="one patient per case"):
            delong_interval([1, 0, 1, 0], [3, 1, 2, 0], patients=["a"])

    @pytest.mark.parametrize(("num_patients", "scans"), [(5, 12), (10, 4), (20, 5)])
    def test_interval_and_test_keep_what_they_say_with_few_patients(self, num_patients, scans):
        """Scores of two equally good systems with a shift of each patient: 300 repetitions."""
        truth = stats.norm.cdf(1 / math.sqrt(2))
        rng = np.random.default_rng(num_patients)
        own = np.repeat(np.arange(num_patients), scans)
        covered, rejected, runs = 0, 0, 300
        for _ in range(runs):
            targets = (rng.random(own.size) < 0.4).astype(float)
            shared = targets + noise(rng, own, 0.4, 0.3)
            first, second = (shared + noise(rng, own, 0.1, 0.2) for _ in range(2))
            interval = delong_interval(targets, first, patients=own)
            covered += interval.low <= truth <= interval.high
            rejected += delong_paired_test(targets, first, second, patients=own).p_value < 0.05
        assert 0.9 <= covered / runs <= 0.995
        assert rejected / runs <= 0.075
