"""The way back: what is found on prepared slices lies where it was in the scan, however the scan is stored."""

from __future__ import annotations

from itertools import permutations, product
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scan_makers import AFFINE, anatomy

from anymc3d.data.preprocess import AXES, PreparedView, prepare_view
from anymc3d.data.readers import read_volume
from anymc3d.data.scan_grid import prepare_mask, resample, to_scan_grid
from anymc3d.data.volume import Volume
from anymc3d.errors import ScanError
from anymc3d.settings.views import ViewSettings

ALL_STORAGES = [(order, signs) for order in permutations(range(3)) for signs in product((1, -1), repeat=3)]
VOXELS = anatomy((20, 18, 11))


def volume(voxels: np.ndarray = VOXELS, affine: np.ndarray = AFFINE) -> Volume:
    return Volume(voxels=voxels.astype(np.float32), affine=affine.copy())


def window(**changes: object) -> ViewSettings:
    return ViewSettings(**{"size": (20, 18, None), "normalise": "window", "windows": ((-1000, 1500),), **changes})


def oblique(generator: np.random.Generator, low: float = 0.7, high: float = 1.4) -> np.ndarray:
    """Any rotation or mirror image, uneven spacing, any origin: all orientations come up."""
    turn, _ = np.linalg.qr(generator.normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = turn * generator.choice([-1, 1], size=3) * generator.uniform(low, high, size=3)
    affine[:3, 3] = generator.uniform(-300, 300, size=3)
    return affine


def stored(voxels: np.ndarray, affine: np.ndarray, order: tuple[int, ...], signs: tuple[int, ...]) -> Volume:
    orientation = np.array([[axis, sign] for axis, sign in zip(order, signs, strict=True)])
    image = nibabel.Nifti1Image(voxels.astype(np.float32), affine).as_reoriented(orientation)
    return Volume(voxels=np.asarray(image.dataobj), affine=image.affine)


def restored(prepared: PreparedView, scan: Volume, **options: object) -> np.ndarray:
    return to_scan_grid(prepared.slices[:, 0], prepared.affine, scan.shape, scan.affine, **options)


def as_itk(voxels: np.ndarray, affine: np.ndarray) -> sitk.Image:
    image = sitk.GetImageFromArray(np.ascontiguousarray(voxels.T))
    lps = np.diag([-1.0, -1, 1, 1]) @ affine
    lengths = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(lengths.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection((lps[:3, :3] / lengths).ravel().tolist())
    return image


@pytest.mark.parametrize(("order", "signs"), ALL_STORAGES)
def test_without_a_resize_all_48_storages_come_back_bit_for_bit(order: tuple[int, ...], signs: tuple[int, ...]) -> None:
    scan = stored(VOXELS, AFFINE, order, signs)
    prepared = prepare_view(scan, window(plane="axial"))
    expected = ((scan.voxels + np.float32(1000)) / np.float32(2500)).astype(np.float16)
    for kind in ("linear", "nearest"):
        back = restored(prepared, scan, order=kind)
        assert back.dtype == (np.float32 if kind == "linear" else np.float16)
        assert np.array_equal(back, expected.astype(back.dtype)), kind


@pytest.mark.parametrize("plane", AXES)
def test_what_was_cropped_away_is_filled_and_what_was_padded_is_gone(plane: str) -> None:
    """The field crops x and z and pads y; whole voxels, so what is left comes back bit for bit."""
    field = [0.9 * 8, 1.1 * 30, 2.5 * 5]
    counts = [8, 30, 5]
    view = window(
        size=tuple(counts[axis] for axis in AXES[plane]),
        plane=plane,
        field_of_view=tuple(field[axis] for axis in AXES[plane]),
    )
    back = restored(prepare_view(volume(), view), volume(), fill=-7)
    kept = np.zeros(VOXELS.shape, dtype=bool)
    kept[6:14, :, 3:8] = True
    expected = ((VOXELS + np.float32(1000)) / np.float32(2500)).astype(np.float16)
    assert np.array_equal(back[kept], expected[kept].astype(np.float32))
    assert (back[~kept] == -7).all()


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_a_planted_blob_comes_back_within_half_a_voxel(seed: int) -> None:
    """Random oblique and mirrored affines, planes, sizes, crops and pads."""
    generator = np.random.default_rng(seed)
    affine, shape = oblique(generator), generator.integers(24, 40, size=3)
    point = generator.uniform(9, shape - 9)
    voxels = np.exp(-0.5 * sum(((np.indices(shape)[a] - point[a]) / 2.5) ** 2 for a in range(3)))
    scan = volume(voxels, affine)
    view = ViewSettings(
        size=tuple(int(n) for n in generator.integers(16, 60, size=3)), normalise="window", windows=((0, 1),),
        plane=str(generator.choice(["auto", *AXES])),
        field_of_view=(26.0, 60.0, 40.0) if generator.random() < 0.5 else None,
    )  # fmt: skip
    prepared = prepare_view(scan, view)
    values = prepared.slices[:, 0]
    edges = [values[0], values[-1], values[:, 0], values[:, -1], values[:, :, 0], values[:, :, -1]]
    if values.max() < 0.5 or max(float(edge.max()) for edge in edges) > 0.01:
        return  # cropped away, or cut: its centre of mass moves
    back = restored(prepared, scan).astype(np.float64)
    found = [(back * axis).sum() / back.sum() for axis in np.indices(shape)]
    assert np.abs(np.asarray(found) - point).max() < 0.5
    assert np.linalg.norm(found - point) < 0.25


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_resampling_back_agrees_with_itk(seed: int) -> None:
    """Prepared slices as coarse as the scan or coarser: plain trilinear interpolation between the two affines."""
    generator = np.random.default_rng(seed)
    shape = tuple(int(n) for n in generator.integers(12, 24, size=3))
    scan = volume(generator.uniform(0, 1, size=shape), oblique(generator))
    size = tuple(int(n) for n in generator.integers(4, 12, size=3))
    field = (12.0, 30.0, 9.0) if generator.random() < 0.5 else None
    view = window(size=size, windows=((0, 1),), plane=str(generator.choice(list(AXES))), field_of_view=field)
    prepared = prepare_view(scan, view)
    grid = prepared.slices[:, 0].astype(np.float32).transpose(1, 2, 0)
    steps = np.linalg.norm(prepared.affine[:3, :3], axis=0)
    if steps.min() < 1.4:
        return  # finer than the scan in one axis: ours is smoothed there, ITK's is not
    theirs = sitk.Resample(
        as_itk(grid, prepared.affine), as_itk(scan.voxels, scan.affine), sitk.Transform(), sitk.sitkLinear, -1.0
    )
    theirs = sitk.GetArrayFromImage(theirs).T
    ours = restored(prepared, scan, fill=-1.0)
    both = (theirs != -1) & (ours != -1)
    assert np.abs(ours - theirs)[both].max(initial=0) < 1e-4
    # They may differ about voxels that lie on the border itself, and about nothing else.
    index = np.einsum("ij,jabc->iabc", np.linalg.inv(prepared.affine) @ scan.affine, _grid_of(shape))[:3]
    border = (np.abs(np.abs(index - (np.array(grid.shape).reshape(3, 1, 1, 1) - 1) / 2)
                     - np.array(grid.shape).reshape(3, 1, 1, 1) / 2) < 1e-4).any(axis=0)  # fmt: skip
    assert ((theirs == -1) == (ours == -1))[~border].all()


def _grid_of(shape: tuple[int, ...]) -> np.ndarray:
    return np.concatenate([np.indices(shape), np.ones((1, *shape))])


@pytest.mark.parametrize(("old", "new"), [(20, 10), (20, 40), (20, 7), (20, 33)])
def test_a_resize_moves_nothing_by_half_a_voxel(old: int, new: int) -> None:
    """A ramp in world millimetres is a ramp again, away from the ends: any half-voxel shift would show."""
    ramp = np.broadcast_to(np.arange(old, dtype=np.float32)[:, None, None], (old, 18, 11))
    scan = volume(ramp)
    prepared = prepare_view(scan, window(size=(new, 18, None), plane="axial", windows=((0, 100),)))
    back = restored(prepared, scan) * 100
    inner = slice(max(3, 2 * old // new), -max(3, 2 * old // new))
    assert np.allclose(back[inner], ramp[inner], atol=0.05)


def test_slices_of_another_scan_are_refused() -> None:
    turned = AFFINE.copy()
    angle = np.deg2rad(3)
    turned[:2, :2] = [[0.9 * np.cos(angle), -1.1 * np.sin(angle)], [0.9 * np.sin(angle), 1.1 * np.cos(angle)]]
    prepared = prepare_view(volume(), window())
    with pytest.raises(ScanError, match=r"turned against it.*give the scan from which"):
        to_scan_grid(prepared.slices[:, 0], prepared.affine, VOXELS.shape, turned)
    with pytest.raises(ScanError, match="turned against it"):
        prepare_mask(VOXELS, turned, prepared)
    with pytest.raises(ValueError, match=r"\(S, H, W\)"):
        to_scan_grid(prepared.slices, prepared.affine, VOXELS.shape, AFFINE)


def test_a_flat_map_stays_flat() -> None:
    prepared = prepare_view(volume(), window(size=(7, 33, 23), plane="sagittal"))
    back = to_scan_grid(np.ones((23, 7, 33)), prepared.affine, VOXELS.shape, AFFINE)
    assert np.allclose(back, 1, atol=1e-6)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_a_mask_is_cut_exactly_as_the_image_is(seed: int) -> None:
    """Where whole voxels are kept, labels are those of the same voxels; all storages give the same slices."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 200, size=(14, 13, 9)).astype(np.uint8)
    affine = oblique(generator)
    plane = str(generator.choice(list(AXES)))
    size = tuple(int(n) for n in generator.integers(4, 30, size=3))
    field = (7.0, 30.0, 9.0) if generator.random() < 0.5 else None
    order, signs = ALL_STORAGES[generator.integers(48)]
    view = window(size=size, plane=plane, field_of_view=field, windows=((0, 250),))
    scan, other = volume(labels, affine), stored(labels, affine, order, signs)
    prepared, again = prepare_view(scan, view), prepare_view(other, view)
    if prepared.plane != again.plane or not np.array_equal(prepared.slices, again.slices):
        return  # an affine about half-way between two orientations
    cut = prepare_mask(labels, affine, prepared)
    assert cut.shape == (size[2], size[0], size[1]) and cut.dtype == np.uint8
    assert np.array_equal(cut, prepare_mask(other.voxels.astype(np.uint8), other.affine, again))
    assert set(np.unique(cut)) <= {0, *np.unique(labels)}


def test_labels_and_intensities_of_whole_voxels_agree() -> None:
    labels = np.abs(VOXELS % 97).astype(np.int16)
    view = window(size=(8, 25, 5), field_of_view=(7.2, 27.5, 12.5), plane="axial", windows=((0, 100),))
    prepared = prepare_view(volume(labels), view)
    assert np.array_equal(prepared.slices[:, 0], (prepare_mask(labels, AFFINE, prepared) / 100).astype(np.float16))


def test_a_mask_goes_there_and_back() -> None:
    labels = np.zeros(VOXELS.shape, np.uint8)
    labels[5:12, 4:9, 3:8] = 3
    prepared = prepare_view(volume(), window(size=(40, 36, 22), plane="coronal"))
    cut = prepare_mask(labels, AFFINE, prepared)
    assert np.array_equal(to_scan_grid(cut, prepared.affine, VOXELS.shape, AFFINE, order="nearest"), labels)


def test_a_finer_grid_is_smoothed_on_the_way_to_a_coarser_one() -> None:
    """Every fine value counts: one bright pixel of 4 x 4 x 4 is not lost between the coarse voxels."""
    fine = np.zeros((40, 40, 40), np.float32)
    fine[17, 18, 21] = 1
    coarse = resample(fine, np.eye(4), (10, 10, 10), np.diag([4.0, 4, 4, 1]))
    assert coarse.max() > 0.003
    assert coarse.sum() == pytest.approx(1 / 64, rel=0.2)


@pytest.mark.real_data
def test_real_scans_come_back_to_their_own_grid(real_scans: list[Path]) -> None:
    for path in real_scans[::4]:
        scan = read_volume(path)
        low, high = np.percentile(scan.voxels, [0.5, 99.5])
        view = ViewSettings(size=(112, 112, 100))
        back = restored(prepare_view(scan, view), scan)
        assert back.shape == scan.shape
        clipped = (np.clip(scan.voxels, low, high) - low) / (high - low)
        assert np.corrcoef(back.ravel(), clipped.ravel())[0, 1] > 0.9
