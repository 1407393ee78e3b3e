"""The network in the spirit of DeepCNTD-Net: what enters its classifier, and how its entry speaks of itself."""

import torch

from anymc3d.models.zoo.deepcntd import ANATOMY, HAEMORRHAGES, DeepCNTD
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


def test_every_structure_is_drawn_on_the_voxels_of_the_volume():
    with torch.no_grad():
        drawn = tiny().segment(torch.rand(1, 3, 9, 33, 35))
    assert {name: maps.shape[1] for name, maps in drawn.items()} == {**HAEMORRHAGES, **ANATOMY}
    assert {tuple(maps.shape[2:]) for maps in drawn.values()} == {(9, 33, 35)}


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
