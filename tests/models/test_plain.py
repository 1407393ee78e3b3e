"""Plain classifiers: standardised numbers and one head."""

import pytest
import torch

from anymc3d.errors import PluginError
from anymc3d.models.build import build_classifier, is_baseline
from anymc3d.models.heads import OrdinalHead
from anymc3d.models.plain import PLAIN, PlainClassifier, cut_parameters, num_voxels
from anymc3d.settings.config import LabelSettings
from anymc3d.settings.training import MethodSettings
from anymc3d.settings.views import ViewSettings

BINARY = LabelSettings(columns=("y",), kind="binary", classes=("0", "1"))


def filled(clip=None):
    classifier = PlainClassifier(3, common=False, clip=clip, labels=BINARY)
    weight = torch.tensor([[0.0, 0.0, 0.0], [1.0, 2.0, -1.0]])
    classifier.load_tensors(
        {
            "numbers.center": torch.tensor([1.0, 2.0, 3.0]),
            "numbers.spread": torch.tensor([1.0, 0.5, 2.0]),
            "head.weight": weight,
            "head.bias": torch.tensor([0.0, 0.25]),
        }
    )
    return classifier.eval()


def test_a_case_by_hand_and_one_that_lacks_a_number():
    numbers = torch.tensor([[2.0, 3.0, 3.0], [float("nan"), 2.0, 1.0]])
    with torch.no_grad():
        logits = filled()(numbers).logits
    assert logits[:, 1].tolist() == [1 + 4 + 0 + 0.25, 0 + 0 + 1 + 0.25]


def test_what_is_far_out_counts_no_more_than_the_clip():
    with torch.no_grad():
        logits = filled(clip=4.0)(torch.tensor([[1e9, 2.0, 3.0]])).logits
    assert logits[0, 1] == 4.25


def test_a_spread_of_0_is_refused():
    with pytest.raises(PluginError, match="above 0"):
        filled().load_tensors({**filled().tensors(), "numbers.spread": torch.tensor([1.0, 0.0, 1.0])})


def test_cuts_are_those_that_the_ordinal_head_uses():
    cuts = torch.tensor([-1.5, -0.2, 2.0])
    head = OrdinalHead(1, 4, torch.Generator())
    with torch.no_grad():
        head.cuts.copy_(cut_parameters(cuts))
        used = torch.cat([head.cuts[:1], head.cuts[:1] + head.gaps().cumsum(0)])
    torch.testing.assert_close(used, cuts, atol=1e-5, rtol=1e-5)


def test_every_entry_is_a_method_without_a_network():
    for name, entry in PLAIN.items():
        assert not is_baseline(MethodSettings(name=name)) and entry.summary
        with pytest.raises(PluginError, match="add --quick"):
            build_classifier(MethodSettings(name=name), views={}, labels=BINARY, fusion="mean", backbone=None)
    assert num_voxels({"a": ViewSettings(size=(4, 5, 6)), "b": ViewSettings(size=(2, 2, 2))}) == 128
    with pytest.raises(PluginError, match="need a number of slices"):
        num_voxels({"a": ViewSettings(size=(4, 5, None))})
