"""Heads: shapes and initial values; ordinal grades have rising cut points whatever the parameters are."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anymc3d.models.heads import HEADS, MIN_GAP, OrdinalHead


def head_named(name, width=5, num_logits=4):
    return HEADS[name](width, num_logits, torch.Generator().manual_seed(0))


def by_definition(head, embeddings):
    """P(grade = k) = P(> k - 1) - P(> k) in float64, straight from McCullagh's formula."""
    weight, cuts = head.weight.detach().double().numpy(), head.cuts.detach().double().numpy()
    points = np.cumsum([cuts[0], *(np.log1p(np.exp(cuts[1:])) + MIN_GAP)])
    above = 1 / (1 + np.exp(-(embeddings.double().numpy() @ weight.T - points)))
    edges = np.hstack([np.ones((len(above), 1)), above, np.zeros((len(above), 1))])
    return edges[:, :-1] - edges[:, 1:], above


@pytest.mark.parametrize("name", HEADS)
def test_one_logit_per_class_and_the_seed_decides(name):
    head, again = head_named(name), head_named(name)
    assert head(torch.randn(3, 5)).shape == (3, 4)
    assert all(torch.equal(a, b) for a, b in zip(head.parameters(), again.parameters(), strict=True))


def test_parameters_of_both_heads_are_counted():
    assert sum(p.numel() for p in head_named("linear", 1024, 2).parameters()) == 2050
    assert sum(p.numel() for p in head_named("ordinal", 1024, 5).parameters()) == 1024 + 4


@settings(max_examples=60)
@given(
    cuts=st.lists(st.floats(-8, 8, width=32), min_size=2, max_size=6),
    scores=st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=5),
)
def test_ordinal_is_the_cumulative_link_and_its_grades_add_up_to_one(cuts, scores):
    head = head_named("ordinal", 1, len(cuts) + 1)
    with torch.no_grad():
        head.cuts.copy_(torch.tensor(cuts))
        head.weight.fill_(1.0)
    embeddings = torch.tensor(scores).unsqueeze(1)
    expected, above = by_definition(head, embeddings)
    found = head(embeddings).detach().double().exp().numpy()
    np.testing.assert_allclose(found, expected, atol=2e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    assert (np.diff(above, axis=1) < 0).all()


@pytest.mark.parametrize("cuts", [[0.0, -1e4, -1e4], [50.0, -30.0, 30.0], [-1e3, 1e3, 0.0]])
@pytest.mark.parametrize("score", [-1e3, 0.0, 1e3])
def test_ordinal_stays_finite_and_every_grade_possible_at_extremes(cuts, score):
    head = head_named("ordinal", 1)
    with torch.no_grad():
        head.cuts.copy_(torch.tensor(cuts))
        head.weight.fill_(1.0)
    logits = head(torch.tensor([[score]]))
    logits.sum().backward()
    assert logits.isfinite().all()
    assert all(p.grad.isfinite().all() for p in head.parameters())


def test_a_higher_score_never_means_a_lower_most_probable_grade():
    head = head_named("ordinal", 1, 5)
    with torch.no_grad():
        head.weight.fill_(1.0)
        head.cuts.copy_(torch.tensor([-4.0, 3.0, 3.0, 3.0]))
    grades = head(torch.linspace(-9, 9, 200).unsqueeze(1)).argmax(dim=1)
    assert (grades.diff() >= 0).all()
    assert set(grades.tolist()) == set(range(5))


def test_at_the_start_all_grades_are_equally_likely():
    head = head_named("ordinal")
    torch.testing.assert_close(head(torch.zeros(1, 5)).exp(), torch.full((1, 4), 0.25))


def test_half_precision_keeps_the_cut_points_rising():
    head = head_named("ordinal", 3, 30)
    with torch.no_grad():
        head.cuts.copy_(head.cuts.half().float())
    assert isinstance(head, OrdinalHead)
    assert (head.gaps() >= MIN_GAP).all()
