"""What each case adds to an AUROC: DeLong's numbers for one label, what repetition says of means and patients."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from anymc3d.evaluate.delong import delong_paired_test, placements
from anymc3d.evaluate.influence import auroc_influence


def drawn(n, labels, seed=0):
    rng = np.random.default_rng(seed)
    targets = (rng.random((n, labels)) < 0.4).astype(float)
    scores = np.round(targets + rng.normal(0, 1, (n, labels)), 1)
    return targets, scores, np.round(scores + rng.normal(0, 0.5, (n, labels)), 1)


def test_one_label_and_one_row_a_patient_is_delong_to_the_last_digits():
    targets, first, second = drawn(60, 1)
    names = [str(i) for i in range(60)]
    a, b = auroc_influence(targets, first), auroc_influence(targets, second)
    placed = placements(targets[:, 0], np.stack([first[:, 0], second[:, 0]]))
    assert a.value == pytest.approx(roc_auc_score(targets, first), abs=1e-12)
    assert a.standard_error(names) == pytest.approx(np.sqrt(placed.covariance[0, 0]), rel=1e-9)
    test = delong_paired_test(targets[:, 0], first[:, 0], second[:, 0])
    half = 1.959963984540054 * (a - b).standard_error(names)
    assert (a - b).value == pytest.approx(test.difference)
    assert half == pytest.approx((test.interval.high - test.interval.low) / 2, rel=1e-9)


def test_the_error_of_a_mean_over_labels_with_gaps_and_patients_is_that_of_many_repetitions():
    """600 data sets of 40 patients with 3 rows each: the spread of the value against the mean of the error."""
    values, errors = [], []
    names = [str(i // 3) for i in range(120)]
    for seed in range(600):
        rng = np.random.default_rng(seed)
        own = np.repeat(rng.normal(0, 1, (40, 2)), 3, axis=0)
        targets = np.repeat((rng.random((40, 2)) < 0.5).astype(float), 3, axis=0)
        scores = targets + own + rng.normal(0, 0.5, (120, 2))
        targets[rng.random((120, 2)) < 0.1] = np.nan
        found = auroc_influence(targets, scores)
        values.append(found.value)
        errors.append(found.standard_error(names))
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.1)


def test_a_label_of_one_outcome_is_left_out():
    targets, scores, _ = drawn(30, 2)
    whole = auroc_influence(targets[:, :1], scores[:, :1])
    targets[:, 1] = 1
    found = auroc_influence(targets, scores)
    assert found.value == whole.value and np.array_equal(found.parts, whole.parts)
    nothing = auroc_influence(targets[:, 1:], scores[:, 1:])
    assert nothing.value is None and (nothing - whole).value is None
