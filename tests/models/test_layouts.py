"""Every file layout gives the same canonical tensors, and nothing in a file is ignored in silence."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from weight_layouts import (
    CLIP,
    DINOV2,
    DINOV2_REGISTERS,
    DINOV3,
    PLAIN,
    Tensors,
    hugging_face_dinov2_v4,
    hugging_face_dinov2_v5,
    official_dinov2,
    official_dinov3,
    renamed,
    timm_dinov2_registers,
    timm_dinov3,
)

from anymc3d.errors import BackboneError
from anymc3d.models.architectures import empty_backbone
from anymc3d.models.backbones import BACKBONES, TINY_CLIP, TINY_DINOV2, TINY_DINOV3, TINY_VIT
from anymc3d.models.fingerprint import fingerprint
from anymc3d.models.layouts.table import canonical_state, check_settings
from anymc3d.models.vit import ViTConfig, random_vit

TINY_REGISTERS = replace(TINY_DINOV2, num_registers=4)
CASES = [
    pytest.param(config, writer, id=f"{family}: {name}")
    for family, config, writers in (
        ("dinov2", TINY_DINOV2, DINOV2),
        ("dinov2 registers", TINY_REGISTERS, DINOV2_REGISTERS),
        ("dinov3", TINY_DINOV3, DINOV3),
        ("plain", TINY_VIT, PLAIN),
        ("clip", TINY_CLIP, CLIP),
    )
    for name, writer in writers.items()
]


def weights(config: ViTConfig) -> Tensors:
    return dict(random_vit(config, seed=3).state_dict())


@pytest.mark.parametrize(("config", "writer"), CASES)
def test_every_layout_gives_the_same_tensors_and_fingerprint(config: ViTConfig, writer) -> None:
    expected = weights(config)
    found_config, found = canonical_state(writer(expected))
    assert found_config == config
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert fingerprint(found) == fingerprint(expected)


@pytest.mark.parametrize(("config", "writer"), CASES)
def test_an_unknown_tensor_is_an_error_that_names_it(config: ViTConfig, writer) -> None:
    raw = writer(weights(config)) | {"projectors.0.weight": torch.zeros(3, 3)}
    with pytest.raises(BackboneError, match=r"unknown: projectors\.0\.weight"):
        canonical_state(raw)


NOT_IN_THE_FORWARD_PATH = (
    *(f"{head}.{leaf}" for head in ("head", "classifier", "pooler.dense") for leaf in ("weight", "bias")),
    *("decoder_embed.weight", "projection.weight", "logit_scale", "position_ids"),
)
"""Ends of names beside an encoder: heads, a decoder, a text encoder."""


@pytest.mark.parametrize(("config", "writer"), CASES)
def test_each_missing_tensor_is_an_error(config: ViTConfig, writer) -> None:
    """Whatever is left out: refused, unless the forward path does not use it.

    Registers of DINOv2 are the one optional tensor: without them it is the other architecture (see the settings test).
    """
    raw = writer(weights(config))
    optional = (
        "mask_token",
        "periods",
        "bias_mask",
        "register_tokens" if config.positions == "learned" else "mask_token",
        *NOT_IN_THE_FORWARD_PATH,
    )
    for name in raw:
        if name.endswith(optional) or name.startswith("text_model."):
            continue
        with pytest.raises(BackboneError):
            canonical_state({key: value for key, value in raw.items() if key != name})


def test_a_wrong_shape_is_an_error_that_states_both() -> None:
    raw = official_dinov2(weights(TINY_DINOV2))
    raw["blocks.1.mlp.fc2.weight"] = torch.zeros(128, 100)
    with pytest.raises(BackboneError, match=r"fc2\.weight \(128, 100\) instead of \(128, 512\)"):
        canonical_state(raw)


def test_a_tensor_given_twice_is_an_error() -> None:
    tensors = weights(TINY_DINOV2)
    both = hugging_face_dinov2_v4(tensors) | hugging_face_dinov2_v5(tensors)
    with pytest.raises(BackboneError, match="given twice"):
        canonical_state(both)


def test_timm_dinov3_without_biases_is_refused_with_the_way_out() -> None:
    with pytest.raises(BackboneError, match="ends in _qkvb"):
        canonical_state(timm_dinov3(weights(TINY_DINOV3)))


def test_timm_dinov2_with_registers_is_refused_because_it_merged_two_tensors() -> None:
    with pytest.raises(BackboneError, match="cannot be undone exactly"):
        canonical_state(timm_dinov2_registers(weights(TINY_REGISTERS)))


ALIKE = [
    (lambda t: t | {"dist_token": torch.zeros(1, 1, 128)}, "this DeiT was distilled"),
    (lambda t: {f"teacher.backbone.{n}": v for n, v in t.items()}, "training checkpoint of DINO"),
    (lambda t: t | {"visual.class_embedding": torch.zeros(128)}, "do not say which GELU"),
    (lambda t: renamed(t, ("^ln_pre", "norm_pre")), "unknown: norm_pre"),
]


@pytest.mark.parametrize(("change", "message"), ALIKE, ids=[message for _, message in ALIKE])
def test_networks_that_look_like_plain_ones_and_are_others_are_refused(change, message) -> None:
    with pytest.raises(BackboneError, match=message):
        canonical_state(change(weights(TINY_CLIP if "norm_pre" in message else TINY_VIT)))


def test_a_vit_h_whose_heads_are_wider_is_refused() -> None:
    config = ViTConfig(embed_dim=1280, depth=1, num_heads=20, patch_size=14, grid=2, layer_scale=False)
    with pytest.raises(BackboneError, match="ViT-H, whose heads are 80 wide"):
        canonical_state(weights(config))


def test_other_rotary_periods_are_refused() -> None:
    raw = official_dinov3(weights(TINY_DINOV3))
    raw["rope_embed.periods"] = raw["rope_embed.periods"] * 1.02
    with pytest.raises(BackboneError, match="not the rotary periods"):
        canonical_state(raw)


def test_a_mask_that_zeroes_something_else_is_refused() -> None:
    raw = official_dinov3(weights(TINY_DINOV3))
    raw["blocks.1.attn.qkv.bias_mask"][0] = 0
    with pytest.raises(BackboneError, match="zeroes the key bias and nothing else"):
        canonical_state(raw)


def test_a_stem_without_blocks_is_an_error() -> None:
    stem = {name: value for name, value in weights(TINY_DINOV2).items() if not name.startswith("blocks.")}
    with pytest.raises(BackboneError, match="got 0 blocks"):
        canonical_state(stem)


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"model.diffusion.weight": torch.zeros(2)},
        {"patch_embed.proj.weight": torch.zeros(())},
        {"patch_embed.proj.weight": torch.zeros(128, 3, 0, 0), "cls_token": torch.zeros(1, 1, 128)},
        {"patch_embed.proj.weight": torch.zeros(1), "cls_token": torch.zeros(1, 1, 0), "pos_embed": torch.zeros(1)},
        {"patch_embed.proj.weight": torch.zeros(8, dtype=torch.int8), "cls_token": torch.zeros(1, 1, 128)},
    ],
)
def test_F3_nonsense_is_a_clean_error(raw: Tensors) -> None:
    with pytest.raises(BackboneError):
        canonical_state(raw)


def test_a_settings_file_of_another_network_is_refused() -> None:
    right = {"hidden_size": 128, "num_attention_heads": 2, "hidden_act": "gelu", "layer_norm_eps": 1e-6, "extra": 1}
    check_settings(right, TINY_DINOV2)
    with pytest.raises(BackboneError, match="use_swiglu_ffn is True instead of False"):
        check_settings(right | {"use_swiglu_ffn": True}, TINY_DINOV2)
    with pytest.raises(BackboneError, match="model_type is 'dinov2_with_registers' instead of 'dinov2'"):
        check_settings(right | {"model_type": "dinov2_with_registers"}, TINY_DINOV2)
    with pytest.raises(BackboneError, match="num_attention_heads is 4 instead of 2"):
        check_settings(right | {"num_attention_heads": 4}, TINY_DINOV2)


def test_settings_of_plain_vits_and_clip_are_compared() -> None:
    plain = {"model_type": "vit", "hidden_size": 128, "hidden_act": "gelu", "qkv_bias": True, "layer_norm_eps": 1e-12}
    check_settings(plain, TINY_VIT)
    check_settings(plain | {"model_type": "vit_mae"}, TINY_VIT)
    with pytest.raises(BackboneError, match="model_type is 'beit' instead of 'vit' or 'vit_mae' or 'deit'"):
        check_settings(plain | {"model_type": "beit"}, TINY_VIT)
    vision = {"model_type": "clip_vision_model", "hidden_act": "quick_gelu", "hidden_size": 128, "patch_size": 16}
    check_settings({"model_type": "clip", "vision_config": vision}, TINY_CLIP)
    with pytest.raises(BackboneError, match="hidden_act is 'gelu' instead of 'quick_gelu'"):
        check_settings({"vision_config": vision | {"hidden_act": "gelu"}}, TINY_CLIP)


@pytest.mark.parametrize("name", [name for name, entry in BACKBONES.items() if entry.origin != "random"])
def test_each_card_is_recognised_from_the_shapes_of_its_weights(name: str) -> None:
    config = BACKBONES[name].config
    empty = empty_backbone(config).state_dict()
    shapes = {key: torch.empty(value.shape, device="meta") for key, value in empty.items()}
    assert canonical_state(shapes)[0] == config
