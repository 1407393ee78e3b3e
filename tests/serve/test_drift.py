"""The last weeks against the training data: an alarm where they differ, none where they do not."""

import pytest

from anymc3d.serve.drift import FEWEST, WEEK_S, drift
from anymc3d.serve.history import Answer

RANGE = {name: {"low": 90.0, "median": 100.0, "high": 110.0} for name in ("p005", "p50", "p995")}
TRAINING = {"positive": {"x": (20, 100)}, "intensities": {"image": RANGE | {"num_scans": 200}}, "scan_statistics": 150}
PLUGIN = {"name": "p", "training": TRAINING}
NOW = 100 * WEEK_S


def answers(count, *, positive=0.2, level=100.0, status="ok", at=NOW - 10, ood=0.5):
    every = round(1 / positive) if positive else count + 1
    return [
        Answer(
            at=at,
            plugin="p",
            status=status,
            decisions={"x": int(i % every == 0)},
            probabilities={"x": 0.25},
            intensities={"image": dict.fromkeys(RANGE, level)},
            ood_score=ood,
        )
        for i in range(count)
    ]


def alarms(given, plugin=PLUGIN):
    (found,) = drift(given, [plugin], NOW)["plugins"]
    return {one["name"] for one in found["comparisons"] if one["is_alarm"]}


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
    given = answers(50) + answers(30, positive=1.0, level=9.0, status="error") + answers(3, status="warn")
    (found,) = drift(given, [PLUGIN], NOW)["plugins"]
    assert (found["answers"], found["errors"], found["warnings"]) == (83, 30, 3)
    assert {one["of"] for one in found["comparisons"]} == {53} and alarms(given) == set()


def test_weeks_are_told_apart_and_a_card_without_statistics_compares_nothing():
    given = answers(4, at=NOW - 3.5 * WEEK_S, ood=None) + answers(2, level=80.0)
    (found,) = drift(given, [{"name": "p"}], NOW)["plugins"]
    assert [week["answers"] for week in found["weeks"]] == [4, 0, 0, 2]
    assert found["weeks"][-1]["median_intensity"] == {"image": 80.0}
    assert [week["median_ood_score"] for week in found["weeks"]] == [None, None, None, 0.5]
    assert found["weeks"][0]["mean_probability"] == {"x": 0.25} and found["comparisons"] == []
