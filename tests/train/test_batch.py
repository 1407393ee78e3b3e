"""Batches: what a visit draws depends on the visit alone, and view dropout leaves every case a view."""

from collections import Counter

import numpy as np
import pytest
import torch

from anymc3d.settings.views import ViewSettings
from anymc3d.train.batch import BatchLoader, kept_views
from anymc3d.train.draws import Visit, generator, visits

VIEWS = {"a": ViewSettings(size=(8, 8, 4)), "b": ViewSettings(size=(8, 8, 3))}


class Source:
    """Six cases of random slices; case 2 lacks view b."""

    def load(self, index):
        rng = np.random.default_rng(index)
        sizes = {"a": 4, "b": 3}
        loaded = {name: rng.random((number, 1, 8, 8)).astype(np.float16) for name, number in sizes.items()}
        return loaded | {"b": None} if index == 2 else loaded


def loader(**options):
    return BatchLoader(Source(), VIEWS, device=torch.device("cpu"), **options)


def counts(batch):
    return {name: packed.counts for name, packed in batch.items()}


def test_missing_views_have_no_slices():
    assert counts(loader().load(visits([1, 2]), 0)) == {"a": (4, 4), "b": (3, 0)}


def test_H2_a_visit_gives_the_same_whatever_else_is_in_the_batch():
    one = loader(augmentation="flips", seed=1)
    together = one.load(visits([5, 3, 0]), 2)["a"].slices[4:8]
    alone = one.load([Visit(3)], 2)["a"].slices
    assert torch.equal(together, alone)


def test_a_second_visit_is_augmented_anew():
    one = loader(augmentation="flips", seed=1)
    drawn = {one.load([Visit(3, again)], 0)["a"].slices.numpy().tobytes() for again in range(12)}
    assert len(drawn) > 2


def test_without_dropout_all_views_stay():
    assert kept_views(["a", "b"], 0.0, generator(0)) == ["a", "b"]


@pytest.mark.parametrize("dropout", [0.2, 0.5, 0.95])
def test_views_are_left_out_as_often_as_asked_and_never_all(dropout):
    draws = [tuple(kept_views(["a", "b", "c"], dropout, generator(0, "views", i))) for i in range(3000)]
    assert all(draws)
    # "a" goes when it is drawn, except where all were drawn and it is the one of three that stays.
    expected = dropout - dropout**3 / 3
    assert np.mean(["a" not in kept for kept in draws]) == pytest.approx(expected, abs=0.03)
    singles = Counter(kept for kept in draws if len(kept) == 1)
    assert max(singles.values()) < 1.4 * min(singles.values())


def test_the_only_view_of_a_case_is_never_left_out():
    assert kept_views(["a"], 0.99, generator(0)) == ["a"]
    one = loader(view_dropout=0.9, seed=0)
    found = [counts(one.load(visits([0, 2, 4]), epoch)) for epoch in range(30)]
    assert all(each["a"][1] == 4 for each in found)
    assert all(a or b for each in found for a, b in zip(each["a"], each["b"], strict=True))
    assert any(each["a"][0] == 0 for each in found)
    assert any(each["b"][0] == 0 for each in found)


def test_view_dropout_is_a_function_of_seed_epoch_and_visit():
    found = [counts(loader(view_dropout=0.5, seed=7).load(visits([0, 1, 3]), 4)) for _ in range(2)]
    assert found[0] == found[1]
