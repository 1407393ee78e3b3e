"""Malformed and misleading DICOM series: what is changed in a good one before it is written."""

# ruff: noqa: E501 (one entry, one line)
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from malformed_entries import PLAIN, Builder, Entry, of_bytes
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless

import dicom_makers as dicom


def of_series(
    change: Callable[[dicom.Series], object], series: Callable[[], dicom.Series] = dicom.make_series
) -> Builder:
    def make(folder: Path) -> str:
        made = series()
        change(made)
        return str(made.write(folder / "scan"))

    return make


MONO1 = dicom.each(dicom.setting(PhotometricInterpretation="MONOCHROME1"))


def syntax(uid: str) -> Callable[[dicom.Series], None]:
    """Stored in another way; big endian pixels are swapped."""

    def change(series: dicom.Series) -> None:
        for dataset in series.slices:
            dataset.file_meta.TransferSyntaxUID = uid
            if uid == ExplicitVRBigEndian:
                dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").byteswap().tobytes()
            if uid == RLELossless:
                dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
                dataset.compress(RLELossless)

    return change


def interleaved(**tag: tuple[object, object]) -> Callable[[dicom.Series], None]:
    """Two acquisitions whose slices alternate: an even stack, and half of it another scan."""
    (keyword, values) = next(iter(tag.items()))

    def change(series: dicom.Series) -> None:
        for index, dataset in enumerate(series.slices):
            setattr(dataset, keyword, values[index % 2])

    return change


def own_rescale(series: dicom.Series) -> None:
    for index, dataset in enumerate(series.slices):
        dataset.RescaleSlope, dataset.RescaleIntercept = 1 + index, -1024 - index


def signed_in_one(series: dicom.Series) -> None:
    series.slices[2].PixelRepresentation = 1


def truncated_rle(series: dicom.Series) -> None:
    syntax(RLELossless)(series)
    series.slices[3].PixelData = series.slices[3].PixelData[:60]


def object_of(sop_class: str, modality: str, *, own_series: bool = True) -> Callable[[dicom.Series], None]:
    """A DICOM object beside the slices that is no image."""

    def change(series: dicom.Series) -> None:
        other = dicom.make_series(stored=dicom.anatomy(1), series=9 if own_series else 1).slices[0]
        other.SOPClassUID, other.Modality, other.SOPInstanceUID = sop_class, modality, f"{dicom.ROOT}500"
        for keyword in ("PixelData", "Rows", "Columns"):
            delattr(other, keyword)
        series.slices.append(other)

    return change


def shuffled_frames(series: dicom.Series) -> None:
    (dataset,) = series.slices
    order = np.random.default_rng(5).permutation(len(dataset.PerFrameFunctionalGroupsSequence))
    items = [dataset.PerFrameFunctionalGroupsSequence[i] for i in order]
    pixels = np.frombuffer(dataset.PixelData, "<u2").reshape(len(order), dicom.ROWS, dicom.COLUMNS)[order]
    dataset.PerFrameFunctionalGroupsSequence, dataset.PixelData = items, pixels.tobytes()


def appended(series: dicom.Series) -> None:
    body = dicom.content(series.slices[2])
    series.names = [f"PHI_FILE_{n:03d}.dcm" for n in range(len(series.slices))]
    series.slices.pop(2)
    series.extra[series.names.pop(2)] = body + body


def padded(series: dicom.Series) -> None:
    for dataset in series.slices:
        dataset.add_new(0xFFFCFFFC, "OB", b"\0" * 200)


def charset(series: dicom.Series) -> None:
    for dataset in series.slices:
        dataset.SpecificCharacterSet = "GARBAGE"
        dicom.raw("PatientName", "PN", b"PHI_NAME\xff\xfe")(dataset)


def last_renamed(ending: str, content: bytes) -> Callable[[dicom.Series], None]:
    """The last slice under its name with something behind it: no gap is seen, and yet it is missing."""

    def change(series: dicom.Series) -> None:
        series.extra[f"PHI_FILE_{len(series.slices) - 1:03d}.dcm{ending}"] = content
        series.slices.pop()

    return change


def tilted(series: dicom.Series) -> None:
    for i, dataset in enumerate(series.slices):
        dataset.ImagePositionPatient = [-20, 5 + 0.8 * i, 40 + 2.5 * i]


def far_tilted(series: dicom.Series) -> None:
    """Shifts of hundreds of pixels from one slice to the next: no stack of that size is made."""
    for i, dataset in enumerate(series.slices):
        dataset.ImagePositionPatient = [-20, 5 + 900.0 * i, 40 + 2.5 * i]


def far_apart(series: dicom.Series) -> None:
    """One slice kilometres away: as many slices would be in between."""
    series.slices[-1].ImagePositionPatient = [-20, 5, 4e6]


def zipped(series: dicom.Series) -> None:
    series.extra["PHI_FILE.zip"] = b"PK\x03\x04" + b"\0" * 100


D = "1.2.840.10008.5.1.4.1.1."
DICOM: dict[str, Entry] = {
    "monochrome1": Entry(of_series(MONO1), "ok", "B6"),
    "monochrome1_in_one": Entry(of_series(lambda s: MONO1(dicom.Series(s.slices[:1]))), "warn", "B6"),
    "signed_in_one_slice": Entry(of_series(signed_in_one), "warn", "B6"),
    "rescale_of_each_slice": Entry(of_series(own_rescale), "ok", "B6"),
    "rescale_empty": Entry(of_series(dicom.each(dicom.setting(RescaleSlope="", RescaleIntercept=""))), "error", "B6"),
    "rescale_of_two_numbers": Entry(of_series(dicom.each(dicom.raw("RescaleSlope", "DS", b"1\\2 "))), "error", "B6"),
    "rescale_decimal_comma": Entry(of_series(dicom.each(dicom.raw("RescaleSlope", "DS", b"1,5 "))), "error", "B6"),
    "slope_negative_ct": Entry(of_series(dicom.each(dicom.setting(RescaleSlope=-1))), "warn", "B6"),
    "imager_spacing_instead": Entry(
        of_series(dicom.each(dicom.setting(PixelSpacing=None, ImagerPixelSpacing=[1.1, 0.9]))), "error", "B2"
    ),
    "spacing_decimal_comma": Entry(of_series(dicom.each(dicom.raw("PixelSpacing", "DS", b"0,9\\1,1 "))), "error", "B2"),
    "position_1e400": Entry(of_series(dicom.at(2, dicom.raw("ImagePositionPatient", "DS", b"1e400\\1\\2 "))), "error", "B2"),
    "orientation_not_square": Entry(
        of_series(dicom.each(dicom.setting(ImageOrientationPatient=[1, 0, 0, 0.05, 0.99875, 0]))), "error", "B7"
    ),
    "orientation_not_unit": Entry(
        of_series(dicom.each(dicom.setting(ImageOrientationPatient=[2, 0, 0, 0, 2, 0]))), "error", "B7"
    ),
    "interleaved_acquisitions": Entry(of_series(interleaved(AcquisitionNumber=(1, 2))), "warn", "B5"),
    "interleaved_kernels": Entry(of_series(interleaved(ConvolutionKernel=("B30f", "B70f"))), "warn", "B5"),
    "interleaved_energies": Entry(of_series(interleaved(KVP=(80, 140))), "warn", "B5"),
    "one_acquisition_after_the_other": Entry(
        of_series(lambda s: [setattr(d, "AcquisitionNumber", 1 + i // 4) for i, d in enumerate(s.slices)]), "ok", "B5"
    ),
    "an_acquisition_for_each_slice": Entry(
        of_series(lambda s: [setattr(d, "AcquisitionNumber", 1 + i) for i, d in enumerate(s.slices)]), "ok", "B5"
    ),
    "deflated": Entry(of_series(syntax(DeflatedExplicitVRLittleEndian)), "ok", "B1"),
    "rle": Entry(of_series(syntax(RLELossless)), "ok", "B1"),
    "rle_truncated": Entry(of_series(truncated_rle), "error", "A5"),
    "high_bit_15_of_12_bits": Entry(
        of_series(dicom.each(lambda d: setattr(d, "HighBit", 15))), "error", "B6"
    ),
    "report_in_its_own_series": Entry(of_series(object_of(D + "88.11", "SR")), "warn", "B5"),
    "structures_in_their_own_series": Entry(of_series(object_of(D + "481.3", "RTSTRUCT")), "warn", "B5"),
    "pdf_in_its_own_series": Entry(of_series(object_of(D + "104.1", "DOC")), "warn", "B5"),
    "report_in_the_scans_series": Entry(of_series(object_of(D + "88.11", "SR", own_series=False)), "warn", "B5"),
    "raw_data_in_the_scans_series": Entry(of_series(object_of(D + "66", "MR", own_series=False)), "warn", "B5"),
    "private_object_in_the_scans_series": Entry(of_series(object_of("1.3.12.2.1107.5.9.1", "MR", own_series=False)), "warn", "B5"),
    "enhanced_frames_shuffled": Entry(of_series(shuffled_frames, dicom.make_enhanced), "ok", "B3"),
    "enhanced_cut_by_a_frame": Entry(
        of_series(lambda s: setattr(s.slices[0], "PixelData", s.slices[0].PixelData[: -2 * dicom.ROWS * dicom.COLUMNS]), dicom.make_enhanced),
        "error", "A1",
    ),
    "file_appended_to_itself": Entry(of_series(appended), "ok", "A4"),
    "trailing_padding": Entry(of_series(padded), "ok", "A4"),
    "character_set_unknown": Entry(of_series(charset), "ok", "A4"),
    "last_slice_compressed": Entry(of_series(last_renamed(".gz", b"\x1f\x8b" + bytes(90))), "error", "B4"),
    "last_slice_not_copied_to_its_end": Entry(of_series(last_renamed(".part", bytes(90))), "error", "B4"),
    "modality_contradicts_the_object": Entry(of_series(dicom.each(dicom.setting(Modality="MR"))), "warn", "B8"),
    "interleaved_kinds_of_image": Entry(of_series(interleaved(ImageType=(["DERIVED", "PRIMARY", "FAT"], ["DERIVED", "PRIMARY", "WATER"]))), "warn", "B5"),
    "archive_beside": Entry(of_series(zipped), "warn", "B5"),
    "frames_0": Entry(of_series(dicom.each(dicom.setting(NumberOfFrames=0))), "error", "A4"),
    "frames_1": Entry(of_series(dicom.each(dicom.setting(NumberOfFrames=1))), "ok", "A4"),
    "one_file_instead_of_a_folder": Entry(
        lambda folder: str(dicom.make_series().write(folder / "s") / "PHI_FILE_000.dcm"), "error", "B5"
    ),
    "a_rule_that_takes_nothing": Entry(of_series(lambda s: None), "error", "B5", series="SeriesNumber=7"),
    "a_rule_that_is_none": Entry(of_series(lambda s: None), "error", "B5", series="PatientName=x"),
    "a_rule_for_a_file": Entry(of_bytes("a.nii", PLAIN), "error", "B5", series="SeriesNumber=1"),
    "a_gap_that_is_allowed": Entry(of_series(lambda s: s.slices.pop(4)), "warn", "B4", series="gaps=allow"),
    "a_tilt_that_is_allowed": Entry(of_series(tilted), "warn", "B7", series="tilt=allow"),
    "a_tilt_of_nearly_a_right_angle": Entry(of_series(far_tilted), "error", "B7", series="tilt=allow"),
    "gaps_that_would_be_all_made_up": Entry(of_series(far_apart), "error", "B4", series="gaps=allow"),
    "a_tilt_that_is_not": Entry(
        of_series(lambda s: [setattr(d, "ImagePositionPatient", [-20, 5 + 0.8 * i, 40 + 2.5 * i]) for i, d in enumerate(s.slices)]),
        "error", "B7", series="gaps=allow",
    ),
}  # fmt: skip
