"""The best epoch: by AUROC, by loss where AUROC is undefined."""

import numpy as np

from anymc3d.settings.config import LabelSettings
from anymc3d.train.selection import score_validation

BINARY = LabelSettings(columns=("y",), kind="binary", classes=("0", "1"))


def test_auroc_decides_where_it_is_defined():
    targets, logits = np.array([[0.0], [1.0], [1.0]]), np.array([[0.0, -1.0], [0.0, 2.0], [0.0, -2.0]])
    score = score_validation(targets, logits, BINARY, loss=0.3)
    assert (score.value, score.auroc, score.rule) == (0.5, 0.5, "auroc")


def test_one_outcome_alone_is_scored_by_loss_and_says_so_never_as_0_or_1():
    score = score_validation(np.ones((3, 1)), np.zeros((3, 2)), BINARY, loss=0.3)
    assert (score.value, score.auroc) == (-0.3, None)
    assert score.rule.startswith("loss: undefined")


def test_missing_labels_take_no_part():
    labels = LabelSettings(columns=("a", "b"), kind="multilabel")
    targets = np.array([[0.0, np.nan], [1.0, np.nan], [np.nan, np.nan]])
    score = score_validation(targets, np.array([[0.0, 1.0], [1.0, 2.0], [-9.0, 3.0]]), labels, loss=0.3)
    assert score.auroc == 1.0
