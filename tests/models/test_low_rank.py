"""Gradients that go straight to the pair: those of autograd, without the dense gradient."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from anymc3d.models.lora import LoRA
from anymc3d.models.low_rank import LowRankWeight

WIDTH, OUT, RANK, SCALE = 24, 40, 4, 2.0


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    shapes = {"base": (OUT, WIDTH), "a": (RANK, WIDTH), "b": (OUT, RANK), "x": (3, 5, WIDTH), "bias": (OUT,)}
    tensors = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return {name: tensor if name == "base" else tensor.requires_grad_() for name, tensor in tensors.items()}


def merged(pair):
    return torch.addmm(pair["base"], pair["b"], pair["a"], alpha=SCALE)


def gradients(pair, loss):
    return torch.autograd.grad(loss, [pair[name] for name in ("x", "a", "b", "bias")])


def loss_of(pair, weight, dtype=torch.float32):
    return F.linear(pair["x"].to(dtype), weight, pair["bias"].to(dtype)).float().sin().sum()


def test_output_and_gradients_are_those_of_autograd(pair):
    weight = LowRankWeight.of(merged(pair), pair["a"], pair["b"], SCALE)
    expected, found = loss_of(pair, merged(pair)), loss_of(pair, weight)
    assert torch.equal(found, expected)
    for one, other in zip(gradients(pair, found), gradients(pair, expected), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_the_dense_gradient_is_never_formed(pair):
    dense = merged(pair)
    seen = []
    dense.register_hook(seen.append)
    loss_of(pair, LowRankWeight.of(dense, pair["a"], pair["b"], SCALE)).backward()
    assert not seen and pair["a"].grad is not None and pair["b"].grad is not None


def test_bf16_stays_low_rank_and_no_further_from_float32_than_autograd(pair):
    exact = gradients(pair, loss_of(pair, merged(pair)))
    dense = merged(pair).to(torch.bfloat16)
    weight = LowRankWeight.of(merged(pair), pair["a"], pair["b"], SCALE).to(torch.bfloat16)
    assert isinstance(weight, LowRankWeight) and weight.dtype == torch.bfloat16
    usual, found = (gradients(pair, loss_of(pair, w, torch.bfloat16)) for w in (dense, weight))
    for reference, one, other in zip(exact, usual, found, strict=True):
        assert other.dtype == torch.float32
        assert (other - reference).norm() <= 1.5 * (one - reference).norm() + 1e-6


def test_autocast_decides_the_precision_as_for_any_weight(pair):
    with torch.autocast("cpu", torch.bfloat16):
        usual = F.linear(pair["x"], merged(pair), pair["bias"])
        found = F.linear(pair["x"], LowRankWeight.of(merged(pair), pair["a"], pair["b"], SCALE), pair["bias"])
    assert found.dtype == torch.bfloat16 and torch.equal(found, usual)


def test_every_other_operation_sees_a_usual_weight_with_its_gradient(pair):
    weight = LowRankWeight.of(merged(pair), pair["a"], pair["b"], SCALE)
    assert weight.shape == (OUT, WIDTH) and weight.requires_grad
    found = torch.autograd.grad((pair["x"] @ weight.t()).sin().sum(), [pair["a"], pair["b"]])
    expected = torch.autograd.grad((pair["x"] @ merged(pair).t()).sin().sum(), [pair["a"], pair["b"]])
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_second_derivatives_are_refused_instead_of_wrong(pair):
    weight = LowRankWeight.of(merged(pair), pair["a"], pair["b"], SCALE)
    (first,) = torch.autograd.grad(loss_of(pair, weight), pair["a"], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_a_lora_trains_like_the_explicit_two_step_form(backbone):
    """Every target of a network, patch embedding included, against W x + scale * B (A x) under autograd."""
    generator = torch.Generator().manual_seed(1)
    lora = LoRA(backbone, rank=RANK, alpha=8.0, generator=generator)
    for b in lora.b:
        nn.init.normal_(b, std=0.05, generator=generator)
    images = torch.rand(2, 3, 28, 42, generator=generator)
    weights = lora.weights(backbone)
    assert sum(isinstance(weight, LowRankWeight) for weight in weights.values()) == 4
    usual = {n: w.dense if isinstance(w, LowRankWeight) else w for n, w in lora.weights(backbone).items()}
    found, expected = (
        torch.autograd.grad(functional_call(backbone, w, (images,)).tokens[:, 0].sin().sum(), list(lora.parameters()))
        for w in (weights, usual)
    )
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_without_gradients_the_weights_are_plain_tensors(backbone):
    lora = LoRA(backbone, rank=RANK, alpha=8.0, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert {type(weight) for weight in lora.weights(backbone).values()} == {torch.Tensor}
