"""Scores of a heatmap against a mask, on cases whose answer can be worked out by hand."""

import math

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt
from sklearn.metrics import auc

from anymc3d.evaluate.localisation import area_under, localise, rank_correlation

SPACING = np.diag([2.0, 1.0, 3.0, 1.0])


@pytest.fixture
def mask():
    mask = np.zeros((8, 9, 10), dtype=bool)
    mask[2:4, 3:5, 4:6] = True
    return mask


def test_a_peak_inside_points_and_one_outside_is_so_many_millimetres_away(mask):
    heat = np.full(mask.shape, 0.1, dtype=np.float32)
    heat[3, 4, 5] = 1.0
    inside = localise(heat, mask, SPACING)
    assert (inside.peak_in_mask, inside.peak_distance_mm) == (1.0, 0.0)
    assert inside.mask_share == pytest.approx(8 / 720)
    assert inside.mass_in_mask == pytest.approx((1.0 + 7 * 0.1) / (1.0 + 719 * 0.1))
    heat[6, 4, 9] = 2.0
    outside = localise(heat, mask, SPACING)
    assert outside.peak_in_mask == 0.0
    assert outside.peak_distance_mm == pytest.approx(math.hypot(3 * 2.0, 4 * 3.0))


def test_distances_are_those_of_scipys_distance_transform(mask):
    distances = distance_transform_edt(~mask, sampling=(2.0, 1.0, 3.0))
    rng = np.random.default_rng(0)
    for _ in range(20):
        heat = rng.random(mask.shape, dtype=np.float32)
        peak = np.unravel_index(heat.argmax(), heat.shape)
        assert localise(heat, mask, SPACING).peak_distance_mm == pytest.approx(distances[peak])


def test_even_heat_has_the_mass_of_chance(mask):
    found = localise(np.ones(mask.shape, dtype=np.float32), mask, SPACING)
    assert found.mass_in_mask == pytest.approx(found.mask_share)


@pytest.mark.parametrize("empty", ["mask", "heat"])
def test_nothing_to_point_at_or_with_is_not_a_number(mask, empty):
    heat = np.ones(mask.shape, dtype=np.float32)
    found = localise(heat * (empty != "heat"), mask & (empty != "mask"), SPACING)
    assert math.isnan(found.peak_in_mask)
    assert math.isnan(found.peak_distance_mm)
    assert math.isnan(found.mass_in_mask)
    assert not math.isnan(found.mask_share)


def test_another_grid_is_refused(mask):
    with pytest.raises(ValueError, match="expected a mask of the heatmap's shape"):
        localise(np.ones((8, 9, 11), dtype=np.float32), mask, SPACING)


def test_area_is_that_of_scikit_learn():
    values = np.random.default_rng(1).random(11)
    assert area_under(list(values)) == pytest.approx(auc(np.linspace(0, 1, 11), values), abs=1e-12)
    with pytest.raises(ValueError, match="at least two points"):
        area_under([1.0])


def test_rank_correlation_sees_order_alone():
    one = np.random.default_rng(2).random((4, 5, 6), dtype=np.float32)
    assert rank_correlation(one, one**3) == pytest.approx(1.0)
    assert rank_correlation(one, -one) == pytest.approx(-1.0)
    assert math.isnan(rank_correlation(one, np.zeros_like(one)))
