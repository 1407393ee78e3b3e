"""Which members join and with what weights."""

import numpy as np
import pytest

from anymc3d.automl.blend import best_single, case_losses, choose_blend
from anymc3d.settings.config import LabelSettings

BINARY = LabelSettings(columns=("y",), kind="binary", classes=("0", "1"))
N = 300
PATIENTS = [str(i) for i in range(N)]
RNG = np.random.default_rng(0)
TRUTH = (np.arange(N) % 3 == 0).astype(float)[:, None]


def logits_of(signal, strength):
    """Head logits (n, 2) of a candidate that sees its own noise."""
    score = strength * (2 * TRUTH[:, 0] - 1) + signal
    return np.stack([np.zeros(N), score], axis=1)


INDEPENDENT = [logits_of(RNG.normal(0, 1, N), 1.0), logits_of(RNG.normal(0, 1, N), 1.0)]
NOISE = logits_of(RNG.normal(0, 1, N), 0.0)


def chosen(found, **options):
    return choose_blend(found, TRUTH, BINARY, PATIENTS, **({"most": 4, "margin": 1.0} | options))


def test_members_that_know_different_things_join_and_noise_does_not():
    blend = chosen([NOISE, *INDEPENDENT])
    assert set(blend.weights) == {1, 2}
    assert min(blend.weights.values()) > 0
    mean = blend.logits([NOISE, *INDEPENDENT])
    shares = np.array([blend.weights[1], blend.weights[2]]) / sum(blend.weights.values())
    assert mean == pytest.approx(shares[0] * INDEPENDENT[0] + shares[1] * INDEPENDENT[1])


def test_the_simplest_of_equals_is_taken_and_a_copy_does_not_join():
    assert best_single([INDEPENDENT[0], INDEPENDENT[0]], TRUTH, BINARY, PATIENTS, margin=1.0) == 0
    assert set(chosen([INDEPENDENT[0], INDEPENDENT[0] + 1e-9]).weights) == {0}


def test_the_number_of_members_is_limited():
    many = [logits_of(RNG.normal(0, 1.5, N), 1.0) for _ in range(6)]
    assert len(chosen(many, most=3).weights) == 3
    assert len(chosen(many, most=1).weights) == 1


@pytest.mark.parametrize("kind", ["binary", "multilabel", "multiclass"])
def test_losses_are_those_of_the_definition(kind):
    targets = np.array([[1.0, np.nan], [0.0, 1.0]]) if kind == "multilabel" else np.array([[1.0], [0.0]])
    logits = np.array([[0.3, -1.0], [2.0, 0.5]])
    columns = ("a", "b") if kind == "multilabel" else ("a",)
    labels = LabelSettings(columns=columns, kind=kind, classes=() if kind == "multilabel" else ("0", "1"))
    if kind == "multilabel":
        expected = [np.log1p(np.exp(-0.3)), np.log1p(np.exp(2.0)) + np.log1p(np.exp(-0.5))]
    else:
        expected = [np.log1p(np.exp(1.3)), np.log1p(np.exp(-1.5))]
    assert case_losses(logits, targets, labels) == pytest.approx(expected)
