"""Layouts of DINOv2 and DINOv3 weights: official names with a fused qkv are the canonical ones.

The official names are also those of plain ViTs (DINO, DeiT, MAE, and timm's of them), without the factors per channel.
Sources: the official releases (facebookresearch/dinov2, facebookresearch/dinov3), Hugging Face transformers 4 and 5,
and timm.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from anymc3d.errors import BackboneError
from anymc3d.models.layout_rules import Layout, Rule, Thirds
from anymc3d.models.vit import ViTConfig
from anymc3d.models.vit_positions import ROPE_BASE, rope_periods

HEAD_DIM = 64
"""Of every released DINO model, and of plain ViTs up to large; the number of heads cannot be read off the shapes."""
HUGE = 1280
"""The width of ViT-H, whose heads are 80 wide."""
PERIODS = "rope_embed.periods"
KEY_MASK = "attn.qkv.bias_mask"

_MASK_TOKEN = Rule("mask_token", None)
_STEM = (
    Rule("cls_token", "cls_token"),
    Rule("patch_embed.proj.{leaf}", "patch_embed.proj.{leaf}"),
    Rule("norm.{leaf}", "norm.{leaf}"),
)
_BLOCK = (
    Rule("blocks.{i}.norm1.{leaf}", "blocks.{i}.norm1.{leaf}"),
    Rule("blocks.{i}.attn.qkv.{leaf}", "blocks.{i}.attn.qkv.{leaf}"),
    Rule("blocks.{i}.attn.proj.{leaf}", "blocks.{i}.attn.proj.{leaf}"),
    Rule("blocks.{i}.norm2.{leaf}", "blocks.{i}.norm2.{leaf}"),
    Rule("blocks.{i}.mlp.fc1.{leaf}", "blocks.{i}.mlp.fc1.{leaf}"),
    Rule("blocks.{i}.mlp.fc2.{leaf}", "blocks.{i}.mlp.fc2.{leaf}"),
)


def _hugging_face_block(
    prefix: str, up: str, down: str, projections: Sequence[tuple[str, str, str, str]]
) -> list[Rule]:
    """The rules of one transformers block; ``projections`` are the names of query, key, value and output."""
    same = [Rule(f"{prefix}.{norm}.{{leaf}}", f"blocks.{{i}}.{norm}.{{leaf}}") for norm in ("norm1", "norm2")]
    scales = [Rule(f"{prefix}.layer_scale{n}.lambda1", f"blocks.{{i}}.ls{n}.gamma") for n in (1, 2)]
    mlp = [
        Rule(f"{prefix}.mlp.{up}.{{leaf}}", "blocks.{i}.mlp.fc1.{leaf}"),
        Rule(f"{prefix}.mlp.{down}.{{leaf}}", "blocks.{i}.mlp.fc2.{leaf}"),
    ]
    attention = []
    for *inputs, output in projections:
        fused = "blocks.{i}.attn.qkv.{leaf}"
        attention += [Rule(f"{prefix}.attention.{n}.{{leaf}}", fused, third) for third, n in enumerate(inputs)]
        attention.append(Rule(f"{prefix}.attention.{output}.{{leaf}}", "blocks.{i}.attn.proj.{leaf}"))
    return same + scales + mlp + attention


_V4_NAMES = ("attention.query", "attention.key", "attention.value", "output.dense")
_V5_NAMES = ("q_proj", "k_proj", "v_proj", "o_proj")


def finish_dino(whole: dict[str, Tensor], thirds: Thirds, layout: str) -> tuple[ViTConfig, dict[str, Tensor]]:
    """The key bias of DINOv3 is there, as zeros.

    Raises:
        BackboneError: the tensors are not those of a DINO model.
    """
    tensors = _fuse(whole, thirds)
    config = detect_config(tensors, layout)
    _check_periods(tensors.pop(PERIODS, None), config)
    _apply_key_masks(tensors, config)
    return config, tensors


def expected_settings(config: ViTConfig) -> Mapping[str, object]:
    """What a Hugging Face ``config.json`` says of this network; a tuple: one of these.

    The epsilon of plain ViTs is not compared: their authors have 1e-6, transformers' copies say 1e-12.
    """
    shape = {
        "hidden_size": config.embed_dim,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.num_heads,
        "patch_size": config.patch_size,
        "hidden_act": "quick_gelu" if config.clip else "gelu",
    }
    if config.clip:
        return shape | {"model_type": ("clip", "clip_vision_model"), "layer_norm_eps": config.norm_eps}
    if not config.layer_scale:
        return shape | {"model_type": ("vit", "vit_mae", "deit"), "qkv_bias": True}
    learned_kind = "dinov2_with_registers" if config.num_registers else "dinov2"
    return shape | {
        "model_type": learned_kind if config.positions == "learned" else "dinov3_vit",
        "layer_norm_eps": config.norm_eps,
        "use_swiglu_ffn": False,
        "use_gated_mlp": False,
        "rope_theta": ROPE_BASE,
    }


def detect_config(tensors: Mapping[str, Tensor], layout: str) -> ViTConfig:
    """Read the architecture off the shapes of canonical tensors."""
    try:
        width = tensors["cls_token"].shape[-1]
        patch_size = tensors["patch_embed.proj.weight"].shape[-1]
        blocks = {int(name.split(".")[1]) for name in tensors if name.startswith("blocks.")}
        is_learned, is_clip = "pos_embed" in tensors, "ln_pre.weight" in tensors
        grid = math.isqrt(tensors["pos_embed"].shape[1] - 1) if is_learned else 37
        registers = tensors.get("register_tokens" if is_learned else "storage_tokens")
        num_registers = 0 if registers is None else registers.shape[1]
    except (KeyError, IndexError, ValueError) as error:
        msg = f"weights in the {layout} layout do not fit: a stem tensor is missing or misshapen ({error})"
        raise BackboneError(msg) from error
    if width == HUGE:
        raise BackboneError(f"a width of {HUGE} is that of ViT-H, whose heads are 80 wide: it is not supported")
    if width == 0 or width % HEAD_DIM or patch_size == 0 or not blocks:
        msg = (
            f"expected blocks, patches and a width that is a multiple of {HEAD_DIM}, "
            f"got {len(blocks)} blocks, patch {patch_size} and width {width}"
        )
        raise BackboneError(msg)
    if not is_learned and not num_registers:
        raise BackboneError(f"weights in the {layout} layout do not fit: neither positions nor storage tokens")
    return ViTConfig(
        embed_dim=width,
        depth=len(blocks),
        num_heads=width // HEAD_DIM,
        patch_size=patch_size,
        positions="learned" if is_learned else "rope",
        num_registers=num_registers,
        grid=grid,
        norm_eps=1e-6 if is_learned and not is_clip else 1e-5,
        layer_scale=any(name.endswith("ls1.gamma") for name in tensors),
        clip=is_clip,
    )


def _fuse(whole: dict[str, Tensor], thirds: dict[str, dict[int, Tensor]]) -> dict[str, Tensor]:
    """Put query, key and value together; DINOv3 has no key bias, which is a key bias of zero."""
    is_rope = "pos_embed" not in whole
    for target, parts in thirds.items():
        if is_rope and target.endswith("bias") and parts.keys() == {0, 2}:
            parts[1] = torch.zeros_like(parts[0])
        absent = sorted({0, 1, 2} - parts.keys())
        if absent or target in whole:
            names = [("query", "key", "value")[third] for third in absent] or ["a second fused tensor"]
            raise BackboneError(f"weights do not fit: {' and '.join(names)} of {target} missing or unexpected")
        whole[target] = torch.cat([parts[0], parts[1], parts[2]])
    return whole


def _check_periods(periods: Tensor | None, config: ViTConfig) -> None:
    """The released periods are the formula's, rounded to bfloat16; any others would be another network."""
    if periods is None:
        return
    expected = rope_periods(config.head_dim)
    fits = periods.shape == expected.shape and torch.allclose(periods.float(), expected, rtol=2**-7, atol=0)
    if not fits or config.positions != "rope":
        raise BackboneError(f"{PERIODS} are not the rotary periods of DINOv3 (base {ROPE_BASE:g})")


def _apply_key_masks(tensors: dict[str, Tensor], config: ViTConfig) -> None:
    """Official DINOv3 files hold the key bias and a mask that zeroes it."""
    width = config.embed_dim
    for name in [name for name in tensors if name.endswith(KEY_MASK)]:
        mask = tensors.pop(name)
        expected = torch.ones(3 * width)
        expected[width : 2 * width] = 0
        bias_name = name.removesuffix("_mask")
        bias = tensors.get(bias_name)
        if bias is None or bias.shape != expected.shape or not torch.equal(mask.float(), expected):
            raise BackboneError(f"{name} is not the mask of DINOv3, which zeroes the key bias and nothing else")
        tensors[bias_name] = torch.where(expected.bool(), bias, torch.zeros_like(bias))


DINO_LAYOUTS: tuple[Layout, ...] = (
    Layout(
        "Hugging Face DINOv2",
        ("embeddings.patch_embeddings.projection.weight",),
        (
            Rule("embeddings.cls_token", "cls_token"),
            Rule("embeddings.mask_token", None),
            Rule("embeddings.position_embeddings", "pos_embed"),
            Rule("embeddings.register_tokens", "register_tokens"),
            Rule("embeddings.patch_embeddings.projection.{leaf}", "patch_embed.proj.{leaf}"),
            Rule("layernorm.{leaf}", "norm.{leaf}"),
            *_hugging_face_block("encoder.layer.{i}", "fc1", "fc2", [_V4_NAMES, _V5_NAMES]),
        ),
        finish_dino,
    ),
    Layout(
        "Hugging Face DINOv3",
        ("embeddings.patch_embeddings.weight",),
        (
            Rule("embeddings.cls_token", "cls_token"),
            Rule("embeddings.mask_token", None),
            Rule("embeddings.register_tokens", "storage_tokens"),
            Rule("embeddings.patch_embeddings.{leaf}", "patch_embed.proj.{leaf}"),
            Rule("norm.{leaf}", "norm.{leaf}"),
            *_hugging_face_block("layer.{i}", "up_proj", "down_proj", [_V5_NAMES]),
            *_hugging_face_block("model.layer.{i}", "up_proj", "down_proj", [_V5_NAMES]),
        ),
        finish_dino,
    ),
    Layout(
        "timm DINOv3 (qkvb)",
        ("blocks.0.gamma_1",),
        (
            *_STEM,
            *_BLOCK,
            Rule("reg_token", "storage_tokens"),
            Rule("blocks.{i}.gamma_1", "blocks.{i}.ls1.gamma"),
            Rule("blocks.{i}.gamma_2", "blocks.{i}.ls2.gamma"),
            Rule("blocks.{i}.attn.q_bias", "blocks.{i}.attn.qkv.bias", 0),
            Rule("blocks.{i}.attn.v_bias", "blocks.{i}.attn.qkv.bias", 2),
        ),
        finish_dino,
    ),
    Layout(
        "official",
        ("patch_embed.proj.weight",),
        (
            *_STEM,
            *_BLOCK,
            _MASK_TOKEN,
            Rule("head.{leaf}", None),
            Rule("ln_pre.{leaf}", "ln_pre.{leaf}"),  # CLIP as it is stored here; timm's has another name and GELU
            Rule("pos_embed", "pos_embed"),
            Rule("register_tokens", "register_tokens"),
            Rule("storage_tokens", "storage_tokens"),
            Rule("blocks.{i}.ls1.gamma", "blocks.{i}.ls1.gamma"),
            Rule("blocks.{i}.ls2.gamma", "blocks.{i}.ls2.gamma"),
            Rule(PERIODS, PERIODS),
            Rule(f"blocks.{{i}}.{KEY_MASK}", f"blocks.{{i}}.{KEY_MASK}"),
        ),
        finish_dino,
    ),
)

LOST_SOMETHING: tuple[tuple[Callable[[Mapping[str, Tensor]], bool], str], ...] = (
    (
        lambda raw: "blocks.0.gamma_1" in raw and "blocks.0.attn.q_bias" not in raw,
        "this timm DINOv3 file was saved without the qkv biases; take the variant whose name ends in _qkvb, "
        "the official .pth or the Hugging Face folder",
    ),
    (
        lambda raw: "reg_token" in raw and "pos_embed" in raw,
        "timm adds the class position into the class token of DINOv2 with registers, which cannot be undone exactly; "
        "take the official .pth or the Hugging Face folder",
    ),
)
"""Known layouts that lost something: (how to recognise it, what to do)."""
