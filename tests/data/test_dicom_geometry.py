"""Geometry against other readers (dcm2niix, SimpleITK), against the arithmetic written out, and on real scans."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import dcm2niix
import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from anymc3d.data.dicom.geometry import stack
from anymc3d.data.dicom.multiframe import Frame
from anymc3d.data.dicom.read import read_dicom
from anymc3d.data.readers import content_hash, read_header, read_volume
from anymc3d.data.volume import to_ras
from anymc3d.errors import ScanError
from dicom_makers import COLUMNS, OBLIQUE, ROWS, SLICES, STRAIGHT, make_series, true_affine, truth

CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
FEET_FIRST = (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
_TILTED = np.linalg.qr(np.array([[0.97, -0.25, 0.0], [0.22, 0.84, 0.0], [-0.13, -0.49, 1.0]]))[0]
DOUBLY_OBLIQUE = (*_TILTED[:, 0], *_TILTED[:, 1])
ORIENTATIONS = {
    "axial": STRAIGHT,
    "feet_first": FEET_FIRST,
    "coronal": CORONAL,
    "sagittal": SAGITTAL,
    "oblique": OBLIQUE,
    "doubly_oblique": DOUBLY_OBLIQUE,
}
CORNERS = np.array([[i, j, k, 1] for i in (0, COLUMNS - 1) for j in (0, ROWS - 1) for k in (0, SLICES - 1)]).T


def with_dcm2niix(folder: Path, out: Path) -> nibabel.Nifti1Image:
    out.mkdir()
    done = subprocess.run([dcm2niix.bin, "-z", "n", "-b", "n", "-f", "x", "-o", out, folder], capture_output=True)
    assert done.returncode == 0, done.stdout
    (path,) = out.glob("*.nii")
    return nibabel.load(path)


def same_grid(voxels: np.ndarray, affine: np.ndarray, image: nibabel.Nifti1Image, atol: float = 1e-3) -> None:
    """Equal after both are brought to RAS: another reader may store its axes in another order or direction."""
    ours = nibabel.as_closest_canonical(nibabel.Nifti1Image(voxels, affine))
    theirs = nibabel.as_closest_canonical(image)
    np.testing.assert_allclose(ours.affine, theirs.affine, atol=atol)
    assert np.array_equal(np.asanyarray(ours.dataobj), theirs.get_fdata(dtype=np.float32))


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_B2_B3_geometry_is_that_of_dcm2niix(tmp_path: Path, name: str) -> None:
    series = make_series(orientation=ORIENTATIONS[name])
    series.slices = [series.slices[i] for i in (3, 1, 7, 0, 5, 2, 6, 4)]
    volume = read_volume(series.write(tmp_path / "scan"))
    assert volume.spacing == pytest.approx((0.9, 1.1, 2.5), abs=1e-3)
    same_grid(volume.voxels, volume.affine, with_dcm2niix(tmp_path / "scan", tmp_path / "out"))


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_B2_geometry_is_that_of_itk_and_of_the_formula(tmp_path: Path, name: str) -> None:
    folder = make_series(orientation=ORIENTATIONS[name]).write(tmp_path / "scan")
    volume = read_volume(folder)
    np.testing.assert_allclose(volume.affine, true_affine(ORIENTATIONS[name]), atol=1e-5)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    for corner in CORNERS.T:
        world = np.array(image.TransformIndexToPhysicalPoint([int(v) for v in corner[:3]])) * (-1, -1, 1)
        place = np.rint(np.linalg.solve(volume.affine, [*world, 1])[:3]).astype(int)
        assert volume.voxels[tuple(place)] == image[tuple(int(v) for v in corner[:3])]


def test_B3_head_to_feet_is_the_same_volume(tmp_path: Path) -> None:
    series = make_series()
    one = read_volume(series.write(tmp_path / "up"))
    series.slices.reverse()
    for index, dataset in enumerate(series.slices):
        dataset.InstanceNumber = index
    other = read_volume(series.write(tmp_path / "down"))
    assert np.array_equal(one.voxels, other.voxels) and np.array_equal(one.affine, other.affine)


def test_B4_a_gap_is_named_in_millimetres(tmp_path: Path) -> None:
    series = make_series()
    del series.slices[4]
    folder = series.write(tmp_path / "scan")
    for function in (read_volume, read_header):
        with pytest.raises(ScanError, match=r"found 5 mm between 47\.5 and 52\.5 mm along the slice axis \(1 missing"):
            function(folder)
    volume = read_dicom(folder, series="gaps=allow")
    assert "between 47.5 and 52.5 mm" in volume.warnings[0]
    assert volume.spacing == pytest.approx((0.9, 1.1, 2.5)) and volume.shape[2] == SLICES
    np.testing.assert_allclose(volume.affine, true_affine(), atol=1e-4)
    kept = [k for k in range(SLICES) if k != 4]
    assert np.array_equal(volume.voxels[:, :, kept], truth()[:, :, kept])
    np.testing.assert_allclose(volume.voxels[:, :, 4], truth()[:, :, [3, 5]].mean(axis=2), atol=1e-3)


@pytest.mark.parametrize("rule", ["gaps=allow", "SeriesNumber=1; gaps=allow", "UID;gaps = allow"])
def test_B4_a_rule_allows_gaps_and_is_another_scan_to_the_cache(tmp_path: Path, rule: str) -> None:
    series = make_series()
    del series.slices[4]
    folder, plain = series.write(tmp_path / "scan"), rule.replace("gaps=allow", "")
    uid = str(series.slices[0].SeriesInstanceUID)
    rule, plain = rule.replace("UID", uid), plain.replace("UID", uid).replace("gaps = allow", "")
    assert "resampled to an even 2.5 mm" in read_volume(folder, series=rule).warnings[0]
    assert read_header(folder, series=rule).shape[2] == SLICES
    assert content_hash(folder, series=rule) != content_hash(folder, series=plain)
    with pytest.raises(ScanError, match="--allow-gaps"):
        read_volume(folder, series=plain)


@pytest.mark.parametrize("rule", ["gaps=yes", "gaps!=allow", "gaps~=/allow/", "gap=allow"])
def test_B4_a_misspelt_rule_about_gaps_is_refused(tmp_path: Path, rule: str) -> None:
    with pytest.raises(ScanError, match=r"gaps=allow|did you mean 'gaps'"):
        read_volume(make_series().write(tmp_path / "scan"), series=rule)


def test_B4_the_command_line_allows_gaps_of_folders_alone(tmp_path: Path) -> None:
    from anymc3d.cli.options.inputs import read_inputs

    (tmp_path / "scan").mkdir()
    folder, file = str(tmp_path / "scan"), str(tmp_path / "a.nii")
    rules = [case.series("image") for case in read_inputs([folder, file], None, None, allowed=["gaps"])]
    assert rules == ["gaps=allow", None]
    (case,) = read_inputs([folder], None, " SeriesNumber=2; ", allowed=["gaps", "tilt"])
    assert case.series("image") == "SeriesNumber=2; gaps=allow; tilt=allow"


@pytest.mark.parametrize(("shift", "allowed"), [(0.0249, True), (0.0251, False)])
def test_B4_the_limit_is_one_percent_of_the_spacing(shift: float, allowed: bool) -> None:
    frames = plain_frames([2.5 * index for index in range(8)] + [2.5 * 8 + shift])
    if allowed:
        assert stack(frames, Path("scan")).warnings == ()
        return
    with pytest.raises(ScanError, match="uneven"):
        stack(frames, Path("scan"))


def test_B4_positions_written_with_two_decimals_are_even() -> None:
    frames = plain_frames([round(0.3125 * index, 2) for index in range(200)])
    assert stack(frames, Path("scan")).affine[2, 2] == pytest.approx(0.3125, abs=1e-4)


def plain_frames(heights: list[float]) -> list[Frame]:
    return [Frame((0.0, 0.0, z), STRAIGHT, (1.0, 1.0), None, None, None, "", {}) for z in heights]


@settings(max_examples=50)
@given(
    turn=st.tuples(*[st.floats(-3.1, 3.1)] * 3),
    spacing=st.tuples(*[st.floats(0.2, 6)] * 3),
    origin=st.tuples(*[st.floats(-500, 500)] * 3),
    order=st.permutations(range(6)),
)
def test_B2_any_rotation_spacing_and_order_gives_its_own_affine(turn, spacing, origin, order) -> None:
    from scipy.spatial.transform import Rotation

    axes = Rotation.from_euler("xyz", turn).as_matrix()
    places = [tuple(np.add(origin, axes[:, 2] * spacing[2] * k)) for k in order]
    frames = [Frame(p, (*axes[:, 0], *axes[:, 1]), (spacing[1], spacing[0]), None, None, None, "", {}) for p in places]
    stacked = stack(frames, Path("scan"))
    expected = np.eye(4)
    expected[:3, :3], expected[:3, 3] = axes * spacing, origin
    np.testing.assert_allclose(stacked.affine, np.diag([-1, -1, 1, 1]) @ expected, atol=1e-9)
    assert [order[index] for index in stacked.order] == list(range(6))


@pytest.mark.real_data
def test_real_jpeg_2000_ct_has_the_grid_of_its_mask(shared: Path, tmp_path: Path) -> None:
    volume = to_ras(read_volume(shared / "data/ct_totalsegmentator/example_ct_dicom"))
    mask = nibabel.as_closest_canonical(nibabel.load(shared / "data/ct_totalsegmentator/example_seg_dicom.nii.gz"))
    assert volume.shape == mask.shape == (512, 512, 20) and volume.modality == "CT"
    np.testing.assert_allclose(volume.affine, mask.affine, atol=1e-4)
    assert volume.voxels.min() == -1024 and "no SeriesInstanceUID" in volume.warnings[0]
    # The mask's organs are soft tissue in the scan: the voxels lie where the affine says.
    organs = volume.voxels[np.asanyarray(mask.dataobj) > 0]
    assert -200 < np.median(organs) < 200 < 1000 + np.median(organs)


@pytest.mark.real_data
def test_B1_nine_encodings_of_a_real_slice_agree(shared: Path, tmp_path: Path) -> None:
    """The slice is a mosaic of an fMRI, which is refused; declared a plain slice, its nine files are one volume."""
    files = sorted((shared / "data/dicom_transfer_syntaxes/ts/In").glob("*.dcm"))
    assert len(files) == 9
    volumes = []
    for path in files:
        folder = tmp_path / path.stem
        folder.mkdir()
        shutil.copy(path, folder / "a.dcm")
        with pytest.raises(ScanError, match="mosaics"):
            read_volume(folder)
        plain = path.read_bytes().replace(b"MOSAIC", b"PLAIN ")
        (folder / "a.dcm").write_bytes(plain)
        volumes.append(read_volume(folder))
    for volume in volumes[1:]:
        assert np.array_equal(volume.voxels, volumes[0].voxels) and np.array_equal(volume.affine, volumes[0].affine)
    expected = pydicom.dcmread(files[0]).pixel_array
    assert np.array_equal(volumes[0].voxels[:, :, 0], expected.T.astype(np.float32))


def test_truth_is_not_symmetric() -> None:
    """Otherwise a flipped axis would pass unseen."""
    voxels = truth()
    for axis in range(3):
        assert not np.array_equal(voxels, np.flip(voxels, axis))
