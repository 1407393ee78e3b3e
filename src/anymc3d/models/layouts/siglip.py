"""Layouts of SigLIP vision towers: the names below ``vision_model.`` are the canonical ones.

Source: Hugging Face transformers, ``models/siglip`` (docs/methods.md). transformers 4 writes the vision tower alone
with the prefix too, transformers 5 without.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from torch import Tensor

from anymc3d.errors import BackboneError, UsageError
from anymc3d.models.layout_rules import Layout, Rule, Thirds
from anymc3d.models.siglip import SiglipConfig

HEAD_DIM = 64
SO400M = (1152, 16)
"""Width and heads of the one released size whose heads are not 64 wide."""

_ATTENTION = tuple(f"self_attn.{name}" for name in ("q_proj", "k_proj", "v_proj", "out_proj"))
_ATTENTION = tuple(f"self_attn.{name}" for name in ("q_proj", "k_proj", "v_proj", "out_proj"))
_LAYER = ("layer_norm1", "layer_norm2", "mlp.fc1", "mlp.fc2", *_ATTENTION)
_SAME = (
    "embeddings.patch_embedding.{leaf}",
    "embeddings.position_embedding.weight",
    *(f"encoder.layers.{{i}}.{name}.{{leaf}}" for name in _LAYER),
    "post_layernorm.{leaf}",
    "head.probe",
    "head.attention.in_proj_weight",
    "head.attention.in_proj_bias",
    *(f"head.{name}.{{leaf}}" for name in ("attention.out_proj", "layernorm", "mlp.fc1", "mlp.fc2")),
)


def finish_siglip(whole: dict[str, Tensor], _thirds: Thirds, layout: str) -> tuple[SiglipConfig, dict[str, Tensor]]:
    """Read the architecture off the shapes; heads are 64 wide, and 72 in So400m.

    Raises:
        BackboneError: a tensor that decides is missing or misshapen.
    """
    try:
        patches = whole["embeddings.patch_embedding.weight"]
        width = patches.shape[0]
        layers = {name.split(".")[2] for name in whole if name.startswith("encoder.layers.")}
        config = SiglipConfig(
            embed_dim=width,
            layers=len(layers),
            num_heads=SO400M[1] if width == SO400M[0] else max(1, width // HEAD_DIM),
            mlp_dim=whole["head.mlp.fc1.weight"].shape[0],
            patch_size=patches.shape[-1],
            grid=math.isqrt(whole["embeddings.position_embedding.weight"].shape[0]),
        )
    except (KeyError, IndexError, UsageError) as error:
        msg = f"weights in the {layout} layout do not fit: a tensor is missing or misshapen ({error})"
        raise BackboneError(msg) from error
    return config, whole


def expected_settings(config: SiglipConfig) -> Mapping[str, object]:
    """What a Hugging Face ``config.json`` says of this vision tower."""
    return {
        "model_type": "siglip_vision_model",
        "hidden_size": config.embed_dim,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.num_heads,
        "intermediate_size": config.mlp_dim,
        "patch_size": config.patch_size,
        "image_size": config.grid * config.patch_size,
        "layer_norm_eps": config.norm_eps,
        "hidden_act": "gelu_pytorch_tanh",
        "vision_use_head": True,
    }


def _layout(name: str, prefix: str) -> Layout:
    rules = (*(Rule(f"{prefix}{same}", same) for same in _SAME), Rule(f"{prefix}embeddings.position_ids", None))
    others = (Rule("text_model.{rest}", None), Rule("logit_scale", None), Rule("logit_bias", None)) if prefix else ()
    marker = f"{prefix}embeddings.patch_embedding.weight"
    return Layout(name, (marker,), (*rules, *others), finish_siglip)


SIGLIP_LAYOUTS: tuple[Layout, ...] = (
    _layout("SigLIP vision tower", ""),
    _layout("Hugging Face SigLIP", "vision_model."),
)

HEADLESS: tuple[tuple[Callable[[Mapping[str, Tensor]], bool], str], ...] = (
    (
        lambda raw: any(name.startswith(("vision_tower.", "model.vision_tower.")) for name in raw),
        "this file holds a language model with a vision tower whose pooling head was left out (MedGemma is published "
        "so); take google/medsiglip-448, the same encoder with its head",
    ),
)
