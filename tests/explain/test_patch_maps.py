"""Chunks and slice-by-slice gradients against one graph through everything."""

import pytest
import torch
from torch.func import functional_call

from anymc3d.explain import patch_maps as module
from anymc3d.explain.methods import METHODS, patch_weights
from anymc3d.explain.patch_maps import MapKey, MapRequest, chunk_size, patch_maps
from anymc3d.models.classifier import Encoding, PackedSlices, VolumeClassifier, to_backbone_input
from anymc3d.models.vit import VisionTransformer, ViTConfig

ATTENTION = tuple(name for name, method in METHODS.items() if method.attention)
ENCODING = Encoding(mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.3))
VIEWS = ("axial", "sagittal")
SIZES = {"axial": (5, 1, 28, 42), "sagittal": (3, 1, 28, 28)}


@pytest.fixture
def backbone():
    torch.manual_seed(0)
    network = VisionTransformer(ViTConfig(embed_dim=16, depth=3, num_heads=2, patch_size=14, num_registers=2, grid=4))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return network.requires_grad_(False)


def build(backbone, rank=4, **options):
    classifier = VolumeClassifier(backbone, views=VIEWS, num_logits=2, rank=rank, alpha=8.0, **options)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in classifier.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return classifier


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(2)
    return {v: PackedSlices(torch.rand(SIZES[v], generator=generator), (SIZES[v][0],)) for v in VIEWS}


def request(kind="binary", labels=(0,)):
    return MapRequest(methods=ATTENTION, labels=labels, kind=kind)


def in_one_graph(classifier, backbone, batch, target):
    """All maps and their gradients from a single graph over all slices and views: view -> (attention, gradient)."""
    attention, tokens = {}, {}
    for view in VIEWS:
        images = to_backbone_input(batch[view].slices, 14, ENCODING).requires_grad_()
        weights = classifier.adapted_weights(backbone, view, torch.float32)
        out = functional_call(backbone, weights, (images,), {"attention_blocks": range(3)})
        attention[view], tokens[view] = out.attention, out.tokens[:, 0]
    logits = classifier.fuse(tokens, {v: batch[v].counts for v in VIEWS}).logits
    maps = [attention[v][layer] for v in VIEWS for layer in range(3)]
    slopes = iter(torch.autograd.grad(target(logits), maps))
    return logits, {v: (attention[v], {layer: next(slopes) for layer in range(3)}) for v in VIEWS}


@pytest.mark.parametrize("rank", [4, None])
@pytest.mark.parametrize("fusion", ["query", "lstm"])
def test_slice_by_slice_is_the_gradient_of_the_whole(backbone, batch, rank, fusion):
    classifier = build(backbone, rank=rank, fusion=fusion)
    logits, expected = in_one_graph(classifier, backbone, batch, lambda z: z[0, 1] - z[0, 0])
    output, maps = patch_maps(classifier, backbone, batch, ENCODING, request())
    torch.testing.assert_close(output.logits, logits)
    for view in VIEWS:
        attention, gradient = expected[view]
        for name, method in ((name, METHODS[name]) for name in ATTENTION):
            weights = patch_weights(attention, gradient if method.gradients else None, method, num_prefix_tokens=3)
            if method.slice_weighted:
                weights = weights * output.slice_weights[view][0].unsqueeze(1)
            found = maps[MapKey(name, 0 if method.gradients else None, view)]
            assert found.shape == (SIZES[view][0], SIZES[view][2] // 14, SIZES[view][3] // 14)
            torch.testing.assert_close(found.flatten(1), weights.detach(), atol=1e-6, rtol=1e-4)


def test_chunks_change_nothing(backbone, batch, monkeypatch):
    classifier = build(backbone)
    _, whole = patch_maps(classifier, backbone, batch, ENCODING, request())
    monkeypatch.setattr(module, "ATTENTION_BYTES", 1)
    assert chunk_size(backbone, 6, request()) == 1
    _, single = patch_maps(classifier, backbone, batch, ENCODING, request())
    for key, grid in whole.items():
        torch.testing.assert_close(single[key], grid, atol=1e-6, rtol=1e-4)


def test_every_label_has_its_own_gradient_map(backbone, batch):
    classifier = build(backbone)
    _, maps = patch_maps(classifier, backbone, batch, ENCODING, request("multiclass", (0, 1)))
    first, second = (maps[MapKey("grad-rollout-last", label, "axial")] for label in (0, 1))
    assert not torch.allclose(first, second)
    assert MapKey("attention", None, "axial") in maps
    assert MapKey("attention", 0, "axial") not in maps


def test_a_missing_view_has_no_map(backbone, batch):
    batch["sagittal"] = PackedSlices(torch.zeros(0, 1, 28, 28), (0,))
    _, maps = patch_maps(build(backbone), backbone, batch, ENCODING, request())
    assert {key.view for key in maps} == {"axial"}


def test_sizes_that_the_patch_does_not_divide_and_neighbours(backbone):
    classifier = build(backbone, neighbours=("axial",))
    batch = {
        "axial": PackedSlices(torch.rand(4, 1, 30, 30), (4,)),
        "sagittal": PackedSlices(torch.rand(2, 1, 28, 28), (2,)),
    }
    _, maps = patch_maps(classifier, backbone, batch, ENCODING, request())
    assert maps[MapKey("rollout", None, "axial")].shape == (4, 3, 3)


def test_nothing_is_left_behind_on_the_parameters(backbone, batch):
    classifier = build(backbone)
    patch_maps(classifier, backbone, batch, ENCODING, request())
    assert all(parameter.grad is None for parameter in [*classifier.parameters(), *backbone.parameters()])
