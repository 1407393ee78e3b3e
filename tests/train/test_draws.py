"""Draws depend on seed, purpose, epoch and case alone."""

import numpy as np
import pytest
import torch

from anymc3d.train.draws import (
    Visit,
    balanced_order,
    balancing_weights,
    batches,
    epoch_order,
    generator,
    stratified_order,
    visits,
)


def test_H2_the_same_purpose_draws_the_same_whatever_ran_before():
    first = torch.rand(3, generator=generator(0, "augmentation", 4, 17, "axial"))
    torch.rand(100)
    epoch_order(10, 0, 3)
    assert torch.equal(first, torch.rand(3, generator=generator(0, "augmentation", 4, 17, "axial")))


def test_other_seeds_epochs_cases_and_views_draw_otherwise():
    keys = [(0, "a", 1, 2), (1, "a", 1, 2), (0, "b", 1, 2), (0, "a", 12), (0, "a", 2, 1)]
    assert len({float(torch.rand(1, generator=generator(*key))) for key in keys}) == len(keys)


def test_every_epoch_visits_every_case_once_in_another_order():
    orders = [epoch_order(50, 7, epoch) for epoch in range(3)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert orders[0] != orders[1] != orders[2]


def test_processes_share_every_step_without_overlap():
    order = visits(epoch_order(11, 0, 0))
    whole = batches(order, 4)
    parts = [batches(order, 2, rank, 2) for rank in range(2)]
    assert len({len(part) for part in parts}) == 1
    for step, pieces in zip(whole, zip(*parts, strict=True), strict=True):
        assert sorted(step) == sorted(index for piece in pieces for index in piece)


def test_balanced_draws_are_a_function_of_seed_and_epoch():
    weights = balancing_weights(np.array([[0.0], [0], [0], [1]]))
    assert balanced_order(weights, 3, 5) == balanced_order(weights, 3, 5)
    assert len(balanced_order(weights, 3, 5)) == 4
    assert len({tuple(balanced_order(weights, 3, epoch)) for epoch in range(20)}) > 10


def test_balanced_draws_give_every_class_the_same_share():
    targets = np.array([0.0] * 90 + [1] * 8 + [2] * 2)[:, None]
    weights = balancing_weights(targets)
    for value in range(3):
        assert weights[targets[:, 0] == value].sum() == pytest.approx(1)
    drawn = np.concatenate([targets[balanced_order(weights, 0, epoch), 0] for epoch in range(60)])
    shares = np.bincount(drawn.astype(int)) / drawn.size
    # Of 6000 draws a share of 1/3 has a standard deviation of 0.006.
    np.testing.assert_allclose(shares, 1 / 3, atol=0.03)


def test_of_several_labels_a_case_weighs_the_mean_over_those_it_has():
    targets = np.array([[1.0, 0], [0, np.nan], [0, 0], [0, 1]])
    np.testing.assert_allclose(
        balancing_weights(targets), [(1 + 1 / 2) / 2, 1 / 3, (1 / 3 + 1 / 2) / 2, (1 / 3 + 1) / 2]
    )


def test_a_case_drawn_again_is_another_visit_with_other_draws():
    assert visits([4, 2, 4, 4]) == [Visit(4), Visit(2), Visit(4, 1), Visit(4, 2)]
    drawn = {float(torch.rand(1, generator=generator(0, "a", 1, *visit.key, "v"))) for visit in visits([4, 2, 4, 4])}
    assert len(drawn) == 4


@pytest.mark.parametrize(("positives", "width"), [(35, 2), (35, 4), (3, 2), (70, 8)])
def test_stratified_steps_have_a_rarer_case_each_and_no_case_twice_before_all_came_once(positives, width):
    targets = (np.arange(160) % 160 < positives).astype(float)[:, None]
    order = stratified_order(targets, width, 0, 3)
    assert len(order) == 160
    share = max(1, round(width * positives / 160))
    for step in np.array(order).reshape(-1, width):
        assert targets[step, 0].sum() == share
    for value in (0.0, 1.0):
        drawn = [case for case in order if targets[case, 0] == value]
        group = int((targets == value).sum())
        for start in range(0, len(drawn), group):
            assert len(set(drawn[start : start + group])) == len(drawn[start : start + group])
    assert order == stratified_order(targets, width, 0, 3) != stratified_order(targets, width, 0, 4)


def test_stratified_by_several_labels_or_classes_and_where_there_is_nothing_rare():
    classes = np.array([0.0, 0, 0, 1, 2, 0, 0, 0])[:, None]
    steps = np.array(stratified_order(classes, 2, 0, 0)).reshape(-1, 2)
    assert all(classes[step, 0].any() for step in steps)
    several = np.array([[0.0, np.nan], [0, 1], [0, 1], [1, 1], [0, 0], [0, 1]])
    assert all({3, 4} & set(step) for step in np.array(stratified_order(several, 3, 0, 0)).reshape(-1, 3).tolist())
    assert sorted(stratified_order(np.zeros((7, 1)), 2, 0, 0)) == list(range(7))
