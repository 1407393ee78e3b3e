"""The SigLIP vision tower against Hugging Face transformers, and its attention maps for the heatmaps."""

from __future__ import annotations

import os
import warnings
from typing import Any

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import pytest
import torch
from torch import Tensor

from anymc3d.errors import UsageError
from anymc3d.explain.methods import METHODS, patch_weights
from anymc3d.models.architectures import empty_backbone, random_backbone
from anymc3d.models.backbones import TINY_SIGLIP, card
from anymc3d.models.layouts.table import canonical_state
from anymc3d.models.siglip import SiglipConfig, SiglipVision


def hugging_face_model(config: SiglipConfig) -> Any:
    """The same architecture in transformers, every weight random."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import transformers

        model = transformers.SiglipVisionModel(
            transformers.SiglipVisionConfig(
                hidden_size=config.embed_dim,
                num_hidden_layers=config.layers,
                num_attention_heads=config.num_heads,
                intermediate_size=config.mlp_dim,
                patch_size=config.patch_size,
                image_size=config.grid * config.patch_size,
                layer_norm_eps=config.norm_eps,
            )
        )
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = 0.1 * torch.randn(parameter.shape, generator=generator)
            parameter.copy_(noise + 1 if "norm" in name and name.endswith("weight") else noise)
    return model.eval()


@pytest.fixture(scope="module")
def reference() -> Any:
    return hugging_face_model(TINY_SIGLIP)


def twin(model: Any) -> SiglipVision:
    found, tensors = canonical_state(model.state_dict())
    assert found == TINY_SIGLIP
    module = empty_backbone(found)
    module.load_state_dict(tensors, strict=True, assign=True)
    return module.eval()


def images(rows: int, columns: int, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(rows * 100 + columns)
    return torch.randn(batch, 3, 14 * rows, 14 * columns, generator=generator)


@pytest.mark.parametrize("size", [(4, 4), (3, 6), (8, 8), (1, 1)])
def test_pooled_and_patch_tokens_equal_those_of_transformers(reference: Any, size: tuple[int, int]) -> None:
    """At its own size, and at others with the positions that transformers interpolates."""
    with torch.no_grad():
        expected = reference(images(*size), interpolate_pos_encoding=True)
        tokens = twin(reference)(images(*size)).tokens
    assert tokens.shape == (2, 1 + size[0] * size[1], 128)
    assert (tokens[:, 0] - expected.pooler_output).abs().max() <= 1e-5
    assert (tokens[:, 1:] - expected.last_hidden_state).abs().max() <= 1e-5


def test_attention_maps_are_those_of_transformers_beside_a_token_that_keeps_to_itself(reference: Any) -> None:
    reference.set_attn_implementation("eager")
    with torch.no_grad():
        expected = reference(images(3, 5), interpolate_pos_encoding=True, output_attentions=True)
        found = twin(reference)(images(3, 5), attention_blocks=range(3)).attention
        state = expected.last_hidden_state
        probe = reference.head.probe.expand(2, -1, -1)
        _, of_probe = reference.head.attention(probe, state, state, average_attn_weights=False)
    for block in range(2):
        torch.testing.assert_close(found[block][..., 1:, 1:], expected.attentions[block], atol=1e-6, rtol=0)
        assert (found[block][..., 0, 0] == 1).all() and (found[block][..., 0, 1:] == 0).all()
    torch.testing.assert_close(found[2][:, :, :1, 1:], of_probe, atol=1e-6, rtol=0)
    assert (found[2][:, :, 1:] == 0).all() and (found[2][..., 0] == 0).all()


def test_rollout_reads_the_layers_at_the_probe() -> None:
    """What the heatmap method computes from the maps is the probe's row times the layers' rollout over patches."""
    module = random_backbone(TINY_SIGLIP, seed=1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(3)
        maps = module(images(3, 4), attention_blocks=range(3)).attention
        found = patch_weights(maps, None, METHODS["rollout"], num_prefix_tokens=1)
        eye = torch.eye(12)
        layers = [0.5 * maps[block][..., 1:, 1:].mean(1) + 0.5 * eye for block in range(2)]
        expected = maps[2][:, :, :1, 1:].mean(1) @ layers[1] @ layers[0]
        raw = patch_weights({2: maps[2]}, None, METHODS["attention"], num_prefix_tokens=1)
    torch.testing.assert_close(found, 0.5 * expected[:, 0], atol=1e-6, rtol=0)
    torch.testing.assert_close(raw, maps[2][:, :, 0, 1:].mean(1))
    assert expected.std() > 1e-4, "a rollout that is not flat"


def test_gradients_reach_every_map_and_only_where_it_was_used() -> None:
    module = random_backbone(TINY_SIGLIP, seed=1).requires_grad_(False)
    output = module(images(2, 3).requires_grad_(), attention_blocks=range(3), class_token_only=True)
    gradients = torch.autograd.grad(output.tokens.square().sum(), list(output.attention.values()))
    assert all(gradient[..., 1:].abs().max() > 0 for gradient in gradients)
    assert all((gradient[..., 0] == 0).all() for gradient in gradients)


def test_parameters_are_those_of_the_published_tower() -> None:
    """428.6 million with the head, docs/methods.md."""
    assert round(card("medsiglip-448").num_parameters / 1e6, 1) == 428.6


def test_positions_follow_the_table_and_the_precision() -> None:
    module = random_backbone(TINY_SIGLIP).requires_grad_(False)
    pixels = images(3, 5)
    with torch.inference_mode():
        first = module(pixels).tokens.clone()
    with torch.no_grad():
        module.embeddings.position_embedding.weight.mul_(-3)
    assert (module(pixels).tokens - first).abs().max() > 1e-4
    assert module.to(torch.float64)(pixels.double()).tokens.dtype == torch.float64


def test_wrong_sizes_and_blocks_are_refused_in_one_line() -> None:
    module = random_backbone(TINY_SIGLIP)
    with pytest.raises(UsageError, match="the next larger valid size is 28 x 28"):
        module(torch.zeros(1, 3, 15, 28))
    with pytest.raises(UsageError, match=r"attention blocks are 0 to 2 in this backbone, got \[3\]"):
        module(images(1, 1), attention_blocks=[3])
