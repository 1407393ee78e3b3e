"""Every damaged, mixed or misleading series ends in one of ok, warn and error, and never in a wrong volume."""

from __future__ import annotations

import copy
import logging
import os
import re
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from anymc3d.data.readers import content_hash, read_header, read_volume
from anymc3d.errors import ScanError
from dicom_makers import (
    MR,
    OBLIQUE,
    PHI,
    ROOT,
    SECONDARY,
    STORED,
    Series,
    anatomy,
    at,
    content,
    each,
    make_enhanced,
    make_series,
    raw,
    set_pixels,
    setting,
    true_affine,
    truth,
)

LAST = len(STORED) - 1


def moved(index: int, *, along: float = 0.0, sideways: float = 0.0) -> Callable[[Series], None]:
    def change(series: Series) -> None:
        x, y, z = (float(v) for v in series.slices[index].ImagePositionPatient)
        series.slices[index].ImagePositionPatient = [x + sideways, y, z + along]

    return change


def removed(*indices: int) -> Callable[[Series], None]:
    def change(series: Series) -> None:
        series.slices = [dataset for index, dataset in enumerate(series.slices) if index not in indices]

    return change


def all_moved(offsets: Callable[[int], tuple[float, float, float]]) -> Callable[[Series], None]:
    def change(series: Series) -> None:
        for index, dataset in enumerate(series.slices):
            dataset.ImagePositionPatient = [
                float(v + d) for v, d in zip(dataset.ImagePositionPatient, offsets(index), strict=True)
            ]

    return change


def copied(index: int, **values: object) -> Callable[[Series], None]:
    def change(series: Series) -> None:
        clone = copy.deepcopy(series.slices[index])
        setting(**values)(clone)
        series.slices.append(clone)

    return change


def joined(other: Series, **values: object) -> Callable[[Series], None]:
    def change(series: Series) -> None:
        for dataset in other.slices:
            setting(**values)(dataset)
        series.slices += other.slices

    return change


def beside(**files: bytes) -> Callable[[Series], None]:
    """Foreign files; ``_dot_`` in a keyword is a dot of the name."""
    return lambda series: series.extra.update({name.replace("_dot_", "."): body for name, body in files.items()})


def only(**files: bytes) -> Callable[[Series], None]:
    def change(series: Series) -> None:
        series.slices.clear()
        series.extra.update(files)

    return change


def numbered(keyword: str) -> Callable[[Series], None]:
    """Numbers that run against the positions."""

    def change(series: Series) -> None:
        for index, dataset in enumerate(series.slices):
            setattr(dataset, keyword, 99 - index)

    return change


def without_sop_uid(body: bytes) -> bytes:
    uid = f"{ROOT}1.3".encode()
    return body.replace(uid, b"\0" * len(uid))


def file_replaced(index: int, change: Callable[[bytes], bytes]) -> Callable[[Series], None]:
    def apply(series: Series) -> None:
        series.names = [f"PHI_FILE_{number:03d}.dcm" for number in range(len(series.slices))]
        dataset, name = series.slices.pop(index), series.names.pop(index)
        series.extra[name] = change(content(dataset))

    return apply


def other_pixels(dataset: Dataset) -> None:
    set_pixels(dataset, STORED[0] ^ 1, bits=12)


def colour(dataset: Dataset) -> None:
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
    set_pixels(dataset, np.repeat(STORED[0].astype(np.uint8), 3, axis=1), bits=8)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.Columns = 3, "RGB", STORED.shape[2]


def without_place(dataset: Dataset) -> None:
    setting(ImagePositionPatient=None, ImageOrientationPatient=None, PixelSpacing=None)(dataset)


def screenshot(series: Series) -> None:
    """A picture of the scan with the scan's own series UID, in colour, of another size."""
    copied(0, SOPClassUID=SECONDARY, SOPInstanceUID=ROOT + "56", ImageType=["DERIVED", "SECONDARY"])(series)
    without_place(series.slices[-1])
    colour(series.slices[-1])


def overlay_huge(dataset: Dataset) -> None:
    dataset.add_new(0x60000010, "US", 30000)
    dataset.add_new(0x60000011, "US", 30000)
    dataset.add_new(0x60000040, "CS", "G")
    dataset.add_new(0x60000050, "SS", [1, 1])
    dataset.add_new(0x60000100, "US", 1)
    dataset.add_new(0x60000102, "US", 0)
    dataset.add_new(0x60003000, "OW", b"\0" * 16)


def overlay_in_bit_15(dataset: Dataset) -> None:
    set_pixels(dataset, dataset.pixel_array | np.uint16(0x8000), bits=12)
    dataset.add_new(0x60000102, "US", 15)


def nested_file(body: bytes) -> bytes:
    start = b"\x40\x00\x75\x02SQ\0\0\xff\xff\xff\xff"
    place = body.index(b"\xe0\x7f\x10\x00OW")
    return body[:place] + start + (b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + start) * 3000


def never_closed(body: bytes) -> bytes:
    place = body.index(b"\xe0\x7f\x10\x00OW")
    return body[:place] + b"\x40\x00\x75\x02SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"


def lying_length(body: bytes) -> bytes:
    place = body.index(b"\xe0\x7f\x10\x00OW")
    return body[: place + 8] + struct.pack("<I", 0x7FFFFFF0) + body[place + 12 : -40]


def long_pixels(body: bytes) -> bytes:
    place = body.index(b"\xe0\x7f\x10\x00OW")
    return body[: place + 8] + struct.pack("<I", len(body) - place - 12 + 20) + body[place + 12 :] + b"\0" * 20


def two_phases(**tag: tuple[object, object]) -> Callable[[Series], None]:
    (keyword, (one, other)) = next(iter(tag.items()))

    def change(series: Series) -> None:
        second = make_series(stored=anatomy(seed=5))
        for index, dataset in enumerate(second.slices):
            dataset.SOPInstanceUID = f"{ROOT}77.{index}"
            setting(**{keyword: other})(dataset)
        each(setting(**{keyword: one}))(series)
        series.slices += second.slices

    return change


def localizer(**values: object) -> Dataset:
    dataset = make_series(stored=anatomy(1), orientation=(0, 1, 0, 0, 0, -1), series=1).slices[0]
    setting(SOPInstanceUID=ROOT + "66", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], **values)(dataset)
    return dataset


def segmentation() -> Dataset:
    dataset = make_series(stored=anatomy(1), series=4).slices[0]
    setting(SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4", Modality="SEG", SOPInstanceUID=ROOT + "67")(dataset)
    return dataset


def report() -> Dataset:
    dataset = make_series(stored=anatomy(1), series=5).slices[0]
    for keyword in ("PixelData", "Rows", "Columns", "ImagePositionPatient"):
        delattr(dataset, keyword)
    setting(SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11", Modality="SR", SOPInstanceUID=ROOT + "68")(dataset)
    return dataset


def plus(*datasets: Dataset) -> Callable[[Series], None]:
    return lambda series: series.slices.extend(datasets)


def shuffled(series: Series) -> None:
    order = np.random.default_rng(3).permutation(len(series.slices))
    series.slices = [series.slices[i] for i in order]


Change = Callable[[Series], None]
nothing: Change = lambda series: None  # noqa: E731

# name -> (change of a whole CT series, expected, a word of the message)
CORPUS: dict[str, tuple[Change, str, str]] = {
    "whole": (nothing, "ok", ""),
    "names_shuffled": (shuffled, "ok", ""),
    "instance_numbers_reversed": (numbered("InstanceNumber"), "ok", ""),
    "instance_numbers_missing": (each(setting(InstanceNumber=None)), "ok", ""),
    "instance_numbers_equal": (each(setting(InstanceNumber=1)), "ok", ""),
    "slicelocation_lies": (numbered("SliceLocation"), "ok", ""),
    "slicethickness_lies": (each(setting(SliceThickness=9.0)), "ok", ""),
    "spacingbetween_lies": (each(setting(SpacingBetweenSlices=7.0)), "ok", ""),
    "position_rounding_noise": (all_moved(lambda i: (0, 0, (-1) ** i * 1e-4)), "ok", ""),
    "overlay_30000": (each(overlay_huge), "ok", ""),
    "overlay_in_the_upper_bits": (each(overlay_in_bit_15), "ok", ""),
    "text_beside": (beside(README_dot_txt=b"notes", LICENSE=b"x", thumbs_dot_db=b"y"), "ok", ""),
    "sub_folder_of_text": (lambda s: s.extra.update({"more/notes.txt": b"z"}), "ok", ""),
    "hidden_files": (beside(_dot_DS_Store=b"x", _dot__PHI_FILE_003_dot_dcm=b"x"), "ok", ""),
    "dicomdir_by_name": (beside(DICOMDIR=b"\0" * 128 + b"DICM"), "ok", ""),
    "patient_name_spelt_alike": (at(2, setting(PatientName="phi_name X")), "ok", ""),
    "picture_beside": (beside(PHI_FILE_dot_png=b"\x89PNG"), "warn", "look like images"),
    "segmentation_beside": (plus(segmentation()), "warn", "not scans"),
    "report_beside": (plus(report()), "warn", "not scans"),
    "burned_in_yes": (at(1, setting(BurnedInAnnotation="YES")), "warn", "burned"),
    "lossy": (each(setting(LossyImageCompression="01")), "warn", "loss"),
    "preamble_pe": (file_replaced(2, lambda b: b"MZ\x90\0" + b[4:]), "warn", "program"),
    "preamble_elf": (file_replaced(2, lambda b: b"\x7fELF" + b[4:]), "warn", "program"),
    "same_file_twice": (copied(3), "warn", "copies"),
    "all_files_twice": (lambda s: [copied(i)(s) for i in range(len(STORED))], "warn", "copies"),
    "same_uid_and_pixels_other_header": (copied(3, InstitutionName="PHI_PLACE 2"), "warn", "copies"),
    "rescale_type_other": (each(setting(RescaleType="MGML")), "warn", "Hounsfield"),
    "series_uids_blanked": (each(setting(SeriesInstanceUID="")), "warn", "SeriesInstanceUID"),
    "one_slice": (removed(*range(1, LAST + 1)), "warn", "one slice"),
    "same_uid_other_pixels": (lambda s: (copied(3)(s), other_pixels(s.slices[-1])), "error", "other pixels"),
    "same_uid_other_place": (at(5, setting(SOPInstanceUID=f"{ROOT}1.3")), "error", "two slices with one"),
    "same_place_other_uid": (copied(3, SOPInstanceUID=ROOT + "55"), "warn", "same pixels and another SOP"),
    "same_place_other_uid_other_pixels": (
        lambda s: (copied(3, SOPInstanceUID=ROOT + "55")(s), other_pixels(s.slices[-1])),
        "error",
        "at one place",
    ),
    "all_slices_sent_twice": (
        lambda s: [copied(i, SOPInstanceUID=f"{ROOT}55.{i}")(s) for i in range(len(STORED))],
        "warn",
        "8 slices are repeated",
    ),
    "gap_one_slice": (removed(4), "error", "1 missing"),
    "gap_many": (removed(2, 3, 5), "error", "missing"),
    "gap_of_two_percent": (all_moved(lambda i: (0, 0, 0.05 * (i > 3))), "error", "uneven"),
    "variable_spacing": (all_moved(lambda i: (0, 0, 0.1 * i * i)), "error", "uneven"),
    "gantry_tilt": (all_moved(lambda i: (0, 0.8 * i, 0)), "error", "degrees"),
    "gantry_tilt_of_half_a_degree": (all_moved(lambda i: (0, 0.022 * i, 0)), "error", "degrees"),
    "one_slice_sideways": (moved(3, sideways=4.0), "error", "sideways"),
    "one_slice_turned": (at(2, setting(ImageOrientationPatient=[0, 1, 0, 1, 0, 0])), "error", "orientation"),
    "one_slice_other_pixel_spacing": (at(2, setting(PixelSpacing=[1.0, 0.9])), "error", "pixel spacing differs"),
    "one_slice_other_size": (at(2, lambda d: set_pixels(d, STORED[2][:8], bits=12)), "error", "image sizes"),
    "two_series_in_folder": (joined(make_series(series=2)), "error", "expected one series, found 2"),
    "two_patients_one_series": (at(2, setting(PatientID="PHI_ID_78")), "error", "patients"),
    "two_names_one_series": (at(2, setting(PatientName="PHI_NAME^Y")), "error", "patients"),
    "two_studies_one_series": (at(2, setting(StudyInstanceUID=ROOT + "99")), "error", "2 StudyInstanceUIDs"),
    "two_frames_of_reference": (at(2, setting(FrameOfReferenceUID=ROOT + "98")), "error", "2 FrameOfReferenceUIDs"),
    "two_modalities_one_series": (at(2, setting(Modality="MR")), "error", "modalities"),
    "two_phases_by_acquisition": (two_phases(AcquisitionNumber=(1, 2)), "error", "AcquisitionNumber"),
    "two_phases_by_time": (two_phases(TemporalPositionIdentifier=(1, 2)), "error", "TemporalPositionIdentifier"),
    "two_phases_by_echo": (two_phases(EchoTime=(2.3, 4.6)), "error", "EchoTime"),
    "two_phases_by_nothing": (two_phases(InstitutionName=("a", "b")), "error", "two different slices"),
    "localizer_in_the_series": (plus(localizer()), "error", "localizers"),
    "localizer_by_orientation_only": (plus(localizer(AcquisitionNumber=3)), "error", "locali"),
    "localizer_series": (plus(localizer(SeriesInstanceUID=ROOT + "8.9")), "error", "expected one series"),
    "mosaic": (each(setting(ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"])), "error", "mosaics"),
    "secondary_capture_with_a_place": (each(setting(SOPClassUID=SECONDARY)), "warn", "Secondary Capture"),
    "screenshots_only": (each(lambda d: (setting(SOPClassUID=SECONDARY)(d), without_place(d))), "error", "not a CT"),
    "rgb_with_a_place": (each(lambda d: (setting(SOPClassUID=SECONDARY)(d), colour(d))), "error", "colour"),
    "one_screenshot_in_the_series": (screenshot, "warn", r"1 of 9 files .* pictures without a place"),
    "rgb_ct": (each(colour), "error", "colour"),
    "palette_ct": (each(setting(PhotometricInterpretation="PALETTE COLOR")), "error", "colour"),
    "position_missing": (at(2, setting(ImagePositionPatient=None)), "error", "ImagePositionPatient is missing"),
    "position_of_two": (at(2, setting(ImagePositionPatient=[1, 2])), "error", "ImagePositionPatient"),
    "position_text": (at(2, raw("ImagePositionPatient", "DS", b"PHI_NAME\\1\\2 ")), "error", "ImagePositionPatient"),
    "position_nan": (at(2, raw("ImagePositionPatient", "DS", b"nan\\1\\2 ")), "error", "ImagePositionPatient"),
    "orientation_missing": (each(setting(ImageOrientationPatient=None)), "error", "ImageOrientationPatient"),
    "orientation_zero": (each(setting(ImageOrientationPatient=[0] * 6)), "error", "perpendicular"),
    "orientation_parallel": (each(setting(ImageOrientationPatient=[1, 0, 0, 1, 0, 0])), "error", "perpendicular"),
    "pixel_spacing_missing": (each(setting(PixelSpacing=None)), "error", "PixelSpacing is missing"),
    "pixel_spacing_zero": (each(setting(PixelSpacing=[0, 0])), "error", "PixelSpacing"),
    "pixel_spacing_negative": (each(setting(PixelSpacing=[-1, 1])), "error", "PixelSpacing"),
    "pixel_spacing_absurd": (each(setting(PixelSpacing=[900, 900])), "error", "spacing"),
    "positions_equal": (each(setting(ImagePositionPatient=[0, 0, 0])), "error", "at one place"),
    "missing_rescale_ct": (each(setting(RescaleSlope=None, RescaleIntercept=None)), "error", "RescaleSlope"),
    "missing_rescale_in_one": (at(2, setting(RescaleSlope=None, RescaleIntercept=None)), "error", "RescaleSlope"),
    "missing_intercept": (at(2, setting(RescaleIntercept=None)), "error", "together"),
    "slope_zero": (each(setting(RescaleSlope=0)), "error", "RescaleSlope is 0"),
    "slope_text": (each(raw("RescaleSlope", "DS", b"abcdefgh")), "error", "RescaleSlope"),
    "slope_nan": (each(raw("RescaleSlope", "DS", b"nan ")), "error", "RescaleSlope"),
    "slope_overflow": (each(setting(RescaleSlope="1e300")), "error", "float32"),
    "modality_lut": (each(lambda d: setattr(d, "ModalityLUTSequence", Items([Dataset()]))), "error", "table"),
    "constant": (each(lambda d: set_pixels(d, STORED[0] * 0, bits=12)), "error", "empty scan"),
    "rows_65535": (each(setting(Rows=65535)), "error", "truncated"),
    "rows_zero": (each(setting(Rows=0)), "error", "at least 1"),
    "rows_missing": (at(2, setting(Rows=None)), "error", "Rows is missing"),
    "rows_one_less": (each(setting(Rows=9)), "error", "promises"),
    "frames_2e31": (at(2, raw("NumberOfFrames", "IS", b"2147483648")), "error", "frames"),
    "frames_of_a_plain_file": (each(setting(NumberOfFrames=2)), "error", "frames"),
    "bits_stored_17": (each(setting(BitsStored=17)), "error", "BitsAllocated"),
    "bits_stored_0": (each(setting(BitsStored=0)), "error", "BitsAllocated"),
    "high_bit_20": (each(setting(HighBit=20)), "error", "HighBit"),
    "bits_allocated_12": (each(setting(BitsAllocated=12)), "error", "contradict"),
    "values_beyond_their_bits": (each(setting(BitsStored=10, HighBit=9)), "error", "more than the 10 bits"),
    "pixels_missing": (at(2, setting(PixelData=None)), "error", "missing"),
    "sop_class_of_last_damaged": (at(LAST, setting(SOPClassUID="1.2.840.10008.5.1.4.1.1.88.2")), "error", "not an im"),
    "sop_class_of_last_unknown": (at(LAST, setting(SOPClassUID="1.2.3.4")), "error", "not a CT, MR or PET"),
    "sop_uid_missing": (file_replaced(2, without_sop_uid), "error", ""),
    "series_uid_missing_in_one": (at(2, setting(SeriesInstanceUID=None)), "error", "SeriesInstanceUID"),
    "empty_file": (file_replaced(2, lambda b: b""), "error", "named like DICOM"),
    "not_dicom_but_named_so": (file_replaced(2, lambda b: b"hello" * 99), "error", "named like DICOM"),
    "truncated_in_the_meta_group": (file_replaced(2, lambda b: b[:200]), "error", ""),
    "truncated_in_the_header": (file_replaced(2, lambda b: b[:500]), "error", ""),
    "truncated_in_the_pixels": (file_replaced(2, lambda b: b[:-50]), "error", "truncated|promises"),
    "truncated_by_two_bytes": (file_replaced(2, lambda b: b[:-2]), "error", "truncated|promises"),
    "lying_length": (file_replaced(2, lying_length), "error", ""),
    "pixels_too_long": (file_replaced(2, long_pixels), "error", "promises"),
    "unknown_transfer_syntax": (
        file_replaced(2, lambda b: b.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.9.9\0")),
        "error",
        "transfer syntax",
    ),
    "nested_3000_levels": (file_replaced(2, nested_file), "error", ""),
    "sequence_never_closed": (file_replaced(2, never_closed), "error", ""),
    "dicomdir_only": (only(DICOMDIR=b"\0" * 128 + b"DICM"), "error", "no DICOM scan"),
    "empty_folder": (only(), "error", "no DICOM scan"),
    "text_only": (only(a=b"hello"), "error", "no DICOM scan"),
}  # fmt: skip


def outcome(folder: Path) -> tuple[str, str]:
    """State, and all that was said; the header alone and the hash never say more than the whole."""
    try:
        volume = read_volume(folder)
    except ScanError as error:
        for function in (read_header, content_hash):
            try:
                function(folder)
            except ScanError as other:
                assert str(other).startswith(f"{folder}: ") and "\n" not in str(other)
        return "error", str(error)
    header = read_header(folder)
    assert header.shape == volume.shape and np.array_equal(header.affine, volume.affine)
    assert set(header.warnings) <= set(volume.warnings) and len(content_hash(folder)) == 64
    return ("warn" if volume.warnings else "ok"), " ".join(volume.warnings)


@pytest.mark.parametrize("name", CORPUS)
def test_A4_B5_every_series_is_read_right_or_says_what_is_wrong(tmp_path, caplog, capfd, name: str) -> None:
    """Also G1: nothing that identifies a person is in any message, log line or output."""
    caplog.set_level(logging.DEBUG)
    change, expected, word = CORPUS[name]
    series = make_series()
    change(series)
    folder = series.write(tmp_path / "scan")
    state, said = outcome(folder)
    assert (state, bool(re.search(word, said))) == (expected, True), said
    assert "\n" not in said
    if state == "error":
        assert said.startswith(f"{folder}: ")
        said = said.removeprefix(str(folder))
    printed = capfd.readouterr()
    everything = said + caplog.text + printed.out + printed.err
    assert not [secret for secret in (*PHI, ROOT) if secret in everything]
    if state != "error" and name != "one_slice":
        volume = read_volume(folder)
        assert np.abs(volume.voxels - truth()).max() == 0
        np.testing.assert_allclose(volume.affine, true_affine(), atol=1e-3)
        assert volume.modality == "CT" and volume.spacing == pytest.approx((0.9, 1.1, 2.5), abs=1e-3)


def test_A7_a_link_that_leads_out_is_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_series().write(tmp_path / "scan")
    os.symlink("/etc/passwd", folder / "PHI_FILE_900.dcm")
    opened: list[str] = []
    true_open = os.open
    monkeypatch.setattr(
        os, "open", lambda path, *rest, **more: opened.append(str(path)) or true_open(path, *rest, **more)
    )
    with pytest.raises(ScanError, match="leads out of it"):
        read_volume(folder)
    assert not opened


def test_a_link_that_stays_inside_is_no_second_slice(tmp_path: Path) -> None:
    folder = make_series().write(tmp_path / "scan")
    os.symlink(folder / "PHI_FILE_003.dcm", folder / "PHI_FILE_900.dcm")
    os.symlink(folder, folder / "loop")
    assert read_volume(folder).warnings == ()


def test_A16_a_pipe_among_the_slices_is_not_waited_for(tmp_path: Path) -> None:
    folder = make_series().write(tmp_path / "scan")
    os.mkfifo(folder / "PHI_FILE_900.dcm")
    with pytest.raises(ScanError, match="cannot be opened"):
        read_volume(folder)


def test_mr_needs_no_rescaling(tmp_path: Path) -> None:
    volume = read_volume(make_series(sop_class=MR, orientation=OBLIQUE).write(tmp_path / "scan"))
    assert (volume.modality, volume.warnings) == ("MR", ())
    assert np.array_equal(volume.voxels, truth(intercept=0))


def test_sub_folders_belong_to_the_folder(tmp_path: Path) -> None:
    series = make_series()
    series.names = [f"part{index % 2}/PHI_FILE_{index}" for index in range(len(series.slices))]
    for name in ("part0", "part1"):
        (tmp_path / "scan" / name).mkdir(parents=True)
    assert np.array_equal(read_volume(series.write(tmp_path / "scan")).voxels, truth())


def test_files_without_preamble_are_read(tmp_path: Path) -> None:
    series = make_series()
    folder = tmp_path / "scan"
    folder.mkdir()
    for index, dataset in enumerate(series.slices):
        body = content(dataset)
        (folder / f"PHI_FILE_{index}").write_bytes(
            body[132:] if index % 2 else body[body.index(b"\x08\x00\x08\x00CS") :]
        )
    volume = read_volume(folder)
    assert np.array_equal(volume.voxels, truth()) and volume.warnings == ()


def test_B5_the_table_of_series_names_sizes_and_no_patient(tmp_path: Path) -> None:
    series = make_series()
    joined(make_series(series=2, stored=anatomy(5)))(series)
    folder = series.write(tmp_path / "scan")
    with pytest.raises(ScanError) as caught:
        read_volume(folder)
    said = str(caught.value)
    assert "CT 12 x 10, 0.9 x 1.1 x 2.5 mm, 8 files" in said and "CT 12 x 10, 0.9 x 1.1 x 2.5 mm, 5 files" in said


def test_enhanced_files_are_checked_like_others(tmp_path: Path) -> None:
    def broken(change: Callable[[Dataset], object], word: str) -> None:
        series = make_enhanced()
        change(series.slices[0])
        folder = series.write(tmp_path / f"{word}")
        with pytest.raises(ScanError, match=word):
            read_volume(folder)

    def no_position(dataset: Dataset) -> None:
        del dataset.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence

    def same_position(dataset: Dataset) -> None:
        groups = dataset.PerFrameFunctionalGroupsSequence
        groups[2].PlanePositionSequence = groups[3].PlanePositionSequence

    broken(no_position, "ImagePositionPatient")
    broken(same_position, "at one place")
    broken(lambda d: d.PerFrameFunctionalGroupsSequence.pop(), "7 frames are described")
    broken(lambda d: delattr(d, "SharedFunctionalGroupsSequence"), "ImageOrientationPatient")
    broken(lambda d: setattr(d, "PixelData", d.PixelData[:-2]), "promises")
