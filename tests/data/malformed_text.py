"""Malformed and misleading files with a header of text: MetaImage and NRRD."""

# ruff: noqa: E501 (one entry, one line)
from __future__ import annotations

import bz2
import zlib

from malformed_entries import VOXELS, Builder, Entry, of_bytes, sparse
from scan_makers import gz

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
