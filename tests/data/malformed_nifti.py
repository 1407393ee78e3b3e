"""Malformed and misleading gzip and NIfTI files, and names that are no plain file at all."""

# ruff: noqa: E501 (one entry, one line)
from __future__ import annotations

import bz2
import lzma
import os
import socket
import struct
import zlib
from pathlib import Path

import numpy as np
from malformed_entries import PACKED, PLAIN, VOXELS, Builder, Entry, of_bytes, sparse
from scan_makers import AFFINE, gz, nifti_bytes, setting


def nii(**fields: object) -> Builder:
    return of_bytes("a.nii", nifti_bytes(VOXELS, patch=setting(**fields)))


def flagged_gzip(flags: int, fields: bytes) -> bytes:
    """A gzip file with optional header fields."""
    return b"\x1f\x8b\x08" + bytes([flags]) + b"\0\0\0\0\0\x03" + fields + PACKED[10:]


def with_head_crc(right: bool) -> bytes:
    head = b"\x1f\x8b\x08\x02\0\0\0\0\0\x03"
    return head + struct.pack("<H", (zlib.crc32(head) & 0xFFFF) ^ (not right)) + PACKED[10:]


def with_extension(size: int) -> bytes:
    """The extension says ``size`` bytes; the voxels begin after 64."""
    content = bytearray(nifti_bytes(VOXELS, offset=352 + 64))
    content[348:360] = b"\x01\0\0\0" + struct.pack("<ii", size, 6)
    return bytes(content)


def swapped_dims() -> bytes:
    content = bytearray(PLAIN)
    content[40:56] = b"".join(content[i : i + 2][::-1] for i in range(40, 56, 2))
    return bytes(content)


def socket_file(folder: Path) -> str:
    there = os.getcwd()
    os.chdir(folder)  # the name of a socket may have about a hundred characters
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("a.nii")
    os.chdir(there)
    return str(folder / "a.nii")


def pipe(folder: Path) -> str:
    os.mkfifo(folder / "a.nii.gz")
    return str(folder / "a.nii.gz")


def below_a_file(folder: Path) -> str:
    (folder / "a").write_bytes(b"x")
    return str(folder / "a" / "b.nii.gz")


def folder_loop(folder: Path) -> str:
    (folder / "scan").symlink_to(folder / "scan")
    return str(folder / "scan" / "a.nii")


def device(folder: Path) -> str:
    (folder / "a.mha").symlink_to("/dev/zero")
    return str(folder / "a.mha")


HUGE = nifti_bytes(VOXELS, patch=setting(dim_1=1200, dim_2=1200, dim_3=1400))[:352]
TWO_GB = nifti_bytes(VOXELS.astype("u1"), patch=setting(dim_1=1000, dim_2=1000, dim_3=2000))[:352]

NIFTI: dict[str, Entry] = {
    "two_scans_concatenated": Entry(of_bytes("a.nii.gz", PACKED + PACKED), "warn", "A1"),
    "gzip_then_text": Entry(of_bytes("a.nii.gz", PACKED + b"garbage"), "error", "A1"),
    "gzip_then_one_byte": Entry(of_bytes("a.nii.gz", PACKED + b"\x1f"), "error", "A1"),
    "gzip_then_zeros_and_text": Entry(of_bytes("a.nii.gz", PACKED + b"\0" * 99 + b"x"), "error", "A1"),
    "gzip_then_half_a_member": Entry(of_bytes("a.nii.gz", PACKED + PACKED[:30]), "error", "A1"),
    "gzip_of_gzip": Entry(of_bytes("a.nii.gz", gz(PACKED)), "error", "A1"),
    "gzip_with_name_and_comment": Entry(of_bytes("a.nii.gz", flagged_gzip(24, b"n\0c\0")), "ok", "A1"),
    "gzip_with_extra_field": Entry(of_bytes("a.nii.gz", flagged_gzip(4, b"\x04\0abcd")), "ok", "A1"),
    "gzip_name_never_ends": Entry(of_bytes("a.nii.gz", flagged_gzip(8, b"n" * 70_000)[:70_000]), "error", "A1"),
    "gzip_head_crc_right": Entry(of_bytes("a.nii.gz", with_head_crc(True)), "ok", "A1"),
    "gzip_head_crc_wrong": Entry(of_bytes("a.nii.gz", with_head_crc(False)), "error", "A1"),
    "gzip_method_unknown": Entry(of_bytes("a.nii.gz", PACKED[:2] + b"\x07" + PACKED[3:]), "error", "A1"),
    "gzip_length_wrong": Entry(of_bytes("a.nii.gz", PACKED[:-1] + bytes([PACKED[-1] ^ 1])), "error", "A1"),
    "zlib_not_gzip": Entry(of_bytes("a.nii.gz", zlib.compress(PLAIN)), "error", "A1"),
    "bzip2_named_gz": Entry(of_bytes("a.nii.gz", bz2.compress(PLAIN)), "error", "A1"),
    "xz_named_gz": Entry(of_bytes("a.nii.gz", lzma.compress(PLAIN)), "error", "A1"),
    "gzip_bomb_behind_the_voxels": Entry(of_bytes("a.nii.gz", PACKED + gz(b"\0" * 30_000_000)), "error", "A3"),
    "twenty_thousand_empty_members": Entry(of_bytes("a.nii.gz", PACKED + gz(b"") * 20_000), "error", "A3"),
    "pair_header": Entry(of_bytes("a.hdr", PLAIN), "error", "A1"),
    "pair_image": Entry(of_bytes("a.img", PLAIN), "error", "A1"),
    "html_error_page": Entry(of_bytes("a.nii.gz", b"<!DOCTYPE html><html>404</html>"), "error", "A1"),
    "git_lfs_pointer": Entry(of_bytes("a.nii.gz", b"version https://git-lfs.github.com/spec/v1\n"), "error", "A1"),
    "dims_of_the_other_byte_order": Entry(of_bytes("a.nii", swapped_dims()), "error", "A2"),
    "dims_2d": Entry(nii(dim_0=2), "error", "A2"),
    "dims_5_with_a_vector": Entry(of_bytes("a.nii", nifti_bytes(np.zeros((4, 4, 4, 1, 3), "i2"))), "error", "B5"),
    "dims_unused_are_negative": Entry(nii(dim_4=-1, dim_5=-7, dim_7=-1), "ok", "A2"),
    "dims_unused_are_zero": Entry(nii(dim_4=0, dim_5=0), "ok", "A2"),
    "nifti2_dims_2e62": Entry(of_bytes("a.nii", nifti_bytes(VOXELS, version=2, patch=setting(dim_1=2**62))), "error", "A2"),
    "nifti2_offset_negative": Entry(
        of_bytes("a.nii", nifti_bytes(VOXELS, version=2, patch=setting(vox_offset=-1))), "error", "A2"
    ),
    "offset_nan": Entry(nii(vox_offset=np.nan), "error", "A2"),
    "offset_fraction": Entry(nii(vox_offset=352.5), "error", "A2"),
    "offset_1e30": Entry(nii(vox_offset=1e30), "error", "A2"),
    "offset_inside_the_header": Entry(nii(vox_offset=348), "error", "A2"),
    "offset_of_no_file": Entry(of_bytes("a.nii.gz", gz(nifti_bytes(VOXELS, patch=setting(vox_offset=2**31 - 128)))), "error", "A2"),
    "extension_size_0": Entry(of_bytes("a.nii", with_extension(0)), "ok", "A1"),
    "extension_size_negative": Entry(of_bytes("a.nii", with_extension(-16)), "ok", "A1"),
    "extension_larger_than_the_file": Entry(of_bytes("a.nii", with_extension(2**31 - 16)), "ok", "A1"),
    "floats_in_the_other_byte_order": Entry(of_bytes("a.nii", nifti_bytes(VOXELS.astype("<f4"))[:352] + VOXELS.astype(">f4").tobytes(order="F")), "warn", "B8"),
    "slope_negative": Entry(nii(scl_slope=-1.0), "ok", "B6"),
    "slope_infinite": Entry(nii(scl_slope=np.inf), "ok", "B6"),
    "slope_0_with_intercept": Entry(nii(scl_slope=0.0, scl_inter=-1024.0), "warn", "B6"),
    "intercept_nan": Entry(nii(scl_slope=1.0, scl_inter=np.nan), "error", "B6"),
    "slope_1e300_of_a_double": Entry(of_bytes("a.nii", nifti_bytes(VOXELS, version=2, patch=setting(scl_slope=1e300))), "error", "B9"),
    "type_complex": Entry(of_bytes("a.nii", nifti_bytes(VOXELS.astype("c8"))), "error", "A1"),
    "type_rgb": Entry(nii(datatype=128, bitpix=24), "error", "A1"),
    "type_binary": Entry(nii(datatype=1, bitpix=1), "error", "A1"),
    "type_0": Entry(nii(datatype=0), "error", "A1"),
    "int64_beyond_float32": Entry(of_bytes("a.nii", nifti_bytes((VOXELS.astype("i8") + 2000) * 2**50)), "warn", "B9"),
    "double_beyond_float32": Entry(of_bytes("a.nii", nifti_bytes(VOXELS * 1e300)), "error", "B9"),
    "qfac_0": Entry(of_bytes("a.nii", nifti_bytes(VOXELS, codes=(1, 0), patch=setting(pixdim_0=0.0))), "ok", "B8"),
    "codes_negative": Entry(of_bytes("a.nii", nifti_bytes(VOXELS, codes=(0, 0), patch=setting(qform_code=-1))), "warn", "B8"),
    "pixdim_nan_with_sform": Entry(nii(pixdim_2=np.nan), "warn", "B8"),
    "pixdim_negative_without_sform": Entry(
        of_bytes("a.nii", nifti_bytes(VOXELS, codes=(1, 0), patch=setting(pixdim_3=-2.5))), "error", "B8"
    ),
    "sform_400_mm_spacing": Entry(of_bytes("a.nii", nifti_bytes(VOXELS, AFFINE @ np.diag([400, 1, 1, 1]))), "error", "B8"),
    "pipe": Entry(pipe, "error", "A16"),
    "socket": Entry(socket_file, "error", "A16"),
    "below_a_file": Entry(below_a_file, "error", "A16"),
    "link_that_loops": Entry(folder_loop, "error", "A16"),
    "device_named_mha": Entry(device, "error", "A16"),
    "name_with_a_zero_byte": Entry(lambda folder: str(folder / "a\0.nii"), "error", "A16"),
    "sparse_2_gigabytes": Entry(sparse("a.nii", TWO_GB, 352 + 2_000_000_000), "error", "A3"),
    "sparse_tail_of_8_gigabytes": Entry(sparse("a.nii", PLAIN, 8 << 30), "error", "A3"),
    "sparse_4_gigabytes_of_int16": Entry(sparse("a.nii", HUGE, 352 + 2 * 1200 * 1200 * 1400), "error", "A3"),
}  # fmt: skip
