"""The last weeks against the training data: an alarm where they differ, none where they do not."""

import sqlite3
import statistics
from contextlib import closing

import pytest

from anymc3d.serve import history
from anymc3d.serve.drift import FEWEST, WEEK_S, drift

RANGE = {name: {"low": 90.0, "median": 100.0, "high": 110.0} for name in ("p005", "p50", "p995")}
TRAINING = {"positive": {"x": (20, 100)}, "intensities": {"image": RANGE | {"num_scans": 200}}, "scan_statistics": 150}
PLUGIN = {"name": "p", "training": TRAINING}
NOW = 100 * WEEK_S


def answers(count, *, positive=0.2, level=100.0, status="ok", at=NOW - 10, ood=0.5):
    every = round(1 / positive) if positive else count + 1
    record = {"intensities": {"p": {"image": dict.fromkeys(RANGE, level)}}}
    rows = [
        {"plugin": "p", "status": status, "decision.x": int(i % every == 0), "probability.x": 0.25, "ood_score": ood}
        for i in range(count)
    ]
    return at, rows, record


def compared(given, plugin=PLUGIN):
    """Of answers that were written as the queue writes them."""
    with closing(sqlite3.connect(":memory:")) as sql, pytest.MonkeyPatch.context() as patch:
        sql.executescript(history.SCHEMA)
        for at, rows, record in given:
            patch.setattr(history.time, "time", lambda at=at: at)
            history.remember(sql, rows, record)
        (found,) = drift(sql, [plugin], NOW)["plugins"]
        return found


def alarms(*given, plugin=PLUGIN):
    return {one["name"] for one in compared(given, plugin)["comparisons"] if one["is_alarm"]}


def test_answers_like_those_of_training_raise_no_alarm():
    assert alarms(answers(100)) == set()


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"positive": 1.0}, {"x"}),
        ({"ood": 1.1}, {"ood_score above 1"}),
        ({"level": 150.0}, {"image, 0.5 % percentile", "image, median", "image, 99.5 % percentile"}),
    ],
)
def test_another_share_of_positives_or_another_scanner_raises_one(changed, expected):
    assert alarms(answers(100, **changed)) == expected
    assert alarms(answers(FEWEST - 1, **changed)) == set()


def test_errors_are_counted_and_not_compared():
    given = answers(50), answers(30, positive=1.0, level=9.0, status="error"), answers(3, status="warn")
    found = compared(given)
    assert (found["answers"], found["errors"], found["warnings"]) == (83, 30, 3)
    assert {one["of"] for one in found["comparisons"]} == {53} and alarms(*given) == set()


def test_weeks_are_told_apart_and_a_card_without_statistics_compares_nothing():
    given = answers(4, at=NOW - 3.5 * WEEK_S, ood=None), answers(2, level=80.0)
    found = compared(given, {"name": "p"})
    assert [week["answers"] for week in found["weeks"]] == [4, 0, 0, 2]
    assert found["weeks"][-1]["median_intensity"] == {"image": 80.0}
    assert [week["median_ood_score"] for week in found["weeks"]] == [None, None, None, 0.5]
    assert found["weeks"][0]["mean_probability"] == {"x": 0.25} and found["comparisons"] == []


def test_what_lies_in_the_future_is_of_a_clock_that_was_wrong():
    assert compared([answers(3), answers(40, level=999.0, at=NOW + 5)])["answers"] == 3


def test_a_number_that_json_has_no_word_for_spoils_no_other():
    found = compared([answers(3, level=float("nan"), ood=float("inf")), answers(5, level=130.0)])
    by_name = {one["name"]: (one["count"], one["of"]) for one in found["comparisons"]}
    assert by_name == {"x": (2, 8), "ood_score above 1": (0, 5)} | {
        f"image, {words}": (5, 5) for words in ("0.5 % percentile", "median", "99.5 % percentile")
    }


def test_the_numbers_are_those_of_the_rows():
    rows = [
        {"plugin": "p", "status": "ok", "decision.x": i % 3 == 0, "probability.x": i / 100, "ood_score": i / 40}
        for i in range(61)
    ]
    levels = [70.0 + i for i in range(61)]
    given = [
        (NOW - 10, [row], {"intensities": {"p": {"image": dict.fromkeys(RANGE, level)}}})
        for row, level in zip(rows, levels, strict=True)
    ]
    found = compared(given)
    week = found["weeks"][-1]
    assert week["mean_probability"]["x"] == pytest.approx(statistics.fmean(row["probability.x"] for row in rows))
    assert week["median_intensity"] == {"image": statistics.median(levels)}
    assert week["median_ood_score"] == statistics.median(row["ood_score"] for row in rows)
    unlike, outside = sum(row["ood_score"] > 1 for row in rows), sum(not 90 <= level <= 110 for level in levels)
    expected = [(21, 61), (unlike, 61), *[(outside, 61)] * 3]
    assert [(one["count"], one["of"]) for one in found["comparisons"]] == expected
