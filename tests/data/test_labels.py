"""Labels mean what their cells say, or the cells are named."""

import numpy as np
import pytest

from anymc3d.data.labels import canonical, encode, guess_labels, label_problems, natural_order, unlearnable
from anymc3d.data.manifest import Manifest, read_manifest
from anymc3d.errors import ManifestError
from anymc3d.settings.config import LabelSettings

BINARY = LabelSettings(columns=("y",), kind="binary", classes=("no", "yes"))


def manifest_with(tmp_path, splits=(), **columns) -> Manifest:
    count = len(next(iter(columns.values())))
    lines = [",".join(["image", *columns, *(["split"] if splits else [])])]
    for i in range(count):
        (tmp_path / f"c{i}.nii").touch()
        lines.append(",".join([f"c{i}.nii", *(str(values[i]) for values in columns.values()), *splits[i : i + 1]]))
    (tmp_path / "m.csv").write_text("\n".join(lines))
    return read_manifest(tmp_path / "m.csv")


def test_binary_cells_become_class_indices_and_empty_is_nan(tmp_path):
    targets = encode(manifest_with(tmp_path, y=["yes", "no", ""]).cases, BINARY)
    assert targets.dtype == np.float64
    np.testing.assert_array_equal(targets, [[1], [0], [np.nan]])


def test_numbers_match_whatever_their_spelling(tmp_path):
    settings = LabelSettings(columns=("y",), kind="multiclass", classes=("0", "1.0", "2"))
    cases = manifest_with(tmp_path, y=["1", "1.0", "0.0", "2e0", "01"]).cases
    np.testing.assert_array_equal(encode(cases, settings)[:, 0], [1, 1, 0, 2, 1])


def test_multilabel_columns_are_zero_one_or_missing(tmp_path):
    settings = LabelSettings(columns=("a", "b"), kind="multilabel")
    cases = manifest_with(tmp_path, a=["1", ""], b=["0", "1"]).cases
    np.testing.assert_array_equal(encode(cases, settings), [[1, 0], [np.nan, 1]])


def test_B14_every_bad_cell_is_named_with_row_and_case(tmp_path):
    cases = manifest_with(tmp_path, y=["yes", "maybe", "no", "2"]).cases
    with pytest.raises(ManifestError) as caught:
        encode(cases, BINARY)
    assert caught.value.problems == tuple(label_problems(cases, BINARY))
    assert [problem.split(":")[:2] for problem in caught.value.problems] == [
        ["row 3", " case 'c1'"],
        ["row 5", " case 'c3'"],
    ]
    assert "y is 'maybe', expected no or yes" in caught.value.problems[0]


def test_a_column_that_is_not_there_is_a_problem_of_each_row(tmp_path):
    cases = manifest_with(tmp_path, other=["1", "0"]).cases
    assert all("no column 'y'" in problem for problem in label_problems(cases, BINARY))
    assert len(label_problems(cases, BINARY)) == 2


@pytest.mark.parametrize(
    ("values", "kind", "classes"),
    [
        (["0", "1", "", "1.0"], "binary", ("0", "1")),
        (["yes", "no"], "binary", ("no", "yes")),
        (["Positive", "Negative"], "binary", ("Negative", "Positive")),
        (["abnormal", "normal"], "binary", ("normal", "abnormal")),
        (["hyperplasia", "normal"], "binary", ("normal", "hyperplasia")),
        (["malignant", "benign"], "binary", ("benign", "malignant")),
        (["TRUE", "FALSE"], "binary", ("FALSE", "TRUE")),
        (["b", "a"], "binary", ("a", "b")),
        (["2", "1"], "binary", ("1", "2")),
        (["10", "2", "1"], "multiclass", ("1", "2", "10")),
        (["grade10", "grade2", "grade1"], "multiclass", ("grade1", "grade2", "grade10")),
    ],
)
def test_the_kind_of_a_column_is_guessed_from_its_values(tmp_path, values, kind, classes):
    settings, reasons = guess_labels(manifest_with(tmp_path, y=values), ["y"])
    assert (settings.kind, settings.classes) == (kind, classes)
    assert reasons


def test_an_uncertain_positive_class_says_so_and_how_to_change_it(tmp_path):
    _, (reason,) = guess_labels(manifest_with(tmp_path, y=["left", "right"]), ["y"])
    assert "a guess" in reason
    assert "swap" in reason


def test_several_columns_are_multilabel(tmp_path):
    settings, _ = guess_labels(manifest_with(tmp_path, a=["0", "1", ""], b=["1", "1", "0"]), ["a", "b"])
    assert (settings.kind, settings.columns, settings.classes) == ("multilabel", ("a", "b"), ())


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"y": [str(i) for i in range(25)]}, "look like identifiers"),
        ({"y": [f"id{i}" for i in range(150)]}, "look like identifiers"),
        ({"y": ["", ""]}, "no row"),
        ({"y": ["1", "1"]}, "two classes are needed"),
        ({"y": ["1", "NA", "0"]}, "row 3: case 'c1': y is 'NA'; an empty cell means missing"),
        ({"y": ["Yes", "yes", "no"]}, "differ only in upper and lower case"),
        ({"y": ["ab", "a\u200bb", "b"]}, "look alike or are not seen"),
        ({"y": ["\u00e9", "e\u0301", "b"]}, "look alike or are not seen"),
        ({"y": ["0", "1"], "z": ["0", "2"]}, "row 3: case 'c1': z is '2'"),
        ({"y": ["0", "1"], "z": ["1", "1"]}, "column 'z': every label is '1'"),
    ],
)
def test_B14_columns_that_cannot_be_labels_are_refused(tmp_path, columns, expected):
    with pytest.raises(ManifestError) as caught:
        guess_labels(manifest_with(tmp_path, **columns), list(columns))
    assert any(expected in problem for problem in caught.value.problems), caught.value.problems


def test_B16_test_labels_are_not_looked_at(tmp_path):
    splits = ["train", "train", "val", "test"]
    first = guess_labels(manifest_with(tmp_path, splits=splits, y=["0", "1", "1", "0"]), ["y"])
    second = guess_labels(manifest_with(tmp_path, splits=splits, y=["0", "1", "1", "7"]), ["y"])
    assert first == second


def test_natural_order_and_spelling():
    assert natural_order(["b10", "b9", "10", "9", "-1", "a"]) == ["-1", "9", "10", "a", "b9", "b10"]
    assert [canonical(text) for text in ("1", "+1.0", "01", "1e0", "0.50", "x", "-0")] == ["1"] * 4 + ["0.5", "x", "0"]


@pytest.mark.parametrize(
    ("settings", "targets", "expected"),
    [
        (BINARY, [[0], [1], [np.nan]], None),
        (BINARY, [[0], [0]], "no case of 'y' has the class 'yes'"),
        (
            LabelSettings(columns=("g",), kind="multiclass", classes=("a", "b", "c", "d")),
            [[1], [2]],
            "classes 'a', 'd'",
        ),
        (
            LabelSettings(columns=("x", "y"), kind="multilabel"),
            [[0, np.nan], [1, np.nan]],
            "'y' is empty in every case",
        ),
        (
            LabelSettings(columns=("x", "y"), kind="multilabel"),
            [[0, 1], [1, np.nan]],
            "no case of 'y' has the class '0'",
        ),
    ],
)
def test_B14_a_label_that_cannot_be_learnt_is_named(settings, targets, expected):
    problems = unlearnable(np.array(targets, dtype=float), settings)
    assert problems == [] if expected is None else len(problems) == 1 and expected in problems[0]


def test_whole_numbers_from_0_may_be_grades_and_that_is_said_but_nothing_is_switched(tmp_path):
    settings, reasons = guess_labels(manifest_with(tmp_path, y=["0", "2", "1"]), ["y"])
    assert settings.kind == "multiclass"
    assert "if these are grades, kind: ordinal" in reasons[0]
    (tmp_path / "text").mkdir()
    _, reasons = guess_labels(manifest_with(tmp_path / "text", y=["a", "b", "c"]), ["y"])
    assert "ordinal" not in reasons[0]
