"""Several plugins over one trunk answer what each answers alone, and each common block is computed once."""

from collections import Counter
from dataclasses import replace

import pytest
import torch

from anymc3d.models import shared_trunk
from anymc3d.models.architectures import random_backbone
from anymc3d.models.backbones import TINY_CLIP, TINY_DAVIT, TINY_DINOV2, TINY_DINOV3, TINY_SIGLIP, TINY_VIT
from anymc3d.models.classifier import PackedSlices, VolumeClassifier
from anymc3d.models.fingerprint import trunk_fingerprint
from anymc3d.models.first_products import FIRST_MAPS, FirstProducts
from anymc3d.models.mixed_batch import mixed_weights
from anymc3d.models.shared_trunk import Tail, encode_together
from anymc3d.models.vit import Block

DEPTH = 4
CONFIGS = {
    "dinov2": replace(TINY_DINOV2, depth=DEPTH),
    "dinov3": replace(TINY_DINOV3, depth=DEPTH),
    "vit": replace(TINY_VIT, depth=DEPTH),
    "clip": replace(TINY_CLIP, depth=DEPTH),
    "siglip": replace(TINY_SIGLIP, layers=DEPTH),
    "davit": TINY_DAVIT,
}


def backbone_of(name):
    return random_backbone(CONFIGS[name], 1).eval().requires_grad_(False)


@pytest.fixture(scope="module", params=CONFIGS)
def network(request):
    return backbone_of(request.param)


@pytest.fixture(scope="module")
def dinov2():
    return backbone_of("dinov2")


def tail_on(backbone, blocks, seed, view="image", **options):
    """``blocks``: "frozen", None or a number."""
    options |= {"rank": None} if blocks == "frozen" else {"blocks": blocks}
    classifier = VolumeClassifier(backbone, views=["image", "other"], num_logits=2, seed=seed, **options)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in classifier.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return Tail(classifier, view, backbone, lambda seam: trunk_fingerprint(backbone, seam))


def slices_for(backbone, number=7):
    side = 2 * backbone.patch_size
    return PackedSlices(torch.rand(number, 1, side, side, generator=torch.Generator().manual_seed(0)), (number,))


def alone(tail, packed, encoding):
    return tail.classifier.encode(tail.backbone, tail.view, packed, encoding)


@torch.no_grad()
def check(tails, packed, encoding):
    found = encode_together(tails, packed, encoding)
    for tail, tokens in zip(tails, found, strict=True):
        torch.testing.assert_close(tokens, alone(tail, packed, encoding), atol=1e-5, rtol=0)
    return found


@pytest.mark.parametrize("neighbours", [[], ["image", "other"]])
def test_mixed_numbers_of_blocks_answer_as_alone(network, encoding, neighbours):
    """One block, two, all, the whole backbone, and frozen, in two views, chunks and 2.5D."""
    kinds = [None, "frozen", "frozen"] + ([1, 2, 1, DEPTH] if network.block_paths else [None])
    views = ["image", "other"] * len(kinds)
    tails = [
        tail_on(network, kind, seed, view, neighbours=neighbours)
        for seed, (kind, view) in enumerate(zip(kinds, views, strict=False))
    ]
    found = check(tails, slices_for(network), replace(encoding, chunk_size=3))
    assert torch.equal(found[1], found[2]), "frozen"
    adapted = [tokens for kind, tokens in zip(kinds, found, strict=True) if kind != "frozen"]
    assert all((a - b).abs().max() > 1e-4 for i, a in enumerate(adapted) for b in adapted[:i]), "each is another plugin"


def test_in_bfloat16_they_answer_as_alone_too(dinov2, encoding):
    check(
        [tail_on(dinov2, kind, seed) for seed, kind in enumerate([1, 2, None])],
        slices_for(dinov2),
        replace(encoding, dtype=torch.bfloat16),
    )


def test_every_common_block_is_computed_once(dinov2, encoding, monkeypatch):
    """Twelve plugins of the last block, two of the last two, three frozen ones."""
    monkeypatch.setattr(shared_trunk, "FEW_TOKENS", 0)
    calls = Counter()
    forward = Block.forward
    names = {id(block): index for index, block in enumerate(dinov2.blocks)}
    monkeypatch.setattr(Block, "forward", lambda self, *args: calls.update([names[id(self)]]) or forward(self, *args))
    kinds = [1] * 12 + [2, 2] + ["frozen"] * 3
    with torch.no_grad():
        encode_together([tail_on(dinov2, kind, seed) for seed, kind in enumerate(kinds)], slices_for(dinov2), encoding)
    assert calls == {0: 1, 1: 1, 2: 1 + 2, 3: 12 + 2 + 1}


def test_backbones_that_differ_behind_a_block_share_what_lies_before_it(dinov2, encoding, monkeypatch):
    monkeypatch.setattr(shared_trunk, "FEW_TOKENS", 0)
    other = backbone_of("dinov2")
    with torch.no_grad():
        for parameter in other.blocks[3].parameters():
            parameter.add_(0.05)
    calls = Counter()
    forward = Block.forward
    monkeypatch.setattr(Block, "forward", lambda self, *args: calls.update([id(self)]) or forward(self, *args))
    tails = [tail_on(dinov2, 2, 0), tail_on(other, 2, 1), tail_on(dinov2, 1, 2), tail_on(other, "frozen", 3)]
    with torch.no_grad():
        found = encode_together(tails, slices_for(dinov2), encoding)
    trunks = [calls[id(dinov2.blocks[i])] + calls[id(other.blocks[i])] for i in range(DEPTH)]
    assert trunks == [1, 1, 3, 4], (
        "two tails of two blocks; one third block for the last two; two last blocks of theirs"
    )
    for tail, tokens in zip(tails, found, strict=True):
        torch.testing.assert_close(tokens, alone(tail, slices_for(dinov2), encoding), atol=1e-5, rtol=0)
    different = backbone_of("dinov2")
    with torch.no_grad():
        different.patch_embed.proj.bias.add_(0.1)
    with torch.no_grad():
        check([tail_on(dinov2, 2, 0), tail_on(different, 2, 1)], slices_for(dinov2), encoding)


@pytest.mark.parametrize("few", [0, 10**9])
def test_several_plugins_in_one_call_answer_as_alone(network, encoding, monkeypatch, few):
    """Ranks of 2, 8 and 16, scales of their own; chunks that hold two plugins and one, and a last smaller one."""
    monkeypatch.setattr(shared_trunk, "FEW_TOKENS", few)
    calls = []
    mixed = shared_trunk.mixed_tokens
    monkeypatch.setattr(shared_trunk, "mixed_tokens", lambda *args: calls.append(len(args[1])) or mixed(*args))
    options = [{"rank": 2}, {"rank": 8, "alpha": 4.0}, {"rank": 16}]
    for blocks in (None, 2) if network.block_paths else (None,):
        tails = [tail_on(network, blocks, seed, **more) for seed, more in enumerate(options)]
        for chunk_size in (64, 14, 5):
            check(tails, slices_for(network), replace(encoding, chunk_size=chunk_size))
    assert set(calls) == ({2, 3} if few else set())


def test_plugins_that_enter_a_block_together_share_its_frozen_product(network, encoding, monkeypatch):
    """Ranks and scales of their own; none is shared in bfloat16, of the last block, or with a plugin that is alone."""
    monkeypatch.setattr(shared_trunk, "FEW_TOKENS", 0)
    made, product = Counter(), FirstProducts.product

    def counted(self, path, make):
        return product(self, path, lambda: made.update([path]) or make())

    monkeypatch.setattr(FirstProducts, "product", counted)
    options = [{"rank": 2}, {"rank": 8, "alpha": 4.0}, {"rank": 16}]
    blocks = 2 if network.block_paths else None
    tails = [tail_on(network, blocks, seed, **more) for seed, more in enumerate(options)]
    check([*tails, tail_on(network, 1 if blocks else None, 3)], slices_for(network), replace(encoding, chunk_size=4))
    maps = FIRST_MAPS.get(type(network).__name__, ())
    assert made == {f"{network.block_paths[2]}.{leaf}": 2 for leaf in maps}, "in each of two chunks once"
    made.clear()
    check(tails[:1], slices_for(network), encoding)
    with torch.no_grad():
        encode_together(tails, slices_for(network), replace(encoding, dtype=torch.bfloat16))
    assert not made


def test_a_weight_of_several_plugins_does_nothing_else(dinov2):
    lora = tail_on(dinov2, 1, 0).classifier.lora["image"]
    weight = mixed_weights(dinov2, [lora, lora], torch.float32)["blocks.3.attn.qkv.weight"]
    beside = FirstProducts(dinov2, 3).weights(lora)["blocks.3.attn.qkv.weight"]
    with pytest.raises(TypeError, match="cannot be used by"):
        beside.abs()
    with pytest.raises(TypeError, match="cannot be used by"):
        torch.matmul(torch.zeros(1, 128), weight)


def test_no_slices_are_no_tokens(dinov2, encoding):
    (found,) = encode_together([tail_on(dinov2, 1, 0)], slices_for(dinov2, 0), encoding)
    assert found.shape == (0, 128)
