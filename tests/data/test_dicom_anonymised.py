"""What anonymisers and toolkits leave of a series is called by its name, and each way out gives the right voxels.
Promises B4 and B5."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from advice import ways_out
from pydicom.dataset import Dataset

from anymc3d.data.readers import read_volume
from anymc3d.errors import ScanError
from dicom_makers import ROOT, STORED, Series, anatomy, make_series, truth

COUNT = len(STORED)


def each(change: Callable[[int, Dataset], object]) -> Series:
    series = make_series()
    for index, dataset in enumerate(series.slices):
        change(index, dataset)
    return series


def taken_apart(index: int, dataset: Dataset) -> None:
    """With a number of its own, too."""
    dataset.SeriesInstanceUID, dataset.SeriesNumber = f"{ROOT}70.{index}", 300 + index


def one_uid(index: int, dataset: Dataset) -> None:
    dataset.SOPInstanceUID = f"{ROOT}71"


def page(**values: object) -> Series:
    """A page of doses that calls itself CT, in the scan's own series."""
    series = make_series()
    extra = copy.deepcopy(series.slices[0])
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        delattr(extra, keyword)
    extra.SOPInstanceUID, extra.ImageType = f"{ROOT}72", ["DERIVED", "SECONDARY", "OTHER"]
    for keyword, value in values.items():
        setattr(extra, keyword, value)
    series.slices.insert(0, extra)
    return series


def far_apart() -> Series:
    """A stack of four for each of two discs, of one angle."""
    series = make_series()
    for index, dataset in enumerate(series.slices):
        dataset.ImagePositionPatient = [-20.0, 5.0, 40.0 + 2.5 * index + (30 if index >= 4 else 0)]
    return series


def merged(keyword: str, values: tuple[object, object]) -> Series:
    """Two series under one UID, numbered alike."""
    series, other = make_series(), make_series(stored=anatomy(seed=5))
    for number, one in enumerate((series, other)):
        for index, dataset in enumerate(one.slices):
            dataset.SOPInstanceUID = f"{ROOT}73.{number}.{index}"
            dataset.SeriesDescription, dataset.SeriesNumber = "PHI_DESC", 4
            setattr(dataset, keyword, values[number])
    return Series(series.slices + other.slices)


FIRST = truth()
WAYS: dict[str, tuple[Series, str, np.ndarray]] = {
    "a series of its own, and a number": (each(taken_apart), "8 series of one slice each", FIRST),
    "one SOP instance UID": (each(one_uid), "all 8 files have the same SOPInstanceUID: an anonymiser", FIRST),
    "a page of doses": (page(), "1 of 9 files are no slices by their type", FIRST),
    "a page in colours": (
        page(SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0),
        "1 of 9 files are no slices by their type",
        FIRST,
    ),
    "two stacks far apart": (far_apart(), "one of the 2 even parts", truth(STORED[:4])),
    "two series under one UID": (merged("SeriesNumber", (4, 5)), "distinguished by SeriesNumber (4, 5)", FIRST),
    "two series, described otherwise": (
        merged("SeriesDescription", ("PHI_DESC arterial", "PHI_DESC portal")),
        "distinguished by SeriesDescription; ",
        FIRST,
    ),
}


@pytest.mark.parametrize("name", WAYS)
def test_it_is_called_by_its_name_and_the_way_out_gives_the_voxels(tmp_path: Path, name: str) -> None:
    series, words, right = WAYS[name]
    folder = series.write(tmp_path / "scan")
    with pytest.raises(ScanError) as caught:
        read_volume(folder)
    message = str(caught.value)
    assert words in message and "PHI" not in message.removeprefix(str(folder))
    way = ways_out(message)[-1]
    volume = read_volume(folder, series=way.cell)
    assert np.array_equal(volume.voxels, right) and volume.warnings


def test_two_slices_of_one_uid_stay_refused_and_so_do_a_few_without_one(tmp_path: Path) -> None:
    """Not the work of an anonymiser, which takes them all."""
    series = make_series()
    series.slices[3].SOPInstanceUID = series.slices[2].SOPInstanceUID
    with pytest.raises(ScanError, match="two slices with one SOPInstanceUID; export the series again"):
        read_volume(series.write(tmp_path / "two"))


@pytest.mark.parametrize("lost", [(3,), (1, 3, 5), (0, 1, 2, 3)])
@pytest.mark.parametrize("tilt", [0.0, 0.5])
def test_positions_that_a_few_slices_lost_are_no_tilt_and_no_stack(tmp_path: Path, lost, tilt: float) -> None:
    series = make_series()
    for index, dataset in enumerate(series.slices):
        dataset.ImagePositionPatient = [-20.0, 5.0 + tilt * index, 40.0 + 2.5 * index]
    true = [list(dataset.ImagePositionPatient) for dataset in series.slices]
    for index in lost:
        series.slices[index].ImagePositionPatient = [0, 0, 0]
    with pytest.raises(ScanError, match=f"{len(lost)} of 8 slices have the position.*ask for files") as caught:
        read_volume(series.write(tmp_path / "lost"))
    assert not ways_out(str(caught.value))
    for dataset, position in zip(series.slices, true, strict=True):
        dataset.ImagePositionPatient = position
    rule = "tilt=allow" if tilt else None
    assert read_volume(series.write(tmp_path / "lost"), series=rule).shape[2] == COUNT


def test_a_slice_may_lie_at_the_origin(tmp_path: Path) -> None:
    series = make_series(first=(0.0, 0.0, -5.0))
    assert np.array_equal(read_volume(series.write(tmp_path / "scan")).voxels, truth())


def test_slices_of_a_series_and_a_patient_each_are_named(tmp_path: Path) -> None:
    def renamed(index: int, dataset: Dataset) -> None:
        taken_apart(index, dataset)
        dataset.PatientID = f"PHI_ID_{index}"

    with pytest.raises(ScanError, match=r"8 series of one slice each, of 8 patients.*an anonymiser renamed them"):
        read_volume(each(renamed).write(tmp_path / "scan"))


def test_a_folder_of_reports_alone_says_so(tmp_path: Path) -> None:
    series = each(lambda index, dataset: setattr(dataset, "SOPClassUID", "1.2.840.10008.5.1.4.1.1.481.2"))
    with pytest.raises(ScanError, match="no DICOM scan found in this folder, but 8 DICOM objects that are no scans"):
        read_volume(series.write(tmp_path / "scan"))


def test_files_without_any_sop_uid_are_named_and_read_when_that_is_asked_for(tmp_path: Path) -> None:
    for index, dataset in enumerate(make_series().slices):
        buffer = io.BytesIO()
        pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
        again = pydicom.dcmread(io.BytesIO(buffer.getvalue()))
        again.SOPInstanceUID = again.file_meta.MediaStorageSOPInstanceUID = ""
        pydicom.dcmwrite(tmp_path / f"{index}.dcm", again, enforce_file_format=False)
    with pytest.raises(ScanError, match="all 8 files have no SOPInstanceUID: an anonymiser") as caught:
        read_volume(tmp_path)
    (way,) = ways_out(str(caught.value))
    assert np.array_equal(read_volume(tmp_path, series=way.cell).voxels, truth())
