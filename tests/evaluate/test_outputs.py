"""From the head's logits to the cells of a table, for every kind of label."""

import numpy as np
import pytest

from anymc3d.evaluate import outputs

LOGITS = np.array([[0.5, -1.0, 2.0], [-3.0, 0.25, 0.0]])


def test_binary_is_the_log_odds_of_two_logits():
    raw = outputs.raw_logits(LOGITS[:, :2], "binary")
    np.testing.assert_allclose(raw, [[-1.5], [3.25]])
    np.testing.assert_allclose(outputs.probabilities(raw, "binary"), 1 / (1 + np.exp(-raw)))


@pytest.mark.parametrize("kind", ["multiclass", "ordinal"])
def test_classes_add_up_to_one_and_the_largest_decides(kind):
    probability = outputs.probabilities(outputs.raw_logits(LOGITS, kind), kind)
    np.testing.assert_allclose(probability.sum(axis=1), 1)
    decision = outputs.decisions(LOGITS, kind, [9.0, 9.0, 9.0])
    np.testing.assert_array_equal(decision, [[0, 0, 1], [0, 1, 0]])


@pytest.mark.parametrize("kind", ["multiclass", "ordinal"])
def test_classes_rank_by_their_probability_not_by_their_logit(kind):
    shifted = LOGITS + np.array([[7.0], [0.0]])
    scores = outputs.ranking_scores(shifted, kind)
    np.testing.assert_allclose(scores, outputs.ranking_scores(LOGITS, kind))
    probability = outputs.probabilities(LOGITS, kind)
    np.testing.assert_allclose(scores, np.log(probability / (1 - probability)))


def test_several_labels_are_decided_each_at_its_own_threshold():
    np.testing.assert_array_equal(outputs.decisions(LOGITS, "multilabel", [0.5, 0.0, 2.5]), [[1, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(outputs.ranking_scores(LOGITS, "multilabel"), LOGITS)


@pytest.mark.parametrize("kind", ["multiclass", "ordinal"])
def test_targets_of_classes_become_one_column_each_and_missing_stays_missing(kind):
    found = outputs.label_targets(np.array([[2.0], [np.nan]]), kind, 3)
    np.testing.assert_array_equal(found, [[0, 0, 1], [np.nan] * 3])
