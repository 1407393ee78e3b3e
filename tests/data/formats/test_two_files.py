"""Scans of two files (NIfTI pairs, MetaImage and NRRD with their voxels beside them), and FreeSurfer's."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from scan_makers import AFFINE, SHAPE, anatomy, flipped, gz, nifti_bytes, setting, write

from anymc3d.data.case import default_id
from anymc3d.data.readers import content_hash, read_header, read_volume
from anymc3d.errors import ScanError

VOXELS = anatomy()
TURNED = np.array([[0.8, -0.6, 0, 0], [0.6, 0.8, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]) @ AFFINE
HEADER = nifti_bytes(VOXELS, patch=setting(magic=b"ni1", vox_offset=0))[:348]
RAW = VOXELS.tobytes(order="F")


def image() -> sitk.Image:
    made = sitk.GetImageFromArray(VOXELS.transpose(2, 1, 0))
    made.SetSpacing((0.9, 1.1, 2.5))
    made.SetOrigin((-20.0, 5.0, 40.0))
    made.SetDirection((0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0))
    return made


def pair(folder: Path, *, head: bytes = HEADER, body: bytes = RAW, names=("a.hdr", "a.img")) -> Path:
    write(folder, names[0], head)
    return write(folder, names[1], body).parent / names[0]


def detached(folder: Path, name: str, packed: bool = False) -> Path:
    sitk.WriteImage(image(), str(folder / name), useCompression=packed)
    return folder / name


def agrees(path: Path, affine: np.ndarray) -> None:
    """Volume, header and hash; the voxels are ``VOXELS``."""
    volume, header = read_volume(path), read_header(path)
    assert np.array_equal(volume.voxels, VOXELS.astype(np.float32)) and volume.warnings == ()
    np.testing.assert_allclose(volume.affine, affine, atol=1e-5)
    assert (header.shape, header.dtype, header.warnings) == (SHAPE, "int16", ())
    assert np.array_equal(header.affine, volume.affine) and len(content_hash(path)) == 64


@pytest.mark.parametrize("kind", [nibabel.Nifti1Pair, nibabel.Nifti2Pair])
@pytest.mark.parametrize("which", [".hdr", ".img"])
def test_B1_a_pair_is_read_by_either_of_its_names(tmp_path: Path, kind: type, which: str) -> None:
    made = kind(VOXELS, TURNED)
    made.set_qform(TURNED, 1)
    nibabel.save(made, tmp_path / "a.img")
    agrees(tmp_path / f"a{which}", nibabel.load(tmp_path / "a.img").affine)
    assert content_hash(tmp_path / "a.hdr") == content_hash(tmp_path / "a.img")


@pytest.mark.parametrize("names", [("a.hdr.gz", "a.img.gz"), ("a.hdr", "a.img.gz"), ("A.HDR", "A.IMG")])
def test_B1_the_halves_of_a_pair_may_be_compressed(tmp_path: Path, names: tuple[str, str]) -> None:
    head, body = (gz(half) if name.endswith("gz") else half for name, half in zip(names, (HEADER, RAW), strict=True))
    agrees(pair(tmp_path, head=head, body=body, names=names), AFFINE)
    agrees(tmp_path / names[1], AFFINE)


def test_B6_slope_and_offset_of_a_pair_count(tmp_path: Path) -> None:
    head = nifti_bytes(VOXELS, patch=setting(magic=b"ni1", vox_offset=16, scl_slope=2.0, scl_inter=-5.0))[:348]
    volume = read_volume(pair(tmp_path, head=head, body=b"x" * 16 + RAW))
    assert np.array_equal(volume.voxels, VOXELS.astype(np.float32) * 2 - 5)


@pytest.mark.parametrize("name", ["a.mhd", "a.nhdr"])
@pytest.mark.parametrize("packed", [False, True])
def test_B1_detached_voxels_are_read_as_simpleitk_reads_them(tmp_path: Path, name: str, packed: bool) -> None:
    path = detached(tmp_path, name, packed)
    assert len(list(tmp_path.iterdir())) == 2
    sitk.WriteImage(sitk.ReadImage(str(path)), str(tmp_path / "same.nii"))
    agrees(path, nibabel.load(tmp_path / "same.nii").affine)


def test_B1_a_metaimage_as_luna16_has_them(tmp_path: Path) -> None:
    """Written out by hand, the last line without its end."""
    write(tmp_path, "1.3.6.1.raw", RAW)
    text = (
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nCompressedData = False\n"
        "TransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = -20 5 40\nCenterOfRotation = 0 0 0\n"
        "AnatomicalOrientation = RAI\nElementSpacing = 0.9 1.1 2.5\nDimSize = 12 10 8\nElementType = MET_SHORT\n"
        "ElementDataFile = 1.3.6.1.raw"
    )
    path = write(tmp_path, "1.3.6.1.mhd", text.encode())
    agrees(path, np.diag([-1.0, -1.0, 1.0, 1.0]) @ AFFINE)


@pytest.mark.parametrize("name", ["a.mgz", "a.mgh"])
@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "f4"])
def test_B1_freesurfer_files_are_read_as_nibabel_reads_them(tmp_path: Path, name: str, dtype: str) -> None:
    voxels = (np.abs(VOXELS) % 200).astype(dtype)
    nibabel.save(nibabel.MGHImage(voxels, TURNED), tmp_path / name)
    volume, header = read_volume(tmp_path / name), read_header(tmp_path / name)
    assert np.array_equal(volume.voxels, voxels.astype(np.float32)) and volume.warnings == ()
    body = (tmp_path / name).read_bytes()
    theirs = nibabel.MGHImage.from_bytes(gzip.decompress(body) if name.endswith("z") else body)
    np.testing.assert_allclose(volume.affine, theirs.affine, atol=1e-4)
    assert header.shape == SHAPE and np.array_equal(header.affine, volume.affine)
    assert header.dtype == np.dtype(dtype).name


def mgh() -> bytes:
    return nibabel.MGHImage(VOXELS.astype("f4"), TURNED).to_bytes()


def test_B8_a_freesurfer_file_without_geometry_warns(tmp_path: Path) -> None:
    body = bytearray(mgh())
    body[28:30] = b"\0\0"  # whether the geometry is set
    volume = read_volume(write(tmp_path, "a.mgh", bytes(body)))
    assert "no orientation" in volume.warnings[0] and volume.orientation == "LIA"
    # FreeSurfer's own choice, written out (nibabel turns two axes the other way): the centre of the grid is the origin.
    expected = [[-1, 0, 0, 6], [0, 0, 1, -4], [0, -1, 0, 5], [0, 0, 0, 1]]
    assert np.array_equal(volume.affine, expected)


def cut_body(folder: Path) -> Path:
    return pair(folder, body=RAW[:-1])


def with_line(name: str, line: str) -> Callable[[Path], Path]:
    """A header whose line about the voxels' file is another."""

    def make(folder: Path) -> Path:
        path = detached(folder, name)
        text = path.read_bytes()
        pattern = rb"ElementDataFile = .*\n" if name.endswith("mhd") else rb"data ?file: .*\n"
        assert re.search(pattern, text)
        path.write_bytes(re.sub(pattern, lambda _: line.encode() + b"\n", text))
        return path

    return make


def linked_out(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = detached(folder, name)
        (body,) = (one for one in folder.iterdir() if one != path)
        (folder.parent / "outside").mkdir(exist_ok=True)
        shutil.move(body, folder.parent / "outside" / body.name)
        body.symlink_to(folder.parent / "outside" / body.name)
        return path

    return make


def piped(name: str) -> Callable[[Path], Path]:
    """The voxels are a pipe that nobody writes into: whoever opens it waits."""

    def make(folder: Path) -> Path:
        path = detached(folder, name)
        (body,) = (one for one in folder.iterdir() if one != path)
        body.unlink()
        os.mkfifo(body)
        return path

    return make


def counted_too_late(folder: Path) -> Path:
    path = detached(folder, "a.mhd")
    path.write_bytes(b"CenterOfRotation = 0 0 0\n" + path.read_bytes().replace(b"CenterOfRotation = 0 0 0\n", b""))
    return path


def with_voxels(name: str, change: Callable[[bytes], bytes], packed: bool = False) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = detached(folder, name, packed)
        (body,) = (one for one in folder.iterdir() if one != path)
        body.write_bytes(change(body.read_bytes()))
        return path

    return make


def mgz(change: Callable[[bytes], bytes], packed: bool = True) -> Callable[[Path], Path]:
    """``change`` of the file as it stands on the disk."""
    return lambda folder: write(folder, "a.mgz", change(gz(mgh()) if packed else mgh()))


def mgh_field(place: int, value: bytes) -> Callable[[Path], Path]:
    return mgz(lambda b: b[:place] + value + b[place + len(value) :], packed=False)


# name -> (what is made, a word of the refusal)
REFUSED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "analyze": (lambda f: pair(f, head=nifti_bytes(VOXELS, patch=setting(magic=b"\0"))[:348]), "Analyze 7.5 header"),
    "pair_of_a_single_file": (lambda f: pair(f, head=nifti_bytes(VOXELS)[:348]), "holds its own voxels"),
    "pair_without_image": (lambda f: write(f, "a.hdr", HEADER), "is not beside it"),
    "pair_without_header": (lambda f: write(f, "a.img", RAW), "is not beside it"),
    "pair_with_two_images": (lambda f: (write(f, "a.img.gz", gz(RAW)), pair(f))[1], "could be any of 2"),
    "pair_cut": (cut_body, "truncated"),
    "pair_much_longer": (lambda f: pair(f, body=RAW + b"\0" * 1_100_000), "holds more"),
    "pair_header_cut": (lambda f: pair(f, head=HEADER[:-1]), "ends inside its header"),
    "pair_header_endless": (lambda f: pair(f, head=HEADER + b"\0" * 1_100_000), "follow the header"),
    "pair_packed_header_damaged": (
        lambda f: pair(f, head=flipped(gz(HEADER), len(gz(HEADER)) - 6), names=("a.hdr.gz", "a.img")),
        "damaged",
    ),
    "pair_packed_image_damaged": (
        lambda f: pair(f, body=flipped(gz(RAW), len(gz(RAW)) - 6), names=("a.hdr", "a.img.gz")),
        "damaged",
    ),
    "pair_of_70_terabytes": (
        lambda f: pair(f, head=nifti_bytes(VOXELS, patch=setting(magic=b"ni1", dim_1=32767, dim_2=32767))[:348]),
        "cannot hold|claims",
    ),
    "pair_bomb": (
        lambda f: pair(f, body=gz(RAW + b"\0" * 50_000_000), names=("a.hdr", "a.img.gz")),
        "holds more",
    ),
    "mhd_absolute": (with_line("a.mhd", "ElementDataFile = /etc/passwd"), "the plain name"),
    "mhd_above": (with_line("a.mhd", "ElementDataFile = ../a.raw"), "the plain name"),
    "mhd_below": (with_line("a.mhd", "ElementDataFile = b/a.raw"), "the plain name"),
    "mhd_windows": (with_line("a.mhd", "ElementDataFile = ..\\a.raw"), "the plain name"),
    "mhd_itself_above": (with_line("a.mhd", "ElementDataFile = .."), "the plain name"),
    "mhd_zero_byte": (with_line("a.mhd", "ElementDataFile = a\0.raw"), "the plain name"),
    "mhd_pattern": (with_line("a.mhd", "ElementDataFile = a%03d.raw 1 8 1"), "the plain name"),
    "mhd_list": (with_line("a.mhd", "ElementDataFile = LIST"), "one file of voxels"),
    "mhd_missing": (with_line("a.mhd", "ElementDataFile = b.raw"), "not beside it"),
    "mhd_link_out": (linked_out("a.mhd"), "leads out"),
    "mhd_pipe": (piped("a.mhd"), "a regular file"),
    "nhdr_pipe": (piped("a.nhdr"), "a regular file"),
    "mhd_counted_too_late": (counted_too_late, "NDims stands behind"),
    "mhd_cut": (with_voxels("a.mhd", lambda b: b[:-1]), "truncated"),
    "mhd_longer": (with_voxels("a.mhd", lambda b: b + b"\0"), "truncated or damaged"),
    "mhd_packed_damaged": (with_voxels("a.mhd", lambda b: flipped(b, len(b) // 2), packed=True), "damaged"),
    "mhd_bomb": (with_voxels("a.mhd", lambda _: zlib.compress(RAW + b"\0" * 50_000_000), packed=True), "holds more"),
    "nhdr_absolute": (with_line("a.nhdr", "data file: /etc/passwd"), "the plain name"),
    "nhdr_above": (with_line("a.nhdr", "data file: ../a.raw"), "the plain name"),
    "nhdr_list": (with_line("a.nhdr", "data file: LIST\n/etc/passwd"), "one file of voxels"),
    "nhdr_pattern": (with_line("a.nhdr", "data file: a%03d.raw 1 8 1"), "the plain name"),
    "nhdr_twice": (with_line("a.nhdr", "data file: a.raw\ndatafile: b.raw"), "one file of voxels"),
    "nhdr_link_out": (linked_out("a.nhdr"), "leads out"),
    "nhdr_packed_damaged": (with_voxels("a.nhdr", lambda b: flipped(b, len(b) - 6), packed=True), "damaged"),
    "nhdr_bomb": (with_voxels("a.nhdr", lambda _: gz(RAW + b"\0" * 50_000_000), packed=True), "holds more"),
    "raw_alone": (lambda f: write(f, "a.raw", RAW), r"give the header .* \.mhd or \.nhdr"),
    "zraw_alone": (lambda f: write(f, "a.zraw", RAW), r"give the header .* \.mhd"),
    "mgz_empty": (mgz(lambda b: b""), "ends inside"),
    "mgz_text": (mgz(lambda b: b"hello" * 99), "does not begin"),
    "mgz_cut": (mgz(lambda b: b[:-9]), "end early"),
    "mgz_crc": (mgz(lambda b: flipped(b, len(b) - 6)), "damaged"),
    "mgh_cut": (mgz(lambda b: b[:-30], packed=False), "cannot hold"),
    "mgz_bomb": (mgz(lambda b: gz(mgh() + b"\0" * 50_000_000)), "holds more"),
    "mgh_frames": (mgh_field(16, b"\0\0\0\2"), "expected one 3D scan"),
    "mgh_sizes": (mgh_field(4, b"\x7f\xff\xff\xff"), "claims"),
    "mgh_sizes_negative": (mgh_field(4, b"\xff\xff\xff\xff"), "claims"),
    "mgh_type": (mgh_field(20, b"\0\0\0\x09"), "data type 9"),
    "mgh_spacing": (mgh_field(30, b"\x7f\xc0\0\0"), "not a usable geometry"),
    "mgh_directions": (mgh_field(42, b"\0" * 36), "not a usable geometry"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_A1_A2_A3_A7_A16_a_damaged_or_misleading_pair_is_refused(tmp_path: Path, capfd, name: str) -> None:
    make, word = REFUSED[name]
    (tmp_path / "scan").mkdir()
    path = make(tmp_path / "scan")
    tracemalloc.start()
    with pytest.raises(ScanError, match=word) as caught:
        read_volume(path)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
    said = str(caught.value)
    assert said.startswith(f"{path}: ") and "\n" not in said and not any(capfd.readouterr())
    assert "passwd" not in said and "cannot be read (" not in said


@pytest.mark.parametrize("name", ["a.mhd", "a.nhdr", "a.hdr"])
def test_B13_the_hash_is_of_both_files(tmp_path: Path, name: str) -> None:
    path = pair(tmp_path) if name == "a.hdr" else detached(tmp_path, name)
    before = content_hash(path)
    (body,) = (one for one in tmp_path.iterdir() if one != path)
    body.write_bytes(flipped(body.read_bytes(), 100))
    after = content_hash(path)
    path.write_bytes(path.read_bytes().replace(b"40", b"41") if name != "a.hdr" else flipped(HEADER, 80))
    assert len({before, after, content_hash(path)}) == 3


@pytest.mark.parametrize("name", ["a.mhd", "a.nhdr"])
def test_A7_a_header_that_is_a_link_may_have_linked_voxels(tmp_path: Path, name: str) -> None:
    """As git-annex stores files: each one a link to its own place."""
    real, linked = tmp_path / "real", tmp_path / "linked"
    real.mkdir(), linked.mkdir()
    detached(real, name)
    for path in real.iterdir():
        (linked / path.name).symlink_to(path)
    assert np.array_equal(read_volume(linked / name).voxels, VOXELS.astype(np.float32))


def test_an_analyze_file_is_read_once_it_was_saved_with_its_orientation(tmp_path: Path) -> None:
    analyze = nibabel.AnalyzeImage(VOXELS, AFFINE)
    nibabel.save(analyze, tmp_path / "a.img")
    with pytest.raises(ScanError, match=r"save it as \.nii\.gz with an orientation"):
        read_volume(tmp_path / "a.img")
    nibabel.save(
        nibabel.Nifti1Image(np.asanyarray(nibabel.load(tmp_path / "a.img").dataobj), AFFINE), tmp_path / "a.nii.gz"
    )
    agrees(tmp_path / "a.nii.gz", AFFINE)


@pytest.mark.parametrize("name", ["oasis.img", "oasis.hdr", "luna.mhd", "norm.mgz", "x.nhdr", "a.img.gz", "a.mgh.gz"])
def test_the_id_of_a_case_is_the_name_without_any_of_its_endings(name: str) -> None:
    assert default_id(f"scans/{name}") == name.partition(".")[0]


def test_a_gzip_of_a_freesurfer_file_under_its_long_name(tmp_path: Path) -> None:
    path = write(tmp_path, "a.mgh.gz", gzip.compress(mgh()))
    assert read_volume(path).shape == SHAPE
