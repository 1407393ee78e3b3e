"""Choosing a series: rules, what they refuse, and that the manifest and the command line reach them."""

from __future__ import annotations

import copy
import csv
import json
from pathlib import Path

import numpy as np
import pytest
from pydicom.sequence import Sequence as Items

from anymc3d.data.case import Case
from anymc3d.data.case_scans import CaseScans
from anymc3d.data.dicom.rules import parse_rule
from anymc3d.data.dicom.tags import short_hash
from anymc3d.data.readers import content_hash, read_header, read_volume
from anymc3d.errors import ScanError
from dicom_makers import PHI, ROOT, STORED, Series, anatomy, make_enhanced, make_series, setting, truth

SECOND = anatomy(6, seed=4)
UID = f"{ROOT}8.2"


@pytest.fixture
def two_series(tmp_path: Path) -> Path:
    series = make_series()
    series.slices += make_series(series=2, stored=SECOND).slices
    for dataset in series.slices[len(STORED) :]:
        dataset.SeriesDescription, dataset.ConvolutionKernel = "PHI_DESC arterial", ["Br38f", "3"]
    return series.write(tmp_path / "study")


@pytest.mark.parametrize(
    "rule",
    [
        UID,
        short_hash(UID),
        short_hash(UID).upper(),
        "SeriesNumber=2",
        "SeriesNumber=2.0",
        "SeriesNumber!=1",
        "SeriesDescription~=/ARTERIAL/i",
        "SeriesDescription!~=/portal/",
        " SeriesDescription ~= /art|x;y/ ; SeriesNumber = 2 ",
        "ConvolutionKernel=Br38f",
        r"ConvolutionKernel=Br38f\3",
        "ConvolutionKernel~=/^Br/",
    ],
)
def test_B5_a_rule_chooses_a_series(two_series: Path, rule: str) -> None:
    volume = read_volume(two_series, series=rule)
    assert np.array_equal(volume.voxels, truth(SECOND)) and volume.warnings == ()
    assert read_header(two_series, series=rule).shape == volume.shape
    assert content_hash(two_series, series=rule) != content_hash(two_series, series="SeriesNumber=1")


@pytest.mark.parametrize(
    ("rule", "word"),
    [
        ("SeriesNumber=3", "takes 0 of them, found 2: .*8 files.*6 files"),
        ("Modality=CT", "takes 2 of them"),
        (f"{ROOT}8.3", "takes 0"),
        ("deadbeef", "takes 0"),
        ("SeriesNumbr=2", "did you mean 'SeriesNumber'"),
        ("PatientName=x", "'PatientName' cannot be asked for"),
        ("SeriesDescription~=portal", "between slashes"),
        ("SeriesDescription~=/(/", "regular expression of SeriesDescription is wrong"),
        ("the second one", "expected a series' UID"),
        ("=2", "expected a series' UID"),
    ],
)
def test_B5_a_rule_that_cannot_choose_says_why(two_series: Path, rule: str, word: str) -> None:
    with pytest.raises(ScanError, match=word) as caught:
        read_volume(two_series, series=rule)
    said = str(caught.value).removeprefix(str(two_series))
    assert "\n" not in said and not [secret for secret in (*PHI[1:], ROOT) if secret in said]


def test_an_empty_rule_is_none(two_series: Path) -> None:
    assert parse_rule("  ", two_series) == parse_rule(None, two_series)


def test_a_fault_in_another_series_does_not_matter(two_series: Path, tmp_path: Path) -> None:
    series = make_series()
    other = make_series(series=2)
    del other.slices[3].PixelSpacing, other.slices[5]
    series.slices += other.slices
    assert np.array_equal(read_volume(series.write(tmp_path / "a"), series="SeriesNumber=1").voxels, truth())


def four_dimensional() -> tuple[Series, dict[int, np.ndarray]]:
    stored = {phase: anatomy(seed=phase) for phase in (1, 2, 3)}
    slices = []
    for phase, pixels in stored.items():
        for index, dataset in enumerate(make_series(stored=pixels).slices):
            setting(SOPInstanceUID=f"{ROOT}5.{phase}.{index}", TemporalPositionIdentifier=phase)(dataset)
            slices.append(dataset)
    return Series(slices), stored


def test_B5_one_phase_of_a_4D_series_can_be_chosen(tmp_path: Path) -> None:
    series, stored = four_dimensional()
    folder = series.write(tmp_path / "scan")
    with pytest.raises(ScanError, match=r"3 volumes .* TemporalPositionIdentifier \(1, 2, 3\)"):
        read_volume(folder)
    for phase, pixels in stored.items():
        volume = read_volume(folder, series=f"TemporalPositionIdentifier={phase}")
        assert np.array_equal(volume.voxels, truth(pixels))
        assert volume.warnings == ("the rule in series takes 8 of the 24 slices of its series",)


def test_B5_one_phase_of_an_enhanced_4D_file_can_be_chosen(tmp_path: Path) -> None:
    series = make_enhanced()
    dataset = series.slices[0]
    groups = list(dataset.PerFrameFunctionalGroupsSequence)
    again = copy.deepcopy(groups)
    for group in again:
        group.FrameContentSequence[0].TemporalPositionIndex = 2
    dataset.PerFrameFunctionalGroupsSequence = Items(groups + again)
    dataset.NumberOfFrames = 2 * len(groups)
    second = anatomy(seed=9)
    dataset.PixelData = dataset.PixelData + second[::-1].tobytes()
    folder = series.write(tmp_path / "scan")
    with pytest.raises(ScanError, match="TemporalPositionIndex"):
        read_volume(folder)
    chosen = {phase: f"TemporalPositionIndex={phase}" for phase in (1, 2)}
    assert np.array_equal(read_volume(folder, series=chosen[1]).voxels, truth())
    assert np.array_equal(read_volume(folder, series=chosen[2]).voxels, truth(second))
    assert content_hash(folder, series=chosen[1]) != content_hash(folder, series=chosen[2])


def case(images: dict[str, str], cells: dict[str, str]) -> Case:
    return Case("a", "a", images, {}, cells, None, None, None, None, 2)


def test_the_series_of_a_view_comes_from_its_own_column_then_from_series() -> None:
    one = case({"image.a": "x"}, {"series": "SeriesNumber=1", "series.a": "SeriesNumber=2", "series.b": ""})
    assert one.series("image.a") == "SeriesNumber=2"
    assert one.series("image.b") == one.series("image") == "SeriesNumber=1"
    assert case({"image": "x"}, {}).series("image") is None


def test_two_views_are_two_series_of_one_folder(two_series: Path) -> None:
    cells = {"series.a": "SeriesNumber=1", "series.b": "SeriesNumber=2"}
    hashes = CaseScans(case({"image.a": str(two_series), "image.b": str(two_series)}, cells)).hashes()
    assert hashes["image.a"] == content_hash(two_series, series="SeriesNumber=1") != hashes["image.b"]


def test_predict_reads_a_folder_and_a_manifest_with_a_series(journey, tmp_path: Path, capsys) -> None:
    from anymc3d.cli.main import main

    stored = anatomy(6, seed=1)
    series = make_series(stored=stored)
    single = series.write(tmp_path / "single")
    series.slices += make_series(series=2, stored=SECOND).slices
    both = series.write(tmp_path / "both")
    common = ["predict", "-p", str(journey.plugin), "--device", "cpu", "--quiet", "--json", "-o"]

    def rows(name: str, *inputs: str) -> list[dict[str, str]]:
        main([*common, str(tmp_path / name), "-i", *inputs])
        return json.loads(capsys.readouterr().out)

    alone = rows("out1", str(single))[0]
    assert alone["case"] == "single" and alone["status"] != "error", alone["message"]
    refused = rows("out2", str(both))[0]
    assert refused["status"] == "error" and "expected one series, found 2" in refused["message"]
    manifest = tmp_path / "manifest.csv"
    with manifest.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows(
            [["case", "image", "series"], ["p", "both", "SeriesNumber=1"], ["q", "both", "SeriesNumber=2"]]
        )
    first, second = rows("out3", str(manifest))
    assert first["logit.block"] == alone["logit.block"] != second["logit.block"]
    (chosen,) = rows("out4", str(both), "--series", "SeriesNumber=2")
    assert chosen["logit.block"] == second["logit.block"]
    assert main([*common, str(tmp_path / "out5"), "-i", str(manifest), "--series", "SeriesNumber=2"]) == 2
    assert "its own series column" in capsys.readouterr().err
