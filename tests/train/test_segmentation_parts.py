"""Masks in batches: numbered, changed like the slices; what lacks one costs nothing and moves nothing."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from anymc3d.data.case import Case
from anymc3d.models.classifier import Encoding, VolumeClassifier
from anymc3d.models.decoders.interface import MaskTarget
from anymc3d.models.decoders.table import build_decoders
from anymc3d.models.vit import ViTConfig, random_vit
from anymc3d.models.zoo.objective import Branch
from anymc3d.settings.views import ViewSettings
from anymc3d.train.batch import BatchLoader
from anymc3d.train.draws import Visit
from anymc3d.train.processes import Processes
from anymc3d.train.segmentation import MaskSource, Segmentation, dice_of, masked_positions, mean_dice

ENCODING = Encoding(mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
VIEWS = {"a": ViewSettings(size=(28, 28, 3)), "b": ViewSettings(size=(14, 28, 4))}


class Cases:
    """Three cases of two views; where a mask is, it is 5 where the slice is above one half. Case 1 has none."""

    cases = tuple(
        Case(str(i), str(i), {}, {}, {}, None, None, None, None, i, mask_classes="5" if i == 2 else "")
        for i in range(3)
    )

    def load(self, index):
        rng = np.random.default_rng(index)
        return {n: rng.random((v.size[2], 1, *v.size[:2])).astype(np.float16) for n, v in VIEWS.items()}

    def masks(self, index):
        if index == 1:
            return dict.fromkeys(VIEWS)
        return {n: np.where(s[:, 0] > 0.5, 5, 300).astype(np.int16) for n, s in self.load(index).items()}


def loader(augmentation="none", classes=(9, 5)):
    source = Cases()
    return BatchLoader(
        source, VIEWS, device=torch.device("cpu"), augmentation=augmentation, masks=MaskSource(source, classes)
    )


def test_structures_are_numbered_in_the_tasks_order_and_other_labels_are_background():
    batch = loader().load([Visit(0), Visit(1), Visit(2)], epoch=0)
    for packed in batch.values():
        first, none, last = packed.masks
        assert none is None and first.labels.dtype == torch.uint8
        assert first.annotated == (1, 2) and last.annotated == (2,)
        slices = packed.slices[: packed.counts[0], 0]
        assert torch.equal(first.labels == 2, slices > 0.5) and torch.equal(first.labels == 0, slices <= 0.5)


@pytest.mark.parametrize("epoch", range(4))
def test_masks_are_turned_by_the_same_draw_as_the_slices(epoch):
    batch = loader("flips").load([Visit(0)], epoch=epoch)
    for packed in batch.values():
        assert torch.equal(packed.masks[0].labels == 2, packed.slices[:, 0] > 0.5)


@pytest.fixture(scope="module")
def parts():
    config = ViTConfig(embed_dim=16, depth=4, num_heads=2, patch_size=14, grid=3)
    backbone = random_vit(config, seed=3).eval().requires_grad_(False)
    decoders = build_decoders("nnunet", backbone, views=list(VIEWS), num_classes=2)
    model = VolumeClassifier(backbone, views=list(VIEWS), num_logits=2, rank=2, decoders=decoders)
    with torch.no_grad():
        for b in (b for lora in model.lora.values() for b in lora.b):
            b.normal_(std=0.1, generator=torch.Generator().manual_seed(1))
    return SimpleNamespace(backbone=backbone, model=model, segmentation=Segmentation(1.0, 0))


def learn(parts, visits):
    batch = loader().load(visits, epoch=0)
    parts.model.zero_grad()
    logits, loss = parts.segmentation.learn(parts.model, parts.backbone, batch, ENCODING, visits, epoch=0, progress=0.0)
    if loss.count:
        loss.total.backward()
    return logits, loss, {n: p.grad.clone() for n, p in parts.model.named_parameters() if p.grad is not None}


def test_a_case_without_mask_costs_nothing_and_no_decoder_runs(parts, monkeypatch):
    for decoder in parts.model.decoder.values():
        monkeypatch.setattr(decoder, "forward", lambda *_: pytest.fail("the decoder ran"))
    logits, loss, grads = learn(parts, [Visit(1)])
    assert loss.count == 0 and float(loss.total) == 0 and not grads
    expected = parts.model(parts.backbone, loader().load([Visit(1)], epoch=0), ENCODING).logits
    assert torch.equal(logits, expected)


def test_in_a_mixed_batch_the_loss_and_its_gradient_are_those_of_the_cases_with_masks(parts):
    _, mixed, mixed_grads = learn(parts, [Visit(0), Visit(1), Visit(2)])
    alone = [learn(parts, [Visit(0)]), learn(parts, [Visit(2)])]
    assert mixed.count == 2
    assert float(mixed.total.detach()) == pytest.approx(
        sum(float(loss.total.detach()) for _, loss, _ in alone), rel=1e-5
    )
    for name, grad in mixed_grads.items():
        torch.testing.assert_close(grad, sum(one[name] for *_, one in alone), rtol=1e-3, atol=1e-6)


def test_the_loss_of_a_case_is_the_mean_over_its_views(parts):
    batch = loader().load([Visit(0)], epoch=0)
    only = [{n: p if n == view else p._replace(masks=(None,)) for n, p in batch.items()} for view in VIEWS]
    losses = [
        parts.segmentation.learn(parts.model, parts.backbone, one, ENCODING, [Visit(0)], epoch=0, progress=0.0)[1]
        for one in (batch, *only)
    ]
    assert [loss.count for loss in losses] == [1, 1, 1]
    both, first, second = (float(loss.total.detach()) for loss in losses)
    assert both == pytest.approx((first + second) / 2, rel=1e-5)


def test_the_factor_makes_the_step_the_mean_over_labels_plus_lambda_times_the_mean_over_masked_cases():
    targets = np.array([[0.0, 1.0], [1.0, np.nan], [np.nan, 1.0]])
    decoders = dict.fromkeys(VIEWS, torch.nn.Identity())
    batches = [
        ([Visit(0), Visit(1)], loader().load([Visit(0), Visit(1)], 0)),
        ([Visit(2)], loader().load([Visit(2)], 0)),
    ]
    assert Segmentation(0.5, 0).factor(batches, targets, decoders, Processes()) == 0.5 * 4 / 2
    none = [([Visit(1)], loader().load([Visit(1)], 0))]
    assert Segmentation(0.5, 0).factor(none, targets, decoders, Processes()) == 0.0


def test_masks_that_a_branch_learns_nothing_from_are_not_counted():
    class Deaf(Branch):
        def learns_from(self, target):
            return False

    batch = loader().load([Visit(0)], 0)
    decoders = {view: Deaf(2) if view == "a" else torch.nn.Identity() for view in VIEWS}
    assert masked_positions(batch, decoders) == {"a": [], "b": [0]}


def test_dice_is_counted_where_there_is_something_and_averaged_over_structures():
    labels = torch.tensor([[[1, 1, 0, 0]]])
    answer = torch.tensor([[[0.1, 0.9, 0.9, 0.9]], [[0.9, 0.1, 0.1, 0.1]], [[0.0] * 4]]).unsqueeze(1)
    assert dice_of(answer, MaskTarget(labels, (1, 2))) == {1: pytest.approx(2 / 3)}
    assert dice_of(answer, MaskTarget(labels, (2,))) == {}
    assert mean_dice([{1: 0.5, 2: 1.0}, {1: 1.0}]) == pytest.approx((0.75 + 1.0) / 2)
    assert mean_dice([{}]) is None
