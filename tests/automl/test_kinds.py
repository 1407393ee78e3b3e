"""Classes or a number: as asked for, plainly, or not without asking."""

import numpy as np
import pytest

from anymc3d.automl.blend import choose_blend, fit_weights
from anymc3d.automl.kinds import find_labels
from anymc3d.data.manifest import read_manifest
from anymc3d.errors import ManifestError, UsageError
from anymc3d.settings.config import LabelSettings


def manifest(tmp_path, cells):
    path = tmp_path / "m.csv"
    for index in range(len(cells)):
        (tmp_path / f"{index}.nii.gz").touch()
    path.write_text("image,y\n" + "".join(f"{i}.nii.gz,{cell}\n" for i, cell in enumerate(cells)))
    return read_manifest(path, labels=["y"])


@pytest.mark.parametrize(
    ("cells", "kind", "expected"),
    [
        ([20 + 1.5 * i for i in range(30)], None, "regression"),
        ([i % 14 for i in range(60)], "regression", "regression"),
        ([i % 14 for i in range(60)], "multiclass", "multiclass"),
        ([i % 4 for i in range(60)], None, "multiclass"),
        ([i % 4 for i in range(60)], "ordinal", "ordinal"),
        ([i % 2 for i in range(60)], "binary", "binary"),
    ],
)
def test_the_kind_is_the_one_asked_for_or_plain(tmp_path, cells, kind, expected):
    assert find_labels(manifest(tmp_path, cells), ["y"], kind).kind == expected


@pytest.mark.parametrize(
    ("cells", "kind", "error", "message"),
    [
        ([i % 14 for i in range(60)], None, UsageError, "y has 14 different numbers: say --kind regression if"),
        ([i % 2 for i in range(60)], "regression", UsageError, "y has two values only; leave --kind out"),
        ([5] * 60, "regression", ManifestError, "expected different numbers"),
        (["a", "b"] * 30, "regression", ManifestError, "y is 'a', expected a number"),
        (["a", "b"] * 30, "multiclass", UsageError, "--kind multiclass: y is binary; leave --kind out"),
    ],
)
def test_in_doubt_the_word_is_asked_for_and_one_that_does_not_fit_is_refused(tmp_path, cells, kind, error, message):
    with pytest.raises(error, match=message):
        find_labels(manifest(tmp_path, cells), ["y"], kind)


def test_of_a_number_weights_add_up_to_one_and_are_those_of_least_squares():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(400, 1))
    # As a ridge regression answers: pulled towards the mean by as much as it does not know.
    found = [(truth + rng.normal(size=(400, 1)) * noise) / (1 + noise**2) for noise in (1.0, 0.7)]
    found.append(0.05 * rng.normal(size=(400, 1)))
    labels = LabelSettings(columns=("y",), kind="regression")
    weights = fit_weights(found[:2], truth, labels)
    assert weights.sum() == pytest.approx(1)
    first, second = ((one - truth)[:, 0] for one in found[:2])
    exact = (second @ second - first @ second) / ((first - second) @ (first - second))
    assert weights[0] == pytest.approx(exact, abs=1e-4)
    blend = choose_blend(found, "abc", truth, labels, list(map(str, range(400))), most=3, margin=1.0)
    assert set(blend.weights) == {0, 1}, "noise stays out"
