"""MedImageInsight's DaViT against the vision tower of Florence-2 in transformers: the same network, other names."""

from __future__ import annotations

import os
import re
import warnings
from dataclasses import replace
from typing import Any

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import pytest
import torch
from torch import Tensor, nn

from anymc3d.errors import UsageError
from anymc3d.models.architectures import empty_backbone, random_backbone
from anymc3d.models.backbones import TINY_DAVIT, card
from anymc3d.models.davit import ChannelAttention, DaViT, DaViTConfig, WindowAttention

FLORENCE_NAMES = (
    (r"^convs\.(\d)\.conv\.", r"convs.\1.proj."),
    (r"\.(conv[12])\.", r".\1.fn.dw."),
    (r"spatial_block\.norm1\.", "spatial_block.window_attn.norm."),
    (r"channel_block\.norm1\.", "channel_block.channel_attn.norm."),
    (r"\.norm2\.", ".ffn.norm."),
    (r"_attn\.(qkv|proj)\.", r"_attn.fn.\1."),
    (r"\.ffn\.(fc[12])\.", r".ffn.fn.net.\1."),
)


def florence(config: DaViTConfig) -> Any:
    """The same architecture in transformers, every weight random."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers import Florence2VisionConfig
        from transformers.models.florence2.modeling_florence2 import Florence2VisionBackbone

        heads = [width // config.head_dim for width in config.dims]
        model = Florence2VisionBackbone(
            Florence2VisionConfig(
                embed_dim=list(config.dims),
                depths=list(config.depths),
                num_heads=heads,
                num_groups=heads,
                window_size=config.window,
            )
        )
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = 0.1 * torch.randn(parameter.shape, generator=generator)
            parameter.copy_(noise + 1 if "norm" in name and name.endswith("weight") else noise)
    return model.eval()


def twin(model: Any, config: DaViTConfig) -> DaViT:
    """Ours with the same numbers; Florence-2 has no final norm, so that it is left as the identity's factors."""
    tensors = {}
    for name, tensor in model.state_dict().items():
        for pattern, replacement in FLORENCE_NAMES:
            name = re.sub(pattern, replacement, name)
        tensors[name] = tensor
    tensors |= {"norms.weight": torch.ones(config.embed_dim), "norms.bias": torch.zeros(config.embed_dim)}
    module = empty_backbone(config)
    module.load_state_dict(tensors, strict=True, assign=True)
    return module.eval()


def images(rows: int, columns: int, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(rows * 100 + columns)
    return torch.randn(batch, 3, 32 * rows, 32 * columns, generator=generator)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (4, 2)])
@pytest.mark.parametrize("config", [TINY_DAVIT, replace(TINY_DAVIT, window=7), replace(TINY_DAVIT, window=4)])
def test_the_last_stage_equals_that_of_florence_2(config: DaViTConfig, size: tuple[int, int]) -> None:
    """Grids smaller and larger than a window, multiples of it and not: the same padding."""
    reference = florence(config)
    pixels = images(*size)
    with torch.no_grad():
        expected = reference(pixels).last_hidden_state.flatten(2).transpose(1, 2)
        ours = twin(reference, config)
        found = ours(pixels, last_stage=True)
        output = ours(pixels)
    assert found.shape == (2, size[0] * size[1], config.embed_dim)
    assert expected.abs().max() > 0.5, "a reference that says something"
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
    pooled = nn.functional.layer_norm(expected.mean(1), (config.embed_dim,))
    assert (output.tokens[:, 0] - pooled).abs().max() <= 2e-5 * pooled.abs().max()


def test_window_attention_is_softmax_attention_inside_each_window() -> None:
    """Written out with einsum, in float64, with the zeros that fill the last windows."""
    config = replace(TINY_DAVIT, window=4)
    module = WindowAttention(config, 64).double()
    grid = torch.randn(2, 6, 9, 64, dtype=torch.float64)
    padded = torch.zeros(2, 8, 12, 64, dtype=torch.float64)
    padded[:, :6, :9] = grid
    expected = torch.zeros_like(padded)
    for top in range(0, 8, 4):
        for left in range(0, 12, 4):
            tokens = padded[:, top : top + 4, left : left + 4].reshape(2, 16, 64)
            query, key, value = module.qkv(tokens).reshape(2, 16, 3, 2, 32).unbind(2)
            weights = (torch.einsum("bqhd,bkhd->bhqk", query, key) / 32**0.5).softmax(-1)
            mixed = torch.einsum("bhqk,bkhd->bqhd", weights, value).reshape(2, 4, 4, 64)
            expected[:, top : top + 4, left : left + 4] = module.proj(mixed)
    torch.testing.assert_close(module(grid), expected[:, :6, :9], atol=1e-10, rtol=0)


def test_channel_attention_looks_from_channel_to_channel() -> None:
    """docs/methods.md: softmax(q^T k * N ** -0.5) over the channels of a group, times v^T."""
    module = ChannelAttention(TINY_DAVIT, 64).double()
    grid = torch.randn(2, 3, 5, 64, dtype=torch.float64)
    query, key, value = module.qkv(grid.reshape(2, 15, 64)).reshape(2, 15, 3, 2, 32).unbind(2)
    weights = (torch.einsum("bngc,bngd->bgcd", query, key) * 15**-0.5).softmax(-1)
    expected = module.proj(torch.einsum("bgcd,bngd->bngc", weights, value).reshape(2, 15, 64)).view(2, 3, 5, 64)
    torch.testing.assert_close(module(grid), expected, atol=1e-10, rtol=0)


def test_parameters_are_those_of_the_published_encoder() -> None:
    """360.6 million, docs/methods.md."""
    assert round(card("medimageinsight").num_parameters / 1e6, 1) == 360.6


def test_every_weight_matters() -> None:
    """But the keys' bias inside windows, which shifts all scores of a query alike."""
    module = random_backbone(TINY_DAVIT, seed=2)
    module(images(2, 2)).tokens[:, 0].pow(3).sum().backward()
    largest = {name: float(parameter.grad.abs().max()) for name, parameter in module.named_parameters()}
    for name, parameter in module.named_parameters():
        if name.endswith("window_attn.fn.qkv.bias"):
            largest[name] = float(parameter.grad.unflatten(0, (3, -1))[[0, 2]].abs().amax(1).min())
    assert min(largest.values()) > 1e-7, min(largest, key=largest.__getitem__)


def test_a_size_that_32_does_not_divide_names_the_next_one() -> None:
    module = random_backbone(TINY_DAVIT)
    with pytest.raises(UsageError, match="the next larger valid size is 64 x 96"):
        module(torch.zeros(1, 3, 33, 90))


def test_attention_maps_are_refused_in_one_line() -> None:
    with pytest.raises(UsageError, match="has no attention maps"):
        random_backbone(TINY_DAVIT)(images(1, 1), attention_blocks=[0])


def test_widths_that_heads_cannot_share_are_refused() -> None:
    with pytest.raises(UsageError, match="multiples of 32"):
        DaViTConfig(dims=(32, 64, 100, 128))
