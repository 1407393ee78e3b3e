"""Subsets of cases: whole patients, stratified, nested, the same for any order of the rows."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anymc3d.benchmark.subsets import choose_cases
from anymc3d.errors import UsageError


@st.composite
def cohorts(draw):
    sizes = draw(st.lists(st.integers(1, 3), min_size=3, max_size=40))
    positive = draw(st.lists(st.booleans(), min_size=len(sizes), max_size=len(sizes)))
    patients = [f"p{index}" for index, size in enumerate(sizes) for _ in range(size)]
    labels = [[float(outcome)] for outcome, size in zip(positive, sizes, strict=True) for _ in range(size)]
    return patients, np.array(labels)


@settings(max_examples=60)
@given(cohorts(), st.integers(0, 3), st.data())
def test_patients_stay_whole_and_order_does_not_matter(cohort, seed, data):
    patients, targets = cohort
    number = data.draw(st.integers(3, len(patients)))
    chosen = choose_cases(patients, targets, number, seed=seed)
    assert 0 < len(chosen) <= number
    inside = {patients[index] for index in chosen}
    assert all((patient in inside) == (index in set(chosen)) for index, patient in enumerate(patients))
    order = data.draw(st.permutations(range(len(patients))))
    again = choose_cases([patients[i] for i in order], targets[list(order)], number, seed=seed)
    assert {order[index] for index in again} == set(chosen)


@pytest.mark.parametrize("seed", range(5))
def test_a_subset_has_the_share_of_positives_of_the_whole(seed):
    targets = np.array([[1.0]] * 30 + [[0.0]] * 270)
    chosen = choose_cases([f"p{i}" for i in range(300)], targets, 0.2, seed=seed)
    assert len(chosen) == 60
    assert abs(targets[chosen].sum() - 6) <= 1


def test_smaller_subsets_lie_within_larger_ones():
    targets = np.array([[float(i % 4 == 0)] for i in range(200)])
    patients = [f"p{i}" for i in range(200)]
    subsets = [set(choose_cases(patients, targets, number, seed=7)) for number in (10, 40, 0.5, 150, "all")]
    assert all(small < large for small, large in itertools.pairwise(subsets))
    assert len(subsets[-1]) == 200


def test_rare_combinations_of_labels_are_not_all_left_out():
    """Sixty patients of which every one has labels of its own: a fifth of them is chosen all the same."""
    targets = np.array([[float(bit == "1") for bit in f"{i:06b}"] for i in range(60)])
    sizes = [len(choose_cases([f"p{i}" for i in range(60)], targets, 0.2, seed=seed)) for seed in range(8)]
    assert set(sizes) == {12}
    firsts = {choose_cases([f"p{i}" for i in range(60)], targets, 0.2, seed=seed)[0] for seed in range(8)}
    assert len(firsts) > 1


def test_more_cases_than_there_are_is_an_error():
    with pytest.raises(UsageError, match="at most the 3 cases there are, got 4"):
        choose_cases(["a", "b", "c"], np.zeros((3, 1)), 4, seed=0)
