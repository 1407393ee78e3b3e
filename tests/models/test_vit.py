"""The own Vision Transformer against Hugging Face transformers, and its promises to LoRA, autocast and heatmaps."""

from __future__ import annotations

import math
import os
import warnings
from dataclasses import replace
from typing import Any

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from anymc3d.errors import UsageError
from anymc3d.models.backbones import TINY_CLIP, TINY_DINOV2, TINY_DINOV3, TINY_VIT
from anymc3d.models.image_size import nearest_valid_size
from anymc3d.models.layouts.table import canonical_state
from anymc3d.models.vit import (
    VisionTransformer,
    ViTConfig,
    attend,
    empty_vit,
    random_vit,
)
from anymc3d.models.vit_positions import resize_positions, rope_periods

TINY_REGISTERS = replace(TINY_DINOV2, num_registers=4)
CONFIGS = {
    "dinov2": TINY_DINOV2,
    "dinov2 registers": TINY_REGISTERS,
    "dinov3": TINY_DINOV3,
    "plain": TINY_VIT,
    "clip": TINY_CLIP,
}


def hugging_face_model(config: ViTConfig) -> Any:
    """The same architecture in transformers, every weight random."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import transformers

        shape: dict[str, Any] = {
            "hidden_size": config.embed_dim,
            "num_hidden_layers": config.depth,
            "num_attention_heads": config.num_heads,
            "patch_size": config.patch_size,
            "image_size": config.grid * config.patch_size,
            "layer_norm_eps": config.norm_eps,
        }
        if config.clip:
            model = transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**shape, intermediate_size=512))
        elif not config.layer_scale:
            plain = transformers.ViTConfig(**shape, intermediate_size=512)
            model = transformers.ViTModel(plain, add_pooling_layer=False)
        elif config.positions == "rope":
            shape |= {"intermediate_size": 4 * config.embed_dim, "num_register_tokens": config.num_registers}
            model = transformers.DINOv3ViTModel(transformers.DINOv3ViTConfig(**shape))
        elif config.num_registers:
            shape["num_register_tokens"] = config.num_registers
            model = transformers.Dinov2WithRegistersModel(transformers.Dinov2WithRegistersConfig(**shape))
        else:
            model = transformers.Dinov2Model(transformers.Dinov2Config(**shape))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_factor = "lambda1" in name or ("norm" in name and name.endswith("weight"))
            noise = 0.05 * torch.randn(parameter.shape, generator=generator)
            parameter.copy_(noise + 1 if is_factor else noise)
    return model.eval()


def reference_tokens(model: Any, pixels: Tensor, config: ViTConfig) -> Tensor:
    """All tokens after the final norm, which transformers gives to CLIP's class token alone."""
    if config.clip:
        return model.post_layernorm(model(pixels, interpolate_pos_encoding=True).last_hidden_state)
    resize = {} if config.layer_scale else {"interpolate_pos_encoding": True}
    return model(pixels, **resize).last_hidden_state


def twin(model: Any, config: ViTConfig, rule: str = "hf") -> VisionTransformer:
    found, tensors = canonical_state(model.state_dict())
    assert found == config
    module = empty_vit(replace(config, position_rule=rule))
    module.load_state_dict(tensors, assign=True)
    return module.eval()


def images(config: ViTConfig, rows: int, columns: int, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(rows * 100 + columns)
    return torch.randn(batch, 3, rows * config.patch_size, columns * config.patch_size, generator=generator)


@pytest.mark.parametrize("size", [(8, 8), (5, 9), (12, 3)])
@pytest.mark.parametrize("name", CONFIGS)
def test_tokens_equal_those_of_transformers(name: str, size: tuple[int, int]) -> None:
    config = CONFIGS[name]
    reference = hugging_face_model(config)
    pixels = images(config, *size)
    with torch.no_grad():
        expected = reference_tokens(reference, pixels, config)
        tokens = twin(reference, config)(pixels).tokens
    assert tokens.shape == (2, config.num_prefix_tokens + size[0] * size[1], config.embed_dim)
    assert (tokens - expected).abs().max() <= 1e-5


def test_full_size_dinov2_small_equals_transformers() -> None:
    config = ViTConfig(embed_dim=384, depth=12, num_heads=6, patch_size=14)
    reference = hugging_face_model(config)
    pixels = images(config, 6, 9, batch=1)
    with torch.no_grad():
        difference = twin(reference, config)(pixels).tokens - reference(pixels).last_hidden_state
    assert difference.abs().max() <= 1e-5


def test_attention_maps_equal_those_of_transformers() -> None:
    reference = hugging_face_model(TINY_DINOV3)
    reference.set_attn_implementation("eager")
    pixels = images(TINY_DINOV3, 4, 6)
    with torch.no_grad():
        expected = reference(pixels, output_attentions=True).attentions
        found = twin(reference, TINY_DINOV3)(pixels, attention_blocks=range(2)).attention
    assert all((found[block] - expected[block]).abs().max() <= 1e-6 for block in range(2))


def test_the_class_token_of_clip_is_what_transformers_pools() -> None:
    reference, pixels = hugging_face_model(TINY_CLIP), images(TINY_CLIP, 8, 8)
    with torch.no_grad():
        pooled = reference(pixels).pooler_output
        assert (twin(reference, TINY_CLIP, "official")(pixels).tokens[:, 0] - pooled).abs().max() <= 1e-5


def test_a_plain_vit_is_a_dinov2_whose_factors_are_one() -> None:
    plain = random_vit(TINY_VIT)
    scaled = random_vit(replace(TINY_VIT, layer_scale=True))
    ones = {name: torch.ones_like(value) for name, value in scaled.state_dict().items() if name.endswith("gamma")}
    scaled.load_state_dict(plain.state_dict() | ones)
    pixels = images(TINY_VIT, 5, 7)
    assert torch.equal(plain(pixels).tokens, scaled(pixels).tokens)


@pytest.mark.parametrize("config", [TINY_DINOV2, TINY_REGISTERS, TINY_VIT, TINY_CLIP])
def test_position_rules_agree_at_the_native_size_only(config: ViTConfig) -> None:
    official, hugging_face = (random_vit(replace(config, position_rule=rule)) for rule in ("official", "hf"))
    native, other = images(config, 8, 8), images(config, 5, 7)
    with torch.no_grad():
        assert torch.equal(official(native).tokens, hugging_face(native).tokens)
        difference = (official(other).tokens - hugging_face(other).tokens).abs().max()
    # With registers both rules resize by size with antialiasing; without them the official rule has its 0.1. CLIP's
    # authors give none.
    assert (difference == 0) if config.num_registers or config.clip else (difference > 1e-4)


def cubic(distance: float) -> float:
    """Keys' convolution kernel with a = -0.75, as PyTorch uses it."""
    a, x = -0.75, abs(distance)
    if x <= 1:
        return ((a + 2) * x - (a + 3)) * x * x + 1
    return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a if x < 2 else 0.0


def bicubic_matrix(grid: int, count: int, scale: float) -> Tensor:
    """Weights (count, grid) of a bicubic resampling whose outputs lie 1 / scale inputs apart; edges repeat."""
    matrix = torch.zeros(count, grid, dtype=torch.float64)
    for output in range(count):
        place = (output + 0.5) / scale - 0.5
        for tap in range(math.floor(place) - 1, math.floor(place) + 3):
            matrix[output, min(max(tap, 0), grid - 1)] += cubic(place - tap)
    return matrix


def test_official_offset_rule_equals_a_bicubic_resampling_written_by_hand() -> None:
    config = ViTConfig(embed_dim=64, depth=1, num_heads=1, patch_size=14)
    table = torch.randn(1, 1 + 37 * 37, 64, generator=torch.Generator().manual_seed(0))
    rows, columns = 16, 40
    patches = table[0, 1:].double().reshape(37, 37, 64)
    found = resize_positions(table, rows, columns, grid=37, offset=config.offset, antialias=config.antialias)

    def difference(offset: float) -> Tensor:
        down = bicubic_matrix(37, rows, (rows + offset) / 37)
        across = bicubic_matrix(37, columns, (columns + offset) / 37)
        return (found[0, 1:] - torch.einsum("ri,cj,ijd->rcd", down, across, patches).flatten(0, 1)).abs().max()

    assert torch.equal(found[:, :1], table[:, :1])
    assert difference(0.1) <= 5e-5, "float32 sampling positions against float64 ones"
    assert difference(0.0) > 0.1


@pytest.mark.parametrize("name", CONFIGS)
def test_asking_for_attention_maps_changes_no_token_and_rows_sum_to_one(name: str) -> None:
    module = random_vit(CONFIGS[name])
    pixels = images(CONFIGS[name], 4, 6)
    plain, asked = module(pixels), module(pixels, attention_blocks=[1])
    assert plain.attention == {} and list(asked.attention) == [1]
    assert (plain.tokens - asked.tokens).abs().max() <= 1e-5
    length = CONFIGS[name].num_prefix_tokens + 24
    assert asked.attention[1].shape == (2, 2, length, length)
    assert torch.allclose(asked.attention[1].sum(-1), torch.ones(()), atol=1e-5)


def test_gradients_reach_the_attention_maps_of_a_frozen_backbone() -> None:
    module = random_vit(TINY_DINOV2).requires_grad_(False)
    pixels = images(TINY_DINOV2, 4, 4).requires_grad_()
    output = module(pixels, attention_blocks=[0, 1])
    gradients = torch.autograd.grad(output.tokens[:, 0].square().sum(), list(output.attention.values()))
    assert all(gradient.shape == (2, 2, 17, 17) and gradient.abs().max() > 0 for gradient in gradients)


@pytest.mark.parametrize("config", [TINY_DINOV2, TINY_DINOV3])
def test_replaced_weights_are_used_and_receive_gradients(config: ViTConfig) -> None:
    """LoRA hands W + scale * B @ A to the module from outside."""
    module = random_vit(config).requires_grad_(False)
    pixels = images(config, 4, 4)
    targets = ["patch_embed.proj.weight", "blocks.0.attn.qkv.weight", "blocks.1.attn.proj.weight"]
    replaced = {name: module.get_parameter(name).clone().requires_grad_() for name in targets}
    same = functional_call(module, replaced, (pixels,)).tokens
    assert torch.equal(same, module(pixels).tokens)
    same[:, 0].square().sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().max() > 0 for weight in replaced.values())
    doubled = {name: 2 * weight.detach() for name, weight in replaced.items()}
    changed = functional_call(module, doubled, (pixels,)).tokens
    expected = random_vit(config)
    with torch.no_grad():
        for name, weight in doubled.items():
            expected.get_parameter(name).copy_(weight)
    assert torch.equal(changed, expected(pixels).tokens)


@pytest.mark.parametrize("name", CONFIGS)
def test_bfloat16_autocast_is_close_and_keeps_the_residual_in_float32(name: str) -> None:
    module = random_vit(CONFIGS[name])
    pixels = images(CONFIGS[name], 4, 6)
    with torch.no_grad():
        exact = module(pixels).tokens
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = module(pixels, attention_blocks=[0])
    similarity = F.cosine_similarity(exact.flatten(1), output.tokens.float().flatten(1))
    assert similarity.min() > 0.999
    assert output.attention[0].dtype == torch.float32


def test_remembered_positions_follow_the_table() -> None:
    module = random_vit(TINY_DINOV2).requires_grad_(False)
    pixels = images(TINY_DINOV2, 5, 6)
    names = set(module.state_dict())
    with torch.inference_mode():
        first = module(pixels).tokens.clone()
    assert set(module.state_dict()) == names and all("resized" not in name for name, _ in module.named_buffers())
    grown = pixels.clone().requires_grad_()
    module(grown).tokens.sum().backward()
    assert grown.grad is not None, "a table first resized in inference mode must serve a later backward pass"
    with torch.no_grad():
        module.pos_embed.mul_(-3)
    changed = module(pixels).tokens
    assert (changed - first).abs().max() > 1e-3
    fresh = random_vit(TINY_DINOV2)
    with torch.no_grad():
        fresh.pos_embed.mul_(-3)
        assert torch.equal(changed, fresh(pixels).tokens)
        assert module.to(torch.bfloat16)(pixels.bfloat16()).tokens.dtype == torch.bfloat16
        assert torch.equal(module.to(torch.float64)(pixels.double()).tokens.isfinite().all(), torch.tensor(True))
    other = random_vit(TINY_DINOV2, seed=5).pos_embed.detach().double()
    swapped = functional_call(module, {"pos_embed": other}, (pixels.double(),)).tokens
    assert not torch.equal(swapped, module(pixels.double()).tokens)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("asked", [(), (0,), (0, 1)])
def test_class_token_alone_is_the_class_token_of_the_whole_output(name: str, asked: tuple[int, ...]) -> None:
    module = random_vit(CONFIGS[name])
    pixels = images(CONFIGS[name], 4, 6).requires_grad_()
    whole = module(pixels, attention_blocks=asked)
    alone = module(pixels, attention_blocks=asked, class_token_only=True)
    assert alone.tokens.shape == (2, 1, CONFIGS[name].embed_dim)
    torch.testing.assert_close(alone.tokens, whole.tokens[:, :1], atol=1e-5, rtol=0)
    for block in asked:
        torch.testing.assert_close(alone.attention[block], whole.attention[block], atol=1e-6, rtol=0)
    gradients = [torch.autograd.grad(out.tokens[:, 0].square().sum(), pixels)[0] for out in (whole, alone)]
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-5, rtol=1e-4)


def test_class_token_alone_leaves_out_the_last_mlp_of_the_other_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    module = random_vit(TINY_DINOV2)
    lengths = []
    original = type(module.blocks[0].mlp).forward
    monkeypatch.setattr(
        type(module.blocks[0].mlp), "forward", lambda self, x: lengths.append(x.shape[1]) or original(self, x)
    )
    module(images(TINY_DINOV2, 3, 5), class_token_only=True)
    assert lengths == [16, 1]


def test_bfloat16_attention_is_at_least_as_exact_as_the_bfloat16_kernel() -> None:
    generator = torch.Generator().manual_seed(0)
    heads = [3 * torch.randn(2, 2, 30, 64, generator=generator).bfloat16() for _ in range(3)]
    exact = F.scaled_dot_product_attention(*(part.double() for part in heads))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, kernel = attend(*heads), F.scaled_dot_product_attention(*heads)
    assert found.dtype == torch.bfloat16
    assert (found - exact).norm() <= (kernel - exact).norm()


def test_remembered_casts_are_those_of_autocast_and_follow_the_parameters() -> None:
    module = random_vit(TINY_DINOV2).requires_grad_(False)
    names, pixels = set(module.state_dict()), images(TINY_DINOV2, 4, 4)
    with torch.inference_mode():
        cast = module.matrices(torch.bfloat16)
    assert set(module.state_dict()) == names and module.matrices(torch.bfloat16).keys() == cast.keys()
    assert {name.rsplit(".", 2)[-2] for name in cast} == {"proj", "qkv", "fc1", "fc2"}
    assert all(tensor is module.matrices(torch.bfloat16)[name] for name, tensor in cast.items())
    assert not any(tensor.is_inference() for tensor in cast.values())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(functional_call(module, cast, (pixels,)).tokens, module(pixels).tokens)
    with torch.no_grad():
        module.blocks[0].mlp.fc1.weight.mul_(2)
    name = "blocks.0.mlp.fc1.weight"
    assert torch.equal(module.matrices(torch.bfloat16)[name], 2 * cast[name])
    assert module.to(torch.float64).matrices(torch.bfloat16)[name] is not cast[name]
    module.norm.requires_grad_()
    module.blocks[0].mlp.fc1.requires_grad_()
    assert cast.keys() - module.matrices(torch.bfloat16).keys() == {name, "blocks.0.mlp.fc1.bias"}


@pytest.mark.parametrize("config", [TINY_DINOV2, TINY_DINOV3])
def test_compiled_module_computes_the_same(config: ViTConfig) -> None:
    module = random_vit(replace(config, depth=1)).requires_grad_(False)
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    pixels = images(config, 3, 5)
    assert (compiled(pixels).tokens - module(pixels).tokens).abs().max() <= 1e-5


@pytest.mark.parametrize("config", [TINY_DINOV2, TINY_DINOV3])
def test_training_mode_changes_nothing(config: ViTConfig) -> None:
    """DINOv3's random rescaling of positions is a pretraining device; adapters are trained without it."""
    module = random_vit(config)
    pixels = images(config, 4, 5)
    assert torch.equal(module.train()(pixels).tokens, module.eval()(pixels).tokens)


def test_every_weight_matters() -> None:
    for config in CONFIGS.values():
        module = random_vit(config)
        pixels = images(config, 3, 4)
        module(pixels).tokens.square().sum().backward()
        silent = [name for name, weight in module.named_parameters() if weight.grad is None or not weight.grad.any()]
        assert silent == []


def test_random_weights_depend_on_the_seed_alone() -> None:
    state = torch.get_rng_state()
    first, second, other = random_vit(TINY_DINOV3), random_vit(TINY_DINOV3), random_vit(TINY_DINOV3, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    weights = [module.get_parameter("blocks.1.mlp.fc2.weight") for module in (first, second, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert not first.get_parameter("blocks.0.attn.qkv.bias")[128:256].any()


def test_wrong_sizes_name_the_nearest_valid_one() -> None:
    module = random_vit(TINY_DINOV2)
    with pytest.raises(UsageError, match=r"220 x 224 is not a multiple of the patch size 14.* 224 x 224"):
        module(torch.zeros(1, 3, 220, 224))
    with pytest.raises(UsageError, match=r"\(B, 3, H, W\), got \(1, 1, 28, 28\)"):
        module(torch.zeros(1, 1, 28, 28))
    with pytest.raises(UsageError, match=r"0 to 1 in this backbone, got \[2\]"):
        module(torch.zeros(1, 3, 28, 28), attention_blocks=[2])
    assert [nearest_valid_size(size, 14) for size in (1, 14, 15, 220, 224)] == [14, 14, 28, 224, 224]


def test_rope_periods_follow_the_formula() -> None:
    expected = [100 ** (2 * j / 32) for j in range(16)]
    assert torch.allclose(rope_periods(64), torch.tensor(expected), rtol=1e-6)


def test_a_width_that_heads_cannot_share_is_refused() -> None:
    with pytest.raises(UsageError, match="embed_dim 100 and 3 heads"):
        ViTConfig(embed_dim=100, depth=1, num_heads=3, patch_size=14)
