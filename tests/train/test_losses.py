"""Losses against scikit-learn, torch and the printed formula."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss

from anymc3d.config import TrainSettings
from anymc3d.errors import UsageError
from anymc3d.train.losses import cross_entropy, focal_loss, loss_function

SETTINGS = TrainSettings()


def test_focal_is_the_printed_formula_with_a_constant_alpha():
    logits, targets = torch.tensor([[0.3, 1.1], [2.0, -1.0]]), torch.tensor([1.0, 1.0])
    loss = focal_loss(logits, targets, SETTINGS, softmax=True)
    p = logits.double().softmax(dim=1)[:, 1].numpy()
    expected = sum(-0.25 * (1 - x) ** 2 * math.log(x) for x in p)
    assert float(loss.total) == pytest.approx(expected, rel=1e-6)
    assert loss.count == 2


def test_both_classes_weigh_the_same_at_the_same_confidence():
    logits = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    a = focal_loss(logits[:1], torch.tensor([1.0]), SETTINGS, softmax=True).total
    b = focal_loss(logits[1:], torch.tensor([0.0]), SETTINGS, softmax=True).total
    assert float(a) == pytest.approx(float(b))


def test_focal_without_focus_is_scaled_cross_entropy():
    logits, targets = torch.randn(9, 4), torch.randint(0, 4, (9,)).double()
    flat = TrainSettings(focal_gamma=0.0)
    assert float(focal_loss(logits, targets, flat, softmax=True).total) == pytest.approx(
        0.25 * float(cross_entropy(logits, targets, flat, softmax=True).total), rel=1e-6
    )


def test_cross_entropy_equals_scikit_learn():
    logits, targets = torch.randn(20, 3), torch.tensor([0, 1, 2, 1] * 5).double()
    loss = cross_entropy(logits, targets, SETTINGS, softmax=True)
    expected = log_loss(targets.numpy(), logits.double().softmax(dim=1).numpy())
    assert float(loss.total) / loss.count == pytest.approx(expected, rel=1e-5)


def test_missing_labels_take_no_part_and_get_no_gradient():
    logits = torch.randn(3, 2, requires_grad=True)
    targets = torch.tensor([[1.0, math.nan], [math.nan, math.nan], [0.0, 1.0]])
    loss = focal_loss(logits, targets, SETTINGS, softmax=False)
    loss.total.backward()
    assert loss.count == 3
    assert (logits.grad != 0).tolist() == [[True, False], [False, False], [True, True]]


def test_sigmoid_cross_entropy_equals_torch():
    logits, targets = torch.randn(5, 3), torch.randint(0, 2, (5, 3)).double()
    ours = cross_entropy(logits, targets, SETTINGS, softmax=False).total
    theirs = torch.nn.functional.binary_cross_entropy_with_logits(logits.double(), targets, reduction="sum")
    assert float(ours) == pytest.approx(float(theirs), rel=1e-6)


@pytest.mark.parametrize("logit", [-200.0, 200.0])
def test_extreme_logits_stay_finite_with_finite_gradients(logit):
    logits = torch.tensor([[logit]], requires_grad=True)
    loss = focal_loss(logits, torch.tensor([[1.0]]), SETTINGS, softmax=False)
    loss.total.backward()
    assert np.isfinite(float(loss.total.detach()))
    assert torch.isfinite(logits.grad).all()


def test_unknown_loss_suggests_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'focal'"):
        loss_function("focl")
