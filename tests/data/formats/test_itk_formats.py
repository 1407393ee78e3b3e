"""MetaImage and NRRD: as SimpleITK and nibabel place them, and nothing damaged passes."""

from __future__ import annotations

import gzip
import re
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from scan_makers import SHAPE, anatomy, flipped, write

from anymc3d.data.readers import content_hash, read_header, read_volume
from anymc3d.errors import ScanError

VOXELS = anatomy()
DIRECTION = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)


def image(voxels: np.ndarray = VOXELS) -> sitk.Image:
    made = sitk.GetImageFromArray(voxels.transpose(2, 1, 0))
    made.SetSpacing((0.9, 1.1, 2.5))
    made.SetOrigin((-20.0, 5.0, 40.0))
    made.SetDirection(DIRECTION)
    return made


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, bytes]:
    """Name -> content of whole files, written by SimpleITK."""
    folder = tmp_path_factory.mktemp("whole")
    bodies = {}
    for suffix in ("mha", "nrrd"):
        for packed in (False, True):
            path = folder / f"a.{suffix}"
            sitk.WriteImage(image(), str(path), useCompression=packed)
            bodies[f"{'packed' if packed else 'plain'}.{suffix}"] = path.read_bytes()
    return bodies


NAMES = ("plain.mha", "packed.mha", "plain.nrrd", "packed.nrrd")


@pytest.mark.parametrize("name", NAMES)
def test_B1_a_whole_file_is_read_as_its_nifti(tmp_path: Path, whole, name: str) -> None:
    volume = read_volume(write(tmp_path, name, whole[name]))
    sitk.WriteImage(image(), str(tmp_path / "same.nii"))
    assert np.array_equal(volume.voxels, VOXELS.astype(np.float32)) and volume.warnings == ()
    np.testing.assert_allclose(volume.affine, nibabel.load(tmp_path / "same.nii").affine, atol=1e-5)
    header = read_header(tmp_path / name)
    assert (header.shape, header.dtype, header.warnings) == (SHAPE, "int16", ())
    assert np.array_equal(header.affine, volume.affine) and len(content_hash(tmp_path / name)) == 64


@pytest.mark.parametrize(
    "dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "float32", "float64"]
)
@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
def test_every_number_type_is_read(tmp_path: Path, dtype: str, suffix: str) -> None:
    voxels = (np.abs(VOXELS) % 100).astype(dtype)
    sitk.WriteImage(image(voxels), str(tmp_path / f"a{suffix}"))
    assert np.array_equal(read_volume(tmp_path / f"a{suffix}").voxels, voxels.astype(np.float32))
    assert read_header(tmp_path / f"a{suffix}").dtype == dtype


def put(name: str, value: str) -> Callable[[bytes], bytes]:
    """Change a header line, or add it where it is missing."""

    def change(body: bytes) -> bytes:
        equals = b" = " if body.startswith(b"ObjectType") else b": "
        line = name.encode() + equals + value.encode() + b"\n"
        pattern = re.compile(rb"^" + re.escape(name.encode()) + rb" ?[=:][^\n]*\n", re.MULTILINE)
        if pattern.search(body):
            return pattern.sub(lambda _: line, body, count=1)
        first = body.index(b"\n") + 1
        return body[:first] + line + body[first:]

    return change


def cut(count: int) -> Callable[[bytes], bytes]:
    return lambda body: body[:-count]


def data_start(body: bytes) -> int:
    return body.index(b"LOCAL\n") + 6 if body.startswith(b"ObjectType") else body.index(b"\n\n") + 2


def bit(body: bytes) -> bytes:
    start = data_start(body)
    return flipped(body, start + (len(body) - start) // 2)


def bomb(body: bytes) -> bytes:
    pack = zlib.compress if body.startswith(b"ObjectType") else gzip.compress
    return body[: data_start(body)] + pack(VOXELS.tobytes(order="F") + b"\0" * 50_000_000)


def vector(body: bytes) -> bytes:
    return put("ElementNumberOfChannels", "2")(body)


# name -> (which whole file, what is done to it, a word of the refusal)
REFUSED: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "empty_mha": ("plain.mha", lambda b: b"", "ends inside its header"),
    "empty_nrrd": ("plain.nrrd", lambda b: b"", "ends inside its header"),
    "text_mha": ("plain.mha", lambda b: b"hello\n" * 9, "name = value"),
    "text_nrrd": ("plain.nrrd", lambda b: b"hello\n" * 9, "does not begin"),
    "header_cut_mha": ("plain.mha", lambda b: b[:90], "ends inside"),
    "header_cut_nrrd": ("plain.nrrd", lambda b: b[:90], "ends inside"),
    "endless_line": ("plain.mha", lambda b: b"a" * 200_000, "ends inside"),
    "one_byte_short_mha": ("plain.mha", cut(1), "truncated"),
    "one_byte_short_nrrd": ("plain.nrrd", cut(1), "truncated"),
    "one_byte_more_mha": ("plain.mha", lambda b: b + b"\0", "truncated or damaged"),
    "packed_cut_mha": ("packed.mha", cut(9), r"truncated|cannot hold"),
    "packed_cut_nrrd": ("packed.nrrd", cut(9), r"truncated|cannot hold"),
    "packed_bit_mha": ("packed.mha", bit, "damaged"),
    "packed_bit_nrrd": ("packed.nrrd", bit, "damaged"),
    "bomb_mha": ("packed.mha", bomb, "holds more"),
    "bomb_nrrd": ("packed.nrrd", bomb, "holds more"),
    "dims_absurd_mha": ("plain.mha", put("DimSize", "65535 65535 65535"), "claims"),
    "dims_absurd_nrrd": ("plain.nrrd", put("sizes", "65535 65535 65535"), "claims"),
    "dims_large_packed": ("packed.mha", put("DimSize", "1200 1000 1000"), "cannot hold"),
    "dims_zero": ("plain.mha", put("DimSize", "0 10 8"), "claims"),
    "dims_negative": ("plain.mha", put("DimSize", "-12 10 8"), "three sizes"),
    "dims_two": ("plain.nrrd", put("sizes", "12 10"), "three sizes"),
    "four_dimensions_mha": ("plain.mha", put("NDims", "4"), "NDims"),
    "four_dimensions_nrrd": ("plain.nrrd", put("dimension", "4"), "dimension"),
    "vectors": ("plain.mha", vector, "ElementNumberOfChannels"),
    "detached_mha": ("plain.mha", put("ElementDataFile", "/etc/passwd"), "ElementDataFile"),
    "detached_nrrd": ("plain.nrrd", put("data file", "/etc/passwd"), "data file"),
    "byte_skip": ("plain.nrrd", put("byte skip", "-1"), "byte skip"),
    "header_size": ("plain.mha", put("HeaderSize", "-1"), "HeaderSize"),
    "ascii_mha": ("plain.mha", put("BinaryData", "False"), "BinaryData"),
    "hex_nrrd": ("plain.nrrd", put("encoding", "hex"), "encoding"),
    "type_unknown_mha": ("plain.mha", put("ElementType", "MET_STRING"), "integer or float"),
    "type_block_nrrd": ("plain.nrrd", put("type", "block"), "integer or float"),
    "spacing_zero": ("plain.mha", put("ElementSpacing", "0 1 1"), r"spacing|geometry|SimpleITK"),
    "spacing_nan": ("plain.mha", put("ElementSpacing", "nan 1 1"), r"spacing|geometry|SimpleITK"),
    "spacing_absurd": ("plain.mha", put("ElementSpacing", "9000 1 1"), "spacing"),
    "origin_nan": ("plain.mha", put("Offset", "nan 0 0"), r"spacing|geometry|SimpleITK"),
    "origin_nan_nrrd": ("plain.nrrd", put("space origin", "(nan,5,40)"), "finite"),
    "direction_text_nrrd": ("plain.nrrd", put("space directions", "(1,0,0) (0,a,0) (0,0,1)"), "finite"),
    "direction_flat": ("plain.mha", put("TransformMatrix", "1 0 0 1 0 0 0 0 1"), r"spacing|geometry|SimpleITK"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_A1_A2_A3_a_damaged_file_is_refused(tmp_path: Path, whole, capfd, name: str) -> None:
    source, change, word = REFUSED[name]
    path = write(tmp_path, f"{name}.{source.rpartition('.')[2]}", change(whole[source]))
    tracemalloc.start()
    with pytest.raises(ScanError, match=word) as caught:
        read_volume(path)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
    assert not any(capfd.readouterr())


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
def test_B9_voxels_that_are_not_finite_are_refused(tmp_path: Path, value: float, suffix: str) -> None:
    voxels = VOXELS.astype(np.float32)
    voxels[3, 4, 5] = value
    sitk.WriteImage(image(voxels), str(tmp_path / f"a{suffix}"))
    with pytest.raises(ScanError, match=r"voxel \(3, 4, 5\)"):
        read_volume(tmp_path / f"a{suffix}")


def test_B8_a_file_without_orientation_warns(tmp_path: Path, whole) -> None:
    body = re.sub(
        rb"(TransformMatrix|Offset|CenterOfRotation|AnatomicalOrientation) = [^\n]*\n", b"", whole["plain.mha"]
    )
    volume = read_volume(write(tmp_path, "a.mha", body))
    assert "no orientation" in volume.warnings[0] and volume.orientation == "LPS"
    assert read_header(tmp_path / "a.mha").warnings == volume.warnings


def test_simpleitk_is_imported_only_when_it_is_needed() -> None:
    code = "import sys, anymc3d.data.readers; assert 'SimpleITK' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
