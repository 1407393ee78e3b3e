"""The network in the spirit of DeepCNTD-Net: what enters its classifier, and how its entry speaks of itself."""

import numpy as np
import pytest
import torch

from anymc3d.errors import UsageError
from anymc3d.models.decoders.interface import MaskTarget
from anymc3d.models.zoo.deepcntd import ANATOMY, HAEMORRHAGES, STRUCTURES, DeepCNTD, dice_and_bce
from anymc3d.models.zoo.entry import count_parameters
from anymc3d.models.zoo.table import ZOO


def tiny() -> DeepCNTD:
    return DeepCNTD(4, 3, widths=(4, 4, 8, 8), depths=(1, 1, 1, 1), growth=4, stem=8).eval()


def test_the_classifier_is_the_one_of_the_zoo_with_image_logits_and_maps_as_channels():
    with torch.device("meta"):
        network = DeepCNTD(2, 3)
    channels = 3 + 5 + 7 + 2 * 32
    assert network.classifier.features.conv0.weight.shape == (64, channels, 7, 7, 7)
    zoo = count_parameters(ZOO["densenet121-3d"].empty(2), trainable=True)
    assert count_parameters(network.classifier, trainable=True) == zoo + (channels - 1) * 64 * 7**3


def test_a_mask_lies_on_the_padded_volume_where_its_voxels_went():
    """Of a volume of 9 slices padded to 32, the drawing that is the mask there and nothing elsewhere costs nothing."""
    labels = torch.zeros(9, 33, 35, dtype=torch.uint8)
    labels[2:5, 4:9, 7:20], labels[6:8, 20:30, 2:8] = 1, 12
    padded = torch.zeros(32, 33, 35)
    padded[11:20] = labels
    drawn = torch.stack([(padded == structure) * 40.0 - 20 for structure in range(1, 13)])
    target = MaskTarget(labels, (1, 12))
    assert dice_and_bce(drawn, target).item() < 1e-4
    assert dice_and_bce(-drawn, target).item() > 10
    assert dice_and_bce(drawn.roll(1, dims=1), target).item() > 0.1


def test_loss_of_masks_is_dice_and_cross_entropy_by_their_formulas():
    logits = torch.randn(12, 3, 4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    labels = torch.randint(0, 13, (3, 4, 5), generator=torch.Generator().manual_seed(2))
    expected = []
    for structure, own_head in ((2, range(1, 6)), (7, (7, 8))):
        free = np.isin(labels.numpy(), [0, *own_head])  # what another head's label has taken is not compared
        p = 1 / (1 + np.exp(-logits[structure - 1].numpy()[free]))
        y = labels.numpy()[free] == structure
        dice = (2 * p[y].sum() + 1e-5) / (p.sum() + y.sum() + 1e-5)
        expected.append(1 - dice - np.where(y, np.log(p), np.log(1 - p)).mean())
    assert dice_and_bce(logits, MaskTarget(labels, (2, 7))).item() == pytest.approx(np.mean(expected), abs=1e-6)


def test_more_structures_than_it_draws_are_refused():
    with pytest.raises(UsageError, match=r"draws 12 structures.*the masks have 13.*segmentation\.classes"):
        ZOO["deepcntd"].build_branch(tiny(), 13)
    assert len(STRUCTURES) == sum({**HAEMORRHAGES, **ANATOMY}.values()) == 12


def test_the_answer_depends_on_what_both_networks_draw():
    network, volume, mask = tiny(), torch.rand(1, 3, 12, 40, 36), torch.ones(1, 12, dtype=torch.bool)
    with torch.no_grad():
        plain = network(volume, mask)
        for part in (network.haemorrhages.heads["haemorrhage"], network.anatomy.heads["left"]):
            part.bias += 3
            changed = network(volume, mask)
            assert not torch.allclose(changed, plain)
            plain = changed


def test_it_never_calls_itself_the_original():
    entry = ZOO["deepcntd"]
    assert "in spirit" in entry.title
    assert "never a copy" in entry.notes
