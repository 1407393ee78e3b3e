"""Every damaged or ambiguous NIfTI file ends in one of ok, warn and error; whole ones read as others read them."""

from __future__ import annotations

import os
import resource
import time
import tracemalloc
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from damaged_nifti import FILES, PACKED, PLAIN, VOXELS, q_and_s_mirrored
from scan_makers import SHAPE, flipped, gz, nifti_bytes, setting, write

from anymc3d.data.readers import content_hash, read_header, read_volume
from anymc3d.errors import ScanError


def status_of(path: Path) -> str:
    try:
        volume = read_volume(path)
    except ScanError as error:
        message = str(error)
        assert message.startswith(f"{path}: ")
        assert "\n" not in message
        assert "cannot be read (" not in message, "a library stumbled where a check of ours should have spoken"
        return "error"
    assert np.isfinite(volume.voxels).all()
    return "warn" if volume.warnings else "ok"


@pytest.mark.parametrize("name", FILES)
def test_A1_A2_A3_B8_B9_every_file_ends_in_its_one_state(tmp_path: Path, name: str) -> None:
    content, expected = FILES[name]
    assert status_of(write(tmp_path, name, content)) == expected


@pytest.mark.parametrize("name", [name for name, (_, status) in FILES.items() if status != "error"])
def test_the_header_alone_says_what_the_volume_says(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, name, FILES[name][0])
    header, volume = read_header(path), read_volume(path)
    assert (header.shape, header.spacing, header.orientation) == (volume.shape, volume.spacing, volume.orientation)
    assert np.array_equal(header.affine, volume.affine)
    assert set(header.warnings) <= set(volume.warnings)


def test_A1_no_single_bit_of_a_gzip_body_can_flip_unseen(tmp_path: Path) -> None:
    # Byte 3 to 9 are flags, time and system; the rest is data, CRC and length.
    for place in range(10, len(PACKED), 7):
        path = write(tmp_path, "flipped.nii.gz", flipped(PACKED, place, bit=place % 8))
        with pytest.raises(ScanError):
            read_volume(path)


def test_A1_no_truncation_reads(tmp_path: Path) -> None:
    for content, suffix in ((PLAIN, ".nii"), (PACKED, ".nii.gz")):
        for length in range(0, len(content), 97):
            path = write(tmp_path, f"cut{suffix}", content[:length])
            with pytest.raises(ScanError):
                read_volume(path)


@pytest.mark.parametrize("seed", range(8))
def test_A1_random_damage_never_raises_anything_but_a_scan_error(tmp_path: Path, seed: int) -> None:
    """A header alone never reads, whatever it says; of whole files some do, where the damage hit a remark."""
    generator = np.random.default_rng(seed)
    ended: dict[bool, set[str]] = {True: set(), False: set()}
    for _ in range(100):
        has_voxels = generator.random() >= 0.2
        changed = bytearray(PLAIN if has_voxels else PLAIN[:352])
        for place in generator.integers(0, 352, size=int(generator.integers(1, 6))):
            changed[place] = generator.integers(0, 256)
        ended[has_voxels].add(status_of(write(tmp_path, "damaged.nii", bytes(changed))))
    assert ended[False] == {"error"}
    assert {"ok", "error"} <= ended[True] <= {"ok", "warn", "error"}


def test_A2_the_message_has_both_numbers(tmp_path: Path) -> None:
    path = write(tmp_path, "short.nii", PLAIN[:-10])
    with pytest.raises(ScanError, match=rf"promises {len(PLAIN)} bytes.*has {len(PLAIN) - 10}"):
        read_volume(path)


@pytest.mark.parametrize(
    "name", ["bomb_after_small_header.nii.gz", "dims_16_gigabytes.nii.gz", "dims_70_terabytes.nii"]
)
def test_A2_A3_absurd_sizes_take_neither_memory_nor_time(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, name, FILES[name][0])
    tracemalloc.start()
    began = time.process_time()
    with pytest.raises(ScanError):
        read_volume(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.process_time() - began < 5
    assert peak < 30e6


def test_A3_an_honest_bomb_is_refused_by_its_ratio(tmp_path: Path) -> None:
    header = nifti_bytes(VOXELS, patch=setting(dim_1=2000, dim_2=1000, dim_3=1000))[:352]
    zeros = gz(b"\0" * 2_000_000)
    path = write(tmp_path, "bomb.nii.gz", gz(header) + zeros * 1000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ScanError, match="bomb"):
        read_volume(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_A16_special_files_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.nii.gz")
    (tmp_path / "folder.nii.gz").mkdir()
    (tmp_path / "loop.nii.gz").symlink_to(tmp_path / "loop.nii.gz")
    (tmp_path / "dangling.nii.gz").symlink_to(tmp_path / "nothing")
    (tmp_path / "device.nii.gz").symlink_to("/dev/zero")
    for name in ("pipe", "folder", "loop", "dangling", "device", "missing", "name\0with zero", "n" * 300):
        for function in (read_volume, read_header, content_hash):
            with pytest.raises(ScanError):
                function(tmp_path / f"{name}.nii.gz")  # who waits for the pipe or reads the device never ends


@pytest.mark.parametrize("text", ["<!DOCTYPE html><html>404</html>", "\n<?xml version='1.0'?>", '{"message": "no"}'])
def test_A1_what_a_server_answered_in_place_of_a_scan_is_no_scan(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, "a.nii.gz", text.encode() * 50)
    with pytest.raises(ScanError, match="a web page or another text; fetch the file again"):
        read_volume(path)


def test_a_link_to_a_scan_is_read(tmp_path: Path) -> None:
    (tmp_path / "link.nii").symlink_to(write(tmp_path, "scan.nii", PLAIN))
    assert read_volume(tmp_path / "link.nii").shape == SHAPE


def test_B8_the_warning_names_both_forms_and_the_one_in_use(tmp_path: Path) -> None:
    volume = read_volume(write(tmp_path, "scan.nii", q_and_s_mirrored()))
    (warning,) = volume.warnings
    assert "sform (RAS" in warning and "qform (LAS" in warning and "the sform is used" in warning
    assert volume.orientation == "RAS"


@pytest.mark.parametrize("name", ["sform_zero.nii", "sform_flat.nii", "sform_nan.nii", "sform_far_too_small.nii"])
def test_B8_a_useless_sform_leaves_the_qform(tmp_path: Path, name: str) -> None:
    volume, whole = read_volume(write(tmp_path, name, FILES[name][0])), read_volume(write(tmp_path, "a.nii", PLAIN))
    (warning,) = volume.warnings
    assert "sform" in warning and warning.endswith("the qform is used")
    np.testing.assert_allclose(volume.affine, whole.affine, atol=1e-5)
    assert np.array_equal(volume.voxels, whole.voxels)


def test_B8_itk_too_reads_the_qform_beside_an_sform_of_zeros(tmp_path: Path) -> None:
    path = write(tmp_path, "a.nii", FILES["sform_zero.nii"][0])
    volume, image = read_volume(path), sitk.ReadImage(str(path))
    for index in ((0, 0, 0), (11, 9, 7)):
        right, anterior, superior = (volume.affine @ [*index, 1])[:3]
        assert image.TransformIndexToPhysicalPoint(index) == pytest.approx((-right, -anterior, superior), abs=1e-3)


@pytest.mark.parametrize("slope", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["i2", "u1", "f4"])
def test_B6_a_slope_that_is_no_number_is_none_as_nibabel_reads_it(tmp_path: Path, slope: float, dtype: str) -> None:
    voxels = (np.abs(VOXELS) % 200).astype(dtype)
    scaled = nifti_bytes(voxels, patch=setting(scl_slope=slope, scl_inter=np.nan))
    path = write(tmp_path, "a.nii", scaled)
    volume = read_volume(path)
    assert np.array_equal(volume.voxels, voxels.astype(np.float32)) and volume.warnings == ()
    assert np.array_equal(volume.voxels, nibabel.load(path).get_fdata(dtype=np.float32))


@pytest.mark.parametrize("name", ["units_micron.nii", "units_metre.nii"])
def test_B8_units_are_converted_as_itk_does(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, name, FILES[name][0])
    assert read_volume(path).spacing == pytest.approx((0.9, 1.1, 2.5), rel=1e-6)
    assert sitk.ReadImage(str(path)).GetSpacing() == pytest.approx((0.9, 1.1, 2.5), rel=1e-6)


@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i2", "u4", "i4", "i8", "u8", "f4", "f8"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("version", [1, 2])
def test_B1_all_types_read_as_nibabel_reads_them(tmp_path: Path, kind: str, order: str, version: int) -> None:
    generator = np.random.default_rng(3)
    voxels = generator.integers(0, 100, size=SHAPE).astype(kind)
    patch = setting(scl_slope=0.5, scl_inter=-20.0)
    path = write(tmp_path, "scan.nii.gz", gz(nifti_bytes(voxels, order=order, version=version, patch=patch)))
    volume, reference = read_volume(path), nibabel.load(path)
    assert np.array_equal(volume.voxels, reference.get_fdata(dtype=np.float32))
    assert np.allclose(volume.affine, reference.affine, atol=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_B1_oblique_qforms_agree_with_nibabel_and_itk(tmp_path: Path, seed: int) -> None:
    generator = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(generator.normal(size=(3, 3)))  # left-handed ones included: qfac is -1 there
    affine = np.eye(4)
    affine[:3, :3] = rotation * generator.uniform(0.4, 4, size=3)
    affine[:3, 3] = generator.uniform(-300, 300, size=3)
    path = write(tmp_path, "scan.nii", nifti_bytes(VOXELS, affine, codes=(1, 0)))
    volume = read_volume(path)
    assert np.allclose(volume.affine, nibabel.load(path).affine, atol=1e-4)
    image = sitk.ReadImage(str(path))
    for index in ((0, 0, 0), (11, 9, 7), (3, 8, 1)):
        right, anterior, superior = (volume.affine @ [*index, 1])[:3]
        assert image.TransformIndexToPhysicalPoint(index) == pytest.approx((-right, -anterior, superior), abs=1e-3)
        assert image[index] == volume.voxels[index]


def test_the_header_of_a_truncated_scan_still_reads(tmp_path: Path) -> None:
    path = write(tmp_path, "scan.nii.gz", PACKED[: len(PACKED) - 100])
    assert read_header(path).shape == SHAPE


def test_names_that_are_no_text_stay_on_one_line(tmp_path: Path) -> None:
    with pytest.raises(ScanError) as caught:
        read_volume(tmp_path / "two\nlines\x1b[31m\udc80.nii")
    str(caught.value).encode("utf-8")
    assert str(caught.value).isprintable()


@pytest.mark.real_data
def test_B1_real_scans_agree_with_itk(real_scans: list[Path]) -> None:
    generator = np.random.default_rng(0)
    for path in real_scans:
        volume, image = read_volume(path), sitk.ReadImage(str(path))
        assert volume.shape == image.GetSize()
        assert np.array_equal(volume.voxels, sitk.GetArrayFromImage(image).T.astype(np.float32))
        for index in generator.integers(0, volume.shape, size=(5, 3)).tolist():
            right, anterior, superior = (volume.affine @ [*index, 1])[:3]
            point = image.TransformIndexToPhysicalPoint(index)
            assert point == pytest.approx((-right, -anterior, superior), abs=1e-3)
