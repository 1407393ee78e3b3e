"""B2: thick scans of several planes are told, thin ones and those of one plane are not."""

import numpy as np
import pytest

from anymc3d.data.thick_planes import mixed_planes, thick_plane, thick_slice_warning


@pytest.mark.parametrize(
    ("spacing", "plane"),
    [((1, 1, 6), "axial"), ((1, 6, 1), "coronal"), ((6, 1, 1), "sagittal"), ((1, 1, 1.5), None), ((0.5, 1, 1), None)],
)
def test_only_thick_slices_have_a_plane(spacing, plane):
    assert thick_plane(spacing) == plane


def test_B2_scans_of_another_plane_are_counted_and_named():
    spacings = np.array([[1, 1, 6]] * 16 + [[6, 1, 1]] * 14 + [[1, 1, 1]] * 3, dtype=float)
    mixed = mixed_planes(spacings, [f"s{k}" for k in range(33)])
    assert mixed.counts == "14 of 33 scans were acquired sagittally, 16 axially"
    assert mixed.others == tuple(range(16, 30)) and mixed.names == "s16, s17, s18, s19, s20, …"
    assert mixed_planes(spacings[:16], [f"s{k}" for k in range(16)]) is None


def test_B2_a_thick_scan_that_is_looked_at_across_is_told():
    assert "acquired sagittally, in slices 6.0 times" in thick_slice_warning((6, 1, 1), {"axial"})
    assert thick_slice_warning((6, 1, 1), {"axial", "sagittal"}) is None
    assert thick_slice_warning((6, 1, 1), {"auto"}) is None
    assert thick_slice_warning((1.2, 1, 1), {"axial"}) is None
