"""Intensity and texture inside a structure, and the foreground of a scan, against values made by hand."""

import math

import numpy as np
import pytest

from anymc3d.data.measures.texture import foreground, inside_measures, otsu_threshold, scale_of

UNIT = (1.0, 1.0, 1.0)


def measured(voxels, inside, hounsfield=False, scale=(0.0, 1.0)):
    return inside_measures(np.asarray(voxels, np.float32), inside, UNIT, scale, hounsfield=hounsfield)


def test_intensities_are_of_the_structure_and_in_units_of_the_scan():
    voxels = np.zeros((6, 6, 6))
    inside = np.zeros((6, 6, 6), dtype=bool)
    inside[1:4, 1:4, 1:4] = True
    voxels[inside] = np.arange(27)
    found = measured(voxels, inside, scale=(3.0, 10.0))
    assert found["mean"] == pytest.approx((13 - 3) / 10)
    assert found["p50"] == pytest.approx((13 - 3) / 10)
    assert found["spread"] == pytest.approx(np.arange(27).std() / 10)
    assert found["skewness"] == pytest.approx(0, abs=1e-9)
    hounsfield = measured(voxels, inside, hounsfield=True, scale=(3.0, 10.0))
    assert hounsfield["mean_hu"] == pytest.approx(13) and hounsfield["p50_hu"] == pytest.approx(13)


def test_texture_of_a_checkerboard_and_of_a_plain_structure():
    board = np.indices((6, 6, 6)).sum(axis=0) % 2
    everywhere = np.ones((6, 6, 6), dtype=bool)
    found = measured(board, everywhere)
    assert found["contrast"] == 15**2, "every neighbour is 15 of 16 grey levels away"
    assert found["correlation"] == pytest.approx(-1)
    assert found["homogeneity"] == pytest.approx(1 / 16)
    assert found["entropy"] == pytest.approx(1)
    plain = measured(np.full((6, 6, 6), 5.0), everywhere)
    assert (plain["contrast"], plain["correlation"], plain["entropy"], plain["edge"]) == (0, 1, 0, 0)


def test_an_edge_is_a_slope_per_mm():
    ramp = np.broadcast_to(np.arange(8.0)[:, None, None] * 3, (8, 8, 8))
    found = inside_measures(
        ramp.astype(np.float32), np.ones((8, 8, 8), bool), (2.0, 1.0, 1.0), (0, 1), hounsfield=False
    )
    assert found["edge"] == pytest.approx(1.5)


def test_a_structure_that_is_not_there_has_no_numbers_and_a_single_voxel_has():
    nothing = measured(np.zeros((4, 4, 4)), np.zeros((4, 4, 4), dtype=bool))
    assert all(math.isnan(value) for value in nothing.values())
    one = np.zeros((4, 4, 4), dtype=bool)
    one[2, 2, 2] = True
    assert all(
        math.isfinite(value) for value in measured(np.random.default_rng(0).normal(size=(4, 4, 4)), one).values()
    )


def test_otsu_parts_two_levels_between_them():
    rng = np.random.default_rng(0)
    voxels = rng.normal(10, 1, (20, 20, 20)).astype(np.float32)
    voxels[5:12, 5:12, 5:12] += 30
    assert 13 < otsu_threshold(voxels) < 37
    assert foreground(voxels).sum() == 7**3
    assert otsu_threshold(np.full((3, 3, 3), 2.0, np.float32)) == 2


def test_the_scale_of_a_scan_that_is_mostly_one_value_is_its_range():
    voxels = np.zeros((10, 10, 10), np.float32)
    voxels[0, 0, 0] = 8
    assert scale_of(voxels) == (0, 8)
    even = np.linspace(0, 100, 1001, dtype=np.float32)
    assert scale_of(even) == pytest.approx((50, 90))
