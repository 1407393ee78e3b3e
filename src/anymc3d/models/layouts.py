"""File layouts of DINO weights -> one canonical set of tensors, with the official names and a fused qkv.

Every tensor of a file is either used, or listed here as known and unused; anything else is an error, and so is
anything missing. Sources: the official releases (facebookresearch/dinov2, facebookresearch/dinov3), Hugging Face
transformers 4 and 5, and timm.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from anymc3d.errors import BackboneError
from anymc3d.models.vit import ViTConfig, empty_vit
from anymc3d.models.vit_positions import ROPE_BASE, rope_periods

HEAD_DIM = 64
"""Of every released DINO model; the number of heads cannot be read off the shapes."""
PERIODS = "rope_embed.periods"
KEY_MASK = "attn.qkv.bias_mask"
PRECISIONS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


@dataclass(frozen=True)
class Rule:
    """Tensors whose whole name matches ``pattern`` become ``target``; ``{i}`` is a block, ``{leaf}`` weight or bias."""

    pattern: str
    target: str | None
    """The canonical name; ``None``: known, and not part of the forward path."""
    third: int | None = None
    """Of a fused qkv tensor: 0 query, 1 key, 2 value."""

    def match(self, name: str) -> re.Match[str] | None:
        pattern = re.escape(self.pattern).replace(r"\{i\}", r"(?P<i>\d{1,3})")
        return re.fullmatch(pattern.replace(r"\{leaf\}", "(?P<leaf>weight|bias)"), name)


@dataclass(frozen=True)
class Layout:
    """One way of naming the tensors; a file that holds ``marker`` is in this layout."""

    name: str
    marker: str
    rules: tuple[Rule, ...]


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

LAYOUTS: tuple[Layout, ...] = (
    Layout(
        "Hugging Face DINOv2",
        "embeddings.patch_embeddings.projection.weight",
        (
            Rule("embeddings.cls_token", "cls_token"),
            Rule("embeddings.mask_token", None),
            Rule("embeddings.position_embeddings", "pos_embed"),
            Rule("embeddings.register_tokens", "register_tokens"),
            Rule("embeddings.patch_embeddings.projection.{leaf}", "patch_embed.proj.{leaf}"),
            Rule("layernorm.{leaf}", "norm.{leaf}"),
            *_hugging_face_block("encoder.layer.{i}", "fc1", "fc2", [_V4_NAMES, _V5_NAMES]),
        ),
    ),
    Layout(
        "Hugging Face DINOv3",
        "embeddings.patch_embeddings.weight",
        (
            Rule("embeddings.cls_token", "cls_token"),
            Rule("embeddings.mask_token", None),
            Rule("embeddings.register_tokens", "storage_tokens"),
            Rule("embeddings.patch_embeddings.{leaf}", "patch_embed.proj.{leaf}"),
            Rule("norm.{leaf}", "norm.{leaf}"),
            *_hugging_face_block("layer.{i}", "up_proj", "down_proj", [_V5_NAMES]),
            *_hugging_face_block("model.layer.{i}", "up_proj", "down_proj", [_V5_NAMES]),
        ),
    ),
    Layout(
        "timm DINOv3 (qkvb)",
        "blocks.0.gamma_1",
        (
            *_STEM,
            *_BLOCK,
            Rule("reg_token", "storage_tokens"),
            Rule("blocks.{i}.gamma_1", "blocks.{i}.ls1.gamma"),
            Rule("blocks.{i}.gamma_2", "blocks.{i}.ls2.gamma"),
            Rule("blocks.{i}.attn.q_bias", "blocks.{i}.attn.qkv.bias", 0),
            Rule("blocks.{i}.attn.v_bias", "blocks.{i}.attn.qkv.bias", 2),
        ),
    ),
    Layout(
        "official",
        "patch_embed.proj.weight",
        (
            *_STEM,
            *_BLOCK,
            _MASK_TOKEN,
            Rule("pos_embed", "pos_embed"),
            Rule("register_tokens", "register_tokens"),
            Rule("storage_tokens", "storage_tokens"),
            Rule("blocks.{i}.ls1.gamma", "blocks.{i}.ls1.gamma"),
            Rule("blocks.{i}.ls2.gamma", "blocks.{i}.ls2.gamma"),
            Rule(PERIODS, PERIODS),
            Rule(f"blocks.{{i}}.{KEY_MASK}", f"blocks.{{i}}.{KEY_MASK}"),
        ),
    ),
)

REFUSED: tuple[tuple[Callable[[Mapping[str, Tensor]], bool], str], ...] = (
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


def canonical_state(raw: Mapping[str, Tensor]) -> tuple[ViTConfig, dict[str, Tensor]]:
    """Turn the tensors of a weights file into canonical ones, in the precision they came in.

    Returns:
        The configuration read off the shapes (64 channels a head, as in every release), and the tensors of the
        forward path by their official names; the key bias of DINOv3 is there, as zeros.

    Raises:
        BackboneError: the layout is not known, or a tensor is unknown, missing or has the wrong shape.
    """
    for is_refused, advice in REFUSED:
        if is_refused(raw):
            raise BackboneError(advice)
    layout = next((layout for layout in LAYOUTS if layout.marker in raw), None)
    if layout is None:
        known = ", ".join(layout.name for layout in LAYOUTS)
        raise BackboneError(f"not a known layout of DINO weights (known: {known}); it holds {_some(sorted(raw))}")
    tensors = _fuse(*_rename(raw, layout))
    config = detect_config(tensors, layout)
    _check_periods(tensors.pop(PERIODS, None), config)
    _apply_key_masks(tensors, config)
    check_complete(tensors, config, layout.name)
    return config, tensors


def check_complete(tensors: Mapping[str, Tensor], config: ViTConfig, layout_name: str) -> None:
    """Raise :class:`BackboneError` unless ``tensors`` are exactly those of the architecture, in name and shape."""
    expected = {name: tuple(value.shape) for name, value in empty_vit(config).state_dict().items()}
    missing, unknown = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    wrong = [
        f"{name} {tuple(tensors[name].shape)} instead of {shape}"
        for name, shape in expected.items()
        if name in tensors and tuple(tensors[name].shape) != shape
    ]
    parts = [f"{what}: {_some(names)}" for what, names in (("missing", missing), ("unknown", unknown)) if names]
    if wrong:
        parts.append(f"wrong shape: {_some(wrong)}")
    if parts:
        raise BackboneError(f"weights in the {layout_name} layout do not fit: " + "; ".join(parts))


def check_settings(settings: Mapping[str, Any], config: ViTConfig) -> None:
    """Compare a Hugging Face ``config.json`` with what the shapes say; a field it does not have is not compared.

    Raises:
        BackboneError: it describes another forward pass.
    """
    learned_kind = "dinov2_with_registers" if config.num_registers else "dinov2"
    expected = {
        "model_type": learned_kind if config.positions == "learned" else "dinov3_vit",
        "hidden_size": config.embed_dim,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.num_heads,
        "patch_size": config.patch_size,
        "layer_norm_eps": config.norm_eps,
        "hidden_act": "gelu",
        "use_swiglu_ffn": False,
        "use_gated_mlp": False,
        "rope_theta": ROPE_BASE,
    }
    wrong = [
        f"{key} is {settings[key]!r} instead of {value!r}"
        for key, value in expected.items()
        if key in settings and settings[key] != value
    ]
    if wrong:
        raise BackboneError(f"config.json describes a network that is not supported: {'; '.join(wrong)}")


def detect_config(tensors: Mapping[str, Tensor], layout: Layout) -> ViTConfig:
    """Read the architecture off the shapes of canonical tensors."""
    try:
        width = tensors["cls_token"].shape[-1]
        patch_size = tensors["patch_embed.proj.weight"].shape[-1]
        blocks = {int(name.split(".")[1]) for name in tensors if name.startswith("blocks.")}
        is_learned = "pos_embed" in tensors
        grid = math.isqrt(tensors["pos_embed"].shape[1] - 1) if is_learned else 37
        registers = tensors.get("register_tokens" if is_learned else "storage_tokens")
        num_registers = 0 if registers is None else registers.shape[1]
    except (KeyError, IndexError, ValueError) as error:
        msg = f"weights in the {layout.name} layout do not fit: a stem tensor is missing or misshapen ({error})"
        raise BackboneError(msg) from error
    if width == 0 or width % HEAD_DIM or patch_size == 0 or not blocks:
        msg = (
            f"expected blocks, patches and a width that is a multiple of {HEAD_DIM}, "
            f"got {len(blocks)} blocks, patch {patch_size} and width {width}"
        )
        raise BackboneError(msg)
    if not is_learned and not num_registers:
        raise BackboneError(f"weights in the {layout.name} layout do not fit: neither positions nor storage tokens")
    return ViTConfig(
        embed_dim=width,
        depth=len(blocks),
        num_heads=width // HEAD_DIM,
        patch_size=patch_size,
        positions="learned" if is_learned else "rope",
        num_registers=num_registers,
        grid=grid,
        norm_eps=1e-6 if is_learned else 1e-5,
    )


def _rename(raw: Mapping[str, Tensor], layout: Layout) -> tuple[dict[str, Tensor], dict[str, dict[int, Tensor]]]:
    """Apply the layout's rules: whole tensors, and thirds of fused ones."""
    whole: dict[str, Tensor] = {}
    thirds: dict[str, dict[int, Tensor]] = {}
    unknown, twice = [], []
    for name, tensor in raw.items():
        found = next(((rule, match) for rule in layout.rules if (match := rule.match(name))), None)
        if found is None:
            unknown.append(name)
            continue
        rule, match = found
        if rule.target is None:
            continue
        target = rule.target.format(**match.groupdict())
        if tensor.dtype not in PRECISIONS:
            raise BackboneError(
                f"expected weights in float32, float16, bfloat16 or float64, got {tensor.dtype}: {name}"
            )
        place, key = (whole, target) if rule.third is None else (thirds.setdefault(target, {}), rule.third)
        if key in place:
            twice.append(name)
        place[key] = tensor
    if unknown or twice:
        parts = [f"{what}: {_some(sorted(n))}" for what, n in (("unknown", unknown), ("given twice", twice)) if n]
        raise BackboneError(f"weights in the {layout.name} layout do not fit: " + "; ".join(parts))
    return whole, thirds


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


def _some(names: Sequence[str], limit: int = 8) -> str:
    """The first few names, and how many more there are."""
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + rest
