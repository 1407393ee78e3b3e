"""Rows of chunks in one tensor, of which no chunk stays in memory."""

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef

from anymc3d.models import classifier as classifiers
from anymc3d.models import frozen_pass, shared_trunk
from anymc3d.models.architectures import random_backbone
from anymc3d.models.backbones import TINY_DINOV2
from anymc3d.models.chunked_rows import ChunkedRows
from anymc3d.models.classifier import Encoding, PackedSlices, VolumeClassifier
from anymc3d.models.frozen_pass import Pass, frozen_parts
from anymc3d.models.shared_trunk import Tail, encode_together

SLICES, CHUNK = 8, 2


def test_it_is_what_cat_gives():
    parts = [torch.rand(number, 3) for number in (2, 2, 1)]
    rows, weights = ChunkedRows(5), torch.ones(3, requires_grad=True)
    with_graph = ChunkedRows(5)
    for part in parts:
        rows.add(part)
        with_graph.add(part * weights)
    assert torch.equal(rows.whole(), torch.cat(parts)) and torch.equal(with_graph.whole(), torch.cat(parts))
    with_graph.whole().sum().backward()
    torch.testing.assert_close(weights.grad, torch.cat(parts).sum(dim=0))


@pytest.fixture(scope="module")
def backbone():
    return random_backbone(TINY_DINOV2, 1).eval().requires_grad_(False)


def of_one(backbone, packed, encoding):
    VolumeClassifier(backbone, views=["image"], num_logits=2).encode(backbone, "image", packed, encoding)


def of_frozen(backbone, packed, encoding):
    encoder = VolumeClassifier(backbone, views=["image"], num_logits=2, rank=None)
    frozen_parts(encoder, backbone, "image", packed, encoding, Pass(features=("class+mean",)))


def of_several(backbone, packed, encoding):
    tails = [
        Tail(VolumeClassifier(backbone, views=["image"], num_logits=2, blocks=1), "image", backbone, str)
        for _ in range(3)
    ]
    encode_together(tails, packed, encoding)


@pytest.mark.parametrize("program", [of_one, of_frozen, of_several])
def test_nothing_that_the_backbone_gave_outlives_its_chunk(program, backbone, monkeypatch):
    """Counted by the memory behind the tensors, views included, where each chunk begins."""
    given, alive = [], []
    prepare, run = classifiers.to_backbone_input, classifiers.run_backbone

    def prepared(*args):
        alive.append(sum(not storage.expired() for storage in given))
        return prepare(*args)

    def ran(*args, **options):
        found = run(*args, **options)
        given.append(StorageWeakRef(found.tokens.untyped_storage()))
        return found

    for module in (classifiers, frozen_pass, shared_trunk):
        monkeypatch.setattr(module, "to_backbone_input", prepared)
        monkeypatch.setattr(module, "run_backbone", ran)
    side = 2 * backbone.patch_size
    packed = PackedSlices(torch.rand(SLICES, 1, side, side), (SLICES,))
    with torch.inference_mode():
        program(backbone, packed, Encoding(chunk_size=CHUNK))
    assert len(alive) == SLICES // CHUNK and len(given) >= len(alive)
    assert alive[0] == 0 and max(alive[1:]) == alive[1], "what is left does not grow with the chunks"
    assert alive[1] <= 2, "at most what the loop still holds of the chunk before"
