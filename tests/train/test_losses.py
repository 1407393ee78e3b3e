"""Losses against scikit-learn, torch and the printed formula."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from torch.nn.functional import binary_cross_entropy_with_logits

from anymc3d.errors import UsageError
from anymc3d.settings.config import LabelSettings
from anymc3d.settings.training import TrainSettings
from anymc3d.train.losses import LOSSES, Loss, make_loss

BINARY = LabelSettings(columns=("y",), kind="binary", classes=("0", "1"))
CLASSES = LabelSettings(columns=("y",), kind="multiclass", classes=("a", "b", "c"))
SEVERAL = LabelSettings(columns=("x", "y", "z"), kind="multilabel")


def loss_named(name="focal", *, softmax=True, weights=(), **settings):
    return Loss(TrainSettings(loss=name, **settings), softmax, weights)


def column(*values):
    return torch.tensor(values, dtype=torch.float64).unsqueeze(1)


def some_labels(rows=7, labels=3):
    """Random 0/1 targets, a third of them missing."""
    rng = np.random.default_rng(2)
    targets = rng.integers(0, 2, (rows, labels)).astype(float)
    targets[rng.random((rows, labels)) < 0.33] = np.nan
    return torch.from_numpy(targets)


def test_focal_is_the_printed_formula_with_a_constant_alpha():
    logits = torch.tensor([[0.3, 1.1], [2.0, -1.0]])
    loss = loss_named()(logits, column(1, 1))
    p = logits.double().softmax(dim=1)[:, 1].numpy()
    assert float(loss.total) == pytest.approx(sum(-0.25 * (1 - x) ** 2 * math.log(x) for x in p), rel=1e-6)
    assert loss.count == 2


def test_constant_alpha_weighs_both_classes_the_same_at_the_same_confidence():
    logits = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    a, b = (float(loss_named()(logits[i : i + 1], column(1 - i)).total) for i in (0, 1))
    assert a == pytest.approx(b)


@pytest.mark.parametrize("softmax", [True, False])
def test_balanced_alpha_is_for_positives_and_the_rest_for_negatives(softmax):
    constant = loss_named(softmax=softmax, focal_alpha=1.0)
    balanced = loss_named(softmax=softmax, focal_alpha=0.75, focal_alpha_mode="balanced")
    logits = torch.tensor([[0.4, -0.2]]) if softmax else torch.tensor([[0.4]])
    for target, alpha in ((1, 0.75), (0, 0.25)):
        expected = alpha * float(constant(logits, column(target)).total)
        assert float(balanced(logits, column(target)).total) == pytest.approx(expected, rel=1e-6)


def test_focal_without_focus_is_scaled_cross_entropy():
    logits, targets = torch.randn(9, 4), torch.randint(0, 4, (9, 1)).double()
    focal = float(loss_named(focal_gamma=0.0)(logits, targets).total)
    assert focal == pytest.approx(0.25 * float(loss_named("cross-entropy")(logits, targets).total), rel=1e-6)


def test_cross_entropy_equals_scikit_learn():
    logits, targets = torch.randn(20, 3), column(*[0, 1, 2, 1] * 5)
    loss = loss_named("cross-entropy")(logits, targets)
    expected = log_loss(targets[:, 0].numpy(), logits.double().softmax(dim=1).numpy())
    assert float(loss.total) / loss.count == pytest.approx(expected, rel=1e-5)


def test_sigmoid_cross_entropy_equals_torch():
    logits, targets = torch.randn(5, 3), torch.randint(0, 2, (5, 3)).double()
    ours = loss_named("cross-entropy", softmax=False)(logits, targets).total
    theirs = binary_cross_entropy_with_logits(logits.double(), targets, reduction="sum")
    assert float(ours) == pytest.approx(float(theirs), rel=1e-6)


def test_weighted_bce_equals_torch_with_the_weights_of_the_training_split():
    train = torch.tensor([[1.0, 0, 1], [0, 0, 1], [0, 1, math.nan], [math.nan, 0, 0]])
    loss = make_loss(TrainSettings(loss="weighted-bce"), SEVERAL, train.numpy())
    assert loss.positive_weights == (2.0, 3.0, 0.5)
    assert loss.record() == {"positive_weights": [2.0, 3.0, 0.5]}
    logits, targets = torch.randn(6, 3), torch.randint(0, 2, (6, 3)).double()
    weights = torch.tensor(loss.positive_weights).double()
    theirs = binary_cross_entropy_with_logits(logits.double(), targets, pos_weight=weights, reduction="sum")
    assert float(loss(logits, targets).total) == pytest.approx(float(theirs), rel=1e-6)


def test_weighted_bce_of_two_logits_is_that_of_their_difference():
    loss = make_loss(TrainSettings(loss="weighted-bce"), BINARY, np.array([[1.0], [0], [0], [0], [np.nan]]))
    logits, targets = torch.randn(6, 2), torch.randint(0, 2, (6, 1)).double()
    difference = (logits[:, 1:] - logits[:, :1]).double()
    theirs = binary_cross_entropy_with_logits(difference, targets, pos_weight=torch.tensor(3.0), reduction="sum")
    assert float(loss(logits, targets).total) == pytest.approx(float(theirs), rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_missing_labels_take_no_part_and_get_no_gradient(name):
    targets = some_labels()
    logits = torch.randn(targets.shape, requires_grad=True)
    loss = loss_named(name, softmax=False, weights=(2.0, 0.5, 1.0))(logits, targets)
    loss.total.backward()
    assert loss.count == int((~targets.isnan()).sum()) < targets.numel()
    assert torch.equal(logits.grad != 0, ~targets.isnan())


@pytest.mark.parametrize("name", LOSSES)
def test_missing_classes_take_no_part_and_get_no_gradient(name):
    logits = torch.randn(3, 2, requires_grad=True)
    loss = loss_named(name, weights=(2.0,))(logits, column(1, math.nan, 0))
    loss.total.backward()
    assert loss.count == 2
    assert (logits.grad != 0).any(dim=1).tolist() == [True, False, True]


@pytest.mark.parametrize("name", LOSSES)
def test_a_batch_without_any_label_gives_zero_and_no_gradient(name):
    logits = torch.randn(2, 3, requires_grad=True)
    loss = loss_named(name, softmax=False, weights=(1.0, 1.0, 1.0))(logits, torch.full((2, 3), math.nan))
    loss.total.backward()
    assert (float(loss.total.detach()), loss.count) == (0.0, 0)
    assert not logits.grad.any()


@pytest.mark.parametrize("name", LOSSES)
def test_parts_of_a_batch_add_up_to_the_whole(name):
    loss, targets = loss_named(name, softmax=False, weights=(2.0, 0.5, 1.0)), some_labels()
    logits = torch.randn(targets.shape)
    whole, parts = loss(logits, targets), [loss(logits[s], targets[s]) for s in (slice(0, 3), slice(3, None))]
    assert float(whole.total) == pytest.approx(sum(float(part.total) for part in parts), rel=1e-6)
    assert whole.count == sum(part.count for part in parts)


@pytest.mark.parametrize("logit", [-200.0, 200.0])
@pytest.mark.parametrize("name", LOSSES)
def test_extreme_logits_stay_finite_with_finite_gradients(name, logit):
    logits = torch.tensor([[logit]], requires_grad=True)
    loss = loss_named(name, softmax=False, weights=(2.0,))(logits, column(1))
    loss.total.backward()
    assert np.isfinite(float(loss.total.detach()))
    assert torch.isfinite(logits.grad).all()


def test_unknown_loss_suggests_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'focal'"):
        make_loss(TrainSettings(loss="focl"), BINARY, np.zeros((2, 1)))


@pytest.mark.parametrize("settings", [{"focal_alpha_mode": "balanced"}, {"loss": "weighted-bce"}])
def test_losses_of_positives_are_refused_where_there_are_none(settings):
    with pytest.raises(UsageError, match="a multiclass task has neither"):
        make_loss(TrainSettings(**settings), CLASSES, np.zeros((2, 1)))


def test_a_weight_needs_both_outcomes():
    with pytest.raises(UsageError, match=r"both outcomes of 'y' in the training split, got 0 positive and 2 negative"):
        make_loss(TrainSettings(loss="weighted-bce"), BINARY, np.zeros((2, 1)))


@pytest.mark.parametrize(("mode", "alpha"), [("constant", 0.0), ("balanced", 1.0)])
def test_alpha_outside_its_range_is_refused(mode, alpha):
    with pytest.raises(UsageError, match=r"train\.focal_alpha"):
        TrainSettings(focal_alpha=alpha, focal_alpha_mode=mode)
