"""NIfTI files, whole, damaged and ambiguous, and what must come of each."""

from __future__ import annotations

import gzip

import numpy as np
from scan_makers import AFFINE, SHAPE, anatomy, flipped, gz, nifti_bytes, setting

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
