"""Adapting the last blocks alone: the trunk stays as it is, the seam is one rounding, every way over it agrees."""

from dataclasses import replace

import pytest
import torch
from torch.func import functional_call

from anymc3d.errors import BackboneError, UsageError
from anymc3d.explain.patch_maps import MapRequest, patch_maps
from anymc3d.models.architectures import empty_backbone, random_backbone
from anymc3d.models.backbones import TINY_CLIP, TINY_DAVIT, TINY_DINOV2, TINY_DINOV3, TINY_SIGLIP, TINY_VIT, card
from anymc3d.models.classifier import PackedSlices, VolumeClassifier
from anymc3d.models.decoders.run import classify_and_decode
from anymc3d.models.decoders.table import build_decoders
from anymc3d.models.fingerprint import trunk_fingerprint
from anymc3d.models.lora import LoRA
from anymc3d.models.seam import TrunkTokens, rounded
from anymc3d.settings.training import MethodSettings

DEPTH = 4
CONFIGS = {
    "dinov2": replace(TINY_DINOV2, depth=DEPTH),
    "dinov3": replace(TINY_DINOV3, depth=DEPTH),
    "vit": replace(TINY_VIT, depth=DEPTH),
    "clip": replace(TINY_CLIP, depth=DEPTH),
    "siglip": replace(TINY_SIGLIP, layers=DEPTH),
}


@pytest.fixture(scope="module", params=CONFIGS)
def network(request):
    return random_backbone(CONFIGS[request.param], 1).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def dinov2():
    return random_backbone(CONFIGS["dinov2"], 1).eval().requires_grad_(False)


def images_for(network, number=3):
    patch = network.patch_size
    return torch.rand(number, 3, 2 * patch, 3 * patch, generator=torch.Generator().manual_seed(0))


def moved(model, seed=5):
    """As after some training: with B = 0 an adapter would hide mistakes."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return model


def classifier_for(network, blocks, **options):
    return moved(VolumeClassifier(network, views=["image"], num_logits=2, blocks=blocks, **options))


@pytest.mark.parametrize("seam", range(DEPTH))
def test_going_on_from_the_trunk_is_one_whole_pass(network, seam):
    """With and without the rounding, and with a stop in between, to the last bit."""
    images = images_for(network)
    whole = network(images)
    reached = network(network(images, stop=seam // 2), stop=seam)
    assert isinstance(reached, TrunkTokens) and reached.block == seam and reached.grid == (2, 3)
    assert torch.equal(network(reached).tokens, whole.tokens)
    with_seam = network(images, seam=seam).tokens
    kept = reached._replace(tokens=reached.tokens.half())
    assert torch.equal(network(kept).tokens, with_seam)
    assert not torch.equal(with_seam, whole.tokens), "the seam rounds"
    torch.testing.assert_close(with_seam, whole.tokens, atol=5e-3, rtol=0)
    only = network(kept, class_token_only=True).tokens
    torch.testing.assert_close(only, with_seam[:, :1], atol=1e-6, rtol=0)


def test_attention_and_inputs_are_those_behind_the_seam(dinov2):
    images = images_for(dinov2)
    whole = dinov2(images, seam=2, attention_blocks=[2, 3], input_blocks=range(DEPTH))
    assert torch.equal(whole.inputs[2], whole.inputs[2].half().float())
    kept = TrunkTokens(dinov2(images, stop=2).tokens.half(), 2, (2, 3))
    tail = dinov2(kept, attention_blocks=[2, 3], input_blocks=[2, 3])
    assert torch.equal(tail.attention[3], whole.attention[3]) and torch.equal(tail.inputs[3], whole.inputs[3])


def test_rounding_is_to_float16_and_a_gradient_passes_unchanged():
    values = torch.tensor([1 / 3, -2049.0, 1e-9, 0.0, 6e4], requires_grad=True)
    found = rounded(values)
    assert torch.equal(found.detach(), values.detach().half().float())
    assert torch.equal(found.detach(), rounded(values.detach()))
    (found * 1e-9).sum().backward()
    assert torch.equal(values.grad, torch.full((5,), 1e-9)), "float16 has no such number; the gradient never was one"


def test_only_the_last_blocks_are_adapted(network):
    every = LoRA(network, rank=2, alpha=4, generator=torch.Generator())
    last = LoRA(network, rank=2, alpha=4, generator=torch.Generator(), blocks=2)
    assert set(last.paths) == {path for path in every.paths if path.startswith(network.block_paths[2:])}
    assert 0 < len(last.paths) < len(every.paths)
    all_blocks = LoRA(network, rank=2, alpha=4, generator=torch.Generator(), blocks=DEPTH)
    assert len(set(every.paths) - set(all_blocks.paths)) == 1, "the patch embedding"


@pytest.mark.parametrize(("blocks", "expected"), [(4, 74_882), (1, 19_586), (12, 222_338)])
def test_counts_of_the_last_blocks(blocks, expected):
    """By hand, ViT-S, r = 8: K blocks of 8 (384 + 1152) + 8 (384 + 384); a query of 384; a head of 770."""
    assert expected == blocks * 8 * (384 + 1152 + 384 + 384) + 384 + 770
    classifier = VolumeClassifier(
        empty_backbone(card("dinov2-small").config), views=["image"], num_logits=2, blocks=blocks
    )
    assert sum(parameter.numel() for parameter in classifier.parameters()) == expected


def test_a_classifier_answers_as_trunk_rounding_and_tail_by_hand(network, encoding):
    classifier = classifier_for(network, 2)
    slices = torch.rand(5, 1, 2 * network.patch_size, network.patch_size, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        found = classifier.encode(network, "image", PackedSlices(slices, (5,)), encoding)
        mean, std = (torch.tensor(part).view(1, 3, 1, 1) for part in (encoding.mean, encoding.std))
        reached = network((slices.expand(-1, 3, -1, -1) - mean) / std, stop=2)
        tail = (reached._replace(tokens=reached.tokens.half().float()),)
        expected = functional_call(network, classifier.lora["image"].weights(network), tail).tokens[:, 0]
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
        whole = replace_seam(classifier, None).encode(network, "image", PackedSlices(slices, (5,)), encoding)
    assert (found - whole).abs().max() > 1e-6, "without the seam the tokens are others"


def replace_seam(classifier, seam):
    classifier.seam = seam
    return classifier


def test_peft_computes_the_same_in_the_same_layers(dinov2):
    from peft import LoraConfig, inject_adapter_in_model  # which takes seconds to import

    lora = moved(LoRA(dinov2, rank=4, alpha=8.0, generator=torch.Generator(), blocks=2))
    options = {"layers_to_transform": [2, 3], "layers_pattern": "blocks"}
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["attn.qkv", "attn.proj"], **options)
    wrapped = inject_adapter_in_model(config, random_backbone(CONFIGS["dinov2"], 1))
    state = {}
    for name, tensor in lora.tensors().items():
        path, _, letter = name.rpartition(".")
        state[f"{path}.lora_{letter}.default.weight"] = tensor
    result = wrapped.load_state_dict(state, strict=False)
    assert not result.unexpected_keys and not [name for name in result.missing_keys if "lora" in name]
    images = images_for(dinov2)
    ours = functional_call(dinov2, lora.weights(dinov2), (images,)).tokens
    torch.testing.assert_close(ours, wrapped(images).tokens, atol=1e-5, rtol=0)


@pytest.mark.parametrize("decoder", ["nnunet", "eomt-2d", "eomt-3d"])
@pytest.mark.parametrize("blocks", [1, DEPTH])
def test_a_decoder_beside_changes_no_answer_however_many_blocks_are_adapted(dinov2, encoding, decoder, blocks):
    """EoMT reads the inputs of the last four blocks, here partly the trunk's."""
    plain = classifier_for(dinov2, blocks)
    decoders = build_decoders(decoder, dinov2, views=["image"], num_classes=1)
    both = VolumeClassifier(dinov2, views=["image"], num_logits=2, blocks=blocks, decoders=decoders)
    both.load_tensors({**both.tensors(), **plain.tensors()})
    slices = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    batch = {"image": PackedSlices(slices, (3,))}
    with torch.no_grad():
        answer, maps = classify_and_decode(both, dinov2, batch, encoding, {"image": [0]})
        torch.testing.assert_close(answer.logits, plain(dinov2, batch, encoding).logits, atol=1e-6, rtol=0)
    assert set(maps) == {("image", 0)}


@pytest.mark.parametrize("method", ["rollout", "grad-rollout", "grad-rollout-last"])
def test_heatmaps_go_through_the_seam(dinov2, encoding, method):
    """Gradients reach the attention of the trunk, and rounding moves a map little; never to another place."""
    classifier = classifier_for(dinov2, 1)
    batch = {"image": PackedSlices(torch.rand(2, 1, 42, 42, generator=torch.Generator().manual_seed(0)), (2,))}
    request = MapRequest(methods=(method,), labels=(0,), kind="binary")
    _, maps = patch_maps(classifier, dinov2, batch, encoding, request)
    _, plain = patch_maps(replace_seam(classifier, None), dinov2, batch, encoding, request)
    for key, grid in plain.items():
        assert grid.max() > 0
        torch.testing.assert_close(maps[key], grid, atol=0.02 * float(grid.max()), rtol=0)


def test_the_fingerprint_of_a_trunk_does_not_know_what_lies_behind_it(network):
    first = [trunk_fingerprint(network, seam) for seam in range(DEPTH)]
    assert len(set(first)) == DEPTH
    other = random_backbone(network.config, 1).eval()
    with torch.no_grad():
        for path in (*other.block_paths[2:], *other.closing_paths):
            for parameter in other.get_submodule(path).parameters():
                parameter.add_(0.5)
    second = [trunk_fingerprint(other, seam) for seam in range(DEPTH)]
    assert [a == b for a, b in zip(first, second, strict=True)] == [True, True, True, False]
    images = images_for(network)
    assert torch.equal(network(images, stop=2).tokens, other(images, stop=2).tokens)


def test_a_davit_says_that_it_cannot_be_cut():
    network = random_backbone(TINY_DAVIT)
    with pytest.raises(
        BackboneError, match=r"method.blocks: a DaViT .* cannot be adapted alone; leave method.blocks out"
    ):
        VolumeClassifier(network, views=["image"], num_logits=2, blocks=1)


def test_more_blocks_than_there_are_is_an_error_that_names_their_number(dinov2):
    with pytest.raises(BackboneError, match=r"method.blocks: expected 1 to 4, .* got 5; leave it out"):
        VolumeClassifier(dinov2, views=["image"], num_logits=2, blocks=5)


@pytest.mark.parametrize("name", ["anymc3d", "frozen"])
def test_no_block_to_adapt_is_another_method(name):
    with pytest.raises(UsageError, match=r"method.blocks: .*method: "):
        MethodSettings(name=name, blocks=0 if name == "anymc3d" else 1)
