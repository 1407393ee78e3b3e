"""The class token's attention without keys and values is that with them; products are counted, not timed."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from anymc3d.models import vit
from anymc3d.models.backbones import TINY_DINOV2, TINY_DINOV3
from anymc3d.models.classifier import Encoding, PackedSlices, VolumeClassifier
from anymc3d.models.vit import random_vit

CONFIGS = {"learned": replace(TINY_DINOV2, depth=4, num_registers=2), "rotary": replace(TINY_DINOV3, depth=4)}
ROWS, COLUMNS = 4, 6


@pytest.fixture(params=CONFIGS)
def network(request):
    """The attention looks at few tokens: its scores are tens, and an error in one is seen."""
    module = random_vit(CONFIGS[request.param], seed=3).requires_grad_(False)
    with torch.no_grad():
        for block in module.blocks:
            block.attn.qkv.weight.mul_(30)
            block.attn.qkv.bias.mul_(30)
    return module


def tokens_for(network, dtype=torch.float64):
    length = network.num_prefix_tokens + ROWS * COLUMNS
    return torch.randn(3, length, network.embed_dim, generator=torch.Generator().manual_seed(1), dtype=dtype)


def attended(network, tokens, queries):
    """Of the first token, where so many tokens ask."""
    rotation = network.rotation(ROWS, COLUMNS, tokens.device)
    return network.blocks[-1].attn(tokens, rotation, False, queries)[0][:, :1]


def test_it_is_exact(network):
    network, tokens = network.double(), tokens_for(network)
    maps = network.blocks[-1].attn(tokens, network.rotation(ROWS, COLUMNS, tokens.device), True, 1)[1]
    assert maps.amax(dim=-1).mean() > 0.3, "the attention is not flat"
    whole = attended(network, tokens, tokens.shape[1])
    # Rotations are made in float32.
    close = 1e-12 if network.config.positions == "learned" else 1e-6
    torch.testing.assert_close(attended(network, tokens, 1), whole, atol=close * float(whole.abs().max()), rtol=0)


def test_gradients_of_every_pair_are_those_of_the_whole_block(network):
    network = network.double()
    classifier = VolumeClassifier(network, views=["image"], num_logits=2).double()
    with torch.no_grad():
        for parameter in classifier.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    lora = classifier.lora["image"]
    pixels = torch.randn(2, 3, ROWS * network.patch_size, COLUMNS * network.patch_size, dtype=torch.float64)
    found = []
    for alone in (False, True):
        out = functional_call(network, lora.weights(network), (pixels,), {"class_token_only": alone}).tokens[:, 0]
        found.append(torch.autograd.grad(out.sin().sum(), list(lora.parameters())))
    for whole, alone in zip(*found, strict=True):
        torch.testing.assert_close(alone, whole, atol=1e-5 * float(whole.abs().max()), rtol=1e-4)


def test_no_map_of_all_tokens_is_computed(network, monkeypatch):
    """But for the keys where positions are rotary."""
    tokens, linear, widths = tokens_for(network, torch.float32), F.linear, []

    def counted(inputs, weight, bias=None):
        widths.extend([len(weight)] if inputs.shape[-2] == tokens.shape[1] else [])
        return linear(inputs, weight, bias)

    monkeypatch.setattr(F, "linear", counted)
    attended(network, tokens, 1)
    assert widths == ([] if network.config.positions == "learned" else [network.embed_dim])
    attended(network, tokens, tokens.shape[1])
    assert widths[-2:] == [3 * network.embed_dim, network.embed_dim], "it counts"


def test_in_bfloat16_it_is_no_less_exact_than_the_whole_block(network):
    """Without rotary positions only the last projection is rounded; with them the keys are, as in the whole block."""
    tokens = tokens_for(network, torch.float32)
    exact = attended(network, tokens, 1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        whole, alone = attended(network, tokens, tokens.shape[1]), attended(network, tokens, 1)
    assert alone.dtype == whole.dtype == torch.bfloat16
    factor = 1 if network.config.positions == "learned" else 2
    assert (alone - exact).norm() <= factor * (whole - exact).norm()


class _Wrapped(nn.Linear):
    """A layer that is no plain linear map, as adapters of other packages put one in place."""

    def forward(self, inputs):
        return super().forward(inputs) + 1


def test_a_layer_in_its_place_is_asked_itself(network):
    tokens = tokens_for(network, torch.float32)
    qkv = network.blocks[-1].attn.qkv
    wrapped = _Wrapped(qkv.in_features, qkv.out_features)
    wrapped.load_state_dict(qkv.state_dict())
    network.blocks[-1].attn.qkv = wrapped
    torch.testing.assert_close(
        attended(network, tokens, 1), attended(network, tokens, tokens.shape[1]), atol=1e-5, rtol=1e-5
    )


def test_training_and_prediction_take_it(network, monkeypatch):
    """A classifier that reads class tokens asks it, with gradients and without; one that reads patches does not."""
    calls = []
    asked = vit.first_token_mixed
    monkeypatch.setattr(vit, "first_token_mixed", lambda *args: calls.append(1) or asked(*args))
    side = 2 * network.patch_size
    packed = PackedSlices(torch.rand(3, 1, side, side), (3,))
    for features, times in (("class", 1), ("last4", 1), ("class+mean", 0)):
        classifier = VolumeClassifier(network, views=["image"], num_logits=2, features=features)
        for gradients in (True, False):
            calls.clear()
            with torch.set_grad_enabled(gradients):
                classifier.encode(network, "image", packed, Encoding())
            assert len(calls) == times
