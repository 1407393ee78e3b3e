"""The coarse scan and the region about what was drawn in it, in millimetres and whatever way a scan is stored."""

import numpy as np
import pytest
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff

from anymc3d.data.volume import Volume, crop_to, to_ras
from anymc3d.pandx.geometry import coarse, region_about


def scan(spacing=(1.0, 2.0, 3.0), shape=(120, 60, 30), origin=(-40.0, 7.0, 90.0)) -> Volume:
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = origin
    return Volume(np.random.default_rng(0).normal(size=shape).astype(np.float32), affine)


def stored_as(volume: Volume, codes: str) -> Volume:
    orientation = axcodes2ornt(codes)
    order = np.argsort(orientation[:, 0])
    turned = np.stack([order, orientation[order, 1]], axis=1)
    affine = volume.affine @ inv_ornt_aff(turned, volume.shape)
    return Volume(np.ascontiguousarray(apply_orientation(volume.voxels, turned)), affine)


def drawn(places, shape=(30, 30, 12), like: Volume | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Label 1 at voxels of a coarse grid that begins where the scan does."""
    labels = np.zeros(shape, dtype=np.int32)
    for place in places:
        labels[place] = 1
    affine = np.diag([4.5, 4.5, 9.0, 1.0])
    affine[:3, 3] = (like or scan()).affine[:3, 3]
    return labels, affine


def test_the_box_holds_all_that_was_drawn_and_the_margin_in_whole_voxels():
    labels, affine = drawn([(10, 10, 2), (14, 12, 4)])
    box, found = region_about(labels, affine, scan(), margin_mm=(5.0, 5.0, 4.0))
    # 45 to 63 mm, 45 to 54 mm, 18 to 36 mm from the first voxel; margins of 5, 2 and 1 voxels.
    assert found
    assert box.first == (45 - 5, 22 - 2, 6 - 1)
    assert box.count == (63 - 45 + 1 + 10, 27 - 22 + 1 + 4, 12 - 6 + 1 + 2)


def test_the_margin_of_the_paper_is_cut_at_the_edge():
    labels, affine = drawn([(10, 10, 2), (14, 12, 4)])
    box, _ = region_about(labels, affine, scan())
    assert box.first == (0, 0, 1)
    assert box.count == (120, 27 + 25 + 1, 12 + 5 - 1 + 1)


def test_other_labels_do_not_count_and_without_any_it_is_the_whole_scan():
    labels, affine = drawn([])
    labels[3, 3, 3] = 2
    box, found = region_about(labels, affine, scan())
    assert not found
    assert (box.first, box.count) == ((0, 0, 0), scan().shape)


@pytest.mark.parametrize("codes", ["LPS", "SAR", "PIR"])
def test_the_region_is_the_same_place_however_the_scan_is_stored(codes):
    labels, affine = drawn([(10, 10, 2), (14, 12, 4)])
    straight, turned = scan(), stored_as(scan(), codes)
    expected = crop_to(straight, region_about(labels, affine, straight, (20.0, 10.0, 6.0))[0])
    found = to_ras(crop_to(turned, region_about(labels, affine, turned, (20.0, 10.0, 6.0))[0]))
    assert np.array_equal(found.voxels, expected.voxels)
    np.testing.assert_allclose(found.affine, expected.affine, atol=1e-9)


def test_coarse_scans_are_those_of_simpleitk_but_for_the_rim():
    sitk = pytest.importorskip("SimpleITK")
    volume = scan(shape=(40, 45, 30), spacing=(1.5, 1.5, 3.0))
    smooth = np.sin(np.arange(40) / 5)[:, None, None] + np.cos(np.arange(45) / 6)[:, None] + np.arange(30) / 20
    volume = Volume(smooth.astype(np.float32), volume.affine)
    image = sitk.GetImageFromArray(volume.voxels.transpose(2, 1, 0))
    image.SetSpacing((1.5, 1.5, 3.0))
    found = coarse(volume)
    target = [int(n) for n in found.shape]
    identity = sitk.Transform(3, sitk.sitkIdentity)
    answer = sitk.Resample(
        image, target, identity, sitk.sitkBSpline, image.GetOrigin(), (4.5, 4.5, 9.0), image.GetDirection(), 0.0
    )
    expected = sitk.GetArrayFromImage(answer).transpose(2, 1, 0)
    assert found.shape == (13, 15, 10)
    assert found.spacing == (4.5, 4.5, 9.0)
    np.testing.assert_allclose(found.voxels[1:-1, 1:-1, 1:-1], expected[1:-1, 1:-1, 1:-1], atol=2e-2)


def test_coarse_spacing_is_of_the_anatomical_axes():
    turned = coarse(stored_as(scan(), "SAR"))
    assert turned.spacing == (9.0, 4.5, 4.5)
