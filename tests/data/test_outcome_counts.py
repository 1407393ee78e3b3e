"""B14: what a split cannot hold, and what cannot choose an epoch, is said before training."""

import numpy as np
import pytest

from anymc3d.data.outcome_counts import few_patients, few_to_choose, lacking_outcomes
from anymc3d.settings.config import LabelSettings

BINARY = LabelSettings(columns=("rare",), kind="binary", classes=("0", "1"))
PARTS = ["train"] * 20 + ["val"] * 10 + ["test"] * 10


def targets(*positives, count=40):
    return np.array([[float(k in positives)] for k in range(count)])


def lacking(values, parts=PARTS, labels=BINARY):
    return lacking_outcomes(parts, [f"p{k}" for k in range(len(parts))], values, labels)


def test_B14_two_positives_cannot_be_in_three_splits():
    assert lacking(targets(3, 21)) == [
        "2 patients with rare = 1 cannot be in train, val and test: test gets none (of 5 folds 3 get none);"
        " its metrics are undefined there"
    ]


def test_B14_a_split_that_could_have_one_and_has_none():
    assert lacking(targets(1, 2, 3, 4)) == ["no case of val and test has rare = 1: its metrics are undefined there"]


def test_splits_that_hold_everything_and_missing_labels_say_nothing():
    assert lacking(targets(1, 21, 31)) == []
    values = targets(1, 21, 31)
    values[[1, 2, 3]] = np.nan
    assert len(lacking(values)) == 1
    assert lacking(np.full((40, 1), np.nan)) == []


def test_B14_folds_without_an_outcome_are_named():
    parts = [f"fold {k % 4}" for k in range(40)]
    (line,) = lacking(targets(0, 4), parts)
    assert line.startswith(
        "2 patients with rare = 1 cannot be in fold 0, fold 1, fold 2 and fold 3: fold 1, fold 2 and"
    )


def test_B14_every_class_of_several_counts():
    grades = LabelSettings(columns=("g",), kind="multiclass", classes=("a", "b", "c"))
    values = np.array([[float(k % 2)] for k in range(40)])
    values[5] = 2
    assert [line.split(" cannot")[0] for line in lacking(values, labels=grades)] == ["1 patient with g = c"]


@pytest.mark.parametrize(
    ("num_val", "positives", "few"), [(9, 4, True), (40, 20, False), (40, 10, True), (29, 14, True)]
)
def test_few_validation_cases_are_told(num_val, positives, few):
    values = np.array([[float(k < positives)] for k in range(num_val)] + [[float(k % 2)] for k in range(60)])
    found = few_to_choose(["val"] * num_val + ["train"] * 60, values, BINARY)
    assert (found is not None) is few
    if few:
        assert found.startswith(f"{num_val} validation cases choose the epoch") and "--folds 5" in found
        assert f"({positives} with rare = 1)" in found


def test_folds_are_no_advice_where_they_would_lack_the_outcome_too():
    assert "--folds" not in few_to_choose(PARTS, targets(3, 21), BINARY)


@pytest.mark.parametrize(("positives", "wanted"), [(10, ""), (9, "'anymc3d auto' wants 10"), (4, "with --quick 5")])
def test_what_auto_and_quick_want_is_said_before_they_are_tried(positives, wanted):
    """Patients count, not cases; those of the test split do not."""
    patients = [f"p{k}" for k in range(positives)] * 2 + [f"n{k}" for k in range(20)] + ["t"] * 5
    values = np.array([[1.0]] * (2 * positives) + [[0.0]] * 20 + [[1.0]] * 5)
    said = few_patients([""] * (len(patients) - 5) + ["test"] * 5, patients, values, BINARY) or ""
    assert wanted in said and (f"rare = 1 has {positives}" in said) is bool(wanted)
    number = LabelSettings(columns=("age",), kind="regression")
    few = few_patients([""] * 9, patients[:9], values[:9], number)
    assert few and f"a number in age has {len(set(patients[:9]))}" in few
