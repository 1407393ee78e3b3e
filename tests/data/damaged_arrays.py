"""Files of plain arrays, whole and damaged, and what must come of each."""

from __future__ import annotations

import os

import numpy as np
from scan_makers import SHAPE, anatomy, flipped, npy_bytes, npy_with_header, npz_bytes

VOXELS = anatomy()
NPY = npy_bytes(VOXELS)
SPACING = (0.9, 1.1, 2.5)
STACK = np.random.default_rng(0).integers(0, 256, size=(5, 8, 9, 10), dtype=np.uint8)
MEMBER = ("train_images.npy", npy_bytes(STACK))
LABELS = ("train_labels.npy", npy_bytes(np.zeros((5, 1), np.uint8)))


class Canary:
    """Pickled, it would run a command when it is read."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("canary_that_must_not_appear",)


def with_nan() -> np.ndarray:
    voxels = VOXELS.astype(np.float32)
    voxels[0, 0, 0] = np.nan
    return voxels


def objects() -> bytes:
    array = np.empty((1, 1, 2), dtype=object)
    array[...] = Canary()
    return npy_bytes(array, pickle=True)


def claiming(shape: str, dtype: str = "<i2") -> bytes:
    return npy_with_header(f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}", NPY[128:])


NPY_FILES: dict[str, tuple[bytes, str]] = {
    "whole": (NPY, "ok"),
    "fortran_order": (npy_bytes(np.asfortranarray(VOXELS)), "ok"),
    "big_endian": (npy_bytes(VOXELS.astype(">f4")), "ok"),
    "float16": (npy_bytes(VOXELS.astype(np.float16)), "ok"),
    "bool": (npy_bytes(VOXELS > 0), "ok"),
    "empty": (b"", "error"),
    "text": (b"no array at all", "error"),
    "magic_only": (NPY[:6], "error"),
    "header_cut": (NPY[:60], "error"),
    "header_only": (NPY[:128], "error"),
    "one_byte_short": (NPY[:-1], "error"),
    "one_byte_long": (NPY + b"\0", "error"),
    "version_unknown": (NPY[:6] + b"\x09\x00" + NPY[8:], "error"),
    "shape_1e12": (claiming("(10000, 10000, 10000)"), "error"),
    "shape_overflows": (claiming(f"({2**70}, 1, 1)"), "error"),
    "shape_negative": (claiming("(-12, -10, 8)"), "error"),
    "shape_zero": (claiming("(0, 10, 8)"), "error"),
    "shape_is_code": (claiming("__import__('os').mkdir('canary_that_must_not_appear')"), "error"),
    "header_huge": (npy_with_header("{" + " " * 60000 + "}"), "error"),
    "header_nested": (npy_with_header("(" * 5000), "error"),
    "objects_with_pickle": (objects(), "error"),
    "complex": (npy_bytes(VOXELS.astype(np.complex64)), "error"),
    "text_array": (npy_bytes(np.full(SHAPE, "scan")), "error"),
    "structured": (npy_bytes(np.zeros(SHAPE, dtype=[("a", "<i2"), ("b", "<f4")])), "error"),
    "dates": (npy_bytes(np.zeros(SHAPE, dtype="datetime64[s]")), "error"),
    "two_axes": (npy_bytes(VOXELS[0]), "error"),
    "four_axes": (npy_bytes(VOXELS[None]), "error"),
    "scalar": (npy_bytes(np.float32(3)), "error"),
    "nan": (npy_bytes(with_nan()), "error"),
    "constant": (npy_bytes(np.zeros(SHAPE)), "error"),
}

NPZ_FILES: dict[str, tuple[bytes, str]] = {
    "whole": (npz_bytes(MEMBER, LABELS), "ok"),
    "no_file": (b"", "error"),
    "not_a_zip": (b"PK no zip" * 20, "error"),
    "cut": (npz_bytes(MEMBER, LABELS)[:2000], "error"),
    "bit_flipped": (flipped(npz_bytes(MEMBER), 1500), "error"),
    "stream_damaged": (flipped(npz_bytes(MEMBER), 60, bit=1), "error"),
    "key_missing": (npz_bytes(LABELS), "error"),
    "key_twice": (npz_bytes(MEMBER, LABELS, MEMBER), "error"),
    "other_key_twice": (npz_bytes(MEMBER, LABELS, LABELS), "error"),
    "member_cut": (npz_bytes((MEMBER[0], MEMBER[1][:-5])), "error"),
    "member_long": (npz_bytes((MEMBER[0], MEMBER[1] + b"tail")), "error"),
    "member_is_no_array": (npz_bytes((MEMBER[0], b"no array")), "error"),
    "member_of_objects": (npz_bytes((MEMBER[0], objects())), "error"),
    "three_axes": (npz_bytes((MEMBER[0], npy_bytes(STACK[0]))), "error"),
    "colour_axis": (npz_bytes((MEMBER[0], npy_bytes(STACK[..., None]))), "error"),
    "shape_absurd": (npz_bytes((MEMBER[0], claiming("(1000000, 1000, 1000, 1000)", "|u1"))), "error"),
}
