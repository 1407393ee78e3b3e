"""Draws depend on seed, purpose, epoch and case alone."""

import torch

from anymc3d.train.draws import batches, epoch_order, generator


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
    order = epoch_order(11, 0, 0)
    whole = batches(order, 4)
    parts = [batches(order, 2, rank, 2) for rank in range(2)]
    assert len({len(part) for part in parts}) == 1
    for step, pieces in zip(whole, zip(*parts, strict=True), strict=True):
        assert sorted(step) == sorted(index for piece in pieces for index in piece)
