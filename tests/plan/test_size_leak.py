"""Crops whose size gives the label away are found; chance is not."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from anymc3d.data.preprocess import prepare_view
from anymc3d.data.volume import Box, Volume
from anymc3d.plan.size_leak import find_size_leak, region_leaks
from anymc3d.settings.config import LabelSettings
from anymc3d.settings.views import RoiSettings, ViewSettings

BINARY = LabelSettings(columns=("y",), kind="binary", classes=("0", "1"))


def sizes(rng, count, shift=None):
    extents = rng.normal(100.0, 10.0, (count, 3))
    return extents if shift is None else extents + np.outer(shift, [0.0, 12.0, 0.0])


@pytest.mark.parametrize("direction", [1, -1])
def test_a_leak_is_found_in_either_direction_with_its_auroc(direction):
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 2, 200).astype(float)
    extents = sizes(rng, 200, direction * targets)
    leak = find_size_leak(extents, targets[:, None], BINARY)
    assert (leak.measure, leak.label) == ("y", "y")
    assert leak.auroc == pytest.approx(roc_auc_score(targets, direction * extents[:, 1]))
    assert 0.55 < leak.lower < leak.auroc


def test_sizes_that_have_nothing_to_do_with_the_label_are_almost_never_a_leak():
    alarms = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        targets = rng.integers(0, 2, (60, 5)).astype(float)
        labels = LabelSettings(columns=tuple("abcde"), kind="multilabel")
        alarms += find_size_leak(sizes(rng, 60), targets, labels) is not None
    assert alarms <= 10


def test_perfect_separation_is_a_leak_although_it_has_no_interval():
    targets = np.repeat([0.0, 1.0], 10)
    extents = np.outer(1 + targets, [10.0, 10.0, 10.0])
    assert find_size_leak(extents, targets[:, None], BINARY).auroc == 1


def test_missing_labels_are_left_out_and_a_few_cases_prove_nothing():
    rng = np.random.default_rng(0)
    targets = np.repeat([0.0, 1.0], 4)[:, None]
    extents = np.outer(1 + targets[:, 0], [10.0, 10.0, 10.0])
    assert find_size_leak(extents, targets, BINARY) is None
    assert find_size_leak(sizes(rng, 40), np.full((40, 1), np.nan), BINARY) is None


def test_of_several_classes_the_separated_one_is_named():
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 3, 300).astype(float)
    labels = LabelSettings(columns=("grade",), kind="multiclass", classes=("low", "mid", "high"))
    leak = find_size_leak(sizes(rng, 300, 2.0 * (targets == 2)), targets[:, None], labels)
    assert leak.label == "grade=high"


def test_equal_sizes_are_no_leak():
    targets = np.repeat([0.0, 1.0], 20)[:, None]
    assert find_size_leak(np.full((40, 3), 64.0), targets, BINARY) is None


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_a_region_whose_size_shows_the_label_is_named_whatever_the_plane(plane):
    """Regions of 12 to 15 mm without, of 18 to 21 mm with the label, along y alone; all are resized to one shape."""
    rng = np.random.default_rng(0)
    scan = Volume(rng.normal(size=(24, 24, 8)).astype(np.float32), np.diag([2.0, 1.0, 3.0, 1.0]))
    targets = np.repeat([0.0, 1.0], 8)[:, None]
    view = ViewSettings(size=(8, 8, 4), plane=plane, roi=RoiSettings(source="mask"))
    boxes = [Box((2, 1, 1), (8, 12 + index % 4 + 6 * int(y), 5)) for index, (y,) in enumerate(targets)]
    prepared = [{"image": prepare_view(scan, view, box)} for box in boxes] + [{"image": None}]
    targets = np.vstack([targets, [[1.0]]])
    (line,) = region_leaks({"image": view}, prepared, targets, BINARY)
    assert "the size of the region alone (y) separates y with AUROC 1.00" in line and "field_of_view" in line
    for harmless in (
        ViewSettings(size=(8, 8, 4), plane=plane),
        ViewSettings(size=(8, 8, 4), plane=plane, roi=RoiSettings(source="point", size_mm=(9.0, 9.0, 9.0))),
        ViewSettings(size=(8, 8, 4), plane=plane, roi=RoiSettings(source="mask"), field_of_view=(9.0, 9.0, 9.0)),
    ):
        assert region_leaks({"image": harmless}, prepared, targets, BINARY) == []
    assert region_leaks({"image": view}, prepared[:1] * 16, targets[:16], BINARY) == []
