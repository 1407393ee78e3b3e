"""A covariate that names or repeats the label is found; one that merely goes with it is not."""

from pathlib import Path

import numpy as np
import pytest

from anymc3d.data.case import Case
from anymc3d.data.covariate_checks import check_covariates
from anymc3d.data.manifest import Manifest
from anymc3d.errors import UsageError
from anymc3d.settings.config import LabelSettings

LABELS = LabelSettings(columns=("Diagnosis",), kind="binary", classes=("0", "1"))


def manifest_of(truth, cells):
    rows = [
        Case(f"c{i}", f"c{i}", {"image": "x"}, {}, {"Diagnosis": str(int(t)), "one": c}, None, None, None, None, i + 2)
        for i, (t, c) in enumerate(zip(truth, cells, strict=True))
    ]
    return Manifest(Path("m.csv"), ("image", "Diagnosis", "one"), tuple(rows))


def check(truth, cells, name="one"):
    check_covariates([name], manifest_of(truth, cells), np.array(truth, dtype=float)[:, None], LABELS)


TRUTH = [0, 1] * 10


@pytest.mark.parametrize(
    "cells",
    [
        [str(value) for value in TRUTH],
        [f"{value}.0" for value in TRUTH],
        [["healthy", "ill"][value] for value in TRUTH],
        [str(100 * value + i) for i, value in enumerate(TRUTH)],
        [["site A", "site B", "site C"][value * (1 + i % 2)] for i, value in enumerate(TRUTH)],
        [str(1 - value) for value in TRUTH],
        ["" if i < 3 else str(value) for i, value in enumerate(TRUTH)],
    ],
)
def test_one_that_says_what_the_label_says_is_refused(cells):
    with pytest.raises(UsageError, match="one repeats the label Diagnosis"):
        check(TRUTH, cells)


@pytest.mark.parametrize(
    "cells",
    [
        [str(50 + 4 * value + i % 12) for i, value in enumerate(TRUTH)],
        [["F", "M"][value if i else 1 - value] for i, value in enumerate(TRUTH)],
        [f"text {i}" for i, _ in enumerate(TRUTH)],
    ],
)
def test_one_that_only_goes_with_it_is_taken(cells):
    check(TRUTH, cells)


def test_the_label_under_another_spelling_the_patient_and_a_constant_are_refused():
    found = manifest_of(TRUTH, ["a"] * 20)
    targets = np.array(TRUTH, dtype=float)[:, None]
    for name, words in (("diagnosis", "is the label itself"), ("one", "the same in every case")):
        with pytest.raises(UsageError, match=words):
            check_covariates([name], found, targets, LABELS)
    for name in ("Patient ID", "image"):
        with pytest.raises(UsageError, match="no column"):
            check_covariates([name], found, targets, LABELS)
    with pytest.raises(UsageError, match="no image column 'ct'"):
        check_covariates(["measure:ct/scan/extent_x_mm"], found, targets, LABELS)


def test_what_would_fail_at_the_end_of_training_is_found_before():
    ages = [str(50 + 4 * value + i % 12) for i, value in enumerate(TRUTH)]
    with pytest.raises(UsageError, match=r"one holds numbers and 'sixty' \(row 5\)"):
        check(TRUTH, [*ages[:3], "sixty", *ages[4:]])
    check(TRUTH, [*ages[:3], "unknown", *ages[4:]])
    many = TRUTH * 4
    with pytest.raises(UsageError, match="one has 80 different values, at most 50"):
        check(many, [f"text {i}" for i, _ in enumerate(many)])
