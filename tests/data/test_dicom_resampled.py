"""Uneven and tilted stacks, resampled because that was allowed: everything stays where it is in space. Promises B4, B7.

Judged by a body whose brightness is known at every point of space, and by dcm2niix, which corrects both by itself.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import dcm2niix
import nibabel
import numpy as np
import pytest
from advice import ways_out
from scipy.ndimage import map_coordinates

from anymc3d.data.readers import read_header, read_volume
from anymc3d.data.volume import Volume
from anymc3d.errors import ScanError
from dicom_makers import OBLIQUE, STRAIGHT, Series, make_series

EVEN = [2.5 * k for k in range(12)]
CHANGING = [2.5 * k for k in range(8)] + [22.5, 27.5, 32.5, 37.5]
MISSING = [2.5 * k for k in range(14) if k not in (5, 6)]
FIRST = np.array([-20.0, 5.0, 40.0])
ROWS, COLUMNS, ROW_MM, COLUMN_MM = 40, 36, 1.1, 0.9
SIZES = {"OBLIQUE": OBLIQUE, "STRAIGHT": STRAIGHT}


def body(world: np.ndarray) -> np.ndarray:
    """Brightness at LPS points (3, …): smooth, with no symmetry."""
    x, y, z = world
    waves = np.sin(x / 19 + 0.3) * np.cos(y / 23) + 0.7 * np.sin(z / 29 + x / 31) + 0.4 * np.cos((y - z) / 27)
    return 2000 + 600 * waves


def made(heights: list[float], degrees: float, orientation: tuple[float, ...] = STRAIGHT) -> Series:
    """Slices of the body at these places along the normal, each shifted down its columns by a tilt."""
    row, column = np.split(np.array(orientation), 2)
    normal = np.cross(row, column)
    series = make_series(stored=np.zeros((len(heights), ROWS, COLUMNS), np.uint16), orientation=orientation)
    v, u = np.meshgrid(np.arange(ROWS), np.arange(COLUMNS), indexing="ij")
    for dataset, height in zip(series.slices, heights, strict=True):
        corner = FIRST + height * normal + height * np.tan(np.deg2rad(degrees)) * column
        world = corner[:, None, None] + row[:, None, None] * u * COLUMN_MM + column[:, None, None] * v * ROW_MM
        dataset.ImagePositionPatient = [round(float(value), 6) for value in corner]
        dataset.SpacingBetweenSlices = None
        dataset.PixelData = np.round(body(world)).astype("<u2").tobytes()
        if degrees:
            dataset.GantryDetectorTilt = degrees
    return series


def world_of(volume: Volume | nibabel.Nifti1Image) -> np.ndarray:
    """LPS millimetres of every voxel, (3, …)."""
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in volume.shape), indexing="ij")).reshape(3, -1)
    return (np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.affine @ np.vstack([grid, np.ones(grid.shape[1])]))[:3]


def is_inside(world: np.ndarray, heights: list[float], degrees: float, orientation: tuple[float, ...]) -> np.ndarray:
    """Whether points lie between pixels of the slices below and above them; what is beside them was made up."""
    row, column = np.split(np.array(orientation), 2)
    normal = np.cross(row, column)
    height = normal @ (world - FIRST[:, None])
    known = np.array(heights)
    above = np.clip(np.searchsorted(known, height - 1e-3), 0, len(known) - 1)
    found = (height > known[0] - 1e-3) & (height < known[-1] + 1e-3)
    for near in (known[above], known[np.maximum(above - 1, 0)], height):
        shift = np.tan(np.deg2rad(degrees)) * near
        u = row @ (world - FIRST[:, None]) / COLUMN_MM
        v = (column @ (world - FIRST[:, None]) - shift) / ROW_MM
        found &= (u >= -1e-3) & (u <= COLUMNS - 1 + 1e-3) & (v >= 1 - 1e-3) & (v <= ROWS - 2 + 1e-3)
    assert found.mean() > 0.3
    return found


@pytest.mark.parametrize("orientation", SIZES)
@pytest.mark.parametrize("degrees", [0.0, 5.0, -18.5, 25.0])
@pytest.mark.parametrize("heights", [EVEN, CHANGING, MISSING], ids=["even", "changing", "missing"])
def test_B4_B7_everything_stays_where_it_is_in_space(tmp_path: Path, orientation, degrees, heights) -> None:
    folder = made(heights, degrees, SIZES[orientation]).write(tmp_path / "scan")
    if degrees or heights is not EVEN:
        with pytest.raises(ScanError) as caught:
            read_volume(folder)
        (way, *_) = ways_out(str(caught.value))
        assert ("--allow-tilt" in way.words) == bool(degrees)
        assert ("--allow-gaps" in way.words) == (heights is not EVEN)
    rule = "gaps=allow; tilt=allow"
    volume, header = read_volume(folder, series=rule), read_header(folder, series=rule)
    assert header.shape == volume.shape and np.array_equal(header.affine, volume.affine)
    world = world_of(volume)
    inside = is_inside(world, heights, degrees, SIZES[orientation])
    error = np.abs(volume.voxels.reshape(-1) + 1024 - body(world))[inside]
    assert error.max() < (12 if heights is MISSING else 4), "of brightness from 900 to 3200, by linear interpolation"
    assert volume.spacing == pytest.approx((COLUMN_MM, ROW_MM, 2.5), abs=1e-3)
    # The extent is kept: as many slices as fit between the first and the last.
    assert volume.shape[2] == round(heights[-1] / 2.5) + 1
    assert np.linalg.det(volume.affine[:3, :3]) != 0
    said = " ".join(volume.warnings)
    assert ("sheared to a straight stack" in said) == bool(degrees)
    assert ("resampled to an even 2.5 mm" in said) == (heights is not EVEN)
    assert (f"{abs(degrees):.3g} degrees" in said) == bool(degrees)


def test_B7_a_tilt_keeps_every_pixel_of_every_slice(tmp_path: Path) -> None:
    """A shift by whole pixels interpolates nothing: each slice is found again, bit for bit."""
    series = made([2.5 * k for k in range(6)], 0.0)
    stored = [np.frombuffer(dataset.PixelData, "<u2").reshape(ROWS, COLUMNS) for dataset in series.slices]
    for k, dataset in enumerate(series.slices):
        dataset.ImagePositionPatient = [-20.0, 5.0 + 2 * ROW_MM * k, 40.0 + 2.5 * k]
    volume = read_volume(series.write(tmp_path / "scan"), series="tilt=allow")
    assert volume.shape == (COLUMNS, ROWS + 10, 6)
    for k, pixels in enumerate(stored):
        assert np.array_equal(volume.voxels[:, 2 * k : 2 * k + ROWS, k], pixels.T.astype(np.float32) - 1024)


def with_dcm2niix(folder: Path, out: Path, ending: str) -> nibabel.Nifti1Image:
    out.mkdir()
    done = subprocess.run([dcm2niix.bin, "-z", "n", "-b", "n", "-f", "x", "-o", out, folder], capture_output=True)
    (path,) = [path for path in out.glob("*.nii") if ending in path.name]
    assert done.returncode == 0, done.stdout
    return nibabel.load(path)


def compare(volume: Volume, image: nibabel.Nifti1Image, inside: np.ndarray) -> np.ndarray:
    """Differences at the other image's voxels."""
    world = np.diag([-1.0, -1.0, 1.0]) @ world_of(image)[:, inside]
    own = (np.linalg.inv(volume.affine) @ np.vstack([world, np.ones(world.shape[1])]))[:3]
    mine = map_coordinates(volume.voxels, own, order=1, mode="nearest")
    return np.abs(mine - image.get_fdata(dtype=np.float32).reshape(-1)[inside])


def test_B4_changing_increments_are_resampled_as_dcm2niix_does(tmp_path: Path) -> None:
    folder = made(CHANGING, 0.0).write(tmp_path / "scan")
    image = with_dcm2niix(folder, tmp_path / "out", "_Eq")
    volume = read_volume(folder, series="gaps=allow")
    assert volume.shape == image.shape and volume.spacing == pytest.approx(image.header.get_zooms(), abs=1e-3)
    inside = is_inside(world_of(image), CHANGING, 0.0, STRAIGHT)
    assert compare(volume, image, inside).max() <= 1.5, "they round to whole numbers"


@pytest.mark.parametrize("degrees", [10.0, -18.5])
def test_B7_a_tilt_is_corrected_as_dcm2niix_does(tmp_path: Path, degrees: float) -> None:
    folder = made(EVEN, degrees).write(tmp_path / "scan")
    image = with_dcm2niix(folder, tmp_path / "out", "_Tilt")
    inside = is_inside(world_of(image), EVEN, degrees, STRAIGHT)
    # Theirs begins at a whole pixel: half a pixel of this body is worth 20.
    assert compare(read_volume(folder, series="tilt=allow"), image, inside).max() < 20


@pytest.mark.real_data
def test_B7_a_real_gantry_tilt_is_recognised_and_corrected_as_dcm2niix_does(shared: Path, tmp_path: Path) -> None:
    folder = shared / "data/dicom_ct_gantry_tilt"
    for function in (read_volume, read_header):
        with pytest.raises(ScanError, match=r"18\.5 degrees \(a tilted gantry\)") as caught:
            function(folder)
    (way,) = ways_out(str(caught.value))
    assert way.words == ("--allow-tilt", "--allow-gaps")
    volume = read_volume(folder, series=way.cell)
    # They resample to another increment: compared is what lies at the same points.
    image = with_dcm2niix(folder / "In", tmp_path / "out", "_Tilt_Eq")
    inside = np.zeros(image.shape, dtype=bool)
    inside[30:-30:7, 130:-130:7, ::3] = True
    differences = compare(volume, image, inside.reshape(-1))
    assert np.median(differences) < 2 and np.percentile(differences, 90) < 30
