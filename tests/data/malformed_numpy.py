"""Malformed and misleading arrays of numpy."""

from __future__ import annotations

from damaged_arrays import SPACING
from malformed_entries import VOXELS, Entry, of_bytes, sparse
from scan_makers import npy_bytes, npy_with_header

NUMPY: dict[str, Entry] = {
    "npy_spacing_of_zero": Entry(of_bytes("a.npy", npy_bytes(VOXELS)), "error", "B2", spacing=(0.0, 1.0, 1.0)),
    "npy_without_spacing": Entry(of_bytes("a.npy", npy_bytes(VOXELS)), "error", "B2"),
    "npy_deep_header": Entry(
        of_bytes("a.npy", npy_with_header("{'descr': " + "(" * 4000)), "error", "A2", spacing=SPACING
    ),
    "npy_code_in_the_header": Entry(
        of_bytes("a.npy", npy_with_header("__import__('os').system('touch canary')")), "error", "A9", spacing=SPACING
    ),
    "npy_sparse": Entry(
        sparse(
            "a.npy",
            npy_with_header("{'descr': '|u1', 'fortran_order': True, 'shape': (1000, 1000, 2000), }"),
            len(npy_with_header("{'descr': '|u1', 'fortran_order': True, 'shape': (1000, 1000, 2000), }")) + 2 * 10**9,
        ),
        "error", "A3", spacing=SPACING,
    ),
    "npz_without_an_index": Entry(of_bytes("a.npz", b"PK\x05\x06" + b"\0" * 18), "error", "A10"),
}  # fmt: skip
