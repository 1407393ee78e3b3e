"""Malformed and misleading files: one table of how each is made, how it must end, and which promise that keeps.

``ok``: a volume and no warning; ``warn``: a volume and a warning; ``error``: one line and no volume. The promise is an
id of docs/reliability.md. Each builder gets an empty folder and returns the reference to read.
"""

# ruff: noqa: E501 (one entry, one line)
from __future__ import annotations

import bz2
import lzma
import os
import re
import socket
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import dicom_makers as dicom
import numpy as np
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless
from scan_makers import AFFINE, anatomy, gz, nifti_bytes, npy_bytes, npy_with_header, setting
from test_arrays import NPY_FILES, NPZ_FILES
from test_arrays import SPACING as NPY_SPACING
from test_dicom_corpus import CORPUS
from test_nifti import FILES as NIFTI_FILES

VOXELS = anatomy()
PLAIN = nifti_bytes(VOXELS)
PACKED = gz(PLAIN)

Builder = Callable[[Path], str]


@dataclass(frozen=True)
class Entry:
    """One line of the table."""

    make: Builder
    verdict: str
    """One of ok, warn, error."""
    promise: str
    spacing: tuple[float, float, float] | None = None
    series: str | None = None
    reader: str = "scan"
    """``scan``: :func:`~anymc3d.data.readers.read_volume`; ``manifest``: ``inspect_manifest``."""


def of_bytes(name: str, content: bytes) -> Builder:
    def make(folder: Path) -> str:
        (folder / name).write_bytes(content)
        return str(folder / name)

    return make


def of_series(
    change: Callable[[dicom.Series], object], series: Callable[[], dicom.Series] = dicom.make_series
) -> Builder:
    def make(folder: Path) -> str:
        made = series()
        change(made)
        return str(made.write(folder / "scan"))

    return make


def nii(**fields: object) -> Builder:
    return of_bytes("a.nii", nifti_bytes(VOXELS, patch=setting(**fields)))


def sparse(name: str, start: bytes, size: int) -> Builder:
    """A file with holes: gigabytes by its size, a few blocks on the disk."""

    def make(folder: Path) -> str:
        with open(folder / name, "wb") as file:
            file.write(start)
            file.truncate(size)
        return str(folder / name)

    return make


# ---------------------------------------------------------------------------------------------- gzip and NIfTI
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
    "slope_infinite": Entry(nii(scl_slope=np.inf), "error", "B6"),
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

# ------------------------------------------------------------------------------------------ MetaImage and NRRD
MHA_HEAD = {
    "ObjectType": "Image",
    "NDims": "3",
    "BinaryData": "True",
    "BinaryDataByteOrderMSB": "False",
    "CompressedData": "False",
    "TransformMatrix": "1 0 0 0 1 0 0 0 1",
    "Offset": "-20 5 40",
    "ElementSpacing": "0.9 1.1 2.5",
    "DimSize": "12 10 8",
    "ElementType": "MET_SHORT",
    "ElementDataFile": "LOCAL",
}
RAW = VOXELS.tobytes(order="F")


def mha(*, data: bytes = RAW, end: str = "\n", before: str = "", **fields: str | None) -> Builder:
    """``fields`` replace those of the head, None takes one out; ``before`` stands before the last line."""
    head = {**MHA_HEAD, **fields}
    lines = [f"{name} = {value}{end}" for name, value in head.items() if value is not None]
    return of_bytes("a.mha", ("".join(lines[:-1]) + before + lines[-1]).encode("latin-1") + data)


NRRD_HEAD = {
    "type": "int16",
    "dimension": "3",
    "space": "left-posterior-superior",
    "sizes": "12 10 8",
    "space directions": "(0.9,0,0) (0,1.1,0) (0,0,2.5)",
    "space origin": "(-20,5,40)",
    "endian": "little",
    "encoding": "raw",
}


def nrrd(*, data: bytes = RAW, magic: str = "NRRD0005", extra: str = "", **fields: str | None) -> Builder:
    """As :func:`mha`; ``_`` in a keyword is a blank of the field's name."""
    head = {**NRRD_HEAD, **{name.replace("_", " "): value for name, value in fields.items()}}
    lines = [f"{name}: {value}\n" for name, value in head.items() if value is not None]
    return of_bytes("a.nrrd", f"{magic}\n{''.join(lines)}{extra}\n".encode("latin-1") + data)


Z = zlib.compress(RAW)
TEXT_FORMATS: dict[str, Entry] = {
    "mha_whole": Entry(mha(), "ok", "B1"),
    "mha_packed": Entry(mha(data=Z, CompressedData="True"), "ok", "B1"),
    "mha_big_endian": Entry(mha(data=VOXELS.astype(">i2").tobytes(order="F"), BinaryDataByteOrderMSB="True"), "ok", "B1"),
    "mha_comment": Entry(mha(before="Comment = a = b\n"), "ok", "B1"),
    "mha_data_in_a_list": Entry(mha(ElementDataFile="LIST"), "error", "A7"),
    "mha_data_by_pattern": Entry(mha(ElementDataFile="a%03d.raw 1 8 1"), "error", "A7"),
    "mha_data_absolute": Entry(mha(ElementDataFile="/etc/passwd"), "error", "A7"),
    "mha_data_above": Entry(mha(ElementDataFile="../../a.raw"), "error", "A7"),
    "mha_data_not_named": Entry(mha(ElementDataFile=""), "error", "A7"),
    "mha_local_lower_case": Entry(mha(ElementDataFile="local"), "error", "A7"),
    "mha_sizes_twice": Entry(mha(before="DimSize = 6 20 8\n"), "error", "B8"),
    "mha_spacing_twice": Entry(mha(before="ElementSpacing = 1 1 1\n"), "error", "B8"),
    "mha_origins_contradict": Entry(mha(before="Position = 5 5 5\n"), "error", "B8"),
    "mha_origin_twice_the_same": Entry(mha(before="Position = {}\n".format(MHA_HEAD["Offset"])), "ok", "B8"),
    "mha_spacing_missing": Entry(mha(ElementSpacing=None), "error", "B2"),
    "mha_spacing_zero": Entry(mha(ElementSpacing="0 1 1"), "error", "B2"),
    "mha_spacing_negative": Entry(mha(ElementSpacing="-0.9 1.1 2.5"), "error", "B2"),
    "mha_spacing_of_two": Entry(mha(ElementSpacing="0.9 1.1"), "error", "B2"),
    "mha_spacing_text": Entry(mha(ElementSpacing="a b c"), "error", "B2"),
    "mha_spacing_nan": Entry(mha(ElementSpacing="nan 1 1"), "error", "B2"),
    "mha_sizes_of_two": Entry(mha(DimSize="12 80"), "error", "A2"),
    "mha_sizes_negative": Entry(mha(DimSize="-12 -10 8"), "error", "A2"),
    "mha_sizes_zero": Entry(mha(DimSize="0 10 8", data=b""), "error", "A2"),
    "mha_sizes_1e9": Entry(mha(DimSize="1000000000 1000000000 8"), "error", "A2"),
    "mha_four_dimensions": Entry(mha(NDims="4", DimSize="12 10 8 1"), "error", "A2"),
    "mha_three_channels": Entry(mha(ElementNumberOfChannels="3"), "error", "A2"),
    "mha_ascii": Entry(mha(BinaryData="False"), "error", "A1"),
    "mha_type_unknown": Entry(mha(ElementType="MET_FLOAT_ARRAY"), "error", "A1"),
    "mha_half": Entry(mha(data=RAW[:900]), "error", "A1"),
    "mha_longer": Entry(mha(data=RAW + b"x"), "error", "A1"),
    "mha_packed_half": Entry(mha(data=Z[:-40], CompressedData="True"), "error", "A1"),
    "mha_packed_then_text": Entry(mha(data=Z + b"garbage", CompressedData="True"), "error", "A1"),
    "mha_packed_bit": Entry(mha(data=Z[:-1] + bytes([Z[-1] ^ 1]), CompressedData="True"), "error", "A1"),
    "mha_packed_bomb": Entry(mha(data=zlib.compress(b"\0" * 50_000_000, 9), CompressedData="True"), "error", "A3"),
    "mha_sparse": Entry(
        sparse("a.mha", "".join(f"{k} = {v}\n" for k, v in {**MHA_HEAD, "DimSize": "1000 1000 1500"}.items()).encode(), (3 << 30)),
        "error", "A3",
    ),
    "mha_header_never_ends": Entry(of_bytes("a.mha", b"Comment = " + b"x" * 200_000), "error", "A1"),
    "mha_matrix_singular": Entry(mha(TransformMatrix="1 0 0 1 0 0 0 0 1"), "error", "B8"),
    "mha_matrix_of_zeros": Entry(mha(TransformMatrix="0 0 0 0 0 0 0 0 0"), "error", "B8"),
    "mha_matrix_of_eight": Entry(mha(TransformMatrix="1 0 0 0 1 0 0 0"), "error", "B8"),
    "mha_matrix_sheared": Entry(mha(TransformMatrix="1 0 0 0 1 0 0 0.3 0.953939"), "warn", "B7"),
    "mha_matrix_missing": Entry(mha(TransformMatrix=None), "warn", "B8"),
    "mhd": Entry(of_bytes("a.mhd", b"ObjectType = Image\nElementDataFile = a.raw\n"), "error", "A7"),
    "nrrd_whole": Entry(nrrd(), "ok", "B1"),
    "nrrd_in_scanner_axes": Entry(nrrd(space="scanner-xyz"), "warn", "B8"),
    "nrrd_in_no_axes": Entry(nrrd(space="3D-right-handed"), "warn", "B8"),
    "nrrd_packed": Entry(nrrd(encoding="gzip", data=gz(RAW)), "ok", "B1"),
    "nrrd_in_ras": Entry(
        nrrd(space="right-anterior-superior", space_directions="(-0.9,0,0) (0,-1.1,0) (0,0,2.5)", space_origin="(20,-5,40)"),
        "ok", "B1",
    ),
    "nrrd_big_endian": Entry(nrrd(endian="big", data=VOXELS.astype(">i2").tobytes(order="F")), "ok", "B1"),
    "nrrd_endian_missing": Entry(nrrd(endian=None), "error", "B8"),
    "nrrd_detached_above": Entry(nrrd(extra="data file: ../../../etc/passwd\n"), "error", "A7"),
    "nrrd_detached_absolute": Entry(nrrd(extra="datafile: /etc/passwd\n"), "error", "A7"),
    "nrrd_detached_list": Entry(nrrd(extra="data file: LIST\n/etc/passwd\n"), "error", "A7"),
    "nrrd_sizes_negative": Entry(nrrd(sizes="-12 -10 8"), "error", "A2"),
    "nrrd_sizes_twice": Entry(nrrd(extra="sizes: 6 20 8\n"), "error", "B8"),
    "nrrd_directions_twice": Entry(nrrd(extra="space directions: (1,0,0) (0,1,0) (0,0,1)\n"), "error", "B8"),
    "nrrd_directions_none": Entry(nrrd(space_directions="none (0,1.1,0) (0,0,2.5)"), "error", "B8"),
    "nrrd_directions_zero": Entry(nrrd(space_directions="(0,0,0) (0,1.1,0) (0,0,2.5)"), "error", "B8"),
    "nrrd_directions_sheared": Entry(nrrd(space_directions="(0.9,0,0) (0,1.1,0) (0,0.8,2.5)"), "warn", "B7"),
    "nrrd_no_geometry": Entry(nrrd(space=None, space_directions=None, space_origin=None), "error", "B2"),
    "nrrd_spacings_alone": Entry(
        nrrd(space=None, space_directions=None, space_origin=None, extra="spacings: 0.9 1.1 2.5\n"), "warn", "B8"
    ),
    "nrrd_in_centimetres": Entry(nrrd(extra='space units: "cm" "cm" "cm"\n'), "error", "B8"),
    "nrrd_in_millimetres": Entry(nrrd(extra='space units: "mm" "mm" "mm"\n'), "ok", "B8"),
    "nrrd_vector": Entry(nrrd(extra="kinds: vector domain domain\n"), "error", "A2"),
    "nrrd_bzip2": Entry(nrrd(encoding="bzip2", data=bz2.compress(RAW)), "error", "A1"),
    "nrrd_text": Entry(nrrd(encoding="text", data=b"1 2 3"), "error", "A1"),
    "nrrd_skip_all": Entry(nrrd(extra="byte skip: -1\n"), "error", "A1"),
    "nrrd_type_block": Entry(nrrd(type="block"), "error", "A1"),
    "nrrd_gzip_then_text": Entry(nrrd(encoding="gzip", data=gz(RAW) + b"x"), "error", "A1"),
    "nrrd_bomb": Entry(nrrd(encoding="gzip", data=gz(b"\0" * 50_000_000)), "error", "A3"),
    "nrrd_no_blank_line": Entry(of_bytes("a.nrrd", b"NRRD0005\ntype: int16\ndimension: 3\n"), "error", "A1"),
    "nhdr": Entry(of_bytes("a.nhdr", b"NRRD0005\ndata file: a.raw\n"), "error", "A7"),
}  # fmt: skip

# --------------------------------------------------------------------------------------------------------- DICOM
MONO1 = dicom.each(dicom.setting(PhotometricInterpretation="MONOCHROME1"))


def syntax(uid: str) -> Callable[[dicom.Series], None]:
    """Stored in another way; big endian pixels are swapped."""

    def change(series: dicom.Series) -> None:
        for dataset in series.slices:
            dataset.file_meta.TransferSyntaxUID = uid
            if uid == ExplicitVRBigEndian:
                dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").byteswap().tobytes()
            if uid == RLELossless:
                dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
                dataset.compress(RLELossless)

    return change


def then(*changes: Callable[[dicom.Series], object]) -> Callable[[dicom.Series], None]:
    def change(series: dicom.Series) -> None:
        for one in changes:
            one(series)

    return change


def interleaved(**tag: tuple[object, object]) -> Callable[[dicom.Series], None]:
    """Two acquisitions whose slices alternate: an even stack, and half of it another scan."""
    (keyword, values) = next(iter(tag.items()))

    def change(series: dicom.Series) -> None:
        for index, dataset in enumerate(series.slices):
            setattr(dataset, keyword, values[index % 2])

    return change


def own_rescale(series: dicom.Series) -> None:
    for index, dataset in enumerate(series.slices):
        dataset.RescaleSlope, dataset.RescaleIntercept = 1 + index, -1024 - index


def signed_in_one(series: dicom.Series) -> None:
    series.slices[2].PixelRepresentation = 1


def truncated_rle(series: dicom.Series) -> None:
    syntax(RLELossless)(series)
    series.slices[3].PixelData = series.slices[3].PixelData[:60]


def object_of(sop_class: str, modality: str, *, own_series: bool = True) -> Callable[[dicom.Series], None]:
    """A DICOM object beside the slices that is no image."""

    def change(series: dicom.Series) -> None:
        other = dicom.make_series(stored=dicom.anatomy(1), series=9 if own_series else 1).slices[0]
        other.SOPClassUID, other.Modality, other.SOPInstanceUID = sop_class, modality, f"{dicom.ROOT}500"
        for keyword in ("PixelData", "Rows", "Columns"):
            delattr(other, keyword)
        series.slices.append(other)

    return change


def shuffled_frames(series: dicom.Series) -> None:
    (dataset,) = series.slices
    order = np.random.default_rng(5).permutation(len(dataset.PerFrameFunctionalGroupsSequence))
    items = [dataset.PerFrameFunctionalGroupsSequence[i] for i in order]
    pixels = np.frombuffer(dataset.PixelData, "<u2").reshape(len(order), dicom.ROWS, dicom.COLUMNS)[order]
    dataset.PerFrameFunctionalGroupsSequence, dataset.PixelData = items, pixels.tobytes()


def appended(series: dicom.Series) -> None:
    body = dicom.content(series.slices[2])
    series.names = [f"PHI_FILE_{n:03d}.dcm" for n in range(len(series.slices))]
    series.slices.pop(2)
    series.extra[series.names.pop(2)] = body + body


def padded(series: dicom.Series) -> None:
    for dataset in series.slices:
        dataset.add_new(0xFFFCFFFC, "OB", b"\0" * 200)


def charset(series: dicom.Series) -> None:
    for dataset in series.slices:
        dataset.SpecificCharacterSet = "GARBAGE"
        dicom.raw("PatientName", "PN", b"PHI_NAME\xff\xfe")(dataset)


def last_renamed(ending: str, content: bytes) -> Callable[[dicom.Series], None]:
    """The last slice under its name with something behind it: no gap is seen, and yet it is missing."""

    def change(series: dicom.Series) -> None:
        series.extra[f"PHI_FILE_{len(series.slices) - 1:03d}.dcm{ending}"] = content
        series.slices.pop()

    return change


def zipped(series: dicom.Series) -> None:
    series.extra["PHI_FILE.zip"] = b"PK\x03\x04" + b"\0" * 100


D = "1.2.840.10008.5.1.4.1.1."
DICOM: dict[str, Entry] = {
    "monochrome1": Entry(of_series(MONO1), "ok", "B6"),
    "monochrome1_in_one": Entry(of_series(lambda s: MONO1(dicom.Series(s.slices[:1]))), "warn", "B6"),
    "signed_in_one_slice": Entry(of_series(signed_in_one), "warn", "B6"),
    "rescale_of_each_slice": Entry(of_series(own_rescale), "ok", "B6"),
    "rescale_empty": Entry(of_series(dicom.each(dicom.setting(RescaleSlope="", RescaleIntercept=""))), "error", "B6"),
    "rescale_of_two_numbers": Entry(of_series(dicom.each(dicom.raw("RescaleSlope", "DS", b"1\\2 "))), "error", "B6"),
    "rescale_decimal_comma": Entry(of_series(dicom.each(dicom.raw("RescaleSlope", "DS", b"1,5 "))), "error", "B6"),
    "slope_negative_ct": Entry(of_series(dicom.each(dicom.setting(RescaleSlope=-1))), "warn", "B6"),
    "imager_spacing_instead": Entry(
        of_series(dicom.each(dicom.setting(PixelSpacing=None, ImagerPixelSpacing=[1.1, 0.9]))), "error", "B2"
    ),
    "spacing_decimal_comma": Entry(of_series(dicom.each(dicom.raw("PixelSpacing", "DS", b"0,9\\1,1 "))), "error", "B2"),
    "position_1e400": Entry(of_series(dicom.at(2, dicom.raw("ImagePositionPatient", "DS", b"1e400\\1\\2 "))), "error", "B2"),
    "orientation_not_square": Entry(
        of_series(dicom.each(dicom.setting(ImageOrientationPatient=[1, 0, 0, 0.05, 0.99875, 0]))), "error", "B7"
    ),
    "orientation_not_unit": Entry(
        of_series(dicom.each(dicom.setting(ImageOrientationPatient=[2, 0, 0, 0, 2, 0]))), "error", "B7"
    ),
    "interleaved_acquisitions": Entry(of_series(interleaved(AcquisitionNumber=(1, 2))), "warn", "B5"),
    "interleaved_kernels": Entry(of_series(interleaved(ConvolutionKernel=("B30f", "B70f"))), "warn", "B5"),
    "interleaved_energies": Entry(of_series(interleaved(KVP=(80, 140))), "warn", "B5"),
    "one_acquisition_after_the_other": Entry(
        of_series(lambda s: [setattr(d, "AcquisitionNumber", 1 + i // 4) for i, d in enumerate(s.slices)]), "ok", "B5"
    ),
    "an_acquisition_for_each_slice": Entry(
        of_series(lambda s: [setattr(d, "AcquisitionNumber", 1 + i) for i, d in enumerate(s.slices)]), "ok", "B5"
    ),
    "deflated": Entry(of_series(syntax(DeflatedExplicitVRLittleEndian)), "ok", "B1"),
    "rle": Entry(of_series(syntax(RLELossless)), "ok", "B1"),
    "rle_truncated": Entry(of_series(truncated_rle), "error", "A5"),
    "high_bit_15_of_12_bits": Entry(
        of_series(dicom.each(lambda d: setattr(d, "HighBit", 15))), "error", "B6"
    ),
    "report_in_its_own_series": Entry(of_series(object_of(D + "88.11", "SR")), "warn", "B5"),
    "structures_in_their_own_series": Entry(of_series(object_of(D + "481.3", "RTSTRUCT")), "warn", "B5"),
    "pdf_in_its_own_series": Entry(of_series(object_of(D + "104.1", "DOC")), "warn", "B5"),
    "report_in_the_scans_series": Entry(of_series(object_of(D + "88.11", "SR", own_series=False)), "error", "B5"),
    "enhanced_frames_shuffled": Entry(of_series(shuffled_frames, dicom.make_enhanced), "ok", "B3"),
    "enhanced_cut_by_a_frame": Entry(
        of_series(lambda s: setattr(s.slices[0], "PixelData", s.slices[0].PixelData[: -2 * dicom.ROWS * dicom.COLUMNS]), dicom.make_enhanced),
        "error", "A1",
    ),
    "file_appended_to_itself": Entry(of_series(appended), "ok", "A4"),
    "trailing_padding": Entry(of_series(padded), "ok", "A4"),
    "character_set_unknown": Entry(of_series(charset), "ok", "A4"),
    "last_slice_compressed": Entry(of_series(last_renamed(".gz", b"\x1f\x8b" + bytes(90))), "error", "B4"),
    "last_slice_not_copied_to_its_end": Entry(of_series(last_renamed(".part", bytes(90))), "error", "B4"),
    "modality_contradicts_the_object": Entry(of_series(dicom.each(dicom.setting(Modality="MR"))), "warn", "B8"),
    "interleaved_kinds_of_image": Entry(of_series(interleaved(ImageType=(["DERIVED", "PRIMARY", "FAT"], ["DERIVED", "PRIMARY", "WATER"]))), "warn", "B5"),
    "archive_beside": Entry(of_series(zipped), "warn", "B5"),
    "frames_0": Entry(of_series(dicom.each(dicom.setting(NumberOfFrames=0))), "error", "A4"),
    "frames_1": Entry(of_series(dicom.each(dicom.setting(NumberOfFrames=1))), "ok", "A4"),
    "one_file_instead_of_a_folder": Entry(
        lambda folder: str(dicom.make_series().write(folder / "s") / "PHI_FILE_000.dcm"), "error", "B5"
    ),
    "a_rule_that_takes_nothing": Entry(of_series(lambda s: None), "error", "B5", series="SeriesNumber=7"),
    "a_rule_that_is_none": Entry(of_series(lambda s: None), "error", "B5", series="PatientName=x"),
    "a_rule_for_a_file": Entry(of_bytes("a.nii", PLAIN), "error", "B5", series="SeriesNumber=1"),
    "a_gap_that_is_allowed": Entry(of_series(lambda s: s.slices.pop(4)), "warn", "B4", series="gaps=allow"),
    "a_tilt_that_is_not": Entry(
        of_series(lambda s: [setattr(d, "ImagePositionPatient", [-20, 5 + 0.8 * i, 40 + 2.5 * i]) for i, d in enumerate(s.slices)]),
        "error", "B7", series="gaps=allow",
    ),
}  # fmt: skip

# ----------------------------------------------------------------------------------------- arrays and manifests
NUMPY: dict[str, Entry] = {
    "npy_spacing_of_zero": Entry(of_bytes("a.npy", npy_bytes(VOXELS)), "error", "B2", spacing=(0.0, 1.0, 1.0)),
    "npy_without_spacing": Entry(of_bytes("a.npy", npy_bytes(VOXELS)), "error", "B2"),
    "npy_deep_header": Entry(
        of_bytes("a.npy", npy_with_header("{'descr': " + "(" * 4000)), "error", "A2", spacing=NPY_SPACING
    ),
    "npy_code_in_the_header": Entry(
        of_bytes("a.npy", npy_with_header("__import__('os').system('touch canary')")), "error", "A9", spacing=NPY_SPACING
    ),
    "npy_sparse": Entry(
        sparse(
            "a.npy",
            npy_with_header("{'descr': '|u1', 'fortran_order': True, 'shape': (1000, 1000, 2000), }"),
            len(npy_with_header("{'descr': '|u1', 'fortran_order': True, 'shape': (1000, 1000, 2000), }")) + 2 * 10**9,
        ),
        "error", "A3", spacing=NPY_SPACING,
    ),
    "npz_without_an_index": Entry(of_bytes("a.npz", b"PK\x05\x06" + b"\0" * 18), "error", "A10"),
}  # fmt: skip


def manifest(content: str | bytes) -> Builder:
    def make(folder: Path) -> str:
        (folder / "scan.nii").write_bytes(PLAIN)
        raw = content if isinstance(content, bytes) else content.encode()
        return of_bytes("manifest.csv", raw)(folder)

    return make


def manifest_pipe(folder: Path) -> str:
    os.mkfifo(folder / "manifest.csv")
    return str(folder / "manifest.csv")


def manifest_entry(content: str | bytes, verdict: str, promise: str = "A14") -> Entry:
    return Entry(manifest(content), verdict, promise, reader="manifest")


MANIFESTS: dict[str, Entry] = {
    "manifest_whole": manifest_entry("case,image\n007,scan.nii\n", "ok"),
    "manifest_bom": manifest_entry("\ufeffcase,image\n007,scan.nii\n", "ok"),
    "manifest_utf16": manifest_entry("case,image\n007,scan.nii\n".encode("utf-16"), "ok"),
    "manifest_semicolons": manifest_entry("case;image\n007;scan.nii\n", "ok"),
    "manifest_old_mac_lines": manifest_entry(b"case,image\r007,scan.nii\r", "ok"),
    "manifest_latin1": manifest_entry("case,image\nM\xfcller,scan.nii\n".encode("latin-1"), "error"),
    "manifest_nul": manifest_entry(b"case,image\n0\x0007,scan.nii\n", "error"),
    "manifest_ragged": manifest_entry("case,image\n007\n", "error"),
    "manifest_stray_quote": manifest_entry('case,image\n"007,scan.nii\n', "error"),
    "manifest_column_twice": manifest_entry("case,image,image\n007,scan.nii,scan.nii\n", "error"),
    "manifest_empty": manifest_entry("", "error"),
    "manifest_header_only": manifest_entry("case,image\n", "error"),
    "manifest_no_image_column": manifest_entry("case,scan\n007,scan.nii\n", "error"),
    "manifest_binary": manifest_entry(PACKED, "error"),
    "manifest_id_with_a_path": manifest_entry("case,image\n../../x,scan.nii\n", "error", "A8"),
    "manifest_id_of_dots": manifest_entry("case,image\n..,scan.nii\n", "error", "A8"),
    "manifest_id_twice": manifest_entry("case,image\na,scan.nii\na,scan.nii\n", "error"),
    "manifest_patient_in_two_splits": manifest_entry(
        "case,patient,image,split\na,p,scan.nii,train\nb,p,scan.nii,test\n", "error", "B12"
    ),
    "manifest_center_nan": manifest_entry("case,image,center_x,center_y,center_z\na,scan.nii,nan,1,2\n", "error"),
    "manifest_scan_missing": manifest_entry("case,image\na,other.nii\n", "error"),
    "manifest_pipe": Entry(manifest_pipe, "error", "A16", reader="manifest"),
    "manifest_is_a_folder": Entry(lambda folder: str(folder), "error", "A16", reader="manifest"),
}  # fmt: skip

_PROMISES = (
    (r"preamble", "A6"),
    (r"burned|screenshot", "G5"),
    (r"bomb|70_tera|16_giga|terabyte|expands", "A3"),
    (r"dim|offset|rows|shape|claim|frames_2e31|size", "A2"),
    (r"nan|inf|constant|absurd|empty_scan|float16", "B9"),
    (r"form|pixdim|units|quatern|orientation|shear|qoffset|codes", "B8"),
    (r"slope|intercept|rescale|bits|signed", "B6"),
    (r"gap|spacing", "B4"),
    (r"tilt|sideways|turned", "B7"),
    (r"series|patients|phase|localizer|studies|names|modalit|mosaic|beside|twice|same_", "B5"),
    (r"pickle|object", "A9"),
    (r"npz", "A10"),
    (r"dicom|nested|never_closed|lying|truncated", "A4"),
)
"""Which promise an entry of the older tables keeps, by its name; A1 where none of these fits."""


def promise_of(name: str) -> str:
    return next((promise for pattern, promise in _PROMISES if re.search(pattern, name)), "A1")


def _older() -> Iterator[tuple[str, Entry]]:
    """The tables that stand beside the tests of each reader."""
    for name, (content, verdict) in NIFTI_FILES.items():
        yield f"nifti/{name}", Entry(of_bytes(name, content), verdict, promise_of(name))
    for name, (content, verdict) in NPY_FILES.items():
        yield f"npy/{name}", Entry(of_bytes("a.npy", content), verdict, promise_of(name), spacing=NPY_SPACING)
    for name, (content, verdict) in NPZ_FILES.items():
        yield f"npz/{name}", Entry(_npz(content), verdict, promise_of(f"npz_{name}"))
    for name, (change, verdict, _) in CORPUS.items():
        yield f"dicom/{name}", Entry(of_series(change), verdict, promise_of(name))


def _npz(content: bytes) -> Builder:
    return lambda folder: of_bytes("a.npz", content)(folder) + "#train/3"


def table() -> dict[str, Entry]:
    """Every entry by its name."""
    newer = (("nifti2", NIFTI), ("text", TEXT_FORMATS), ("dicom2", DICOM), ("numpy", NUMPY), ("table", MANIFESTS))
    return dict(_older()) | {f"{kind}/{name}": entry for kind, part in newer for name, entry in part.items()}
