"""The four maps against the textbook product of whole matrices, written out in NumPy."""

import numpy as np
import pytest
import torch

from anymc3d.errors import UsageError
from anymc3d.explain.methods import METHODS, check_method, drop_smallest, fuse_heads, patch_weights, with_identity

SLICES, HEADS, TOKENS, LAYERS, PREFIX = 3, 2, 7, 4, 3


@pytest.fixture
def attention():
    generator = torch.Generator().manual_seed(0)
    return {
        layer: (3 * torch.randn(SLICES, HEADS, TOKENS, TOKENS, generator=generator)).softmax(-1)
        for layer in range(LAYERS)
    }


@pytest.fixture
def gradient(attention):
    generator = torch.Generator().manual_seed(1)
    return {layer: torch.randn(a.shape, generator=generator) for layer, a in attention.items()}


def textbook_rollout(attention, gradient=None):
    """Abnar and Zuidema's product, last layer on the left, whole matrices, one slice after the other."""
    rows = []
    for s in range(SLICES):
        product = np.eye(TOKENS)
        for layer in range(LAYERS):
            heads = attention[layer][s].double().numpy()
            if gradient is not None:
                heads = heads * gradient[layer][s].double().numpy()
            mixed = 0.5 * np.maximum(heads.mean(0), 0) + 0.5 * np.eye(TOKENS)
            product = (mixed / mixed.sum(1, keepdims=True)) @ product
        rows.append(product[0, PREFIX:])
    return np.array(rows)


@pytest.mark.parametrize("name", ["rollout", "grad-rollout"])
def test_rollout_is_the_textbook_product(attention, gradient, name):
    slopes = gradient if METHODS[name].gradients else None
    found = patch_weights(attention, slopes, METHODS[name], num_prefix_tokens=PREFIX)
    np.testing.assert_allclose(found.numpy(), textbook_rollout(attention, slopes), atol=1e-6)


def test_a_gradient_paired_with_another_layer_would_be_noticed(attention, gradient):
    reversed_layers = {layer: gradient[LAYERS - 1 - layer] for layer in gradient}
    right = patch_weights(attention, gradient, METHODS["grad-rollout"], num_prefix_tokens=PREFIX)
    wrong = patch_weights(attention, reversed_layers, METHODS["grad-rollout"], num_prefix_tokens=PREFIX)
    assert not torch.allclose(right, wrong, atol=1e-3)


def test_last_layer_methods_look_at_the_last_layer_alone(attention, gradient):
    last = {LAYERS - 1: attention[LAYERS - 1]}
    for name in ("attention", "grad-rollout-last"):
        slopes = gradient if METHODS[name].gradients else None
        whole = patch_weights(attention, slopes, METHODS[name], num_prefix_tokens=PREFIX)
        assert torch.equal(whole, patch_weights(last, slopes, METHODS[name], num_prefix_tokens=PREFIX))
    assert torch.allclose(
        patch_weights(last, None, METHODS["attention"], num_prefix_tokens=PREFIX),
        attention[LAYERS - 1].mean(1)[:, 0, PREFIX:],
    )


def test_rows_add_up_to_one_also_where_nothing_is_positive(attention):
    negative = fuse_heads(attention[0], -torch.ones_like(attention[0]))
    assert negative.abs().sum() == 0
    assert torch.equal(with_identity(negative), torch.eye(TOKENS).expand(SLICES, -1, -1))
    rows = with_identity(fuse_heads(attention[0])).sum(-1)
    assert torch.allclose(rows, torch.ones_like(rows))


def test_the_product_with_a_gradient_is_made_positive_after_the_mean_over_heads():
    attention = torch.full((1, 2, 1, 1), 0.5)
    gradient = torch.tensor([3.0, -1.0]).view(1, 2, 1, 1)
    assert fuse_heads(attention, gradient).item() == pytest.approx(0.5)  # before the mean it would be 0.75


def test_discard_drops_the_smallest_and_keeps_the_class_column(attention):
    fused = fuse_heads(attention[0])
    dropped = drop_smallest(fused, 0.9)
    assert torch.equal(dropped[..., 0], fused[..., 0])
    kept = dropped[..., 1:] > 0
    assert 0 < kept.sum() <= SLICES * (TOKENS**2 - int(0.9 * TOKENS**2))
    assert fused[..., 1:][kept].min() >= fused[..., 1:][~kept].min()
    assert drop_smallest(fused, 0.0) is fused


def test_an_unknown_method_suggests_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'rollout'"):
        check_method("rolout")
