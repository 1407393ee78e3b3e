"""What every backbone promises, whatever its architecture; see ``anymc3d.models.backbone_protocol``."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from anymc3d.models.architectures import ARCHITECTURES, empty_backbone, random_backbone, with_position_rule
from anymc3d.models.backbones import BACKBONES, card
from anymc3d.models.classifier import Encoding, PackedSlices, VolumeClassifier
from anymc3d.models.lora import LoRA

TINY = [name for name, entry in BACKBONES.items() if entry.origin == "random"]


def images(name: str, rows: int = 2, columns: int = 3) -> Tensor:
    patch = card(name).config.patch_size
    return torch.randn(2, 3, rows * patch, columns * patch, generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=TINY)
def name(request) -> str:
    return request.param


def test_every_architecture_has_a_card_and_a_tiny_one() -> None:
    assert {type(entry.config) for entry in BACKBONES.values() if entry.origin != "random"} == set(ARCHITECTURES)
    assert {type(card(name).config) for name in TINY} == set(ARCHITECTURES)


def test_tokens_are_class_token_other_prefix_tokens_and_patches(name: str) -> None:
    module = random_backbone(card(name).config)
    config = module.config
    tokens = module(images(name)).tokens
    assert tokens.shape == (2, config.num_prefix_tokens + 6, config.embed_dim)
    same = (module.embed_dim, module.patch_size, module.num_prefix_tokens)
    assert same == (config.embed_dim, config.patch_size, config.num_prefix_tokens)


def test_class_token_alone_is_that_of_the_whole_output_with_its_gradient(name: str) -> None:
    module = random_backbone(card(name).config)
    pixels = images(name).requires_grad_()
    whole, alone = module(pixels), module(pixels, class_token_only=True)
    assert alone.tokens.shape == (2, 1, module.embed_dim)
    torch.testing.assert_close(alone.tokens, whole.tokens[:, :1], atol=1e-5, rtol=0)
    gradients = [torch.autograd.grad(out.tokens[:, 0].pow(3).sum(), pixels)[0] for out in (whole, alone)]
    assert gradients[0].abs().max() > 0
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-5, rtol=1e-4)


def test_asking_for_attention_maps_changes_no_token(name: str) -> None:
    module = random_backbone(card(name).config)
    if module.config.depth == 0:
        pytest.skip("this architecture has no attention maps, and says so")
    blocks = range(module.config.depth)
    plain, asked = module(images(name)), module(images(name), attention_blocks=blocks)
    length = module.num_prefix_tokens + 6
    assert list(asked.attention) == list(blocks)
    assert all(found.shape[-2:] == (length, length) for found in asked.attention.values())
    torch.testing.assert_close(asked.tokens, plain.tokens, atol=1e-5, rtol=0)


def test_every_adapted_weight_is_used_and_receives_a_gradient(name: str) -> None:
    module = random_backbone(card(name).config).requires_grad_(False)
    lora = LoRA(module, rank=2, alpha=4.0, generator=torch.Generator().manual_seed(0))
    same = functional_call(module, lora.weights(module), (images(name),)).tokens
    torch.testing.assert_close(same, module(images(name)).tokens, atol=1e-6, rtol=0)
    same[:, 0].pow(3).sum().backward()
    assert all(b.grad is not None and b.grad.abs().max() > 0 for b in lora.b)


def test_bfloat16_with_cast_matrices_equals_autocast_and_is_close_to_float32(name: str) -> None:
    module = random_backbone(card(name).config).eval().requires_grad_(False)
    cast = module.matrices(torch.bfloat16)
    assert all(cast[key] is again for key, again in module.matrices(torch.bfloat16).items()), "cast once"
    with torch.no_grad():
        exact = module(images(name)).tokens
        with torch.autocast("cpu", dtype=torch.bfloat16):
            own = module(images(name)).tokens
            handed = functional_call(module, cast, (images(name),)).tokens
    torch.testing.assert_close(handed, own)
    assert F.cosine_similarity(exact.flatten(1), handed.float().flatten(1)).min() > 0.999
    with torch.no_grad():
        next(iter(module.parameters())).mul_(2)
        first = next(iter(name for name, module in module.named_modules() if isinstance(module, torch.nn.Conv2d)))
        module.get_submodule(first).weight.mul_(2)
    torch.testing.assert_close(
        module.matrices(torch.bfloat16)[f"{first}.weight"], module.get_submodule(first).weight.bfloat16()
    )


def test_training_mode_changes_nothing(name: str) -> None:
    module = random_backbone(card(name).config)
    assert torch.equal(module.train()(images(name)).tokens, module.eval()(images(name)).tokens)


def test_random_weights_depend_on_the_seed_alone_and_leave_none_out(name: str) -> None:
    config = card(name).config
    torch.manual_seed(5)
    first = random_backbone(config, seed=1).state_dict()
    state = torch.random.get_rng_state()
    second, other = random_backbone(config, seed=1).state_dict(), random_backbone(config, seed=2).state_dict()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert first.keys() == empty_backbone(config).state_dict().keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not any(torch.equal(first[key], other[key]) for key in first)


def test_H6_a_slice_is_the_same_in_any_chunk_with_and_without_recomputing(name: str) -> None:
    entry = card(name)
    module = random_backbone(entry.config).eval().requires_grad_(False)
    classifier = VolumeClassifier(module, views=["image"], num_logits=2)
    batch = {"image": PackedSlices(torch.rand(5, 1, 40, 33), (2, 3))}
    results = []
    for size, recompute in ((64, False), (2, False), (2, True)):
        encoding = Encoding(mean=entry.mean, std=entry.std, chunk_size=size, recompute=recompute)
        logits = classifier(module, batch, encoding).logits
        loss = logits.square().sum()
        results.append((logits.detach(), torch.autograd.grad(loss, list(classifier.parameters()))))
    for logits, gradients in results[1:]:
        torch.testing.assert_close(logits, results[0][0], atol=1e-5, rtol=0)
        for found, expected in zip(gradients, results[0][1], strict=True):
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-3)


def test_a_position_rule_is_kept_where_there_is_one() -> None:
    assert with_position_rule(card("dinov2-small").config, "hf").position_rule == "hf"
    for name in ("medimageinsight", "medsiglip-448"):
        assert with_position_rule(card(name).config, "hf") == card(name).config
