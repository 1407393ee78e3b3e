"""Out of distribution: alarms in domain stay rare, whatever the training cases are, and a record is checked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from anymc3d.errors import UsageError
from anymc3d.evaluate.ood import MIN_CASES, VERSION, common_limits, fit_statistics, score
from anymc3d.settings.plain import from_plain, to_plain


def draw(rng: np.random.Generator, count: int, *, shift: float = 0.0) -> list[dict[str, np.ndarray]]:
    """Correlated measures with heavy tails, as scans have them."""
    mixing = np.random.default_rng(7).normal(size=(4, 30))
    return [
        {
            "layout.image": rng.standard_t(6, size=4) @ mixing + rng.normal(size=30) + shift,
            "geometry.image": np.log([1.0, 1.0, 2.0, 200.0, 200.0, 120.0]) + rng.normal(scale=0.05, size=6),
        }
        for _ in range(count)
    ]


def ids(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def test_B11_false_alarms_in_domain_are_at_most_two_in_a_hundred() -> None:
    rng = np.random.default_rng(0)
    for count in (12, 60, 400):
        alarms = []
        for _ in range(4):
            statistics = fit_statistics(draw(rng, count), ids(count))
            alarms += [score(statistics.distances(case)) > 1 for case in draw(rng, 50)]
        assert np.mean(alarms) <= 0.02, count


def test_B11_a_shift_is_an_alarm_and_says_where() -> None:
    rng = np.random.default_rng(1)
    statistics = fit_statistics(draw(rng, 100), ids(100))
    (case,) = draw(rng, 1, shift=8.0)
    found = statistics.distances(case)
    assert score(found) == found["layout.image"] > 1 > found["geometry.image"]


def test_four_times_the_spacing_is_an_alarm_where_all_had_one_and_a_tenth_is_none() -> None:
    same = {"geometry.image": np.log([1.0, 1.0, 2.0, 200.0, 200.0, 120.0])}
    statistics = fit_statistics([same] * 20, ids(20))
    other = {
        factor: score(statistics.distances({"geometry.image": same["geometry.image"] + np.log(factor)}))
        for factor in (1.0, 1.1, 4.0)
    }
    assert other[1.0] < 1e-3 and other[1.1] < 1 < other[4.0]


def test_cases_of_one_patient_are_held_out_together() -> None:
    """Copies of a patient's scan would otherwise make the limit of what is held out look small."""
    rng = np.random.default_rng(2)
    few = draw(rng, 12)
    thrice = [case for case in few for _ in range(3)]
    patients = [name for name in ids(12) for _ in range(3)]
    apart = fit_statistics(thrice, ids(36)).measures["layout.image"].limit
    assert fit_statistics(thrice, patients).measures["layout.image"].limit > 1.5 * apart


def test_too_few_patients_have_no_statistics_and_a_measure_that_few_have_is_left_out() -> None:
    rng = np.random.default_rng(3)
    cases = draw(rng, MIN_CASES)
    assert fit_statistics(cases[1:], ids(MIN_CASES - 1)) is None
    assert fit_statistics(cases, ["one"] * MIN_CASES) is None
    del cases[0]["geometry.image"]
    assert list(fit_statistics(cases, ids(MIN_CASES)).measures) == ["layout.image"]


def test_the_limits_are_kept_by_99_of_100_cases_in_all_measures_together() -> None:
    rng = np.random.default_rng(6)
    heavy = np.exp(0.2 * rng.standard_t(3, size=(999, 3)))
    assert (heavy > common_limits(heavy)).any(axis=1).sum() <= 10
    limits = common_limits(np.exp(rng.normal(scale=0.2, size=(999, 3))))
    assert limits == pytest.approx([limits[0]] * 3, rel=0.1)
    assert common_limits(heavy / 1e6) == [1.0] * 3
    assert max(common_limits(heavy[:30])) > heavy[:30].max()


def test_a_few_odd_training_cases_do_not_widen_the_limits_for_all() -> None:
    rng = np.random.default_rng(7)
    held_out = np.exp(rng.normal(scale=0.2, size=(400, 2)))
    usual = common_limits(held_out)
    for odd in (3, 20):
        spoilt = held_out.copy()
        spoilt[:odd, 1] = 1e4
        assert max(common_limits(spoilt)) < 5 * max(usual)


def test_the_record_is_read_as_it_was_written_and_another_version_says_nothing() -> None:
    rng = np.random.default_rng(4)
    statistics, (case,) = fit_statistics(draw(rng, 40), ids(40)), draw(rng, 1)
    problems: list[str] = []
    again = from_plain(type(statistics), to_plain(statistics), problems)
    assert not problems and again == statistics and again.distances(case) == statistics.distances(case)
    assert replace(statistics, version=VERSION + 1).distances(case) == {}
    assert statistics.distances({"layout.image": np.zeros(3)}) == {}


@pytest.mark.parametrize(
    "change",
    [
        {"centre": "AAAA"},
        {"spread": "AAAAAA=="},
        {"centre": "AADAfw=="},
        {"variances": ""},
        {"axes": ("!",)},
    ],
)
def test_a_damaged_record_is_refused(change) -> None:
    own = fit_statistics(draw(np.random.default_rng(5), 20), ids(20)).measures["layout.image"]
    with pytest.raises(UsageError, match="expected"):
        replace(own, **change)
