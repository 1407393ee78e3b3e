"""Rings and solid lesions differ in arrangement and in nothing else."""

import numpy as np
import pytest
from scipy import ndimage, stats

from anymc3d.demo.anatomy import phantom
from anymc3d.demo.lesions import arrange, draw_lesion, plant, value_curve
from anymc3d.demo.patient import Head, acquire, make_head
from anymc3d.errors import ScanError

SPACING = (4.0, 4.0, 4.0)


@pytest.fixture(scope="module")
def head():
    return make_head(phantom(spacing_mm=4.0), np.random.default_rng(0), spacing=SPACING)


def planted(head, seed, *, ring):
    rng = np.random.default_rng(seed)
    lesion = draw_lesion(np.random.default_rng([seed, 1]))
    return plant(head, lesion, rng, ring=ring)


def test_the_same_values_are_given_out_to_either_kind():
    rng = np.random.default_rng(1)
    lesion = draw_lesion(rng)
    depth, disturbance = rng.random(500), rng.standard_normal(500)
    ring = arrange(depth, lesion, disturbance, ring=True)
    solid = arrange(depth, lesion, disturbance, ring=False)
    assert np.array_equal(np.sort(ring), np.sort(solid))
    assert np.array_equal(np.sort(ring), value_curve(lesion, 500))
    assert not np.array_equal(ring, solid)


@pytest.mark.parametrize("ring", [True, False])
def test_a_ring_is_bright_outside_and_a_solid_lesion_inside(head, ring):
    for seed in range(10):
        after, mask = planted(head, seed, ring=ring)
        inner = ndimage.distance_transform_edt(mask)
        core = inner > 0.8 * inner.max()
        shell = mask & ~ndimage.binary_erosion(mask)
        difference = after.voxels[shell].mean() - after.voxels[core].mean()
        assert (difference > 0.1) == ring
        assert (difference < -0.1) != ring


def test_volume_mean_spread_and_brightest_voxel_do_not_know_the_kind(head):
    measured = {True: [], False: []}
    for seed in range(200):
        ring = bool(seed % 2)
        after, mask = planted(head, seed, ring=ring)
        inside = after.voxels[mask]
        measured[ring].append((mask.sum(), inside.mean(), inside.sum(), inside.std(), inside.max()))
    for of_ring, of_solid in zip(np.array(measured[True]).T, np.array(measured[False]).T, strict=True):
        share = stats.mannwhitneyu(of_ring, of_solid).statistic / (len(of_ring) * len(of_solid))  # the AUROC
        assert 0.38 < share < 0.62
        assert stats.ks_2samp(of_ring, of_solid).pvalue > 0.01


def test_the_mask_is_where_the_lesion_is(head):
    for seed in range(20):
        after, mask = planted(head, seed, ring=bool(seed % 2))
        near = ndimage.binary_dilation(mask)
        assert np.array_equal(after.voxels[~near], head.voxels[~near])
        assert np.abs(after.voxels - head.voxels)[mask].mean() > 0.1
        assert not (mask & ~head.brain).any()
        diameter_mm = np.cbrt(mask.sum() * np.prod(SPACING) * 6 / np.pi)
        assert 20 < diameter_mm < 38
        assert ndimage.label(mask, np.ones((3, 3, 3)))[1] == 1


def test_planting_changes_neither_the_head_given_nor_its_geometry(head):
    before = head.voxels.copy()
    after, _ = planted(head, 5, ring=True)
    assert np.array_equal(head.voxels, before)
    assert np.array_equal(after.affine, head.affine)


def test_a_head_without_tissue_is_refused():
    empty = np.zeros((20, 20, 20))
    nothing = Head(voxels=empty.astype(np.float32), affine=np.eye(4), brain=empty > 0, tissue=empty > 0)
    with pytest.raises(ScanError, match=r"no place for a lesion of .* mm: expected"):
        planted(nothing, 0, ring=True)


def test_a_scan_is_int16_in_the_scanners_own_units(head):
    scans = [acquire(head, np.random.default_rng(1), gain=gain) for gain in (300.0, 1500.0)]
    assert all(scan.dtype == np.int16 and scan.min() >= 0 for scan in scans)
    assert np.percentile(scans[1], 90) == pytest.approx(5 * np.percentile(scans[0], 90), rel=0.02)
    tissue = [scan[head.tissue].mean() for scan in scans]
    assert tissue[0] > 4 * scans[0][~head.brain].mean()


def test_no_two_patients_are_alike():
    anatomy = phantom(spacing_mm=4.0)
    heads = [make_head(anatomy, np.random.default_rng(seed), spacing=SPACING) for seed in range(4)]
    overlap = [
        2 * (a.tissue & b.tissue).sum() / (a.tissue.sum() + b.tissue.sum())
        for i, a in enumerate(heads)
        for b in heads[:i]
    ]
    assert all(0.5 < value < 0.97 for value in overlap)
