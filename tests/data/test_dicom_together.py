"""Two faults in one series: the advice of the first leads to the second, and that of the second to the right voxels.
Promises B4, B5 and B7."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from advice import ways_out
from test_dicom_kinds import ge_b, mr_truth, nothing, overlapping, volumes

from anymc3d.data.readers import read_volume
from anymc3d.errors import ScanError
from dicom_makers import ROOT, Series, anatomy, make_series, truth

PET = "1.2.840.10008.5.1.4.1.1.128"


def own(series: Series, *keywords: str) -> Series:
    """A UID for each slice, as an anonymiser writes them."""
    for index, dataset in enumerate(series.slices):
        for number, keyword in enumerate(keywords):
            setattr(dataset, keyword, f"{ROOT}70.{number}.{index + 1}")
    return series


def twice(series: Series) -> Series:
    """Sent again: the same in all but the SOP instance UID."""
    for index, dataset in enumerate(list(series.slices)):
        again = copy.deepcopy(dataset)
        again.SOPInstanceUID = f"{ROOT}99.{index}"
        series.slices.append(again)
    return series


def tilted(series: Series) -> Series:
    for dataset in series.slices:
        x, y, z = (float(value) for value in dataset.ImagePositionPatient)
        dataset.ImagePositionPatient = [x, y + (z - 40) * 0.44, z]  # 1 pixel of 1.1 mm from slice to slice
    return series


def sheared(voxels: np.ndarray) -> np.ndarray:
    """Each slice a row further on than the one before; filled with the lowest value."""
    columns, rows, slices = voxels.shape
    found = np.full((columns, rows + slices - 1, slices), voxels.min(), dtype=np.float32)
    for index in range(slices):
        found[:, index : index + rows, index] = voxels[:, :, index]
    return found


def without(series: Series, index: int) -> Series:
    series.slices.pop(index)
    return series


def two_scanners() -> Series:
    activity = make_series(stored=anatomy(seed=9))
    for index, dataset in enumerate(activity.slices):
        dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.Modality = PET, f"{ROOT}55.{index}", "PT"
    return Series(make_series().slices + activity.slices)


FIRST = mr_truth(anatomy(seed=0))
PASSES = truth(anatomy(10, seed=3)[:5])
TOGETHER: dict[str, tuple[Callable[[], Series], list[str], np.ndarray]] = {
    "renamed and sent twice": (lambda: own(twice(make_series()), "SeriesInstanceUID"), ["uids=ignore"], truth()),
    "renamed, of two b values": (
        lambda: own(volumes(2, ge_b), "SeriesInstanceUID", "StudyInstanceUID"),
        ["uids=ignore", "uids=ignore; DiffusionBValue=0"],
        FIRST,
    ),
    "renamed, of two volumes": (
        lambda: own(volumes(2, nothing), "SeriesInstanceUID"),
        ["uids=ignore", "uids=ignore; volume=1"],
        FIRST,
    ),
    "two b values, sent twice": (lambda: twice(volumes(2, ge_b)), ["DiffusionBValue=0"], FIRST),
    "two b values of a tilted gantry": (
        lambda: tilted(volumes(2, ge_b)),
        ["DiffusionBValue=0", "DiffusionBValue=0; tilt=allow"],
        sheared(FIRST),
    ),
    "two passes, sent twice": (lambda: twice(overlapping()), ["AcquisitionNumber=1"], PASSES),
    "two passes, one of which lacks a slice": (lambda: without(overlapping(), 7), ["AcquisitionNumber=1"], PASSES),
    "CT and PET under one UID": (two_scanners, ["Modality=CT"], truth()),
}


@pytest.mark.parametrize("name", TOGETHER)
def test_the_advice_leads_through_both_to_the_right_voxels(tmp_path: Path, name: str) -> None:
    make, steps, right = TOGETHER[name]
    folder = make().write(tmp_path / "scan")
    rule = None
    for step in steps:
        with pytest.raises(ScanError) as caught:
            read_volume(folder, series=rule)
        rule = ways_out(str(caught.value))[0].cell
        assert rule == step, caught.value
    np.testing.assert_allclose(read_volume(folder, series=rule).voxels, right, atol=2e-3)


def test_equal_slices_of_two_volumes_are_no_copies(tmp_path: Path) -> None:
    """Above the head nothing is seen with any b value."""
    series = volumes(2, ge_b)
    for dataset in series.slices:
        if dataset.InstanceNumber in (8, 16):
            dataset.PixelData = bytes(len(dataset.PixelData))
    folder = series.write(tmp_path / "scan")
    for value in (0, 1000):
        assert read_volume(folder, series=f"DiffusionBValue={value}").shape[2] == 8
