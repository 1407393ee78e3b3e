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


def chosen(found, families=None, **options):
    names = families or [str(index) for index in range(len(found))]
    return choose_blend(found, names, TRUTH, BINARY, PATIENTS, **({"most": 6, "margin": 1.0} | options))


def test_members_that_know_different_things_join_and_wild_noise_does_not():
    wild = 5 * NOISE
    blend = chosen([wild, *INDEPENDENT])
    assert set(blend.weights) == {1, 2}
    mean = blend.logits([wild, *INDEPENDENT])
    shares = np.array([blend.weights[1], blend.weights[2]]) / sum(blend.weights.values())
    assert mean == pytest.approx(shares[0] * INDEPENDENT[0] + shares[1] * INDEPENDENT[1])


def test_a_member_that_changes_next_to_nothing_is_dropped_and_the_others_are_weighed_anew():
    slight = logits_of(RNG.normal(0, 1, N), 0.0) * 1.5
    with_it = chosen([*INDEPENDENT, slight])
    assert with_it == chosen(INDEPENDENT)


def test_of_a_family_the_simplest_of_equals_joins():
    assert best_single([INDEPENDENT[0], INDEPENDENT[0]], TRUTH, BINARY, PATIENTS, margin=1.0) == 0
    assert set(chosen([INDEPENDENT[0], INDEPENDENT[0] + 1e-9], ["sight", "sight"]).weights) == {0}
    assert set(chosen([INDEPENDENT[0], NOISE, INDEPENDENT[1]], ["a", "a", "b"]).weights) == {0, 2}


def test_few_cases_hold_the_weights_near_equal_ones_and_many_do_not():
    """The gradient of the cross-entropy grows with the cases, the pull towards equal weights does not."""
    weak, strong = logits_of(RNG.normal(0, 1, N), 0.3), logits_of(RNG.normal(0, 1, N), 2.0)

    def share(rows):
        kept = [one[rows] for one in (weak, strong)]
        patients = [PATIENTS[row] for row in rows]
        found = choose_blend(kept, ["a", "b"], TRUTH[rows], BINARY, patients, most=2, margin=1.0).weights
        return found.get(0, 0.0) / sum(found.values())

    assert share(range(N)) < share(range(12)) <= 0.5


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
