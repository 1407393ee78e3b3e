"""The losses of masks against MONAI's, brute force and what must hold."""

import itertools

import numpy as np
import pytest
import torch

from anymc3d.models.decoders.dice_ce import annotated_only, dice_and_cross_entropy
from anymc3d.models.decoders.interface import MaskTarget
from anymc3d.models.decoders.matching import match, matching_loss

MONAI = (2.2274203300476074, 2.2313268184661865)
"""Of ``case(0)`` and ``case(1)`` by MONAI 1.6.1: ``DiceCELoss(include_background=False, to_onehot_y=True, softmax=True,
smooth_nr=1e-5, smooth_dr=1e-5)(logits[None], labels[None, None])``; its Dice is 1 minus ours, so it is 1 more."""


def case(index):
    logits = torch.sin(torch.arange(2 * 4 * 3 * 5 * 6).float() * 0.7).mul(3).reshape(2, 4, 3, 5, 6)
    labels = (torch.arange(2 * 3 * 5 * 6) * 7 % 11 % 4).reshape(2, 3, 5, 6)
    return logits[index], labels[index]


@pytest.mark.parametrize("index", [0, 1])
def test_dice_and_cross_entropy_are_those_of_monai(index):
    assert float(dice_and_cross_entropy(*case(index))) == pytest.approx(MONAI[index] - 1, abs=1e-6)


def test_dice_and_cross_entropy_are_the_formula():
    logits, labels = case(0)
    p = logits.double().softmax(dim=0).numpy()
    entropy = -np.mean(np.log(np.take_along_axis(p, labels.numpy()[None], 0)))
    dice = [
        (2 * (p[k] * (labels == k).numpy()).sum() + 1e-5) / (p[k].sum() + float((labels == k).sum()) + 1e-5)
        for k in (1, 2, 3)
    ]
    assert float(dice_and_cross_entropy(logits, labels)) == pytest.approx(entropy - np.mean(dice), abs=1e-6)


def test_only_annotated_structures_are_numbered_anew():
    logits, labels = case(0)
    kept, renumbered = annotated_only(logits, labels.clone().where(labels != 2, 0), (1, 3))
    assert torch.equal(kept, logits[[0, 1, 3]])
    assert torch.equal(renumbered == 2, labels == 3) and torch.equal(renumbered == 1, labels == 1)
    assert annotated_only(logits, labels, (1, 2, 3))[0] is logits


def test_the_matching_is_the_cheapest_of_all():
    rng = np.random.default_rng(0)
    cost = torch.from_numpy(rng.normal(size=(3, 5, 3)))
    present = torch.tensor([[True, True, True], [True, False, True], [False, False, False]])
    pairs = match(cost, present)
    for item, here in enumerate(present):
        columns = [int(i) for i in here.nonzero()]
        own = [(query, segment) for one, query, segment in pairs if one == item]
        best = min(
            sum(float(cost[item, q, c]) for q, c in zip(queries, columns, strict=True))
            for queries in itertools.permutations(range(5), len(columns))
        )
        assert sorted(segment for _, segment in own) == columns
        assert sum(float(cost[item, q, s]) for q, s in own) == pytest.approx(best)


def segments(labels, scale=20.0, num_queries=6, items=None):
    """Queries that say exactly what ``labels`` (S, H, W) of 0, 1, 2 are; queries 3 and up say none."""
    per_item = labels.shape[0] // (items or labels.shape[0])
    grouped = labels.unflatten(0, (-1, per_item))
    classes = torch.full((grouped.shape[0], num_queries, 4), -scale)
    masks = torch.full((grouped.shape[0], num_queries, *grouped.shape[1:]), -scale)
    for structure in range(3):
        masks[:, structure] = torch.where(grouped == structure, scale, -scale)
        here = (grouped == structure).flatten(1).any(dim=1)
        classes[:, structure, structure] = torch.where(here, scale, -scale)
        classes[:, structure, 3] = torch.where(here, -scale, scale)
    classes[:, 3:, 3] = scale
    return classes, masks


def labels_of_slices():
    labels = torch.zeros(4, 12, 10, dtype=torch.uint8)
    labels[:3, 2:8, 1:5], labels[1:, 5:11, 6:9] = 1, 2
    return labels


def draws():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("items", [4, 1])
def test_the_right_segments_cost_almost_nothing_in_any_order(items):
    """What is left are the pixels at borders, where a mask is bilinear and the truth is not."""
    labels = labels_of_slices()
    classes, masks = segments(labels, items=items)
    target = MaskTarget(labels, (1, 2))
    right = float(matching_loss(classes, masks, target, draws()))
    order = torch.tensor([4, 2, 5, 0, 3, 1])
    shuffled = float(matching_loss(classes[:, order], masks[:, order], target, draws()))
    assert right < 0.08 and shuffled == pytest.approx(right, abs=0.02), "points are drawn in the order of the queries"
    wrong = float(matching_loss(classes, -masks, target, draws()))
    assert wrong > 1


def test_a_volume_without_any_structure_is_all_background():
    labels = torch.zeros(2, 8, 8, dtype=torch.uint8)
    classes, masks = segments(labels)
    assert float(matching_loss(classes, masks, MaskTarget(labels, (1, 2)), draws())) < 0.02


def test_where_only_some_were_looked_for_an_unmatched_query_learns_nothing():
    labels = labels_of_slices()
    classes, masks = (part.requires_grad_() for part in segments(labels, scale=1.0))
    matching_loss(classes, masks, MaskTarget(labels.where(labels != 2, 0), (1,)), draws()).backward()
    matched = classes.grad.abs().sum(dim=-1) > 0
    assert matched.sum(dim=1).tolist() == [1, 1, 1, 0], "the last slice has nothing that was looked for"
    assert (classes.grad[..., 0] == 0).all() and (classes.grad[..., 2] == 0).all()
    assert ((masks.grad.abs().flatten(2).sum(dim=-1) > 0) == matched).all()
