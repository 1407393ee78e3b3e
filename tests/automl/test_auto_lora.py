"""Which sight is trained."""

from types import SimpleNamespace

import numpy as np

from anymc3d.automl.lora import best_sight
from anymc3d.settings.config import LabelSettings


def _says(family: str, *logits: float) -> SimpleNamespace:
    """A candidate with these log-odds of the training cases of its one outer fold."""
    return SimpleNamespace(candidate=SimpleNamespace(family=family), inner=(np.outer(logits, (-0.5, 0.5)),))


def test_the_sight_is_trained_that_shows_most_in_any_representation():
    targets, labels = np.array([[0.0], [1.0]]), LabelSettings(columns=("nodule",), kind="binary", classes=("0", "1"))
    coarse, fine = _says("coarse", -1.0, 1.0), _says("fine", 0.5, 0.5)
    patches = _says("fine", -3.0, 3.0)
    assert best_sight([coarse, fine], [coarse, fine], targets, labels, 0) is coarse
    assert best_sight([coarse, fine], [coarse, fine, patches], targets, labels, 0) is fine
    unaffordable = _says("finest", -9.0, 9.0)
    assert best_sight([coarse, fine], [coarse, fine, patches, unaffordable], targets, labels, 0) is fine
