"""Layouts of plain ViTs and of CLIP's image tower as Hugging Face transformers 4 and 5 names them.

Plain ViTs (DINO, DeiT, MAE) under their authors' own names are in the official layout of :mod:`.dino`. CLIP is read
from Hugging Face's files alone: a file of the original names does not say whether its GELU is the quick one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from anymc3d.models.layout_rules import Layout, Rule, Thirds
from anymc3d.models.layouts.dino import finish_dino
from anymc3d.models.vit import ViTConfig

_QKV = "blocks.{i}.attn.qkv.{leaf}"


def _thirds(prefix: str, names: tuple[str, str, str]) -> tuple[Rule, ...]:
    return tuple(Rule(f"{prefix}.{name}.{{leaf}}", _QKV, third) for third, name in enumerate(names))


def _pairs(prefix: str, pairs: Mapping[str, str]) -> tuple[Rule, ...]:
    return tuple(
        Rule(f"{prefix}.{name}.{{leaf}}", f"blocks.{{i}}.{canonical}.{{leaf}}") for name, canonical in pairs.items()
    )


def _plain_block(prefix: str) -> tuple[Rule, ...]:
    """A block as transformers 4 and 5 name its parts."""
    return (
        *_pairs(prefix, {"layernorm_before": "norm1", "layernorm_after": "norm2"}),
        *_thirds(f"{prefix}.attention.attention", ("query", "key", "value")),
        *_thirds(f"{prefix}.attention", ("q_proj", "k_proj", "v_proj")),
        *_pairs(prefix, {"attention.output.dense": "attn.proj", "attention.o_proj": "attn.proj"}),
        *_pairs(prefix, {"intermediate.dense": "mlp.fc1", "output.dense": "mlp.fc2"}),
        *_pairs(prefix, {"mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}),
    )


def _plain(prefix: str) -> tuple[Rule, ...]:
    return (
        Rule(f"{prefix}embeddings.cls_token", "cls_token"),
        Rule(f"{prefix}embeddings.position_embeddings", "pos_embed"),
        Rule(f"{prefix}embeddings.patch_embeddings.projection.{{leaf}}", "patch_embed.proj.{leaf}"),
        Rule(f"{prefix}layernorm.{{leaf}}", "norm.{leaf}"),
        *_plain_block(f"{prefix}encoder.layer.{{i}}"),
        *_plain_block(f"{prefix}layers.{{i}}"),
        Rule(f"{prefix}embeddings.mask_token", None),
        Rule(f"{prefix}pooler.dense.{{leaf}}", None),
    )


def _clip(prefix: str) -> tuple[Rule, ...]:
    layer = f"{prefix}encoder.layers.{{i}}"
    return (
        Rule(f"{prefix}embeddings.class_embedding", "cls_token"),
        Rule(f"{prefix}embeddings.patch_embedding.weight", "patch_embed.proj.weight"),
        Rule(f"{prefix}embeddings.position_embedding.weight", "pos_embed"),
        Rule(f"{prefix}embeddings.position_ids", None),
        Rule(f"{prefix}pre_layrnorm.{{leaf}}", "ln_pre.{leaf}"),
        Rule(f"{prefix}post_layernorm.{{leaf}}", "norm.{leaf}"),
        *_thirds(f"{layer}.self_attn", ("q_proj", "k_proj", "v_proj")),
        *_pairs(layer, {"layer_norm1": "norm1", "layer_norm2": "norm2", "self_attn.out_proj": "attn.proj"}),
        *_pairs(layer, {"mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}),
    )


def finish_clip(whole: dict[str, Tensor], thirds: Thirds, layout: str) -> tuple[ViTConfig, dict[str, Tensor]]:
    """Class token (D,) and positions (N, D) get the axes that a ViT has before them.

    Raises:
        BackboneError: the tensors are not those of CLIP's image tower.
    """
    for name in ("cls_token", "pos_embed"):
        if name in whole:
            whole[name] = whole[name].reshape((1,) * (3 - whole[name].ndim) + tuple(whole[name].shape))
    return finish_dino(whole, thirds, layout)


_BESIDE_CLIP = tuple(
    Rule(name, None)
    for name in ("text_model.{rest}", "visual_projection.weight", "text_projection.weight", "logit_scale")
)
VIT_LAYOUTS: tuple[Layout, ...] = (
    Layout(
        "Hugging Face ViT",
        ("encoder.layer.0.layernorm_before.weight", "layers.0.layernorm_before.weight"),
        _plain(""),
        finish_dino,
    ),
    Layout(
        "Hugging Face ViT with a head",
        ("vit.encoder.layer.0.layernorm_before.weight", "vit.layers.0.layernorm_before.weight"),
        (*_plain("vit."), Rule("classifier.{leaf}", None), Rule("decoder.{rest}", None)),
        finish_dino,
    ),
    Layout(
        "Hugging Face CLIP image tower", ("embeddings.class_embedding",), _clip(""), finish_clip, needs_settings=True
    ),
    Layout(
        "Hugging Face CLIP",
        ("vision_model.embeddings.class_embedding",),
        (*_clip("vision_model."), *_BESIDE_CLIP),
        finish_clip,
        needs_settings=True,
    ),
)

OTHER_VITS: tuple[tuple[Callable[[Mapping[str, Tensor]], bool], str], ...] = (
    (
        lambda raw: any(name.endswith(("dist_token", "distillation_token")) for name in raw),
        "this DeiT was distilled and has a second class token, which is not supported; take the one without "
        "'distilled' in its name",
    ),
    (
        lambda raw: "visual.class_embedding" in raw,
        "this CLIP has its original names, which do not say which GELU it was trained with; take the Hugging Face "
        "folder of it, with its config.json",
    ),
    (
        lambda raw: any(name.startswith(("module.backbone.", "student.", "teacher.")) for name in raw),
        "this is a training checkpoint of DINO; take the file that holds the backbone alone (..._pretrain.pth)",
    ),
)
"""Networks that look alike and are others: (how to recognise it, what to do)."""
