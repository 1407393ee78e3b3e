"""A cache entry is read fast, and every bit of it that matters is checked; entries of the older kind stay valid."""

from __future__ import annotations

import hashlib
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save

from anymc3d.data import cache_entry
from anymc3d.data.cache_entry import DamagedEntryError, encode, read_entry
from anymc3d.data.preprocess import PreparedView

KEY = "5" * 64


def prepared(notes: tuple[str, ...] = ("cut by the end of the scan",)) -> PreparedView:
    generator = np.random.default_rng(3)
    slices = generator.random((3, 2, 6, 5)).astype(np.float16)
    return PreparedView(slices=slices, affine=generator.normal(size=(4, 4)), plane="sagittal", notes=notes)


def same(one: PreparedView, other: PreparedView) -> bool:
    told = [(v.slices.shape, v.slices.tobytes(), v.affine.tobytes(), v.plane, v.notes) for v in (one, other)]
    return told[0] == told[1]


def older_entry(view: PreparedView) -> bytes:
    """As it was written before: SHA-256 over a line of facts, the slices and the affine."""
    told = f" {json.dumps(view.notes)}" if view.notes else ""
    shapes = f"{view.slices.dtype} {view.slices.shape} {view.affine.dtype} {view.affine.shape}"
    digest = hashlib.sha256(f"{shapes} {view.plane}{told}\n".encode() + view.slices.tobytes() + view.affine.tobytes())
    facts = {"key": KEY, "plane": view.plane, "sha256": digest.hexdigest()}
    facts |= {"notes": json.dumps(view.notes)} if view.notes else {}
    return save({"slices": view.slices, "affine": view.affine}, metadata=facts)


@pytest.fixture(params=["zlib", "isal"])
def checksum(request, monkeypatch):
    """Both programs that may compute the checksum."""
    if request.param == "zlib":
        monkeypatch.setattr(cache_entry, "_crc32", lambda: zlib.crc32)
    else:
        isal_zlib = pytest.importorskip("isal.isal_zlib", reason="the extra fast is not installed")
        monkeypatch.setattr(cache_entry, "_crc32", lambda: isal_zlib.crc32)


@pytest.mark.parametrize("notes", [(), ("one",), ("one", "zwei, größer")])
@pytest.mark.parametrize("make", [lambda view: encode(view, KEY), older_entry], ids=["now", "older"])
@pytest.mark.usefixtures("checksum")
def test_an_entry_is_read_back(tmp_path: Path, make, notes) -> None:
    path = tmp_path / "entry"
    path.write_bytes(make(prepared(notes)))
    assert same(read_entry(path, KEY), prepared(notes))


@pytest.mark.parametrize("make", [lambda view: encode(view, KEY), older_entry], ids=["now", "older"])
def test_C7_a_flipped_bit_in_any_byte_and_a_cut_is_noticed_or_changes_nothing(tmp_path: Path, make) -> None:
    path, view = tmp_path / "entry", prepared()
    whole = make(view)
    data_begin = 8 + int.from_bytes(whole[:8], "little")
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1 << place % 8
        path.write_bytes(changed)
        try:
            assert same(read_entry(path, KEY), view)
            assert place < data_begin, "a changed voxel came through"
        except DamagedEntryError:
            pass
    for length in (*range(0, len(whole), 13), len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedEntryError):
            read_entry(path, KEY)


def test_C7_an_entry_whose_header_names_another_key_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "entry"
    path.write_bytes(encode(prepared(), KEY).replace(KEY.encode(), b"6" * 64))
    with pytest.raises(DamagedEntryError, match="another key"):
        read_entry(path, KEY)
    with pytest.raises(DamagedEntryError, match="checksum"):
        read_entry(path, "6" * 64)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"F16"', b'"I16"'),
        (b"[3,2,6,5]", b"[3,2,5,6]"),
        (b"[3,2,6,5]", b"[-1,6,5]"[:8] + b" "),
        (b'"crc32"', b'"crc33"'),
        (b'"affine"', b'"affinf"'),
        (b'"__metadata__":{', b'"__metadata__":['),
    ],
)
def test_C7_a_header_that_is_not_as_written_is_damaged(tmp_path: Path, old: bytes, new: bytes) -> None:
    path, whole = tmp_path / "entry", encode(prepared(), KEY)
    assert whole.count(old) == 1
    path.write_bytes(whole.replace(old, new))
    with pytest.raises(DamagedEntryError):
        read_entry(path, KEY)


def test_an_entry_is_an_ordinary_safetensors_file(tmp_path: Path) -> None:
    path = tmp_path / "entry"
    path.write_bytes(encode(prepared(), KEY))
    tensors = load_file(path)
    assert np.array_equal(tensors["slices"], prepared().slices) and np.array_equal(tensors["affine"], prepared().affine)


def test_the_slices_are_the_callers_own_and_the_affine_does_not_hold_them(tmp_path: Path) -> None:
    path = tmp_path / "entry"
    path.write_bytes(encode(prepared(), KEY))
    view = read_entry(path, KEY)
    assert view.slices.flags.writeable and view.slices.flags.aligned and view.slices.flags.c_contiguous
    assert view.affine.base is None
