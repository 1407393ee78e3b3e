"""What lies among the slices or in their place: reports, pages, captures, volumes of other scanners, pixels beyond
their bits, positions and patients that an anonymiser changed. Promises B5, B6 and B7."""

from __future__ import annotations

import copy
from collections.abc import Callable
from glob import glob
from pathlib import Path

import nibabel
import numpy as np
import pytest
from advice import ways_out
from test_dicom_kinds import COUNT, mr_truth, refusal

from anymc3d.cli.main import main
from anymc3d.data.readers import content_hash, read_header, read_volume
from anymc3d.errors import ScanError
from dicom_makers import (
    ENHANCED_CT,
    MR,
    ROOT,
    SECONDARY,
    STORED,
    Series,
    anatomy,
    make_enhanced,
    make_series,
    set_pixels,
    setting,
    truth,
)


def extra(sop_class: str, **values: object) -> Callable[[Series], None]:
    """An object of the scan's own series that holds no image."""

    def change(series: Series) -> None:
        other = copy.deepcopy(series.slices[0])
        gone = dict.fromkeys(("PixelData", "Rows", "Columns", "ImagePositionPatient", "ImageOrientationPatient"))
        setting(SOPClassUID=sop_class, SOPInstanceUID=f"{ROOT}80", **gone)(other)
        setting(**values)(other)
        series.slices.insert(3, other)

    return change


STORAGE = "1.2.840.10008.5.1.4.1.1."


@pytest.mark.parametrize(
    "change",
    [
        extra(STORAGE + "66", Modality="MR"),
        extra(STORAGE + "4.2", Rows=1, Columns=1),
        extra("1.3.12.2.1107.5.9.1"),
        extra("1.3.46.670589.11.0.0.12.1"),
        extra(STORAGE + "88.22", Modality="SR"),
        extra(STORAGE + "11.1", Modality="PR"),
        extra(STORAGE + "66", SeriesInstanceUID=f"{ROOT}81"),
    ],
)
def test_an_object_that_holds_no_image_is_left_out_with_a_note(tmp_path: Path, change) -> None:
    series = make_series(sop_class=MR)
    change(series)
    volume = read_volume(series.write(tmp_path / "scan"))
    assert np.array_equal(volume.voxels, mr_truth(STORED))
    assert volume.warnings == ("1 DICOM objects in the folder are not scans (segmentations, reports, doses): ignored",)


def test_an_object_with_pixels_that_calls_itself_no_image_stays_an_error(tmp_path: Path) -> None:
    series = make_series()
    series.slices[2].SOPClassUID = STORAGE + "66"
    with pytest.raises(ScanError, match="belongs to the series and is not an image"):
        read_volume(series.write(tmp_path / "scan"))


@pytest.mark.parametrize(
    ("tail", "modality", "word"),
    [
        ("13.1.1", "XA", "X-Ray 3D Angiographic"),
        ("13.1.2", "XA", "X-Ray 3D Craniofacial"),
        ("13.1.3", "MG", "Breast Tomosynthesis"),
        ("6.2", "US", "Ultrasound Volume"),
        ("3.1", "US", "Ultrasound Multi-frame"),
        ("20", "NM", "Nuclear Medicine (SPECT)"),
        ("12.1.1", "XA", "X-Ray Angiographic"),
        ("7.4", "OT", "Secondary Capture"),
    ],
)
@pytest.mark.parametrize("alone", [False, True])
def test_volumes_of_other_scanners_are_called_by_their_name(tmp_path: Path, tail, modality, word, alone) -> None:
    """And read once they are NIfTI, as the message says."""
    series = make_enhanced()
    setting(SOPClassUID=STORAGE + tail, Modality=modality)(series.slices[0])
    folder = series.write(tmp_path / "scan")
    reference = folder / series.names[0] if alone else folder
    with pytest.raises(ScanError, match="objects are not read; convert it to NIfTI") as caught:
        read_volume(reference)
    assert word in str(caught.value)
    pixels = series.slices[0].pixel_array[::-1].transpose(2, 1, 0)
    nibabel.save(nibabel.Nifti1Image(pixels.astype(np.int16), np.eye(4)), tmp_path / "a.nii.gz")
    assert np.array_equal(read_volume(tmp_path / "a.nii.gz").voxels, pixels)


def test_one_enhanced_file_is_the_folder_that_holds_it(tmp_path: Path) -> None:
    folder = make_enhanced(sop_class=ENHANCED_CT).write(tmp_path / "scan")
    (path,) = folder.iterdir()
    named = path.rename(folder / "IM0001")
    for reference in (folder, named):
        assert np.array_equal(read_volume(reference).voxels, truth())
    assert content_hash(named) == content_hash(folder)
    assert read_header(named).shape == truth().shape


def test_series_of_pictures_beside_the_scan_are_left_out(tmp_path: Path) -> None:
    """A dose page, as most CT studies have one."""
    series = make_series()
    page = copy.deepcopy(series.slices[0])
    gone = dict.fromkeys(("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"))
    setting(SOPClassUID=SECONDARY, SOPInstanceUID=f"{ROOT}82", SeriesInstanceUID=f"{ROOT}83", **gone)(page)
    series.slices.append(page)
    volume = read_volume(series.write(tmp_path / "scan"))
    assert np.array_equal(volume.voxels, truth()) and "1 series of pictures" in volume.warnings[0]


def test_a_capture_with_a_place_among_the_slices_is_no_slice(tmp_path: Path) -> None:
    series = make_series()
    extra_slice = copy.deepcopy(series.slices[0])
    setting(SOPClassUID=SECONDARY, SOPInstanceUID=f"{ROOT}84", ImageType=["DERIVED", "SECONDARY"])(extra_slice)
    extra_slice.ImagePositionPatient = [-20, 5, 40 + 2.5 * COUNT]
    series.slices.append(extra_slice)
    folder = series.write(tmp_path / "scan")
    message = refusal(folder)
    assert "2 kinds of objects (CT, Secondary Capture)" in message
    (way,) = ways_out(message)
    assert np.array_equal(read_volume(folder, series=way.cell).voxels, truth())


@pytest.mark.parametrize(("padding", "is_said"), [(63536, True), (63535, False), (None, False)])
def test_padding_beyond_the_bits_is_called_so(tmp_path: Path, padding: int | None, is_said: bool) -> None:
    """And never becomes bone."""
    series = make_series()
    for dataset in series.slices:
        pixels = dataset.pixel_array.copy()
        pixels[:3, :3] = 63536
        set_pixels(dataset, pixels, bits=12)
        if padding is not None:
            dataset.add_new(0x00280120, "US", padding)
    with pytest.raises(ScanError, match="more than the 12 bits") as caught:
        read_volume(series.write(tmp_path / "scan"))
    assert ("all of them are padding (PixelPaddingValue)" in str(caught.value)) == is_said


def test_positions_that_an_anonymiser_zeroed_are_named_and_read_when_they_are_back(tmp_path: Path) -> None:
    series = make_series()
    true = [list(dataset.ImagePositionPatient) for dataset in series.slices]
    for dataset in series.slices:
        dataset.ImagePositionPatient = [0, 0, 0]
    message = refusal(series.write(tmp_path / "scan"))
    assert "all 8 slices are at one place (0, 0, 0)" in message and "ask for files with their ImagePosition" in message
    for dataset, position in zip(series.slices, true, strict=True):
        dataset.ImagePositionPatient = position
    assert np.array_equal(read_volume(series.write(tmp_path / "original")).voxels, truth())


def test_slices_of_several_patients_stay_refused(tmp_path: Path) -> None:
    series = make_series()
    for index, dataset in enumerate(series.slices):
        dataset.PatientID = f"PHI_ID_{index}"
    folder = series.write(tmp_path / "scan")
    assert "8 patients" in refusal(folder) and "anonymiser" in refusal(folder)
    with pytest.raises(ScanError, match=r"patients|8 of them"):
        read_volume(folder, series="uids=ignore")


def test_a_folder_of_nifti_files_says_how_to_give_them(journey, tmp_path: Path) -> None:
    folder = tmp_path / "imagesTs"
    folder.mkdir()
    for number in range(3):
        image = nibabel.Nifti1Image(anatomy(seed=number).transpose(2, 1, 0).astype(np.int16), np.diag([2, 2, 4, 1]))
        nibabel.save(image, folder / f"case_{number:03d}_0000.nii.gz")
    message = refusal(folder)
    assert "3 .nii.gz files" in message
    pattern = message.rpartition("-i ")[2].replace("FOLDER", str(folder))
    common = ["predict", "-p", str(journey.plugin), "--device", "cpu", "--quiet", "-o", str(tmp_path / "out")]
    assert len(glob(pattern)) == 3 and main([*common, "-i", *sorted(glob(pattern))]) == 0
