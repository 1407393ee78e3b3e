"""Size and shape of bodies whose numbers are known, on grids of several spacings."""

import math

import numpy as np
import pytest

from anymc3d.data.measures.shape import SHAPE, SIZE, shape_measures, surface_mm2

RADIUS_MM = 14.0


def ball(spacing, radius=RADIUS_MM, count=48):
    axes = [(np.arange(count) - count / 2 + 0.3) * step for step in spacing]
    return sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij")) < radius**2


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.8, 0.8, 0.8), (1.0, 1.0, 2.5), (3.0, 1.5, 1.5)])
def test_a_ball_has_the_volume_surface_and_axes_of_a_ball(spacing):
    found = shape_measures(ball(spacing), spacing)
    assert found["volume_ml"] == pytest.approx(4 / 3 * math.pi * RADIUS_MM**3 / 1000, rel=0.02)
    assert found["surface_cm2"] == pytest.approx(4 * math.pi * RADIUS_MM**2 / 100, rel=0.02)
    for name in ("length_mm", "width_mm", "depth_mm"):
        assert found[name] == pytest.approx(2 * RADIUS_MM, rel=0.02), name
    assert found["sphericity"] == pytest.approx(1, abs=0.02)
    assert found["section_z_cm2"] == pytest.approx(math.pi * RADIUS_MM**2 / 100, rel=0.03)
    assert abs(found["thickness_mm"] - 2 * RADIUS_MM) < 2 * max(spacing)
    assert (found["parts"], found["largest_part"]) == (1, 1)


def test_a_box_by_hand():
    """20 x 10 x 6 voxels of 1 x 1 x 2 mm."""
    inside = np.zeros((40, 40, 40), dtype=bool)
    inside[5:25, 10:20, 12:18] = True
    found = shape_measures(inside, (1.0, 1.0, 2.0))
    assert found["volume_ml"] == pytest.approx(2.4)
    assert [found[f"extent_{axis}_mm"] for axis in "xyz"] == [20, 10, 12]
    assert [found[f"section_{axis}_cm2"] for axis in "xyz"] == pytest.approx([1.2, 2.4, 2.0])
    assert found["fill"] == 1
    # The ellipsoid with a box's moments has sides times the root of 5 / 3.
    assert found["length_mm"] == pytest.approx(20 * math.sqrt(5 / 3))
    assert found["elongation"] == pytest.approx(12 / 20)
    assert found["flatness"] == pytest.approx(10 / 20)


def test_the_wall_of_a_thick_sliced_ring_is_measured_in_the_plane():
    x, y = np.meshgrid(np.arange(64) - 32, np.arange(64) - 32, indexing="ij")
    distance = np.hypot(x, y)
    ring = np.zeros((64, 64, 10), dtype=bool)
    ring[:, :, 1:9] = ((distance > 15) & (distance < 24))[:, :, None]
    found = shape_measures(ring, (1.4, 1.4, 10.0))
    assert found["wall_mm"] == pytest.approx(9 * 1.4, rel=0.1)
    assert found["wall_mean_mm"] == pytest.approx(9 * 1.4, rel=0.1)


def test_parts_absence_and_the_border_of_the_scan():
    inside = np.zeros((12, 12, 12), dtype=bool)
    assert all(math.isnan(value) for value in shape_measures(inside, (1.0, 1.0, 1.0)).values())
    inside[0, 0, 0], inside[6:9, 6:9, 6:9] = True, True
    found = shape_measures(inside, (1.0, 1.0, 1.0))
    assert (found["parts"], found["largest_part"]) == (2, 27 / 28)
    assert set(found) == {*SIZE, *SHAPE}
    one = shape_measures(inside & (np.arange(12) < 1), (1.0, 1.0, 1.0))
    assert one["thickness_mm"] == 1 and one["volume_ml"] == 0.001


def test_a_surface_does_not_depend_on_how_the_body_lies():
    """Rotated cubes: Crofton's number changes by less than a tenth, a count of voxel faces by a third."""
    axes = np.stack(np.meshgrid(*[np.arange(48) - 23.5] * 3, indexing="ij"), axis=-1)
    areas = []
    for angle in (0.3, 0.6, 0.785):
        turn = np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]])
        cube = (np.abs(axes @ turn) < 10).all(axis=-1)
        areas.append(surface_mm2(np.pad(cube, 1), np.ones(3)))
    assert max(areas) / min(areas) < 1.1
    assert np.mean(areas) == pytest.approx(6 * 400, rel=0.1)


def test_a_very_large_structure_is_thinned_out_and_measured_alike(monkeypatch):
    inside, spacing = ball((0.5, 0.5, 0.5), count=64), (0.5, 0.5, 0.5)
    whole = shape_measures(inside, spacing)
    monkeypatch.setattr("anymc3d.data.measures.shape.MOST_VOXELS", 20_000)
    thinned = shape_measures(inside, spacing)
    for name in ("surface_cm2", "length_mm", "depth_mm"):
        assert thinned[name] == pytest.approx(whole[name], rel=0.05), name
    assert thinned["volume_ml"] == whole["volume_ml"]
