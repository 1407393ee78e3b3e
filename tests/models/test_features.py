"""The table of representations: every part against what the backbone itself says, and the plugin's modules on them."""

from functools import partial

import numpy as np
import pytest
import torch

from anymc3d.errors import PluginError, UsageError
from anymc3d.models.classifier import Encoding, PackedSlices, VolumeClassifier
from anymc3d.models.features import (
    FEATURES,
    PLACE_WIDTH,
    check_backbone,
    num_patches,
    pool_masks,
    projection,
    read_parts,
    representation,
    width_of,
)
from anymc3d.models.frozen_pass import Pass, frozen_parts, tokens_of
from anymc3d.models.siglip import SiglipConfig, SiglipVision
from anymc3d.models.vit import ViTConfig, random_vit

CONFIG = ViTConfig(embed_dim=16, depth=5, num_heads=2, patch_size=4, num_registers=2, positions="rope")
ALL = Pass(features=tuple(FEATURES), structures=(3, 7))


@pytest.fixture(scope="module")
def network():
    return random_vit(CONFIG).eval()


@pytest.fixture(scope="module")
def images():
    return torch.randn(3, 3, 12, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def labels():
    drawn = torch.zeros(3, 12, 16, dtype=torch.uint8)
    drawn[0, :4, :4], drawn[0, 4:6, :4], drawn[2, 8:, 12:] = 3, 3, 7
    return drawn


def test_every_part_is_what_the_backbone_says(network, images, labels):
    with torch.no_grad():
        parts = read_parts(network, partial(network, images), ALL.parts, (3, 4), labels, ALL.structures)
        whole = network(images, input_blocks=range(5))
        patches = whole.tokens[:, 3:]
    torch.testing.assert_close(parts["class"], network(images, class_token_only=True).tokens[:, 0])
    torch.testing.assert_close(parts["mean"], patches.mean(dim=1))
    torch.testing.assert_close(parts["max"], patches.max(dim=1).values)
    for step in (1, 2, 3):
        torch.testing.assert_close(parts[f"class-{step}"], network.norm(whole.inputs[5 - step])[:, 0])
    place = parts["place"].view(3, 12, PLACE_WIDTH)
    torch.testing.assert_close(place[1, 7], patches[1, 7] @ projection(16))


def test_a_mean_over_a_mask_weighs_patches_by_the_share_inside(network, images, labels):
    """Structure 3: the first patch of slice 0 whole, the one below it half; 7: the last patch of slice 2."""
    with torch.no_grad():
        rows = read_parts(network, partial(network, images), ("mask",), (3, 4), labels, (3, 7))["mask"]
        patches = network(images).tokens[:, 3:]
    pooled = pool_masks(rows, 2).view(2, 16)
    torch.testing.assert_close(pooled[0], (patches[0, 0] + 0.5 * patches[0, 4]) / 1.5)
    torch.testing.assert_close(pooled[1], patches[2, 11])
    assert not pool_masks(rows[1:2], 2).any(), "a structure that is not there is all zeros"
    with pytest.raises(PluginError, match="expected a segmentation"):
        read_parts(network, partial(network, images), ("mask",), (3, 4))


def test_the_projection_keeps_lengths_and_never_changes():
    signs = projection(384)
    assert signs.shape == (384, PLACE_WIDTH) and set(signs.abs().unique().tolist()) == {float(np.float32(32**-0.5))}
    vectors = torch.randn(200, 384, generator=torch.Generator().manual_seed(1))
    ratio = (vectors @ signs).norm(dim=1) / vectors.norm(dim=1)
    assert abs(float(ratio.square().mean()) - 1) < 0.1
    assert (signs[0, :8] > 0).tolist() == [False, True, True, False, False, False, True, True]


@pytest.mark.parametrize("name", FEATURES)
def test_the_width_is_known_before_and_chunks_change_nothing(network, images, labels, name):
    """And a classifier on slices gives the answer that its own fusion gives on the pooled parts."""
    fusion = "concat" if representation(name).of_scan else "query"
    width = width_of(name, embed_dim=16, num_patches=num_patches((12, 16, 3), 4), num_structures=2)
    classifier = VolumeClassifier(
        network,
        views=("image",),
        num_logits=2,
        fusion=fusion,
        features=name,
        structures=(3, 7),
        widths={"image": width},
        rank=None,
    )
    packed = PackedSlices(torch.rand(3, 1, 12, 16), (3,), labels=labels if name == "mask" else None)
    wanted = Pass(features=(name,), structures=(3, 7))
    with torch.no_grad():
        whole, chunked = (
            frozen_parts(classifier, network, "image", packed, Encoding(chunk_size=size), wanted) for size in (64, 2)
        )
        rows = tokens_of(name, whole)
        torch.testing.assert_close(tokens_of(name, chunked), rows)
        assert rows.shape == (1 if representation(name).of_scan else 3, width)
        direct = classifier(network, {"image": packed}, Encoding(chunk_size=2))
        torch.testing.assert_close(classifier.fuse({"image": rows}, {"image": (len(rows),)}).logits, direct.logits)
    assert bool(direct.slice_weights) == (not representation(name).of_scan)


def test_a_case_without_a_view_or_its_slices_is_answered_by_the_others(network, labels):
    views, width = ("a", "b"), 2 * 16
    classifier = VolumeClassifier(
        network,
        views=views,
        num_logits=2,
        fusion="concat",
        features="mask",
        structures=(3, 7),
        widths=dict.fromkeys(views, width),
        rank=None,
    )
    packed = PackedSlices(torch.rand(3, 1, 12, 16), (0, 3), labels=labels)
    none = PackedSlices(torch.zeros(0, 1, 12, 16), (0, 0))
    batch = {"a": PackedSlices(torch.rand(6, 1, 12, 16), (3, 3), labels=labels.repeat(2, 1, 1)), "b": packed}
    with torch.no_grad():
        both = classifier(network, batch, Encoding())
        alone = classifier(network, {**batch, "b": none}, Encoding())
    assert both.view_weights.tolist() == [[1.0, 0.0], [0.5, 0.5]]
    torch.testing.assert_close(both.logits[0], alone.logits[0])
    assert not torch.allclose(both.logits[1], alone.logits[1])


def test_views_side_by_side_have_a_weight_each_and_a_centre(network):
    classifier = VolumeClassifier(network, views=("a", "b"), num_logits=2, fusion="concat", rank=None)
    assert {name: tuple(t.shape) for name, t in classifier.tensors().items()} == {
        "fusion.a.center": (16,),
        "fusion.b.center": (16,),
        "head.weight": (2, 32),
        "head.bias": (2,),
    }


def test_what_a_backbone_does_not_have_is_refused_by_name(network):
    with pytest.raises(UsageError, match="unknown name 'clas', did you mean 'class'"):
        representation("clas")
    siglip = SiglipVision(SiglipConfig(embed_dim=16, layers=2, num_heads=2, patch_size=4, grid=3, mlp_dim=32))
    for name in FEATURES:
        check_backbone(name, network)
        if name == "last4":
            with pytest.raises(UsageError, match="needs class tokens of four blocks"):
                check_backbone(name, siglip)
        else:
            check_backbone(name, siglip)
