"""Out of distribution: alarms in domain stay rare, whatever the training cases are, and a record is checked."""

from __future__ import annotations

import base64
from dataclasses import replace

import numpy as np
import pytest

from anymc3d.errors import UsageError
from anymc3d.evaluate.ood import MIN_CASES, VERSION, common_limits, fit_statistics, score
from anymc3d.settings.plain import from_plain, to_plain


def draw(rng: np.random.Generator, count: int, *, shift: float = 0.0) -> list[dict[str, np.ndarray]]:
    """Correlated measures with heavy tails, as scans have them."""
    mixing = np.random.default_rng(7).normal(size=(4, 27))
    return [
        {
            "layout.image": rng.standard_t(6, size=4) @ mixing + rng.normal(size=27) + shift,
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


def places(rng: np.random.Generator, count: int, *, flip: tuple[int, ...] = ()) -> list[dict[str, np.ndarray]]:
    """Organs of two kinds that mirror each other, on 6 x 6 x 6 places: their mean is far from each."""
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, 6)] * 3, indexing="ij")
    found = []
    for _ in range(count):
        side, at = rng.choice([-1, 1]), rng.normal(scale=0.1, size=3)
        organ = 2 * np.exp(-4 * ((x - 0.5 * side - at[0]) ** 2 + (y - 0.4 - at[1]) ** 2 + (z + 0.5 - at[2]) ** 2))
        found.append({"layout.image": np.flip(organ, flip).ravel() + rng.normal(scale=0.05, size=216)})
    return found


def test_B11_what_fits_once_it_is_turned_back_is_an_alarm_where_the_distance_alone_says_little() -> None:
    rng = np.random.default_rng(11)
    statistics = fit_statistics(places(rng, 60), ids(60))
    inside = [statistics.distances(case) for case in places(rng, 100)]
    assert np.mean([score(found) > 1 for found in inside]) <= 0.02
    for flip in ((1,), (2,), (1, 2)):
        turned = [statistics.distances(case) for case in places(rng, 40, flip=flip)]
        assert np.mean([found["turned.image"] > 1 for found in turned]) > 0.9, flip
    sides = [score(statistics.distances(case)) for case in places(rng, 40, flip=(0,))]
    assert np.mean(np.array(sides) > 1) <= 0.05, "left and right organs are one set"
    noise = statistics.distances({"layout.image": 3 * rng.normal(size=216)})
    assert noise["layout.image"] > 1 and noise["turned.image"] == 0, "turning helps nothing that is foreign"


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
    assert statistics.measures["layout.image"].turned and statistics.measures["geometry.image"].turned is None
    assert not problems and again == statistics and again.distances(case) == statistics.distances(case)
    assert replace(statistics, version=VERSION + 1).distances(case) == {}
    assert statistics.distances({"layout.image": np.zeros(3)}) == {}


_two = base64.b64encode(np.ones(2, dtype="<f4").tobytes()).decode()


@pytest.mark.parametrize(
    "change",
    [
        {"centre": "AAAA"},
        {"spread": "AAAAAA=="},
        {"centre": "AADAfw=="},
        {"variances": ""},
        {"axes": ("!",)},
        {"centre": _two, "spread": _two, "axes": ()},
    ],
)
def test_a_damaged_record_is_refused(change) -> None:
    own = fit_statistics(draw(np.random.default_rng(5), 20), ids(20)).measures["layout.image"]
    with pytest.raises(UsageError, match="expected"):
        replace(own, **change)
