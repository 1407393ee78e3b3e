"""The standard error of a difference of mean AUROCs: DeLong's for one label, and what labels and cases share."""

import math

import numpy as np
import pytest

from anymc3d.evaluate.delong import delong_paired_test
from anymc3d.evaluate.paired_auroc import mean_auroc_difference
from anymc3d.evaluate.weighted import auroc


def scored(num_cases=60, num_labels=1, seed=0):
    rng = np.random.default_rng(seed)
    targets = (rng.random((num_cases, num_labels)) < 0.4).astype(float)
    first = targets + rng.normal(0, 1, targets.shape)
    return targets, first, first + rng.normal(0, 0.7, targets.shape)


def column(table, index=0):
    return table[:, index : index + 1]


def test_of_one_label_it_is_delongs():
    targets, first, second = scored()
    found = mean_auroc_difference(targets, first, second)
    theirs = delong_paired_test(targets[:, 0], first[:, 0], second[:, 0])
    half = (theirs.interval.high - theirs.interval.low) / 2
    assert found.value == pytest.approx(theirs.difference, abs=1e-12)
    assert found.error == pytest.approx(half / 1.959963984540054, rel=1e-9)


def test_a_label_that_stands_twice_says_no_more_than_once():
    targets, first, second = scored()
    once = mean_auroc_difference(targets, first, second)
    twice = mean_auroc_difference(*(np.hstack([table, table]) for table in (targets, first, second)))
    assert twice == pytest.approx(once, rel=1e-12)


def test_labels_of_different_cases_add_up_as_independent_ones():
    targets, first, second = scored(80, 2)
    targets[:40, 0], targets[40:, 1] = np.nan, np.nan
    found = mean_auroc_difference(targets, first, second)
    parts = [mean_auroc_difference(column(targets, i), column(first, i), column(second, i)) for i in range(2)]
    assert found.value == pytest.approx(np.mean([part.value for part in parts]))
    assert found.error == pytest.approx(math.hypot(*(part.error for part in parts)) / 2)


def test_cases_of_one_patient_are_taken_together():
    """Every case written down twice as one patient's: as much as once; as two patients' it would look like more."""
    targets, first, second = (np.repeat(table, 2, axis=0) for table in scored(200))
    patients = [f"p{i // 2}" for i in range(400)]
    once = mean_auroc_difference(*(table[::2] for table in (targets, first, second))).error
    assert mean_auroc_difference(targets, first, second, patients).error == pytest.approx(once, rel=0.02)
    assert mean_auroc_difference(targets, first, second).error == pytest.approx(once / math.sqrt(2), rel=0.02)


def test_it_is_the_spread_over_new_cases():
    """Somebody else's answer: the bootstrap over cases, labels correlated."""
    targets, first, second = scored(150, 3, seed=1)
    first[:, 2], second[:, 2], targets[:, 2] = first[:, 1], second[:, 1] + 0.1, targets[:, 1]
    found = mean_auroc_difference(targets, first, second)
    weights = np.random.default_rng(0).multinomial(150, np.full(150, 1 / 150), size=2000).astype(float)
    drawn = [auroc(targets[:, j], first[:, j], weights) - auroc(targets[:, j], second[:, j], weights) for j in range(3)]
    assert found.error == pytest.approx(float(np.mean(drawn, axis=0).std()), rel=0.1)


def test_what_cannot_be_told():
    targets, first, second = scored(20, 2)
    targets[:, 1] = 0
    assert mean_auroc_difference(targets, first, second).value == pytest.approx(
        mean_auroc_difference(column(targets), column(first), column(second)).value
    ), "a label with one outcome takes no part"
    assert mean_auroc_difference(column(targets, 1), column(first), column(second)).value is None
    alone = np.array([[1.0], [0.0], [0.0]])
    assert mean_auroc_difference(alone, np.array([[2.0], [1], [0]]), np.array([[0.0], [1], [2]])) == (1.0, math.inf)
