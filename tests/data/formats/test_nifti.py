"""Every damaged or ambiguous NIfTI file ends in one of ok, warn and error; whole ones read as others read them."""

from __future__ import annotations

import gzip
import os
import resource
import time
import tracemalloc
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from scan_makers import AFFINE, SHAPE, anatomy, flipped, gz, nifti_bytes, setting, write

from anymc3d.data.readers import content_hash, read_header, read_volume
from anymc3d.errors import ScanError

VOXELS = anatomy()
PLAIN = nifti_bytes(VOXELS)
PACKED = gz(PLAIN)
FLOATS = VOXELS.astype(np.float32)
MIRRORED = AFFINE @ np.diag([-1.0, 1, 1, 1])
SCALE = np.diag([1000.0, 1000, 1000, 1])
SHEARED = AFFINE @ np.array([[1, 0, 0.3, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])


def with_value(value: float, dtype: type = np.float32) -> np.ndarray:
    changed = VOXELS.astype(dtype)
    changed[3, 4, 5] = value
    return changed


def patched(**fields: object) -> bytes:
    return nifti_bytes(VOXELS, patch=setting(**fields))


def q_and_s_mirrored() -> bytes:
    def patch(header: object) -> None:
        header.set_qform(MIRRORED, code=1)

    return nifti_bytes(VOXELS, patch=patch)


def many_members() -> bytes:
    return gz(PLAIN[:1000]) + gz(PLAIN[1000:1500]) + gz(b"") + gz(PLAIN[1500:])


def late_bit(content: bytes) -> bytes:
    return flipped(content, len(content) * 3 // 4)


# name of the file -> (content, what must come of it)
FILES: dict[str, tuple[bytes, str]] = {
    "whole.nii": (PLAIN, "ok"),
    "whole.nii.gz": (PACKED, "ok"),
    "whole_upper_case.NII.GZ": (PACKED, "ok"),
    "several_gzip_members.nii.gz": (many_members(), "ok"),
    "zero_padding_after_gzip.nii.gz": (PACKED + b"\0" * 512, "ok"),
    "not_compressed_in_spite_of_its_name.nii.gz": (PLAIN, "ok"),
    "compressed_in_spite_of_its_name.nii": (PACKED, "ok"),
    "trailing_singleton_axes.nii": (nifti_bytes(VOXELS[..., None, None]), "ok"),
    "long_extension.nii": (nifti_bytes(VOXELS, offset=4096), "ok"),
    "empty.nii": (b"", "error"),
    "empty.nii.gz": (b"", "error"),
    "three_bytes.nii": (PLAIN[:3], "error"),
    "gzip_of_nothing.nii.gz": (gz(b""), "error"),
    "gzip_magic_only.nii.gz": (PACKED[:2], "error"),
    "text.nii": (b"this is no scan at all" * 100, "error"),
    "half_header.nii": (PLAIN[:200], "error"),
    "header_only.nii": (PLAIN[:348], "error"),
    "header_only.nii.gz": (gz(PLAIN[:352]), "error"),
    "one_byte_short.nii": (PLAIN[:-1], "error"),
    "one_byte_short.nii.gz": (gz(PLAIN[:-1]), "error"),
    "half.nii": (PLAIN[: len(PLAIN) // 2], "error"),
    "gzip_cut_in_its_header.nii.gz": (PACKED[:7], "error"),
    "gzip_cut_in_the_nifti_header.nii.gz": (PACKED[:40], "error"),
    "gzip_cut_at_half.nii.gz": (PACKED[: len(PACKED) // 2], "error"),
    "gzip_without_trailer.nii.gz": (PACKED[:-8], "error"),
    "gzip_half_trailer.nii.gz": (PACKED[:-3], "error"),
    "gzip_second_member_cut.nii.gz": (many_members()[:-20], "error"),
    "gzip_bit_flipped_early.nii.gz": (flipped(PACKED, len(PACKED) // 4), "error"),
    "gzip_bit_flipped_late.nii.gz": (late_bit(PACKED), "error"),
    "gzip_wrong_crc.nii.gz": (flipped(PACKED, len(PACKED) - 7), "error"),
    "gzip_wrong_length.nii.gz": (flipped(PACKED, len(PACKED) - 2), "error"),
    "gzip_then_foreign_bytes.nii.gz": (PACKED + b"appendix", "error"),
    "gzip_stored_block_bit.nii.gz": (late_bit(gzip.compress(PLAIN, compresslevel=0)), "error"),
    "gzip_stored_blocks.nii.gz": (gzip.compress(PLAIN, compresslevel=0), "ok"),
    "nifti2.nii": (nifti_bytes(VOXELS, version=2), "ok"),
    "nifti2_line_ends_changed.nii": (nifti_bytes(VOXELS, version=2, patch=setting(eol_check=[10, 26, 10, 0])), "error"),
    "nifti2_dims_absurd.nii": (nifti_bytes(VOXELS, version=2, patch=setting(dim_1=2**62)), "error"),
    "nifti2_offset_negative.nii": (nifti_bytes(VOXELS, version=2, patch=setting(vox_offset=-1)), "error"),
    "bomb_after_small_header.nii.gz": (gz(PLAIN + b"\0" * 300_000_000), "error"),
    "dims_70_terabytes.nii": (patched(dim_1=32767, dim_2=32767, dim_3=32767), "error"),
    "dims_70_terabytes.nii.gz": (gz(patched(dim_1=32767, dim_2=32767, dim_3=32767)), "error"),
    "dims_16_gigabytes.nii.gz": (gz(patched(dim_1=2000, dim_2=1000, dim_3=1000, datatype=64, bitpix=64)), "error"),
    "dims_beyond_the_file.nii": (patched(dim_3=9), "error"),
    "dims_below_the_file.nii": (patched(dim_3=7), "warn"),
    "dim_negative.nii": (patched(dim_2=-10), "error"),
    "dim_zero.nii": (patched(dim_2=0), "error"),
    "rank_zero.nii": (patched(dim_0=0), "error"),
    "rank_nine.nii": (patched(dim_0=9), "error"),
    "rank_negative.nii": (patched(dim_0=-3), "error"),
    "flat_2d.nii": (nifti_bytes(VOXELS[..., 0]), "error"),
    "four_dimensional.nii": (nifti_bytes(np.stack([VOXELS, VOXELS], axis=-1)), "error"),
    "vector_field.nii": (nifti_bytes(np.stack([VOXELS] * 3, axis=-1)[:, :, :, None, :]), "error"),
    "vox_offset_huge.nii": (patched(vox_offset=1e9), "error"),
    "vox_offset_negative.nii": (patched(vox_offset=-352), "error"),
    "vox_offset_in_header.nii": (patched(vox_offset=100), "error"),
    "vox_offset_fraction.nii": (patched(vox_offset=352.5), "error"),
    "vox_offset_nan.nii": (patched(vox_offset=np.nan), "error"),
    "vox_offset_inf.nii": (patched(vox_offset=np.inf), "error"),
    "pair_header.nii": (patched(magic=b"ni1"), "error"),
    "analyze_magic.nii": (patched(magic=b"\0"), "error"),
    "rgb.nii": (patched(datatype=128, bitpix=24), "error"),
    "rgba.nii": (patched(datatype=2304, bitpix=32), "error"),
    "complex.nii": (nifti_bytes(VOXELS.astype(np.complex64)), "error"),
    "float128.nii": (patched(datatype=1536, bitpix=128), "error"),
    "one_bit.nii": (patched(datatype=1, bitpix=1), "error"),
    "type_unknown.nii": (patched(datatype=77), "error"),
    "bitpix_contradicts_type.nii": (patched(bitpix=32), "error"),
    "nan.nii": (nifti_bytes(with_value(np.nan)), "error"),
    "nan_double.nii.gz": (gz(nifti_bytes(with_value(np.nan, np.float64))), "error"),
    "inf.nii": (nifti_bytes(with_value(np.inf)), "error"),
    "minus_inf_big_endian.nii": (nifti_bytes(with_value(-np.inf), order=">"), "error"),
    "all_nan.nii": (nifti_bytes(np.full(SHAPE, np.nan, np.float32)), "error"),
    "constant.nii": (nifti_bytes(np.full(SHAPE, 7, np.int16)), "error"),
    "single_voxel.nii": (nifti_bytes(VOXELS[:1, :1, :1]), "error"),
    "beyond_float32.nii": (nifti_bytes(with_value(1e300, np.float64)), "error"),
    "absurd_values.nii": (nifti_bytes(with_value(3e38)), "warn"),
    "intercept_nan.nii": (patched(scl_slope=1.0, scl_inter=np.nan), "error"),
    "slope_inf.nii": (patched(scl_slope=np.inf, scl_inter=0.0), "ok"),
    "slope_nan_and_intercept_nan.nii": (patched(scl_slope=np.nan, scl_inter=np.nan), "ok"),
    "slope_nan_with_intercept.nii": (patched(scl_slope=np.nan, scl_inter=-1024.0), "warn"),
    "slope_makes_constant.nii": (patched(scl_slope=1e-30, scl_inter=5.0), "error"),
    "slope_overflows.nii": (patched(scl_slope=3e38, scl_inter=0.0), "error"),
    "slope_zero.nii": (patched(scl_slope=0.0, scl_inter=0.0), "ok"),
    "slope_zero_with_intercept.nii": (patched(scl_slope=0.0, scl_inter=-1024.0), "warn"),
    "pixdim_zero_without_sform.nii": (nifti_bytes(VOXELS, codes=(1, 0), patch=setting(pixdim_3=0)), "error"),
    "pixdim_zero_with_sform.nii": (patched(pixdim_3=0), "warn"),
    "pixdim_negative_without_sform.nii": (nifti_bytes(VOXELS, codes=(1, 0), patch=setting(pixdim_2=-1)), "error"),
    "pixdim_nan_without_sform.nii": (nifti_bytes(VOXELS, codes=(1, 0), patch=setting(pixdim_2=np.nan)), "error"),
    "pixdim_huge.nii": (nifti_bytes(VOXELS, codes=(1, 0), patch=setting(pixdim_2=1e30)), "error"),
    "pixdim_contradicts_sform.nii": (nifti_bytes(VOXELS, codes=(0, 1), patch=setting(pixdim_1=0.8)), "warn"),
    "qform_sform_mirrored.nii": (q_and_s_mirrored(), "warn"),
    "qform_only.nii": (nifti_bytes(VOXELS, codes=(1, 0)), "ok"),
    "sform_only.nii": (nifti_bytes(VOXELS, codes=(0, 2)), "ok"),
    "no_orientation.nii": (nifti_bytes(VOXELS, codes=(0, 0)), "warn"),
    "quaternion_no_rotation.nii": (nifti_bytes(VOXELS, codes=(1, 0), patch=setting(quatern_b=3.0)), "error"),
    "quaternion_nan.nii": (nifti_bytes(VOXELS, codes=(1, 0), patch=setting(quatern_b=np.nan)), "error"),
    "qoffset_inf.nii": (nifti_bytes(VOXELS, codes=(1, 0), patch=setting(qoffset_x=np.inf)), "error"),
    "quaternion_no_rotation_beside_an_sform.nii": (patched(quatern_b=3.0), "warn"),
    "quaternion_nan_beside_an_sform.nii": (patched(quatern_c=np.nan), "warn"),
    "sform_zero.nii": (patched(srow_x=0, srow_y=0, srow_z=0), "warn"),
    "sform_flat.nii": (patched(srow_z=[0, 1.1, 0, 0]), "warn"),
    "sform_nan.nii": (patched(srow_x=[np.nan, 0, 0, 0]), "warn"),
    "sform_far_too_small.nii": (patched(srow_x=[1e-9, 0, 0, 0]), "warn"),
    "sform_zero_alone.nii": (nifti_bytes(VOXELS, codes=(0, 1), patch=setting(srow_x=0, srow_y=0, srow_z=0)), "error"),
    "sform_zero_and_no_rotation.nii": (patched(srow_x=0, srow_y=0, srow_z=0, quatern_b=3.0), "error"),
    "sform_zero_and_pixdim_zero.nii": (patched(srow_x=0, srow_y=0, srow_z=0, pixdim_2=0), "error"),
    "sheared.nii": (nifti_bytes(VOXELS, SHEARED), "warn"),
    "units_micron.nii": (nifti_bytes(VOXELS, SCALE @ AFFINE, patch=setting(xyzt_units=3)), "warn"),
    "units_metre.nii": (nifti_bytes(VOXELS, np.linalg.inv(SCALE) @ AFFINE, patch=setting(xyzt_units=1)), "warn"),
    "units_micron_but_sizes_in_mm.nii": (patched(xyzt_units=3), "error"),
    "units_metre_but_sizes_in_mm.nii": (patched(xyzt_units=1), "error"),
    "units_undefined.nii": (patched(xyzt_units=5), "warn"),
    "units_not_given.nii": (patched(xyzt_units=0), "ok"),
}  # fmt: skip


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
