"""The decoders: the classifier's answer does not know them, what is not annotated moves nothing, counts as printed."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import conv3d

from anymc3d.errors import BackboneError, UsageError
from anymc3d.models.classifier import Encoding, PackedSlices, VolumeClassifier
from anymc3d.models.decoders.eomt import annealed, depthwise
from anymc3d.models.decoders.interface import MaskTarget, Schedule
from anymc3d.models.decoders.run import classify_and_decode
from anymc3d.models.decoders.table import DECODERS, build_decoders, check_backbone, check_name
from anymc3d.models.vit import ViTConfig, empty_vit, random_vit

ENCODING = Encoding(mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
CONFIGS = {
    "learned": ViTConfig(embed_dim=16, depth=5, num_heads=2, patch_size=14, grid=3),
    "rope": ViTConfig(embed_dim=16, depth=5, num_heads=2, patch_size=14, positions="rope", num_registers=2),
}


def network(kind="learned"):
    return random_vit(CONFIGS[kind], seed=3).eval().requires_grad_(False)


def classifier(backbone, decoder=None, views=("image",), num_classes=2):
    decoders = build_decoders(decoder, backbone, views=views, num_classes=num_classes) if decoder else None
    model = VolumeClassifier(backbone, views=views, num_logits=2, rank=2, decoders=decoders)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("lora.") and ".b." in name:  # as after some training: at 0 LoRA would hide mistakes
                parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
    return model


def batch(counts=(3, 2), size=(28, 20)):
    slices = torch.rand(sum(counts), 1, *size, generator=torch.Generator().manual_seed(0))
    return {"image": PackedSlices(slices, counts)}


def schedule(progress=0.0):
    return Schedule(progress, torch.Generator().manual_seed(5))


def target(num_slices, annotated=(1, 2), size=(28, 20)):
    labels = torch.zeros(num_slices, *size, dtype=torch.uint8)
    labels[:, 4:20, 3:11], labels[:, 8:16, 11:17] = 1, 2
    labels[-1] = 0
    return MaskTarget(labels, annotated)


def decode(model, backbone, encoding=ENCODING, wanted=(0, 1), training=False, data=None):
    schedules = (lambda view, case: schedule()) if training else None
    return classify_and_decode(model, backbone, data or batch(), encoding, {"image": list(wanted)}, schedules)


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("decoder", DECODERS)
def test_logits_are_the_same_with_and_without_each_decoder(decoder, kind):
    backbone = network(kind)
    plain, both = classifier(backbone), classifier(backbone, decoder)
    for name, tensor in plain.tensors().items():
        assert torch.equal(tensor, both.tensors()[name]), "the decoder takes no draw from the others"
    assert all(name.startswith("decoder.image.") for name in both.tensors() if name not in plain.tensors())
    expected = plain(backbone, batch(), ENCODING)
    for training in (False, True):
        answer, maps = decode(both, backbone, training=training)
        torch.testing.assert_close(answer.logits, expected.logits, rtol=0, atol=1e-6)
        assert set(maps) == {("image", 0), ("image", 1)}
    unasked, none = decode(both, backbone, wanted=())
    assert torch.equal(unasked.logits, expected.logits) and not none


@pytest.mark.parametrize("decoder", DECODERS)
def test_queries_move_no_token_of_the_image(decoder):
    """Other decoder weights, the same logits to the last bit."""
    backbone = network()
    model = classifier(backbone, decoder)
    before = decode(model, backbone)[0].logits
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.mul_(-3).add_(1)
    assert torch.equal(decode(model, backbone)[0].logits, before)


@pytest.mark.parametrize("decoder", DECODERS)
def test_maps_lie_on_the_slices_and_do_not_depend_on_chunks_or_recomputing(decoder):
    backbone = network("rope")
    model = classifier(backbone, decoder)
    own = model.decoder["image"]
    expected = [own.probabilities(m, (28, 20)) for m in decode(model, backbone)[1].values()]
    assert [tuple(found.shape) for found in expected] == [(3, 3, 28, 20), (3, 2, 28, 20)]
    for found in expected:
        torch.testing.assert_close(found.sum(dim=0), torch.ones(found.shape[1:]))
    for encoding in (replace(ENCODING, chunk_size=2), replace(ENCODING, recompute=True)):
        for found, one in zip(decode(model, backbone, encoding)[1].values(), expected, strict=True):
            torch.testing.assert_close(own.probabilities(found, (28, 20)), one, rtol=0, atol=1e-5)
    half = decode(model, backbone, replace(ENCODING, dtype=torch.bfloat16))[1]["image", 0]
    torch.testing.assert_close(own.probabilities(half, (28, 20)), expected[0], rtol=0, atol=0.1)


@pytest.mark.parametrize("decoder", DECODERS)
def test_the_masks_gradient_reaches_the_adapters_also_with_recomputing(decoder):
    backbone = network()
    grads = []
    for encoding in (ENCODING, replace(ENCODING, recompute=True, chunk_size=2)):
        model = classifier(backbone, decoder)
        maps = decode(model, backbone, encoding, training=True)[1]
        model.decoder["image"].loss(maps["image", 0], target(3), schedule()).backward()
        grads.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    first = {name: grad for name, grad in grads[0].items() if name.startswith("lora.")}
    assert first and all(grad.abs().max() > 0 for grad in first.values())
    assert "head.weight" not in grads[0]
    for name, grad in grads[0].items():
        torch.testing.assert_close(grads[1][name], grad, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_structure_that_was_not_annotated_gets_no_gradient(decoder):
    backbone = network()
    model = classifier(backbone, decoder)
    own = model.decoder["image"]
    own.loss(decode(model, backbone, training=True)[1]["image", 0], target(3, annotated=(1,)), schedule()).backward()
    last = own.score if decoder == "nnunet" else own.kind
    moved = last.weight.grad.flatten(1).abs().sum(dim=1)
    assert moved[2] == 0 and last.bias.grad[2] == 0
    assert moved[1] > 0


def test_the_label_under_a_structure_that_was_not_annotated_changes_nothing():
    """With nnU-Net's loss and EoMT's: where only 1 was looked for, what lies elsewhere is not looked at as 2."""
    backbone = network()
    model = classifier(backbone, "nnunet")
    output = decode(model, backbone, training=True)[1]["image", 0]
    loss = model.decoder["image"].loss(output, target(3, annotated=(1,)), schedule())
    other = target(3, annotated=(1,)).labels.clone()
    other[other == 2] = 0
    torch.testing.assert_close(model.decoder["image"].loss(output, MaskTarget(other, (1,)), schedule()), loss)


@pytest.mark.parametrize(
    ("width", "heads", "depth", "patch", "decoder", "expected"),
    [
        (384, 6, 12, 14, "nnunet", 1_493_091),
        (1024, 16, 24, 14, "nnunet", 1_656_931),
        (384, 6, 12, 14, "eomt-2d", 1_045_636),
        (384, 6, 12, 16, "eomt-2d", 1_640_068),
        (1024, 16, 24, 14, "eomt-2d", 7_375_876),
        (384, 6, 12, 14, "eomt-3d", 1_052_548),
        (1024, 16, 24, 14, "eomt-3d", 7_394_308),
    ],
)
def test_parameter_counts_are_those_of_the_documentation(width, heads, depth, patch, decoder, expected):
    backbone = empty_vit(ViTConfig(embed_dim=width, depth=depth, num_heads=heads, patch_size=patch))
    own = build_decoders(decoder, backbone, views=["image"], num_classes=2)["image"]
    assert sum(p.numel() for p in own.parameters()) == expected


def test_counts_follow_from_the_layers():
    """Of nnU-Net's decoder by hand: 1 x 1 x 1, four times (transposed, two blocks with norm), 1 x 1 x 1."""
    widths, total = (256, 128, 64, 32, 32), 384 * 256 + 256
    for before, after in itertools.pairwise(widths):
        total += before * after * 4 + after + 2 * (after * after * 27 + after + 2 * after)
    assert total + 32 * 3 + 3 == 1_493_091


def test_queries_of_a_volume_are_one_set_and_those_of_slices_their_own():
    backbone = network()
    for decoder, items, deep in (("eomt-2d", 3, 1), ("eomt-3d", 1, 3)):
        segments = decode(classifier(backbone, decoder), backbone)[1]["image", 0][-1]
        assert segments.classes.shape == (items, 16, 4) and segments.masks.shape[:3] == (items, 16, deep)


def test_use_gives_one_output_and_training_one_more_for_each_block():
    backbone = network()
    model = classifier(backbone, "eomt-2d")
    assert len(decode(model, backbone)[1]["image", 0]) == 1
    assert len(decode(model, backbone, training=True)[1]["image", 0]) == 5


def test_masks_of_attention_are_given_up_block_by_block():
    assert [annealed(0.0, block) for block in range(4)] == [1.0] * 4
    assert [annealed(1.0, block) for block in range(4)] == [0.0] * 4
    assert annealed(0.25, 0) == pytest.approx(0.5**0.9) and annealed(0.25, 1) == 1.0


@pytest.mark.parametrize("deep", [1, 3])
@pytest.mark.parametrize("num_slices", [1, 2, 5])
def test_the_depthwise_convolution_is_torchs(deep, num_slices):
    draws = torch.Generator().manual_seed(0)
    weight = torch.randn(4, 1, deep, 3, 3, generator=draws)
    pixels = torch.randn(2, 4, num_slices, 5, 6, generator=draws)
    expected = conv3d(pixels, weight, padding=(deep // 2, 1, 1), groups=4)
    torch.testing.assert_close(depthwise(pixels, weight), expected, rtol=1e-4, atol=1e-5)


def test_a_query_that_may_not_look_at_a_patch_does_not_know_it():
    backbone = network()
    block = backbone.blocks[0]
    tokens = torch.randn(1, 6, 16, generator=torch.Generator().manual_seed(0))
    allowed = torch.ones(1, 1, 2, 6, dtype=torch.bool)
    allowed[..., 5] = False
    before = block(tokens, None, False, 2, allowed)[0]
    tokens[0, 5] = 100.0
    assert torch.equal(block(tokens, None, False, 2, allowed)[0], before)
    assert not torch.allclose(block(tokens, None, False, 2)[0], before)


def test_an_unknown_decoder_and_a_backbone_without_patch_tokens_are_refused():
    with pytest.raises(UsageError, match="unknown decoder 'nnunett', did you mean 'nnunet'"):
        check_name("nnunett")
    with pytest.raises(
        BackboneError, match=r"needs the patch tokens of a ViT such as DINOv2, DINOv3 or CLIP, other has none"
    ):
        check_backbone(torch.nn.Linear(2, 2), "other")
    check_backbone(network(), "tiny")
