"""LoRA as weight deltas: the published counts, PEFT's answer, and a backbone that nothing can change."""

import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call

from anymc3d.errors import PluginError
from anymc3d.models.architectures import empty_backbone, random_backbone
from anymc3d.models.backbones import TINY_DAVIT, TINY_SIGLIP, card
from anymc3d.models.classifier import VolumeClassifier
from anymc3d.models.lora import LoRA, target_modules
from anymc3d.models.tensor_hash import tensors_hash


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    ("name", "num_logits", "views", "expected"),
    [
        ("dinov3-small", 2, 1, 231_554),
        ("dinov3-base", 2, 1, 456_962),
        ("dinov3-large", 2, 1, 1_197_058),
        ("dinov3-large", 1, 1, 1_196_033),
        ("dinov2-small", 2, 1, 230_114),
        ("dinov2-base", 18, 1, 467_826),
        ("dinov2-large", 2, 1, 1_195_618),
        ("dinov3-large", 2, 3, 3 * 1_193_984 + 4 * 1024 + 2050),
        ("medimageinsight", 2, 1, 1_322_138),
        ("medsiglip-448", 2, 1, 2_008_034),
    ],
)
def test_trainable_counts_are_the_published_ones(name, num_logits, views, expected):
    backbone = empty_backbone(card(name).config)
    names = ["image"] if views == 1 else [f"view{i}" for i in range(views)]
    assert count(VolumeClassifier(backbone, views=names, num_logits=num_logits)) == expected


def test_frozen_method_trains_query_and_head_only(backbone):
    assert count(VolumeClassifier(backbone, views=["image"], num_logits=2, rank=None)) == 32 + 32 * 2 + 2


@pytest.mark.parametrize(("name", "expected"), [("medimageinsight", 6_146), ("medsiglip-448", 3_458)])
def test_frozen_counts_of_the_medical_backbones(name, expected):
    """docs/methods.md: a query and a head on features of 2048 and 1152."""
    backbone = empty_backbone(card(name).config)
    assert count(VolumeClassifier(backbone, views=["image"], num_logits=2, rank=None)) == expected


def test_davit_adapts_all_four_strided_convolutions_and_both_kinds_of_attention():
    """Only so the count of the paper, docs/method.md."""
    attention = [f"{half}.fn.{n}" for half in ("window_attn", "channel_attn") for n in ("qkv", "proj")]
    found = set(target_modules(random_backbone(TINY_DAVIT)))
    assert {name for name in found if name.startswith("convs.")} == {f"convs.{i}.proj" for i in range(4)}
    assert {name.split(".", 4)[-1] for name in found if name.startswith("blocks.")} == set(attention)
    assert len(found) == 4 + 4 * sum(TINY_DAVIT.depths)


def test_siglip_adapts_four_maps_a_layer_and_the_patches_but_not_the_pooling_head():
    found = set(target_modules(random_backbone(TINY_SIGLIP)))
    names = ("q_proj", "k_proj", "v_proj", "out_proj")
    layers = {f"encoder.layers.{i}.self_attn.{name}" for i in range(TINY_SIGLIP.layers) for name in names}
    assert found == {"embeddings.patch_embedding", *layers}


def test_targets_are_patch_embedding_qkv_and_output_projection(backbone):
    assert set(target_modules(backbone)) == {
        "patch_embed.proj",
        *(f"blocks.{i}.attn.{name}" for i in (0, 1) for name in ("qkv", "proj")),
    }


def test_a_network_without_targets_is_an_error_that_names_them():
    with pytest.raises(PluginError, match="qkv"):
        target_modules(nn.Sequential(nn.Linear(2, 2)))


def trained_lora(backbone, seed=0):
    generator = torch.Generator().manual_seed(seed)
    lora = LoRA(backbone, rank=4, alpha=8.0, generator=generator)
    for b in lora.b:
        nn.init.normal_(b, std=0.05, generator=generator)
    return lora


def test_starts_as_the_pretrained_network(backbone):
    lora = LoRA(backbone, rank=4, alpha=8.0, generator=torch.Generator().manual_seed(0))
    images = torch.rand(2, 3, 28, 42)
    assert torch.equal(functional_call(backbone, lora.weights(backbone), (images,)).tokens, backbone(images).tokens)


def test_equals_peft_with_the_same_numbers(backbone):
    from peft import LoraConfig, inject_adapter_in_model  # which takes seconds to import

    lora = trained_lora(backbone)
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["qkv", "proj"], bias="none")
    wrapped = inject_adapter_in_model(config, copy.deepcopy(backbone))
    state = {}
    for name, tensor in lora.tensors().items():
        path, _, letter = name.rpartition(".")
        state[f"{path}.lora_{letter}.default.weight"] = tensor
    result = wrapped.load_state_dict(state, strict=False)
    assert not result.unexpected_keys
    images = torch.rand(3, 3, 28, 42)
    ours = functional_call(backbone, lora.weights(backbone), (images,)).tokens
    assert (ours - backbone(images).tokens).abs().max() > 1e-3
    torch.testing.assert_close(ours, wrapped(images).tokens, atol=1e-5, rtol=0)


def test_H5_no_number_of_plugins_changes_a_bit_of_the_base(backbone):
    before = tensors_hash(backbone.state_dict())
    images = torch.rand(2, 3, 28, 28)
    plain = backbone(images).tokens
    loras = [trained_lora(backbone, seed) for seed in range(3)]
    first = [functional_call(backbone, lora.weights(backbone), (images,)).tokens for lora in loras]
    again = [functional_call(backbone, lora.weights(backbone), (images,)).tokens for lora in reversed(loras)]
    assert all(torch.equal(a, b) for a, b in zip(first, reversed(again), strict=True))
    assert torch.equal(backbone(images).tokens, plain)
    assert tensors_hash(backbone.state_dict()) == before


def test_H4_explicit_two_step_form_gives_the_same(backbone):
    """W x + scale * B (A x), computed apart, for the linear and for the convolution."""
    lora = trained_lora(backbone)
    named = lora.tensors()
    weights = lora.weights(backbone)
    x = torch.rand(5, 32)
    qkv = backbone.blocks[0].attn.qkv
    a, b = named["blocks.0.attn.qkv.A"], named["blocks.0.attn.qkv.B"]
    torch.testing.assert_close(
        nn.functional.linear(x, weights["blocks.0.attn.qkv.weight"], qkv.bias), qkv(x) + 2.0 * (x @ a.T @ b.T)
    )
    images, proj = torch.rand(1, 3, 28, 28), backbone.patch_embed.proj
    a, b = named["patch_embed.proj.A"], named["patch_embed.proj.B"]
    low = nn.functional.conv2d(images, a, stride=14)
    torch.testing.assert_close(
        nn.functional.conv2d(images, weights["patch_embed.proj.weight"], proj.bias, stride=14),
        proj(images) + 2.0 * nn.functional.conv2d(low, b),
    )


def test_initial_a_is_kaiming_uniform(backbone):
    lora = LoRA(backbone, rank=8, alpha=16.0, generator=torch.Generator().manual_seed(0))
    for path, a in zip(lora.paths, lora.a, strict=True):
        reference = torch.empty_like(a)
        nn.init.kaiming_uniform_(reference, a=5**0.5)
        bound = reference.abs().max()
        assert float(a.detach().abs().max()) == pytest.approx(float(bound), rel=0.15), path
    assert all((b == 0).all() for b in lora.b)
