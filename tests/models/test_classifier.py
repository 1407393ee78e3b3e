"""The classifier: chunks, packing, neighbours and missing views change no logit."""

from dataclasses import replace

import pytest
import torch

from anymc3d.errors import PluginError
from anymc3d.models.classifier import PackedSlices, VolumeClassifier, neighbour_index, to_backbone_input
from anymc3d.models.fusion import FUSIONS
from anymc3d.models.tensor_hash import tensors_hash


def classifier_for(backbone, views=("image",), **options):
    model = VolumeClassifier(backbone, views=views, num_logits=2, **options)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return model


def slices(number, seed, channels=1, size=(28, 42)):
    return torch.rand(number, channels, *size, generator=torch.Generator().manual_seed(seed))


def logits_of(model, backbone, encoding, cases):
    packed = PackedSlices(torch.cat(cases), tuple(len(c) for c in cases))
    with torch.no_grad():
        return model(backbone, {"image": packed}, encoding).logits


@pytest.mark.parametrize("chunk_size", [1, 2, 3, 7, 100])
def test_H6_every_chunk_size_gives_the_same(backbone, encoding, chunk_size):
    model, cases = classifier_for(backbone), [slices(5, 0), slices(3, 1)]
    whole = logits_of(model, backbone, encoding, cases)
    chunked = logits_of(model, backbone, replace(encoding, chunk_size=chunk_size), cases)
    torch.testing.assert_close(chunked, whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_H3_neighbours_in_the_batch_change_nothing(backbone, encoding, fusion):
    model, cases = classifier_for(backbone, fusion=fusion), [slices(n, n) for n in (4, 1, 9)]
    together = logits_of(model, backbone, encoding, cases)
    alone = torch.cat([logits_of(model, backbone, encoding, [case]) for case in cases])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    assert (together[0] - together[2]).abs().max() > 1e-4


def test_only_real_slices_go_through_the_backbone(backbone, encoding, monkeypatch):
    seen = []
    original = type(backbone).forward

    def counting(self, images, **options):
        seen.append(images.shape[0])
        return original(self, images, **options)

    monkeypatch.setattr(type(backbone), "forward", counting)
    logits_of(classifier_for(backbone), backbone, encoding, [slices(2, 0), slices(11, 1)])
    assert sum(seen) == 13


def test_recomputing_activations_gives_the_same_gradients(backbone, encoding):
    cases = PackedSlices(slices(6, 0), (4, 2))
    gradients = []
    for recompute in (False, True):
        model = classifier_for(backbone)
        model(backbone, {"image": cases}, replace(encoding, chunk_size=4, recompute=recompute)).logits.sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, again)


def test_training_changes_the_plugin_and_not_one_bit_of_the_backbone(backbone, encoding):
    model, before = classifier_for(backbone), tensors_hash(backbone.state_dict())
    own = tensors_hash(model.state_dict())
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(backbone, {"image": PackedSlices(slices(3, 0), (3,))}, encoding).logits[0, 0].backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    optimizer.step()
    assert tensors_hash(model.state_dict()) != own
    assert tensors_hash(backbone.state_dict()) == before
    assert not any(p.requires_grad or p.grad is not None for p in backbone.parameters())


@pytest.mark.parametrize("fusion", ["lstm", "transformer"])
@pytest.mark.parametrize("views", [("image",), ("axial", "sagittal")])
def test_a_fusion_of_another_width_decides_that_of_task_query_and_head(backbone, views, fusion):
    model = classifier_for(backbone, views=views, fusion=fusion)
    tensors = model.tensors()
    width = model.slice_fusion[views[0]].out_dim
    assert width != backbone.embed_dim
    assert tensors["head.weight"].shape == (2, width)
    assert ("task_query" in tensors) == (len(views) > 1)
    assert len(views) == 1 or tensors["task_query"].shape == (width,)
    assert all(any(n.startswith(f"fusion.{view}.") for n in tensors) for view in views)
    assert len(tensors) == len(list(model.parameters()))
    again = classifier_for(backbone, views=views, fusion=fusion, seed=9)
    again.load_tensors(tensors)
    assert tensors_hash(again.tensors()) == tensors_hash(tensors)


def test_each_view_has_its_own_adapter_and_query(backbone):
    names = set(classifier_for(backbone, views=("axial", "sagittal")).tensors())
    assert {"query.axial", "query.sagittal", "task_query", "head.weight", "head.bias"} <= names
    assert {"lora.axial.blocks.0.attn.qkv.A", "lora.sagittal.patch_embed.proj.B"} <= names
    assert {n for n in classifier_for(backbone).tensors() if "query" in n} == {"task_query"}


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_missing_view_takes_no_part(backbone, encoding, fusion):
    model = classifier_for(backbone, views=("axial", "sagittal"), fusion=fusion)
    with torch.no_grad():
        mixed = model(
            backbone,
            {
                "axial": PackedSlices(slices(5, 0), (2, 3)),
                "sagittal": PackedSlices(slices(4, 1), (4, 0)),
            },
            encoding,
        )
        second = model(
            backbone,
            {"axial": PackedSlices(slices(5, 0)[2:], (3,)), "sagittal": PackedSlices(slices(0, 1), (0,))},
            encoding,
        )
    torch.testing.assert_close(mixed.logits[1:], second.logits, atol=1e-5, rtol=0)
    assert mixed.view_weights[1].tolist() == [1.0, 0.0]
    assert (mixed.slice_weights["sagittal"][1] == 0).all()
    torch.testing.assert_close(mixed.view_weights.sum(dim=1), torch.ones(2))


@pytest.mark.parametrize("views", [("image",), ("axial", "sagittal")])
def test_a_case_without_any_slice_is_an_error(backbone, encoding, views):
    model = classifier_for(backbone, views=views)
    batch = {view: PackedSlices(slices(2, 0), (2, 0)) for view in views}
    with pytest.raises(PluginError, match="at least one"):
        model(backbone, batch, encoding)


def test_sizes_the_patch_does_not_divide_are_enlarged(backbone, encoding):
    images = to_backbone_input(slices(2, 0, size=(160, 30)), 14, encoding)
    assert images.shape == (2, 3, 168, 42)


def test_one_channel_is_repeated_and_three_windows_are_the_channels(encoding):
    grey = to_backbone_input(slices(1, 0, size=(28, 28)), 14, encoding)
    mean, std = torch.tensor(encoding.mean), torch.tensor(encoding.std)
    restored = grey * std.view(1, 3, 1, 1) + mean.view(1, 3, 1, 1)
    torch.testing.assert_close(restored[:, 0], restored[:, 2])
    windows = slices(1, 0, channels=3, size=(28, 28))
    restored = to_backbone_input(windows, 14, encoding) * std.view(1, 3, 1, 1) + mean.view(1, 3, 1, 1)
    torch.testing.assert_close(restored, windows)


def test_tensors_of_another_structure_are_refused_and_listed(backbone):
    model = classifier_for(backbone)
    tensors = dict(model.tensors())
    tensors["head.weight"] = tensors["head.weight"][:1]
    tensors["extra"] = tensors.pop("task_query")
    with pytest.raises(PluginError, match=r"missing task_query; unexpected extra; head.weight has shape \(1, 32\)"):
        model.load_tensors(tensors)


def test_bf16_stays_close(backbone, encoding):
    model, cases = classifier_for(backbone), [slices(6, 0)]
    exact = logits_of(model, backbone, encoding, cases)
    rough = logits_of(model, backbone, replace(encoding, dtype=torch.bfloat16), cases)
    assert rough.dtype == torch.float32
    assert (exact - rough).abs().max() < 5e-2


def test_neighbours_stay_inside_their_case_and_repeat_at_its_ends():
    assert neighbour_index((3, 0, 1)).tolist() == [[0, 0, 1], [0, 1, 2], [1, 2, 2], [3, 3, 3]]
    assert neighbour_index((0,)).shape == (0, 3)


@pytest.mark.parametrize("chunk_size", [1, 3, 64])
def test_neighbours_are_the_three_channels(backbone, encoding, chunk_size):
    model = classifier_for(backbone, neighbours=["image"])
    plain = classifier_for(backbone)
    plain.load_tensors(model.tensors())
    cases = [slices(4, 0), slices(1, 1)]
    triplets = [
        torch.stack([case[[max(i - 1, 0), i, min(i + 1, len(case) - 1)], 0] for i in range(len(case))])
        for case in cases
    ]
    found = logits_of(model, backbone, replace(encoding, chunk_size=chunk_size), cases)
    torch.testing.assert_close(found, logits_of(plain, backbone, encoding, triplets), atol=1e-5, rtol=0)
    assert (found - logits_of(plain, backbone, encoding, cases)).abs().max() > 1e-4
