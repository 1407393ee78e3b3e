"""The same weights written in every layout that is read, from canonical tensors; the writers' own naming rules."""

from __future__ import annotations

import re
from collections.abc import Callable

import torch
from torch import Tensor

from anymc3d.models.vit_positions import rope_periods

Tensors = dict[str, Tensor]


def renamed(tensors: Tensors, *pairs: tuple[str, str]) -> Tensors:
    """Apply regular-expression substitutions to the names."""
    result = {}
    for name, tensor in tensors.items():
        for pattern, replacement in pairs:
            name = re.sub(pattern, replacement, name)
        result[name] = tensor.clone()
    return result


def split_qkv(tensors: Tensors, names: tuple[str, str, str], *, key_bias: bool = True) -> Tensors:
    """``attention.qkv`` -> three tensors, as in transformers."""
    result = {}
    for name, tensor in tensors.items():
        if ".qkv." not in name:
            result[name] = tensor
            continue
        for part, third in zip(names, tensor.chunk(3), strict=True):
            if key_bias or part != names[1] or name.endswith("weight"):
                result[name.replace("qkv", part)] = third.contiguous()
    return result


def official_dinov2(tensors: Tensors) -> Tensors:
    return tensors | {"mask_token": torch.zeros(1, 128)}


def timm_dinov2(tensors: Tensors) -> Tensors:
    return dict(tensors)


def timm_dinov2_registers(tensors: Tensors) -> Tensors:
    """timm's ``no_embed_class``: the class position is added into the class token and dropped from the table."""
    result = renamed(tensors, ("register_tokens", "reg_token"))
    result["cls_token"] = result["cls_token"] + result["pos_embed"][:, :1]
    result["pos_embed"] = result["pos_embed"][:, 1:].contiguous()
    return result


DINOV2_STEM = (
    ("^patch_embed.proj", "embeddings.patch_embeddings.projection"),
    ("^(cls_token|register_tokens)", r"embeddings.\1"),
    ("^pos_embed", "embeddings.position_embeddings"),
    ("^norm", "layernorm"),
    (r"^blocks", "encoder.layer"),
    (r"ls(\d).gamma", r"layer_scale\1.lambda1"),
)


def hugging_face_dinov2_v4(tensors: Tensors) -> Tensors:
    names = renamed(
        tensors, *DINOV2_STEM, (r"attn.qkv", "attention.attention.qkv"), ("attn.proj", "attention.output.dense")
    )
    split = split_qkv(names, ("query", "key", "value"))
    return split | {"embeddings.mask_token": torch.zeros(1, 128)}


def hugging_face_dinov2_v5(tensors: Tensors) -> Tensors:
    names = renamed(tensors, *DINOV2_STEM, (r"attn.qkv", "attention.qkv"), ("attn.proj", "attention.o_proj"))
    return split_qkv(names, ("q_proj", "k_proj", "v_proj"))


def official_dinov3(tensors: Tensors) -> Tensors:
    """The released files hold a key bias that a mask switches off, and periods rounded to bfloat16."""
    result = {name: tensor.clone() for name, tensor in tensors.items()}
    for name in [name for name in tensors if name.endswith("qkv.bias")]:
        mask = torch.ones(3 * 128)
        mask[128:256] = 0
        result[name][128:256] = float("nan")
        result[f"{name}_mask"] = mask
    periods = rope_periods(64).bfloat16().float()
    return result | {"mask_token": torch.zeros(1, 128), "rope_embed.periods": periods}


def hugging_face_dinov3(tensors: Tensors, prefix: str = "layer") -> Tensors:
    names = renamed(
        tensors,
        ("^patch_embed.proj", "embeddings.patch_embeddings"),
        ("^cls_token", "embeddings.cls_token"),
        ("^storage_tokens", "embeddings.register_tokens"),
        (r"^blocks", prefix),
        (r"ls(\d).gamma", r"layer_scale\1.lambda1"),
        (r"attn.qkv", "attention.qkv"),
        ("attn.proj", "attention.o_proj"),
        ("mlp.fc1", "mlp.up_proj"),
        ("mlp.fc2", "mlp.down_proj"),
    )
    split = split_qkv(names, ("q_proj", "k_proj", "v_proj"), key_bias=False)
    return split | {"embeddings.mask_token": torch.zeros(1, 1, 128)}


def hugging_face_dinov3_v5(tensors: Tensors) -> Tensors:
    return hugging_face_dinov3(tensors, "model.layer")


def timm_dinov3_qkvb(tensors: Tensors) -> Tensors:
    result = renamed(tensors, ("storage_tokens", "reg_token"), (r"ls(\d).gamma", r"gamma_\1"))
    for name in [name for name in result if name.endswith("qkv.bias")]:
        query, _key, value = result.pop(name).chunk(3)
        result[name.replace("qkv.bias", "q_bias")] = query.contiguous()
        result[name.replace("qkv.bias", "v_bias")] = value.contiguous()
    return result


def timm_dinov3(tensors: Tensors) -> Tensors:
    return {
        name: tensor for name, tensor in timm_dinov3_qkvb(tensors).items() if not name.endswith(("q_bias", "v_bias"))
    }


def official_vit(tensors: Tensors) -> Tensors:
    """DeiT's file has a classifier, DINO's and MAE's have none."""
    return tensors | {"head.weight": torch.zeros(1000, 128), "head.bias": torch.zeros(1000)}


VIT_STEM = (
    ("^patch_embed.proj", "embeddings.patch_embeddings.projection"),
    ("^cls_token", "embeddings.cls_token"),
    ("^pos_embed", "embeddings.position_embeddings"),
    ("^norm\\b", "layernorm"),
    (r"\.norm1", ".layernorm_before"),
    (r"\.norm2", ".layernorm_after"),
)


def hugging_face_vit_v4(tensors: Tensors) -> Tensors:
    names = renamed(
        tensors,
        *VIT_STEM,
        (r"^blocks", "encoder.layer"),
        (r"attn.qkv", "attention.attention.qkv"),
        ("attn.proj", "attention.output.dense"),
        ("mlp.fc1", "intermediate.dense"),
        ("mlp.fc2", "output.dense"),
    )
    pooler = {"pooler.dense.weight": torch.zeros(128, 128), "pooler.dense.bias": torch.zeros(128)}
    return split_qkv(names, ("query", "key", "value")) | pooler


def hugging_face_vit_v5(tensors: Tensors) -> Tensors:
    names = renamed(
        tensors,
        *VIT_STEM,
        (r"^blocks", "layers"),
        (r"attn.qkv", "attention.qkv"),
        ("attn.proj", "attention.o_proj"),
    )
    return split_qkv(names, ("q_proj", "k_proj", "v_proj"))


def with_prefix(tensors: Tensors, prefix: str, beside: Tensors) -> Tensors:
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()} | beside


def hugging_face_deit(tensors: Tensors) -> Tensors:
    beside = {"classifier.weight": torch.zeros(1000, 128), "classifier.bias": torch.zeros(1000)}
    encoder = {n: t for n, t in hugging_face_vit_v4(tensors).items() if not n.startswith("pooler")}
    return with_prefix(encoder, "vit.", beside)


def hugging_face_mae(tensors: Tensors) -> Tensors:
    beside = {"decoder.mask_token": torch.zeros(1, 1, 64), "decoder.decoder_embed.weight": torch.zeros(64, 128)}
    encoder = {n: t for n, t in hugging_face_vit_v4(tensors).items() if not n.startswith("pooler")}
    return with_prefix(encoder, "vit.", beside)


def stored_clip(tensors: Tensors) -> Tensors:
    return dict(tensors)


def hugging_face_clip_tower(tensors: Tensors) -> Tensors:
    """transformers 5, the image tower alone; class token (D,) and positions (N, D)."""
    names = renamed(
        tensors,
        ("^cls_token", "embeddings.class_embedding"),
        ("^pos_embed", "embeddings.position_embedding.weight"),
        ("^patch_embed.proj", "embeddings.patch_embedding"),
        ("^ln_pre", "pre_layrnorm"),
        ("^norm\\b", "post_layernorm"),
        (r"^blocks", "encoder.layers"),
        (r"\.norm1", ".layer_norm1"),
        (r"\.norm2", ".layer_norm2"),
        (r"attn.qkv", "self_attn.qkv"),
        ("attn.proj", "self_attn.out_proj"),
    )
    names["embeddings.class_embedding"] = names["embeddings.class_embedding"].flatten()
    names["embeddings.position_embedding.weight"] = names["embeddings.position_embedding.weight"][0]
    return split_qkv(names, ("q_proj", "k_proj", "v_proj"))


def hugging_face_clip(tensors: Tensors) -> Tensors:
    beside = {
        "text_model.encoder.layers.0.mlp.fc1.weight": torch.zeros(8, 4),
        "visual_projection.weight": torch.zeros(4, 128),
        "text_projection.weight": torch.zeros(4, 4),
        "logit_scale": torch.zeros(()),
        "vision_model.embeddings.position_ids": torch.arange(65)[None],
    }
    return with_prefix(hugging_face_clip_tower(tensors), "vision_model.", beside)


DINOV2: dict[str, Callable[[Tensors], Tensors]] = {
    "official": official_dinov2,
    "timm": timm_dinov2,
    "transformers 4": hugging_face_dinov2_v4,
    "transformers 5": hugging_face_dinov2_v5,
}
DINOV2_REGISTERS = {name: writer for name, writer in DINOV2.items() if name != "timm"}
PLAIN: dict[str, Callable[[Tensors], Tensors]] = {
    "official": official_vit,
    "timm": timm_dinov2,
    "transformers 4": hugging_face_vit_v4,
    "transformers 5": hugging_face_vit_v5,
    "DeiT": hugging_face_deit,
    "MAE": hugging_face_mae,
}
CLIP: dict[str, Callable[[Tensors], Tensors]] = {
    "stored": stored_clip,
    "tower": hugging_face_clip_tower,
    "whole": hugging_face_clip,
}
DINOV3: dict[str, Callable[[Tensors], Tensors]] = {
    "official": official_dinov3,
    "timm qkvb": timm_dinov3_qkvb,
    "transformers 4": hugging_face_dinov3,
    "transformers 5": hugging_face_dinov3_v5,
}
