"""Every network of the zoo as the classifier of a task: one step of its own recipe, and the same answer from its file.

With the narrow networks of the shared test, but for those that only look through the names of the whole one.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_zoo import every, small

from anymc3d.models.baseline import BaselineClassifier
from anymc3d.models.classifier import Encoding, PackedSlices
from anymc3d.models.zoo.volumes import Sizes
from anymc3d.settings.config import LabelSettings
from anymc3d.settings.training import TrainSettings
from anymc3d.train.losses import make_loss
from anymc3d.train.optimisation import build_optimizer, set_learning_rate

LABELS = LabelSettings(columns=("a", "b", "c"), kind="multilabel")
TARGETS = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0]])


@every
def test_one_step_trains_what_is_to_be_trained_and_the_file_gives_the_same_answer(name):
    entry, channels, size = small(name)
    entry = replace(entry, sizes=Sizes())  # the narrow network brings volumes to its own size, a smaller one
    classifier = BaselineClassifier(entry, channels={"image": channels}, num_logits=3)
    generator = torch.Generator().manual_seed(2)
    packed = PackedSlices(torch.rand(2 * size[0], channels, *size[1:], generator=generator), (size[0], size[0]))
    settings = TrainSettings(loss=entry.recipe.loss)
    optimizer = build_optimizer(classifier, settings)
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert trained == {id(p) for p in classifier.parameters() if p.requires_grad}
    set_learning_rate(optimizer, 1.0)
    classifier.train()
    before = {key: tensor.detach().clone() for key, tensor in classifier.tensors().items()}
    loss = make_loss(settings, LABELS, TARGETS)
    found = loss(classifier(None, {"image": packed}, Encoding()).logits, torch.from_numpy(TARGETS).float())
    found.total.backward()
    optimizer.step()
    moved = {key for key, tensor in classifier.tensors().items() if not torch.equal(tensor, before[key])}
    parameters = {f"network.image.{key}": p for key, p in classifier.networks["image"].named_parameters()}
    assert {key for key in parameters if key in moved} == {
        key for key, p in parameters.items() if p.grad is not None and (bool(p.grad.any()) or key in moved)
    }
    assert any(key in moved for key in parameters)
    assert not {key for key in moved if key in parameters and not parameters[key].requires_grad}

    again = BaselineClassifier(entry, channels={"image": channels}, num_logits=3, seed=7)
    again.load_tensors(classifier.tensors())
    with torch.no_grad():
        logits, same = (one.eval()(None, {"image": packed}, Encoding()).logits for one in (classifier, again))
    assert logits.shape == (2, 3)
    assert logits.isfinite().all()
    assert torch.equal(logits, same)


def test_slices_of_short_cases_are_padded_without_a_change():
    entry, channels, size = small("mst")
    classifier = BaselineClassifier(entry, channels={"image": channels}, num_logits=3).eval()
    slices = torch.rand(7, channels, *size[1:], generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        both = classifier(None, {"image": PackedSlices(slices, (2, 5))}, Encoding()).logits
        alone = classifier(None, {"image": PackedSlices(slices[:2], (2,))}, Encoding()).logits
    assert both[0].tolist() == pytest.approx(alone[0].tolist(), abs=1e-6)
