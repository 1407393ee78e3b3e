"""Geometry of volumes, against nibabel, ITK and torch."""

from __future__ import annotations

from itertools import permutations, product

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scan_makers import AFFINE, anatomy

from anymc3d.data.volume import (
    Volume,
    box_of_extent,
    crop_to,
    overhang,
    pad_by,
    permute_axes,
    resize,
    resize_weights,
    to_ras,
)

ALL_STORAGES = [(order, signs) for order in permutations(range(3)) for signs in product((1, -1), repeat=3)]


def volume(shape: tuple[int, int, int] = (12, 10, 8), affine: np.ndarray = AFFINE, seed: int = 0) -> Volume:
    return Volume(voxels=anatomy(shape, seed).astype(np.float32), affine=affine.copy())


def stored(source: Volume, order: tuple[int, int, int], signs: tuple[int, ...]) -> Volume:
    """The same anatomy with its axes in another order and direction."""
    orientation = np.array([[axis, sign] for axis, sign in zip(order, signs, strict=True)])
    image = nibabel.Nifti1Image(source.voxels, source.affine).as_reoriented(orientation)
    return Volume(voxels=np.asarray(image.dataobj), affine=image.affine)


def world(source: Volume, index: tuple[float, float, float]) -> np.ndarray:
    return (source.affine @ [*index, 1])[:3]


def as_itk(source: Volume) -> sitk.Image:
    image = sitk.GetImageFromArray(np.ascontiguousarray(source.voxels.T))
    lps = np.diag([-1.0, -1, 1, 1]) @ source.affine
    lengths = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(lengths.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection((lps[:3, :3] / lengths).ravel().tolist())
    return image


def test_spacing_orientation_and_extent_come_from_the_affine() -> None:
    one = volume()
    assert one.spacing == pytest.approx((0.9, 1.1, 2.5))
    assert one.orientation == "RAS"
    assert one.extent_mm == pytest.approx((10.8, 11.0, 20.0))


@pytest.mark.parametrize(
    "voxels", [np.zeros((3, 3), np.float32), np.zeros((3, 3, 3)), np.zeros((3, 3, 3, 1), np.float32)]
)
def test_only_three_axes_of_float32_are_a_volume(voxels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected"):
        Volume(voxels=voxels, affine=np.eye(4))


def test_an_affine_with_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="affine"):
        Volume(voxels=np.zeros((2, 2, 2), np.float32), affine=np.full((4, 4), np.nan))


@pytest.mark.parametrize(("order", "signs"), ALL_STORAGES)
def test_B1_all_48_storages_are_one_volume_in_ras(order: tuple[int, int, int], signs: tuple[int, ...]) -> None:
    truth = volume()
    other = stored(truth, order, signs)
    turned = to_ras(other)
    assert turned.orientation == "RAS"
    assert np.array_equal(turned.voxels, truth.voxels)
    assert np.allclose(turned.affine, truth.affine)
    canonical = nibabel.as_closest_canonical(nibabel.Nifti1Image(other.voxels, other.affine))
    assert np.array_equal(turned.voxels, canonical.get_fdata())
    itk = sitk.DICOMOrient(as_itk(other), "LPS")  # the letters of ITK's release 5.4 say where an axis comes from
    flipped = sitk.GetArrayFromImage(itk).T[::-1, ::-1]
    assert np.array_equal(turned.voxels, flipped)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_B1_an_oblique_scan_turns_as_nibabel_turns_it(seed: int) -> None:
    generator = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(generator.normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = rotation * generator.uniform(0.5, 4, size=3)
    affine[:3, 3] = generator.uniform(-100, 100, size=3)
    one = volume(affine=affine)
    canonical = nibabel.as_closest_canonical(nibabel.Nifti1Image(one.voxels, affine))
    turned = to_ras(one)
    assert np.array_equal(turned.voxels, canonical.get_fdata())
    assert np.allclose(turned.affine, canonical.affine)


def test_permuted_axes_keep_their_world_positions() -> None:
    one = volume()
    other = permute_axes(one, (2, 0, 1))
    assert other.shape == (8, 12, 10)
    assert other.voxels[5, 3, 7] == one.voxels[3, 7, 5]
    assert np.allclose(world(other, (5, 3, 7)), world(one, (3, 7, 5)))


def crop(one: Volume, extent: tuple[float, float, float]) -> Volume:
    return crop_to(one, box_of_extent(one, extent))


def pad(one: Volume, extent: tuple[float, float, float], fill: float) -> Volume:
    return pad_by(one, overhang(box_of_extent(one, extent), one.shape), fill)


@given(st.tuples(*[st.floats(1, 16)] * 3), st.tuples(*[st.integers(1, 12)] * 3))
@settings(max_examples=50)
def test_crop_and_pad_move_no_voxel(extent: tuple[float, float, float], shape: tuple[int, int, int]) -> None:
    one = Volume(voxels=np.arange(np.prod(shape), dtype=np.float32).reshape(shape) + 1, affine=AFFINE)
    box = box_of_extent(one, extent)
    framed = pad_by(crop_to(one, box), overhang(box, one.shape), 0)
    expected = [max(1, np.floor(e / s + 0.5 + 1e-4)) for e, s in zip(extent, one.spacing, strict=True)]
    assert framed.shape == tuple(expected)
    inverse = np.linalg.inv(one.affine) @ framed.affine
    offset = np.rint(inverse[:3, 3]).astype(int)
    assert np.allclose(inverse, np.block([[np.eye(3), offset[:, None]], [np.zeros((1, 3)), 1]]))
    for index in np.ndindex(framed.shape):
        source = tuple(np.add(index, offset))
        inside = all(0 <= i < n for i, n in zip(source, shape, strict=True))
        assert framed.voxels[index] == (one.voxels[source] if inside else 0)
    centre = world(framed, tuple((n - 1) / 2 for n in framed.shape)) - world(one, tuple((n - 1) / 2 for n in shape))
    assert (np.abs(centre) <= np.asarray(one.spacing) / 2 + 1e-6).all()


def test_cropping_what_was_padded_gives_the_volume_back() -> None:
    one = volume((7, 6, 5))
    for extent in ((20.0, 30.0, 40.0), (21.0, 31.0, 41.0)):
        back = crop(pad(one, extent, fill=-1), one.extent_mm)
        assert np.array_equal(back.voxels, one.voxels)
        assert np.allclose(back.affine, one.affine)


def test_a_spacing_with_rounding_noise_crops_to_the_same_number_of_voxels() -> None:
    for noise in (0, 1e-9, -1e-9, 3e-7, -3e-7):
        affine = np.diag([0.8 + noise, 0.8, 0.8, 1])
        assert crop(volume((40, 40, 40), affine), (20.4, 20.4, 20.4)).shape == (26, 26, 26)


@pytest.mark.parametrize(
    "shape", [(24, 20, 16), (13, 11, 9), (12, 10, 8), (30, 10, 64), (5, 3, 2), (1, 1, 1), (7, 23, 8)]
)
def test_without_antialias_resizing_is_torchs_trilinear(shape: tuple[int, int, int]) -> None:
    one = volume()
    ours = resize(one, shape, antialias=False).voxels
    theirs = torch.nn.functional.interpolate(torch.from_numpy(one.voxels)[None, None], size=shape, mode="trilinear")
    assert np.allclose(ours, theirs[0, 0].numpy(), atol=2e-3)  # of values up to 1500


@pytest.mark.parametrize("size", [(24, 20), (6, 5), (5, 30), (3, 2), (12, 7), (1, 1)])
def test_with_antialias_resizing_is_torchs_antialiased_bilinear(size: tuple[int, int]) -> None:
    one = volume()
    ours = resize(one, (*size, 8)).voxels
    slices = torch.from_numpy(np.ascontiguousarray(one.voxels.transpose(2, 0, 1)))[:, None]
    theirs = torch.nn.functional.interpolate(slices, size=size, mode="bilinear", antialias=True)
    assert np.allclose(ours, theirs[:, 0].numpy().transpose(1, 2, 0), atol=2e-3)


@pytest.mark.parametrize("shape", [(24, 20, 16), (13, 25, 9)])
def test_a_larger_grid_holds_what_itk_samples_at_its_world_positions(shape: tuple[int, int, int]) -> None:
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    affine = np.eye(4)
    affine[:3, :3] = rotation * [0.9, 1.1, 2.5]
    one = volume(affine=affine)
    larger = resize(one, shape)
    sampled = sitk.GetArrayFromImage(sitk.Resample(as_itk(one), as_itk(larger), sitk.Transform(), sitk.sitkLinear)).T
    # ITK samples nothing beyond the outermost voxel centres; there the edge value is held.
    inner = tuple(
        slice(int(np.ceil(n / o / 2)), -int(np.ceil(n / o / 2))) for n, o in zip(shape, one.shape, strict=True)
    )
    assert np.allclose(larger.voxels[inner], sampled[inner], atol=1e-2)


@given(st.tuples(*[st.integers(1, 20)] * 3), st.tuples(*[st.integers(1, 20)] * 3))
@settings(max_examples=50)
def test_resizing_keeps_the_extent_and_the_corners(old: tuple[int, int, int], new: tuple[int, int, int]) -> None:
    one = volume(old)
    other = resize(one, new)
    assert other.shape == new
    for corner in product((0, 1), repeat=3):
        before = world(one, tuple(c * n - 0.5 for c, n in zip(corner, old, strict=True)))
        after = world(other, tuple(c * n - 0.5 for c, n in zip(corner, new, strict=True)))
        assert np.allclose(before, after)


def test_a_linear_ramp_keeps_its_world_values_away_from_the_edge() -> None:
    indices = np.stack(np.meshgrid(*[np.arange(n) for n in (30, 24, 20)], indexing="ij"), axis=-1)
    places = indices @ AFFINE[:3, :3].T + AFFINE[:3, 3]
    ramp = (places @ [0.3, -0.7, 0.2]).astype(np.float32)
    # A whole factor or an enlargement: between them the sampled triangle is not exactly balanced, in torch and PIL too.
    for shape in ((15, 12, 10), (40, 30, 33)):
        other = resize(Volume(voxels=ramp, affine=AFFINE), shape)
        inside = np.stack(np.meshgrid(*[np.arange(3, n - 3) for n in shape], indexing="ij"), axis=-1)
        expected = (inside @ other.affine[:3, :3].T + other.affine[:3, 3]) @ [0.3, -0.7, 0.2]
        assert np.allclose(other.voxels[3:-3, 3:-3, 3:-3], expected, atol=1e-4)


@given(st.integers(1, 200), st.integers(1, 200), st.booleans())
@settings(max_examples=100)
def test_weights_are_means_of_near_voxels(old: int, new: int, antialias: bool) -> None:
    weights = resize_weights(old, new, antialias)
    assert (weights >= 0).all()
    assert np.allclose(weights.sum(axis=1), 1, atol=1e-5)
    assert np.allclose(weights, weights[::-1, ::-1], atol=1e-6)


@pytest.mark.parametrize("order", ["C", "F"])
def test_B1_memory_order_changes_no_bit(order: str) -> None:
    one = volume()
    other = Volume(voxels=np.asarray(one.voxels, order=order)[:, ::-1][:, ::-1], affine=one.affine)
    assert resize(one, (5, 17, 4)).voxels.tobytes() == resize(other, (5, 17, 4)).voxels.tobytes()


def test_operations_leave_their_input_alone() -> None:
    one = volume()
    voxels, affine = one.voxels.copy(), one.affine.copy()
    resize(pad(crop(to_ras(one), (5, 5, 5)), (30, 30, 30), 0), (4, 4, 4))
    assert np.array_equal(one.voxels, voxels) and np.array_equal(one.affine, affine)
