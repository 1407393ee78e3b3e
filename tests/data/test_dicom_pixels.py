"""Stored values: every transfer syntax, bit depth and sign gives the same numbers; rescaling is per slice and frame."""

from __future__ import annotations

import argparse
import io
import os
import signal
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import gdcm
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian, RLELossless

from anymc3d.cli.boundary import logged
from anymc3d.data.dicom.decoder import DecoderError, FrameDecoder, FrameDescription
from anymc3d.data.readers import content_hash, read_header, read_volume
from anymc3d.errors import ScanError
from dicom_makers import (
    ENHANCED_MR,
    SLICES,
    STORED,
    Series,
    at,
    each,
    make_enhanced,
    make_series,
    set_pixels,
    setting,
    true_affine,
    truth,
)

SIGNED = (STORED.astype(np.int16) - 2048) & 0xFFF  # 12 bits, the upper four empty
GDCM_SYNTAXES = {
    "jpeg_lossless": gdcm.TransferSyntax.JPEGLosslessProcess14,
    "jpeg_lossless_first_order": gdcm.TransferSyntax.JPEGLosslessProcess14_1,
    "jpeg_ls": gdcm.TransferSyntax.JPEGLSLossless,
    "jpeg_2000": gdcm.TransferSyntax.JPEG2000Lossless,
}


def native(syntax: str) -> Callable[[Path], None]:
    def rewrite(path: Path) -> None:
        dataset = pydicom.dcmread(path)
        if syntax == ExplicitVRBigEndian:
            dataset.PixelData = dataset.pixel_array.astype(">u2").tobytes()
        dataset.file_meta.TransferSyntaxUID = syntax
        little, implicit = syntax != ExplicitVRBigEndian, syntax == ImplicitVRLittleEndian
        body = io.BytesIO()
        pydicom.dcmwrite(body, dataset, little_endian=little, implicit_vr=implicit, enforce_file_format=True)
        path.write_bytes(body.getvalue())

    return rewrite


def run_length(path: Path) -> None:
    dataset = pydicom.dcmread(path)
    dataset.compress(RLELossless, generate_instance_uid=False)
    dataset.save_as(path)


def compressed(syntax: int) -> Callable[[Path], None]:
    def rewrite(path: Path) -> None:
        reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
        reader.SetFileName(str(path))
        assert reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(syntax))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        writer.SetFileName(str(path))
        assert writer.Write()

    return rewrite


ENCODINGS = {
    "explicit": lambda path: None,
    "implicit": native(ImplicitVRLittleEndian),
    "big_endian": native(ExplicitVRBigEndian),
    "deflated": native(DeflatedExplicitVRLittleEndian),
    "run_length": run_length,
    **{name: compressed(syntax) for name, syntax in GDCM_SYNTAXES.items()},
}


def written(series: Series, folder: Path, rewrite: Callable[[Path], None] = lambda path: None) -> Path:
    series.write(folder)
    for path in sorted(folder.iterdir()):
        rewrite(path)
    return folder


def compressed_frames(folder: Path, name: str) -> tuple[list[bytes], str]:
    """The compressed frames of the slices in order, and their transfer syntax."""
    written(make_series(), folder, ENCODINGS[name])
    datasets = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    frames = [next(generate_frames(dataset.PixelData, number_of_frames=1)) for dataset in datasets]
    return frames, datasets[0].file_meta.TransferSyntaxUID


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize("name", ENCODINGS)
def test_B1_every_encoding_gives_the_same_volume(tmp_path: Path, name: str, signed: bool) -> None:
    """Also B6 (corpus: dicom_signed): 12 bits in 16, with a sign and without."""
    series = make_series()
    if signed:
        for dataset, pixels in zip(series.slices, STORED.astype(np.int16) - 2048, strict=True):
            set_pixels(dataset, pixels if "jpeg" in name else pixels & 0xFFF, bits=12, signed=True)
    volume = read_volume(written(series, tmp_path / "scan", ENCODINGS[name]))
    assert np.array_equal(volume.voxels, truth(intercept=-1024 - 2048 * signed))
    assert volume.warnings == ()
    np.testing.assert_allclose(volume.affine, true_affine(), atol=1e-9)
    assert read_header(tmp_path / "scan").dtype == ("int16" if signed else "uint16")


@pytest.mark.parametrize("bits", [1, 3, 7, 8, 9, 11, 13, 15, 16])
@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize("upper", ["empty", "sign", "shifted"])
def test_B6_odd_bit_depths_keep_their_sign(tmp_path: Path, bits: int, signed: bool, upper: str) -> None:
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    values = np.random.default_rng(bits).integers(low, high + 1, size=STORED.shape)
    values.flat[:2] = low, high
    shift = 16 - bits if upper == "shifted" else 0
    cells = (values << shift) & (0xFFFF if upper == "sign" else ((1 << bits) - 1) << shift)
    series = make_series()
    for dataset, pixels in zip(series.slices, cells.astype(np.uint16), strict=True):
        set_pixels(dataset, pixels, bits=bits, signed=signed)
        dataset.HighBit = bits - 1 + shift
    volume = read_volume(series.write(tmp_path / "scan"))
    assert np.array_equal(volume.voxels, truth(values))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint32, np.int32])
def test_eight_and_thirty_two_bits_are_read(tmp_path: Path, dtype: type) -> None:
    limits = np.iinfo(dtype)
    low, high = max(limits.min, -(2**20)), min(limits.max, 2**20)
    values = np.random.default_rng(0).integers(low, high, size=STORED.shape)
    series = make_series()
    for dataset, pixels in zip(series.slices, values.astype(dtype), strict=True):
        set_pixels(dataset, pixels, bits=limits.bits, signed=limits.min < 0)
    assert np.array_equal(read_volume(series.write(tmp_path / "scan")).voxels, truth(values))


def test_B6_each_slice_has_its_own_slope(tmp_path: Path) -> None:
    """700 HU must not become 400 HU because the first slice has another slope."""
    series = make_series()
    slopes = [0.25 + 0.5 * index for index in range(SLICES)]
    for index, (dataset, slope) in enumerate(zip(series.slices, slopes, strict=True)):
        dataset.RescaleSlope, dataset.RescaleIntercept = slope, -1000 - index
    expected = STORED * np.array(slopes)[:, None, None] - 1000 - np.arange(SLICES)[:, None, None]
    volume = read_volume(series.write(tmp_path / "scan"))
    np.testing.assert_allclose(volume.voxels, expected.transpose(2, 1, 0), rtol=1e-6)


@pytest.mark.parametrize("rewrite", ["explicit", "deflated", "run_length", "jpeg_2000", "jpeg_ls", "jpeg_lossless"])
def test_B6_an_enhanced_file_is_read_like_the_slices_it_replaces(tmp_path: Path, rewrite: str) -> None:
    slopes = [1.0 + 0.5 * index for index in range(SLICES)]
    series = make_series()
    for dataset, slope in zip(series.slices, slopes, strict=True):
        dataset.RescaleSlope = slope
    plain = read_volume(series.write(tmp_path / "plain"))
    made = make_enhanced(slopes=slopes)
    if "jpeg" in rewrite:  # frame by frame, because GDCM's writer gives every frame the first one's rescaling
        frames, syntax = compressed_frames(tmp_path / "frames", rewrite)
        made.slices[0].file_meta.TransferSyntaxUID = syntax
        made.slices[0].PixelData = encapsulate(frames[::-1])
        made.slices[0]["PixelData"].VR = "OB"
    rewriting = ENCODINGS["explicit" if "jpeg" in rewrite else rewrite]
    enhanced = read_volume(written(made, tmp_path / "one", rewriting))
    assert np.array_equal(enhanced.voxels, plain.voxels)
    np.testing.assert_allclose(enhanced.affine, plain.affine, atol=1e-9)
    assert (enhanced.modality, enhanced.warnings) == ("CT", ())


def test_enhanced_mr_is_mr(tmp_path: Path) -> None:
    assert read_volume(make_enhanced(sop_class=ENHANCED_MR).write(tmp_path / "scan")).modality == "MR"


def test_content_hash_does_not_depend_on_names_but_on_content(tmp_path: Path) -> None:
    one = make_series().write(tmp_path / "one")
    other = make_series()
    other.names = [f"{99 - index}.ima" for index in range(SLICES)]
    assert content_hash(one) == content_hash(other.write(tmp_path / "other"))
    changed = make_series()
    at(3, setting(SeriesDescription="other"))(changed)
    assert content_hash(one) != content_hash(changed.write(tmp_path / "changed"))


def encapsulated(dataset: Dataset, frame: bytes, syntax: str) -> None:
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].VR = "OB"


JPEG_2000 = "1.2.840.10008.1.2.4.90"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda f: f[:-20], "no end mark"),
        (lambda f: f[:8] + (40_000).to_bytes(4, "big") * 2 + f[16:], "say"),
        (lambda f: b"\xff\xd8" + f[2:], "do not begin"),
        (lambda f: f[:40] + b"\0\3" + f[42:], "say"),
        (lambda f: b"\0\0", "no end mark"),
        (lambda f: f[:60] + b"\0" * (len(f) - 62) + f[-2:], "file 3"),
    ],
    ids=["truncated", "claims 40000 x 40000", "another codec", "three colours", "empty", "zeros inside"],
)
def test_A3_A5_a_compressed_frame_is_checked_before_it_is_decoded(tmp_path: Path, change, word: str) -> None:
    series = make_series()
    encapsulated(series.slices[2], change(compressed_frames(tmp_path / "made", "jpeg_2000")[0][2]), JPEG_2000)
    folder = series.write(tmp_path / "scan")
    tracemalloc.start()
    with pytest.raises(ScanError, match=word):
        read_volume(folder)
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()


def described(file: Path) -> FrameDescription:
    dataset = pydicom.dcmread(file)
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    return FrameDescription(syntax, dataset.Rows, dataset.Columns, 16, 12, False)


def test_A5_a_decoder_that_dies_fails_its_frame_alone(tmp_path: Path) -> None:
    frames, _ = compressed_frames(tmp_path / "made", "jpeg_2000")
    description = described(next((tmp_path / "made").iterdir()))
    with FrameDecoder() as decoder:
        first = decoder.decode(frames[0], description)
        assert np.array_equal(first, STORED[0])
        os.kill(decoder._child.pid, signal.SIGSEGV)
        with pytest.raises(DecoderError, match="broke down"):
            decoder.decode(frames[1], description)
        assert np.array_equal(decoder.decode(frames[1], description), STORED[1])
        child = decoder._child
    assert child.returncode is not None, "no child outlives the series"


def test_A4_a_decoder_that_hangs_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames, _ = compressed_frames(tmp_path / "made", "jpeg_2000")
    description = described(next((tmp_path / "made").iterdir()))
    with FrameDecoder() as decoder:
        decoder.decode(frames[0], description)
        os.kill(decoder._child.pid, signal.SIGSTOP)
        monkeypatch.setattr("anymc3d.data.dicom.decoder.FRAME_SECONDS", 0.2)
        with pytest.raises(DecoderError, match="broke down"):
            decoder.decode(frames[1], description)


def test_A3_a_run_length_frame_too_short_for_its_size_is_refused(tmp_path: Path) -> None:
    series = make_series()
    for dataset in series.slices:
        dataset.Rows = dataset.Columns = 30_000
        encapsulated(dataset, b"\1\0\0\0\x40\0\0\0" + b"\0" * 60, RLELossless)
    with pytest.raises(ScanError, match=r"decompression bomb|more voxels"):
        read_volume(series.write(tmp_path / "scan"))
    for dataset in series.slices:
        dataset.Rows = dataset.Columns = 1000
    with pytest.raises(ScanError, match="too few"):
        read_volume(series.write(tmp_path / "scan"))


@pytest.mark.parametrize("asked", [False, True])
def test_what_a_decoder_logs_of_a_damaged_frame_is_there_only_for_who_asks(tmp_path: Path, capfd, asked: bool) -> None:
    """pydicom logs a whole traceback of a frame that ends as one clean line here."""
    series = make_series()
    for dataset in series.slices:
        dataset.compress(RLELossless, generate_instance_uid=False)
    damaged = bytearray(series.slices[0].PixelData)
    damaged[len(damaged) // 2 :] = b"\x80" * (len(damaged) - len(damaged) // 2)  # stands for nothing
    series.slices[0].PixelData = bytes(damaged)
    folder = series.write(tmp_path / "scan")
    with logged(argparse.Namespace(quiet=False, verbose=False, debug=asked)), pytest.raises(ScanError) as refused:
        read_volume(folder)
    assert "\n" not in str(refused.value)
    printed = capfd.readouterr()
    assert printed.out == "" and ("Traceback" in printed.err and "RLE" in printed.err) == asked
    assert asked or printed.err == ""


def test_A3_a_deflated_bomb_is_not_inflated(tmp_path: Path) -> None:
    series = make_series()
    folder = written(series, tmp_path / "scan", ENCODINGS["deflated"])
    path = sorted(folder.iterdir())[2]
    body = path.read_bytes()
    start = 132 + 12 + int.from_bytes(body[140:144], "little")
    inflated = zlib.decompressobj(-15).decompress(body[start:])
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = packer.compress(inflated) + packer.compress(b"\0" * 150_000_000) + packer.flush()
    path.write_bytes(body[:start] + bomb)
    tracemalloc.start()
    with pytest.raises(ScanError, match="cannot be decoded"):
        read_volume(folder)
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()


def test_A2_an_absurd_size_takes_no_memory(tmp_path: Path) -> None:
    series = make_series()
    each(setting(Rows=65535, Columns=65535))(series)
    tracemalloc.start()
    with pytest.raises(ScanError, match=r"claims more than|truncated"):
        read_volume(series.write(tmp_path / "scan"))
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()
