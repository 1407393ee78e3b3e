"""Malformed and misleading manifests, each beside one whole scan."""

from __future__ import annotations

import os
from pathlib import Path

from malformed_entries import PACKED, PLAIN, Builder, Entry, of_bytes


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
