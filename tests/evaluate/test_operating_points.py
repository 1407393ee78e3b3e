"""Thresholds: by exhaustive search, ties, spelling, and what they may depend on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anymc3d.errors import UsageError
from anymc3d.evaluate import metrics
from anymc3d.evaluate.operating_points import CRITERIA, OperatingPoint, choose, criterion_name, parse_criterion

CHOSEN = ["youden", "f1", "crg", "f1_crg", "sensitivity=0.8", "specificity=0.8"]


def random_cases(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(5, 60))
    targets = (rng.random(n) < 0.4).astype(float)
    targets[:2] = [0, 1]
    return targets, np.round(rng.normal(size=n) + targets, 1)


def reached(criterion: str, targets: np.ndarray, decisions: np.ndarray) -> float:
    """What a criterion wants to be large, from the public metrics, one threshold at a time."""
    sensitivity = metrics.compute("sensitivity", targets, decisions).value
    specificity = metrics.compute("specificity", targets, decisions).value
    f1, crg = metrics.compute("f1", targets, decisions).value, metrics.crg(targets, decisions).value
    return {
        "youden": sensitivity + specificity - 1,
        "f1": f1,
        "crg": crg,
        "f1_crg": (f1 + crg) / 2,
        "sensitivity=0.8": specificity if sensitivity >= 0.8 else -1,
        "specificity=0.8": sensitivity if specificity >= 0.8 else -1,
    }[criterion]


@pytest.mark.parametrize("criterion", CHOSEN)
@pytest.mark.parametrize("seed", range(15))
def test_no_other_threshold_serves_the_criterion_better(criterion, seed):
    targets, scores = random_cases(seed)
    point = choose(criterion, targets, scores)
    ours = reached(criterion, targets, point.decide(scores).astype(float))
    every = [reached(criterion, targets, (scores >= t).astype(float)) for t in [*np.unique(scores), scores.max() + 1]]
    assert ours == pytest.approx(max(every), abs=1e-12)


def test_threshold_lies_midway_and_decides_at_or_above():
    point = choose("youden", [0, 0, 1, 1], [0.0, 1.0, 2.0, 3.0])
    assert point.threshold == 1.5
    assert point.value == 1.0
    assert (point.source_split, point.n, point.n_positive) == ("val", 4, 2)
    assert point.decide([1.4999, 1.5, 1.5001]).tolist() == [False, True, True]


def test_youden_ties_go_to_the_point_nearest_to_perfect():
    # J is 0.25 at (sensitivity, specificity) = (1, 1/4), (3/4, 1/2), (1/2, 3/4) and (1/4, 1); the middle two are
    # nearest to (1, 1), and of these the lower threshold misses fewer.
    targets = np.array([0, 1, 0, 1, 0, 1, 0, 1])
    scores = np.arange(8.0)
    point = choose("youden", targets, scores)
    decisions = point.decide(scores)
    distance = (1 - decisions[targets == 1].mean()) ** 2 + decisions[targets == 0].mean() ** 2
    for threshold in scores:
        other = scores >= threshold
        youden = other[targets == 1].mean() - other[targets == 0].mean()
        if youden == pytest.approx(point.value):
            assert distance <= (1 - other[targets == 1].mean()) ** 2 + other[targets == 0].mean() ** 2 + 1e-12
    assert point.threshold == 2.5


def test_thresholds_outside_the_scores_call_all_cases_alike():
    assert choose("sensitivity=1", [1, 0], [0.0, 1.0]).threshold == -0.5
    assert choose("specificity=1", [1, 0], [0.0, 1.0]).threshold == 1.5
    assert choose("sensitivity=1", [1, 0], [2.0, 2.0]).threshold == 1.5


def test_neighbouring_floats_are_still_parted():
    low = 1.0
    high = np.nextafter(low, 2)
    point = choose("youden", [0, 1], [low, high])
    assert point.decide([low, high]).tolist() == [False, True]


def test_fixed_probability_needs_no_cases_of_both_outcomes():
    point = choose("probability=0.5", [0, 0], [1.0, 2.0])
    assert point.threshold == 0.0
    assert choose("probability=0.9", [0], [1.0]).threshold == pytest.approx(np.log(9))


@given(st.lists(st.tuples(st.booleans(), st.integers(-30, 30)), min_size=4, max_size=30), st.sampled_from(CHOSEN))
@settings(max_examples=150)
def test_H11_decisions_keep_under_monotone_transforms(rows, criterion):
    targets = np.array([t for t, _ in rows], float)
    scores = np.array([s for _, s in rows], float)
    if targets.min() == targets.max():
        return
    plain = choose(criterion, targets, scores)
    bent_scores = np.arctan(scores / 10) * 7 + 2
    bent = choose(criterion, targets, bent_scores)
    assert (plain.decide(scores) == bent.decide(bent_scores)).all()
    assert plain.value == bent.value


@given(st.permutations(list(range(20))))
def test_order_of_cases_does_not_matter(order):
    targets, scores = np.arange(20) % 3 == 0, np.sin(np.arange(20)).round(1)
    order = np.array(order)
    assert choose("f1", targets[order], scores[order]) == choose("f1", targets, scores)


@pytest.mark.parametrize("targets", [[1, 1], [0, 0]])
def test_B14_one_outcome_is_refused_with_the_way_out(targets):
    with pytest.raises(UsageError, match=r"both outcomes in val.*probability=0\.5"):
        choose("youden", targets, [0.1, 0.2])


class TestSpelling:
    def test_both_forms_are_read(self):
        assert parse_criterion("sensitivity>=0.95") == parse_criterion("sensitivity=0.95") == ("sensitivity", 0.95)
        assert criterion_name("sensitivity >= 0.950") == "sensitivity=0.95"
        assert criterion_name("f1_crg") == "f1_crg"

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("yuoden", "did you mean 'youden'"),
            ("sensitivity", r"such as sensitivity=0\.95"),
            ("sensitivity=95", "such as"),
            ("specificity=high", "such as"),
            ("probability=1", "such as"),
            ("youden=0.5", "takes no value"),
            ("", "unknown operating point"),
        ],
    )
    def test_faults_are_named(self, text, message):
        with pytest.raises(UsageError, match=message):
            parse_criterion(text)

    def test_every_criterion_says_what_it_means(self):
        assert all(criterion.meaning for criterion in CRITERIA.values())


class TestRecord:
    def test_round_trip(self):
        point = choose("youden", [0, 1, 1], [0.1, 0.7, 0.3])
        assert OperatingPoint.from_dict(point.to_dict()) == point

    def test_missing_or_unknown_keys_are_refused(self):
        record = choose("youden", [0, 1], [0.1, 0.7]).to_dict()
        with pytest.raises(UsageError, match="expected the keys"):
            OperatingPoint.from_dict({**record, "extra": 1})
        with pytest.raises(UsageError, match="finite threshold"):
            OperatingPoint.from_dict({**record, "threshold": float("inf")})
        with pytest.raises(UsageError, match="not of its kind"):
            OperatingPoint.from_dict({**record, "threshold": "high"})
