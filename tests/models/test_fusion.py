"""Fusions look at real slices only, and at all of them alike."""

import math

import numpy as np
import pytest
import torch

from anymc3d.errors import UsageError
from anymc3d.models.fusion import FUSIONS, QueryFusion, build_fusion, pad_cases


def fusion_named(name, width=6):
    return build_fusion(name, width, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", FUSIONS)
def test_padding_changes_nothing(name):
    fusion = fusion_named(name)
    embeddings = torch.randn(1, 5, 6)
    alone = fusion(embeddings, torch.ones(1, 5, dtype=torch.bool))
    padded = torch.cat([embeddings, torch.full((1, 3, 6), 99.0)], dim=1)
    mask = torch.arange(8).unsqueeze(0) < 5
    result = fusion(padded, mask)
    torch.testing.assert_close(result.embedding, alone.embedding)
    torch.testing.assert_close(result.weights[:, :5], alone.weights)
    assert (result.weights[:, 5:] == 0).all()


@pytest.mark.parametrize("name", FUSIONS)
def test_slice_order_changes_nothing_and_weights_add_up_to_one(name):
    fusion = fusion_named(name)
    embeddings, mask = torch.randn(2, 7, 6), torch.ones(2, 7, dtype=torch.bool)
    order = torch.randperm(7)
    result, shuffled = fusion(embeddings, mask), fusion(embeddings[:, order], mask)
    torch.testing.assert_close(shuffled.embedding, result.embedding)
    torch.testing.assert_close(result.weights.sum(dim=1), torch.ones(2))


def test_query_is_the_formula_of_the_paper():
    fusion = fusion_named("query")
    slices = torch.randn(1, 4, 6)
    h, q = slices[0].double().numpy(), fusion.query.detach().double().numpy()
    scores = h @ q / math.sqrt(6)
    weights = np.exp(scores) / np.exp(scores).sum()
    result = fusion(slices, torch.ones(1, 4, dtype=torch.bool))
    np.testing.assert_allclose(result.weights[0].detach().numpy(), weights, rtol=1e-5)
    np.testing.assert_allclose(result.embedding[0].detach().numpy(), weights @ h, rtol=1e-4, atol=1e-6)


def test_query_pooling_has_one_parameter_per_channel():
    assert sum(p.numel() for p in QueryFusion(1024, torch.Generator()).parameters()) == 1024


def test_parameter_free_fusions_equal_numpy():
    slices, mask = torch.randn(3, 6, 6), torch.ones(3, 6, dtype=torch.bool)
    for name, reference in (("mean", np.mean), ("max", np.max), ("median", np.median)):
        fused = fusion_named(name)(slices, mask).embedding
        np.testing.assert_allclose(fused.numpy(), reference(slices.numpy(), axis=1), rtol=1e-5, atol=1e-6)


def test_pad_cases_puts_every_slice_back_in_its_case():
    packed = torch.arange(6.0).unsqueeze(1)
    padded, mask = pad_cases(packed, (2, 0, 4))
    assert mask.sum(dim=1).tolist() == [2, 0, 4]
    assert torch.equal(padded[mask], packed)


def test_unknown_fusion_suggests_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'median'"):
        build_fusion("medain", 4, torch.Generator())
