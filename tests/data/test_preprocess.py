"""From a volume to slices: one anatomy gives one result, however it is stored, and it is where it says it is."""

from __future__ import annotations

import hashlib
from itertools import permutations, product
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scan_makers import AFFINE, anatomy, gz, nifti_bytes, npy_bytes, setting, write

from anymc3d.data.preprocess import AXES, CODE_VERSION, NORMALISERS, prepare_view, slice_plane
from anymc3d.data.readers import read_volume
from anymc3d.data.volume import Volume
from anymc3d.errors import ScanError
from anymc3d.settings.views import ViewSettings

VOXELS = anatomy((20, 18, 11))
GOLDEN = {1: "11137e925f557c61bb7634f9af5d21339710e536852781463e601254c31c1b4d"}
"""Code version -> hash of what it prepares. Another hash under the same number means: raise CODE_VERSION."""

VIEWS = {
    "percentile": ViewSettings(size=(14, 15, 6)),
    "window": ViewSettings(size=(28, 14, 5), normalise="window", windows=((-150, 250),)),
    "three_windows": ViewSettings(
        size=(14, 14, None), normalise="window", windows=((-1000, 1000), (-150, 250), (-1000, 400)), plane="coronal"
    ),
    "zscore": ViewSettings(size=(9, 14, 7), normalise="zscore", plane="sagittal", field_of_view=(12, 30, 10)),
    "whole_voxels": ViewSettings(size=(20, 18, None)),
}


def volume(voxels: np.ndarray = VOXELS, affine: np.ndarray = AFFINE) -> Volume:
    return Volume(voxels=voxels.astype(np.float32), affine=affine.copy())


def flat(**changes: object) -> ViewSettings:
    return ViewSettings(**{"size": (14, 14, None), "normalise": "window", "windows": ((-1000, 1500),), **changes})


def storages() -> dict[str, tuple[str, bytes]]:
    """One anatomy in many files: name -> (suffix, content)."""
    image = nibabel.Nifti1Image(VOXELS, AFFINE)
    files: dict[str, tuple[str, bytes]] = {}
    for order, signs in product(permutations(range(3)), product((1, -1), repeat=3)):
        turned = image.as_reoriented(np.array(list(zip(order, signs, strict=True))))
        letters = "".join(nibabel.aff2axcodes(turned.affine))
        files[f"stored_{letters}"] = (".nii", nifti_bytes(np.asarray(turned.dataobj), turned.affine))
    doubled, shifted = VOXELS * 2, (VOXELS.astype(np.int32) + 1024).astype(np.uint16)
    variants = {
        "big_endian": nifti_bytes(VOXELS, order=">"),
        "nifti2": nifti_bytes(VOXELS, version=2),
        "nifti2_big_endian": nifti_bytes(VOXELS, version=2, order=">"),
        "float32": nifti_bytes(VOXELS.astype(np.float32)),
        "float64": nifti_bytes(VOXELS.astype(np.float64)),
        "int32": nifti_bytes(VOXELS.astype(np.int32)),
        "int64": nifti_bytes(VOXELS.astype(np.int64)),
        "slope_a_half": nifti_bytes(doubled, patch=setting(scl_slope=0.5, scl_inter=0)),
        "intercept": nifti_bytes(shifted, patch=setting(scl_slope=1, scl_inter=-1024)),
        "slope_zero": nifti_bytes(VOXELS, patch=setting(scl_slope=0, scl_inter=0)),
        "qform_alone": nifti_bytes(VOXELS, codes=(1, 0)),
        "sform_alone": nifti_bytes(VOXELS, codes=(0, 1)),
        "room_before_voxels": nifti_bytes(VOXELS, offset=2048),
        "four_axes": nifti_bytes(VOXELS[..., None]),
    }
    files |= {name: (".nii", content) for name, content in variants.items()}
    files["compressed"] = (".nii.gz", gz(nifti_bytes(VOXELS)))
    files["npy"] = (".npy", npy_bytes(VOXELS))
    files["npy_fortran"] = (".npy", npy_bytes(np.asfortranarray(VOXELS)))
    return files


STORAGES = storages()


@pytest.mark.parametrize("view", VIEWS)
def test_B1_one_anatomy_in_65_storages_gives_the_same_bits(tmp_path: Path, view: str) -> None:
    truth = prepare_view(volume(), VIEWS[view])
    for name, (suffix, content) in STORAGES.items():
        path = write(tmp_path, name + suffix, content)
        ours = prepare_view(read_volume(path, spacing=(0.9, 1.1, 2.5) if suffix == ".npy" else None), VIEWS[view])
        assert ours.slices.tobytes() == truth.slices.tobytes(), name
        assert ours.plane == truth.plane
        if suffix != ".npy":  # an array has spacing alone
            assert np.allclose(ours.affine, truth.affine, atol=1e-4)
    assert len(STORAGES) == 65


def test_a_change_of_preprocessing_must_raise_the_code_version() -> None:
    digest = hashlib.sha256()
    for name in sorted(VIEWS):
        prepared = prepare_view(volume(), VIEWS[name])
        digest.update(f"{name} {prepared.slices.shape} {prepared.plane}".encode())
        digest.update(prepared.slices.tobytes())
        digest.update(np.round(prepared.affine, 6).tobytes())
    assert digest.hexdigest() == GOLDEN[CODE_VERSION], "raise CODE_VERSION and add the new hash"


@pytest.mark.parametrize(
    ("spacing", "plane"),
    [
        ((1, 1, 3), "axial"),
        ((1, 3, 1), "coronal"),
        ((3, 1, 1), "sagittal"),
        ((1, 1, 1), "axial"),
        ((2, 2, 1), "coronal"),
        ((2, 1, 2), "axial"),
        ((1, 1.005, 1), "axial"),
        ((1, 1.02, 1), "coronal"),
        ((1.005, 1, 0.5), "coronal"),
    ],
)
def test_slices_lie_along_the_largest_spacing_and_ties_are_axial(spacing: tuple[float, ...], plane: str) -> None:
    assert slice_plane(spacing) == plane
    assert prepare_view(volume(affine=np.diag([*spacing, 1.0])), flat()).plane == plane


@pytest.mark.parametrize("plane", AXES)
def test_each_plane_shows_the_right_axes_in_the_right_order(plane: str) -> None:
    whole = {"axial": (20, 18), "coronal": (20, 11), "sagittal": (18, 11)}[plane]
    prepared = prepare_view(volume(), flat(size=(*whole, None), plane=plane))
    assert prepared.plane == plane
    expected = (VOXELS + 1000.0) / 2500
    for (x, y, z), (h, w, s) in [((3, 4, 5), [(3, 4, 5)[axis] for axis in AXES[plane]])]:
        assert prepared.slices[s, 0, h, w] == pytest.approx(expected[x, y, z], abs=1e-3)
        assert np.allclose(prepared.affine @ [h, w, s, 1], AFFINE @ [x, y, z, 1])


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_a_bright_point_is_where_the_prepared_affine_says(seed: int) -> None:
    generator = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(generator.normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = rotation * generator.uniform(0.7, 1.4, size=3)
    affine[:3, 3] = generator.uniform(-100, 100, size=3)
    shape = generator.integers(24, 40, size=3)
    point = np.array([generator.integers(9, n - 9) for n in shape])
    voxels = np.exp(-0.5 * sum(((np.indices(shape)[a] - point[a]) / 2.0) ** 2 for a in range(3)))
    size = tuple(int(n) for n in generator.integers(16, 60, size=3))
    view = ViewSettings(
        size=size, normalise="window", windows=((0, 1),), plane=str(generator.choice(["auto", *AXES])),
        field_of_view=(22.0, 60.0, 40.0) if generator.random() < 0.5 else None,
    )  # fmt: skip
    prepared = prepare_view(volume(voxels, affine), view)
    weights = prepared.slices[:, 0].astype(np.float64)
    if weights.max() < 0.5:
        return  # cropped away
    grid = np.indices(weights.shape)
    s, h, w = ((weights * axis).sum() / weights.sum() for axis in grid)
    edges = [weights[0], weights[-1], weights[:, 0], weights[:, -1], weights[:, :, 0], weights[:, :, -1]]
    if max(float(edge.max()) for edge in edges) > 0.01:
        return  # cut by the field of view: its centre of mass moves
    found = prepared.affine @ [h, w, s, 1]
    assert np.linalg.norm(found - affine @ [*point, 1]) < 0.25


def test_windows_become_channels_in_their_order() -> None:
    view = VIEWS["three_windows"]
    prepared = prepare_view(volume(), view)
    assert prepared.slices.shape == (18, 3, 14, 14)
    for index, window in enumerate(view.windows):
        alone = prepare_view(volume(), flat(windows=(window,), plane="coronal"))
        assert np.array_equal(prepared.slices[:, index], alone.slices[:, 0])


def test_a_window_clips_and_maps_to_zero_and_one() -> None:
    prepared = prepare_view(volume(), ViewSettings(size=(20, 18, None), normalise="window", windows=((-150, 250),)))
    expected = np.clip((VOXELS.astype(np.float64) + 150) / 400, 0, 1).transpose(2, 0, 1)
    assert np.allclose(prepared.slices[:, 0], expected, atol=5e-4)
    assert prepared.slices.dtype == np.float16


def test_percentiles_are_numpys_of_all_voxels() -> None:
    prepared = prepare_view(volume(), ViewSettings(size=(20, 18, None), percentiles=(2.0, 95.0)))
    low, high = np.percentile(VOXELS, [2.0, 95.0])
    expected = np.clip((VOXELS - low) / (high - low), 0, 1).transpose(2, 0, 1)
    assert np.allclose(prepared.slices[:, 0], expected, atol=5e-4)


def test_zscores_have_mean_0_and_standard_deviation_1() -> None:
    prepared = prepare_view(volume(), ViewSettings(size=(20, 18, None), normalise="zscore"))
    values = prepared.slices.astype(np.float64)
    assert values.mean() == pytest.approx(0, abs=1e-3)
    assert values.std() == pytest.approx(1, abs=1e-3)


@given(st.floats(0.01, 1000), st.floats(-5000, 5000), st.sampled_from(["percentile", "zscore"]))
@settings(max_examples=40)
def test_the_unit_of_an_mr_scan_does_not_matter(scale: float, shift: float, kind: str) -> None:
    view = ViewSettings(size=(14, 14, 5), normalise=kind)
    one = prepare_view(volume(), view).slices.astype(np.float64)
    other = prepare_view(volume(VOXELS * scale + shift), view).slices.astype(np.float64)
    assert np.allclose(one, other, atol=4e-3)


@pytest.mark.parametrize("kind", NORMALISERS)
def test_padding_takes_the_normalised_minimum_and_no_part_in_the_statistics(kind: str) -> None:
    windows = ((-800, 250),) if kind in ("window", "suv") else ()
    spacing_only = np.diag([1.0, 1, 1, 1])
    bare = prepare_view(volume(affine=spacing_only), ViewSettings(size=(20, 18, 11), normalise=kind, windows=windows))
    view = ViewSettings(size=(30, 28, 21), normalise=kind, windows=windows, field_of_view=(30.0, 28.0, 21.0))
    padded = prepare_view(volume(affine=spacing_only), view)
    inside = padded.slices[5:16, :, 5:25, 5:23]
    assert np.array_equal(inside, bare.slices)
    outside = padded.slices.copy()
    outside[5:16, :, 5:25, 5:23] = bare.slices.min()
    assert (outside == bare.slices.min()).all()


def test_the_field_of_view_is_in_the_order_of_the_size() -> None:
    for plane, axes in AXES.items():
        field = (9.0, 5.5, 5.0)
        prepared = prepare_view(volume(), flat(size=(9, 5, 2), plane=plane, field_of_view=field))
        lengths = np.linalg.norm(prepared.affine[:3, :3], axis=0) * [9, 5, 2]
        spacing = np.array([0.9, 1.1, 2.5])[list(axes)]
        assert (np.abs(lengths - field) <= spacing / 2 + 1e-6).all()


def test_no_size_for_slices_keeps_each_scans_own_number() -> None:
    assert prepare_view(volume(), flat()).slices.shape == (11, 1, 14, 14)
    assert prepare_view(volume(), flat(field_of_view=(10, 10, 10))).slices.shape == (4, 1, 14, 14)


def test_slices_are_what_torch_makes_of_them() -> None:
    prepared = prepare_view(volume(), flat(size=(7, 30, None)))
    source = torch.from_numpy((VOXELS.astype(np.float32) + 1000) / 2500).permute(2, 0, 1)[:, None]
    expected = torch.nn.functional.interpolate(source, size=(7, 30), mode="bilinear", antialias=True)
    assert np.allclose(prepared.slices, expected.numpy(), atol=1e-3)


@pytest.mark.parametrize(
    "view",
    [
        flat(windows=((5000, 6000),)),
        flat(windows=((-9000, -8000),)),
        flat(windows=((2000, 3000), (4000, 5000), (8000, 9000))),
    ],
)
def test_B9_a_window_that_shows_nothing_is_an_error(view: ViewSettings) -> None:
    with pytest.raises(ScanError, match=r"all voxels look the same.*voxels from -1000 to 149"):
        prepare_view(volume(), view)


@pytest.mark.parametrize("kind", ["percentile", "zscore"])
def test_B9_a_field_of_view_of_pure_background_is_an_error(kind: str) -> None:
    voxels = np.zeros((20, 20, 20))
    voxels[0, 0, 0] = 7
    with pytest.raises(ScanError, match="field of view"):
        prepare_view(volume(voxels), ViewSettings(size=(14, 14, 4), normalise=kind, field_of_view=(5, 5, 5)))


def test_a_few_bright_voxels_survive_percentiles() -> None:
    voxels = np.zeros((20, 20, 20))
    voxels[8:10, 8:10, 8:10] = 255
    prepared = prepare_view(volume(voxels), ViewSettings(size=(20, 20, 20)))
    assert prepared.slices.max() == 1 and prepared.slices.min() == 0


@given(st.integers(0, 2**32 - 1), st.sampled_from(sorted(VIEWS)))
@settings(max_examples=60)
def test_B9_slices_are_always_finite_and_in_range(seed: int, name: str) -> None:
    generator = np.random.default_rng(seed)
    shape = generator.integers(1, 12, size=3)
    with np.errstate(over="ignore"):
        voxels = (generator.standard_cauchy(size=shape) * 10.0 ** generator.integers(-30, 37)).astype(np.float32)
    voxels = np.nan_to_num(voxels, posinf=3e38, neginf=-3e38)
    try:
        prepared = prepare_view(volume(voxels), VIEWS[name])
    except ScanError:
        return
    assert np.isfinite(prepared.slices).all()
    if VIEWS[name].normalise != "zscore":
        assert prepared.slices.min() >= 0 and prepared.slices.max() <= 1


@pytest.mark.real_data
def test_B1_real_scans_turned_give_the_same_slices(real_scans: list[Path], tmp_path: Path) -> None:
    view = ViewSettings(size=(56, 56, 12), field_of_view=(90.0, 90.0, 60.0))
    for path in real_scans[::3]:
        image = nibabel.load(path)
        truth = prepare_view(read_volume(path), view)
        turned = image.as_reoriented(np.array([[1, -1], [2, 1], [0, -1]]))
        nibabel.save(turned, tmp_path / "turned.nii.gz")
        other = prepare_view(read_volume(tmp_path / "turned.nii.gz"), view)
        assert np.abs(truth.slices.astype(np.float32) - other.slices).max() <= 1e-3
        assert np.allclose(truth.affine, other.affine, atol=1e-3)
