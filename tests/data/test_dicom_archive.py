"""A study in a ``.zip`` is the folder that it holds, nothing is unpacked, no archive does harm. Promises A3, A17."""

from __future__ import annotations

import io
import os
import stat
import struct
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from anymc3d.data.readers import content_hash, read_header, read_volume
from anymc3d.errors import ScanError
from dicom_makers import PHI, anatomy, content, make_enhanced, make_series, truth

SLICES = {f"PHI_FILE_{k:03d}.dcm": content(dataset) for k, dataset in enumerate(make_series().slices)}


def packed(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, body in files.items():
            archive.writestr(zipfile.ZipInfo(name), body, compress_type=method)
    return buffer.getvalue()


def write(folder: Path, body: bytes, name: str = "PHI_study.zip") -> Path:
    (folder / name).write_bytes(body)
    return folder / name


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("place", ["", "DICOM/PAT001/ST000/SE000/"])
def test_B1_an_archive_is_the_folder_that_it_holds(tmp_path: Path, monkeypatch, method: int, place: str) -> None:
    folder = make_series().write(tmp_path / "scan")
    extra = {
        "__MACOSX/._PHI_FILE_000.dcm": b"x",
        "DICOMDIR": b"\0" * 128 + b"DICM",
        ".DS_Store": b"y",
        "notes.txt": b"z",
    }
    path = write(tmp_path, packed({place + name: body for name, body in SLICES.items()} | extra, method))
    monkeypatch.setattr(zipfile.ZipFile, "extractall", None)
    monkeypatch.setattr(zipfile.ZipFile, "extract", None)
    before = sorted(tmp_path.rglob("*"))
    volume, known, header = read_volume(path), read_volume(folder), read_header(path)
    assert np.array_equal(volume.voxels, known.voxels) and np.array_equal(volume.affine, known.affine)
    assert volume.warnings == () and volume.modality == "CT" and header.shape == volume.shape
    assert content_hash(path) == content_hash(folder)
    assert sorted(tmp_path.rglob("*")) == before


def test_one_enhanced_file_may_be_in_an_archive(tmp_path: Path) -> None:
    path = write(tmp_path, packed({"IM0001": content(make_enhanced().slices[0])}), "study.ZIP")
    assert np.array_equal(read_volume(path).voxels, truth())


def test_B5_a_rule_chooses_a_series_of_an_archive(tmp_path: Path) -> None:
    second = make_series(series=2, stored=anatomy(5, seed=4))
    path = write(tmp_path, packed(SLICES | {f"b/{k}": content(dataset) for k, dataset in enumerate(second.slices)}))
    with pytest.raises(ScanError, match="expected one series, found 2"):
        read_volume(path)
    assert np.array_equal(read_volume(path, series="SeriesNumber=2").voxels, truth(anatomy(5, seed=4)))


def test_predict_takes_an_archive(journey, tmp_path: Path) -> None:
    from anymc3d.predict.predictor import load

    predictor = load(journey.plugin, device="cpu")
    by_archive = predictor.predict(write(tmp_path, packed(SLICES)))
    by_folder = predictor.predict(make_series().write(tmp_path / "PHI_study"))
    assert by_archive.case == by_folder.case == "PHI_study" and by_archive.row() == by_folder.row()


def with_info(change: Callable[[zipfile.ZipInfo], None], body: bytes = b"x") -> Callable[[], bytes]:
    """The slices, and one member more whose entry is changed."""

    def make() -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content_of in SLICES.items():
                archive.writestr(name, content_of)
            info = zipfile.ZipInfo("canary")
            change(info)
            archive.writestr(info, body)
        return buffer.getvalue()

    return make


def named(name: str) -> Callable[[], bytes]:
    return with_info(lambda info: setattr(info, "filename", name))


def link(info: zipfile.ZipInfo) -> None:
    info.external_attr = (stat.S_IFLNK | 0o777) << 16


def flagged(flag: int) -> bytes:
    """The first entry of the list with a flag set."""
    body = bytearray(packed(SLICES))
    place = body.index(b"PK\x01\x02")
    body[place + 8 : place + 10] = struct.pack("<H", flag)
    return bytes(body)


def twice() -> bytes:
    import warnings

    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w") as archive:
        warnings.simplefilter("ignore")
        for name in (*SLICES, "PHI_FILE_003.dcm"):
            archive.writestr(name, SLICES[name])
    return buffer.getvalue()


def bit_flipped() -> bytes:
    body = bytearray(packed(SLICES, zipfile.ZIP_STORED))
    body[body.index(SLICES["PHI_FILE_002.dcm"]) + len(SLICES["PHI_FILE_002.dcm"]) - 9] ^= 4
    return bytes(body)


def bomb() -> bytes:
    """A slice whose pixels would be 300 MB of zeros."""
    start = SLICES["PHI_FILE_002.dcm"][:-400]
    return packed(SLICES | {"bomb.dcm": start + b"\0" * 300_000_000})


def lying_size() -> bytes:
    """The list says that a file is small, and it is not."""
    body = bytearray(packed({"a.dcm": SLICES["PHI_FILE_000.dcm"] + b"\0" * 30_000_000}))
    for mark, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        place = body.index(mark)
        body[place + offset : place + offset + 4] = struct.pack("<I", 800)
    return bytes(body)


def overlapping() -> bytes:
    """Two entries of the list that are one place of the file, as in bombs of one kernel."""
    body = packed({"a.dcm": SLICES["PHI_FILE_000.dcm"], "b.dcm": SLICES["PHI_FILE_001.dcm"]}, zipfile.ZIP_STORED)
    changed = bytearray(body)
    second = body.index(b"PK\x01\x02", body.index(b"PK\x01\x02") + 1)
    changed[second + 42 : second + 46] = struct.pack("<I", 0)
    return bytes(changed)


def long_list() -> bytes:
    """The end of the list says that it is 70 MB long."""
    body = bytearray(packed(SLICES))
    place = body.rindex(b"PK\x05\x06")
    body[place + 12 : place + 16] = struct.pack("<I", 70_000_000)
    return bytes(body)


def nested() -> bytes:
    return packed({"inner.zip": packed(SLICES)})


# name -> (content, a word of the refusal)
REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "intact"),
    "text": (lambda: b"hello" * 999, "intact"),
    "no_files": (lambda: packed({}), "no DICOM scan found in this archive"),
    "text_alone": (lambda: packed({"a.txt": b"x"}), "no DICOM scan found in this archive"),
    "nifti_inside": (lambda: packed({"PHI_a.nii.gz": b"x", "b/PHI_b.nii.gz": b"y"}), "but 2 .nii.gz files: unpack it"),
    "archive_inside": (nested, "one .zip file: unpack it"),
    "absolute": (named("/etc/canary"), "outside of itself"),
    "above": (named("../canary"), "outside of itself"),
    "above_in_the_middle": (named("a/../../canary"), "outside of itself"),
    "backslash": (lambda: packed(SLICES).replace(b"PHI_FILE_003", b"..\\..\\003abc"), "outside of itself"),
    "drive": (named("C:/canary"), "outside of itself"),
    "link": (with_info(link, b"/etc/passwd"), "symbolic link"),
    "encrypted": (lambda: flagged(1), "encrypted"),
    "lzma": (lambda: packed(SLICES, zipfile.ZIP_LZMA), "another way than deflate"),
    "bzip2": (lambda: packed(SLICES, zipfile.ZIP_BZIP2), "another way than deflate"),
    "name_twice": (twice, "a file twice"),
    "truncated": (lambda: packed(SLICES)[:-200], "intact"),
    "beginning_cut_off": (lambda: packed(SLICES)[300:], "damaged|intact"),
    "bit_flipped": (bit_flipped, "damaged"),
    "bomb": (bomb, "decompression bomb"),
    "lying_size": (lying_size, "damaged"),
    "overlapping": (overlapping, "overlap"),
    "long_list": (long_list, "lists more than"),
    "slice_lost_its_end": (lambda: packed(SLICES | {"PHI_FILE_002.dcm": SLICES["PHI_FILE_002.dcm"][:-50]}), "promises"),
    "slice_is_no_dicom": (lambda: packed(SLICES | {"PHI_FILE_002.dcm": b"x" * 900}), "named like DICOM and is not"),
    "slice_is_missing": (
        lambda: packed({name: body for name, body in SLICES.items() if "004" not in name}),
        "1 missing",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_A3_A17_an_archive_that_is_not_to_be_trusted_is_refused(tmp_path: Path, capfd, name: str) -> None:
    make, word = REFUSED[name]
    path = write(tmp_path, make())
    began = time.process_time()
    tracemalloc.start()
    for function in (read_volume, read_header, content_hash):
        try:
            function(path)
        except ScanError as error:
            said = str(error)
        else:
            assert function is not read_volume and name in ("slice_lost_its_end", "slice_is_missing")
    assert tracemalloc.get_traced_memory()[1] < 40e6
    tracemalloc.stop()
    with pytest.raises(ScanError, match=word) as caught:
        read_volume(path)
    assert time.process_time() - began < 15
    said = str(caught.value).removeprefix(str(path))
    assert "\n" not in said and not [secret for secret in (*PHI, "canary", "passwd") if secret in said]
    assert not any(capfd.readouterr()) and os.listdir(tmp_path) == [path.name]
