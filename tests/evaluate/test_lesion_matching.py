"""Lesions found and missed: hand cases of the challenge's matching, and average precision."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from anymc3d.evaluate.lesions import LesionResult, lesion_average_precision, match_lesions


def boxes(*places: tuple[int, int, float]) -> np.ndarray:
    """(first, length, value) along the last axis of a bar two voxels thick."""
    values = np.zeros((2, 2, 60), dtype=np.float32)
    for first, length, value in places:
        values[:, :, first : first + length] = value
    return values


def told(results: list[LesionResult]) -> list[tuple[bool, float, float]]:
    return sorted((r.is_lesion, round(r.confidence, 4), round(r.overlap, 4)) for r in results)


def test_a_tenth_of_the_union_is_a_hit_and_less_is_a_miss_and_a_false_alarm():
    lesion = boxes((0, 11, 1))
    assert told(match_lesions(boxes((9, 9, 0.8)), lesion)) == [(True, 0.8, round(2 / 18, 4))]
    assert told(match_lesions(boxes((10, 9, 0.8)), lesion)) == [(False, 0.8, 0.0), (True, 0.0, 0.0)]


def test_as_many_lesions_as_possible_are_matched_before_the_overlaps_count():
    # The first candidate overlaps the first lesion more than the second one does, but only it reaches the second.
    lesions = boxes((0, 10, 1), (12, 10, 1))
    found = boxes((0, 3, 0.6), (4, 12, 0.9))
    assert told(match_lesions(found, lesions)) == [(True, 0.6, 0.3), (True, 0.9, round(4 / 18, 4))]


def test_a_second_candidate_on_a_lesion_is_no_false_alarm():
    found = boxes((0, 5, 0.6), (6, 4, 0.9))
    assert told(match_lesions(found, boxes((0, 10, 1)))) == [(True, 0.6, 0.5)]


def test_without_lesions_every_candidate_is_a_false_alarm_and_without_both_nothing_is():
    assert told(match_lesions(boxes((0, 3, 0.2), (9, 3, 0.4)), boxes())) == [(False, 0.2, 0.0), (False, 0.4, 0.0)]
    assert match_lesions(boxes(), boxes()) == []
    assert told(match_lesions(boxes(), boxes((3, 2, 1)))) == [(True, 0.0, 0.0)]


def test_other_shapes_and_negative_confidences_are_refused():
    with pytest.raises(ValueError, match="expected confidences of at least 0"):
        match_lesions(boxes((0, 3, -0.2)), boxes())
    with pytest.raises(ValueError, match="expected confidences"):
        match_lesions(boxes()[:1], boxes())


def test_average_precision_is_scikit_learns_where_every_lesion_has_a_candidate():
    generator = np.random.default_rng(3)
    truth = generator.random(80) < 0.3
    confidences = np.round(generator.random(80) * 0.9 + 0.05, 1)  # with ties
    results = [LesionResult(bool(t), float(c), 0.5) for t, c in zip(truth, confidences, strict=True)]
    assert lesion_average_precision(results) == pytest.approx(average_precision_score(truth, confidences))


def test_a_missed_lesion_costs_recall_at_every_threshold():
    hit, missed = LesionResult(True, 0.9, 0.5), LesionResult(True, 0.0, 0.0)
    assert lesion_average_precision([hit]) == 1
    assert lesion_average_precision([hit, missed]) == 0.5
    assert lesion_average_precision([hit, missed, LesionResult(False, 0.95, 0)]) == 0.25
    assert lesion_average_precision([LesionResult(False, 0.5, 0.0)]) is None
