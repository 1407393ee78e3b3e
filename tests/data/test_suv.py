"""SUV of PET from the header, against numbers worked out by hand; what is missing is named. Promises B6, B10, G1."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest
from advice import ways_out

from anymc3d.data.dicom.suv import pet_units
from anymc3d.data.preprocess import prepare_view
from anymc3d.data.readers import content_hash, read_volume
from anymc3d.errors import ScanError
from anymc3d.settings.views import ViewSettings
from dicom_makers import PHI, make_series
from pet_scans import HAND_FACTOR, WEIGHT_KG, injection, pet_series, uptake

SUV = ViewSettings(size=(14, 14, 4), normalise="suv", windows=((0.0, 0.5),))


def test_B6_the_suv_is_that_of_a_hand_computation(tmp_path: Path) -> None:
    """70 kg, 370 MBq of F-18, an hour before the scan: 1 Bq/ml is 0.000276337 SUV."""
    assert pytest.approx(0.000276337, rel=1e-5) == HAND_FACTOR
    folder = pet_series().write(tmp_path / "scan")
    volume = read_volume(folder)
    assert volume.modality == "PT" and volume.units == "SUVbw" and volume.warnings == ()
    np.testing.assert_allclose(volume.voxels, uptake(), atol=45 / 60_000 + 1e-5)


def test_B6_the_suv_is_that_of_the_tags_read_by_pydicom(tmp_path: Path) -> None:
    """Slice by slice, with the formula of the QIBA profile written out."""
    folder = pet_series().write(tmp_path / "scan")
    volume = read_volume(folder)
    for k, path in enumerate(sorted(folder.iterdir())):
        dataset = pydicom.dcmread(path)
        item = dataset.RadiopharmaceuticalInformationSequence[0]
        times = (item.RadiopharmaceuticalStartTime, dataset.SeriesTime)
        start, scan = (datetime.strptime(time.split(".")[0], "%H%M%S") for time in times)
        decayed = float(item.RadionuclideTotalDose) * 2 ** (-(scan - start).seconds / float(item.RadionuclideHalfLife))
        factor = float(dataset.PatientWeight) * 1000 / decayed
        expected = (dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)) * factor
        np.testing.assert_allclose(volume.voxels[:, :, k], expected.T, rtol=2e-6)


BQML = {
    "Units": "BQML",
    "PatientWeight": "80",
    "DecayCorrection": "START",
    "CorrectedImage": "ATTN\\DECY",
    "SeriesDate": "20240229",
    "SeriesTime": "101500",
    "AcquisitionDate": "20240229",
    "AcquisitionTime": "101501.5",
    "RadionuclideTotalDose": "4e8",
    "RadionuclideHalfLife": "6600",
    "RadiopharmaceuticalStartTime": "082500",
}
"""Injected 6,600 seconds before: one half-life. 80,000 g over half of 4e8 Bq: 0.0004."""

# What is changed -> the factor, by hand.
FACTORS: dict[str, tuple[dict[str, str | None], float]] = {
    "one_half_life": ({}, 0.0004),
    "two_half_lives": ({"RadiopharmaceuticalStartTime": "063500"}, 0.0008),
    "corrected_to_the_injection": ({"DecayCorrection": "ADMIN"}, 0.0002),
    "with_a_date": ({"RadiopharmaceuticalStartDateTime": "20240229082500.000000"}, 0.0004),
    "with_a_date_and_zone": ({"RadiopharmaceuticalStartDateTime": "20240229082500.000000+0100"}, 0.0004),
    "over_midnight": (
        {"SeriesTime": "000500", "AcquisitionTime": "000501", "RadiopharmaceuticalStartTime": "221500"},
        0.0004,
    ),
    "without_dates": ({"SeriesDate": None, "AcquisitionDate": None}, 0.0004),
    "dated_injection_of_a_scan_without_dates": (
        {"SeriesDate": None, "AcquisitionDate": None, "RadiopharmaceuticalStartDateTime": "20240229082500"},
        0.0004,
    ),
    "made_anew_later": ({"SeriesTime": "150000", "AcquisitionTime": "101500"}, 0.0004),
    "made_anew_by_ge": (
        {"SeriesTime": "150000", "AcquisitionTime": "113000", "GEScanStart": "20240229101500.00"},
        0.0004,
    ),
    "times_with_colons": ({"SeriesTime": "10:15:00"}, 0.0004),
    "no_list_of_corrections": ({"CorrectedImage": None}, 0.0004),
    "already_suv": ({"Units": "GML", "PatientWeight": None}, 1.0),
    "already_suv_by_weight": ({"Units": "GML", "SUVType": "BW"}, 1.0),
    "philips_counts": ({"Units": "CNTS", "PhilipsSUV": "0.00071"}, 0.00071),
    "philips_counts_to_activity": ({"Units": "CNTS", "PhilipsSUV": "0", "PhilipsActivity": "2.5"}, 0.001),
}


def texts(changes: dict[str, str | None]) -> dict[str, str]:
    return {name: text for name, text in {**BQML, **changes}.items() if text is not None}


@pytest.mark.parametrize("name", FACTORS)
def test_B6_every_way_of_saying_it_gives_the_factor_worked_out_by_hand(name: str) -> None:
    changes, expected = FACTORS[name]
    found = pet_units([texts(changes)] * 3)
    assert found.missing == "" and found.factor == pytest.approx(expected, rel=1e-6)


MISSING: dict[str, tuple[dict[str, str | None], str]] = {
    "weight": ({"PatientWeight": None}, "PatientWeight is missing"),
    "weight_zero": ({"PatientWeight": "0"}, "PatientWeight is no number above 0"),
    "weight_in_grams": ({"PatientWeight": "80000"}, "PatientWeight is not a plausible number"),
    "dose": ({"RadionuclideTotalDose": None}, "RadionuclideTotalDose is missing"),
    "dose_in_megabecquerel": ({"RadionuclideTotalDose": "400"}, "RadionuclideTotalDose is not a plausible number"),
    "half_life": ({"RadionuclideHalfLife": None}, "RadionuclideHalfLife is missing"),
    "injection": ({"RadiopharmaceuticalStartTime": None}, "RadiopharmaceuticalStartTime is missing"),
    "injection_damaged": ({"RadiopharmaceuticalStartTime": "9 am"}, "RadiopharmaceuticalStartTime is missing"),
    "scan_times": ({"SeriesTime": None, "AcquisitionTime": None}, "SeriesTime and AcquisitionTime are missing"),
    "injection_on_another_day": ({"RadiopharmaceuticalStartDateTime": "20200101082500"}, "contradict each other"),
    "injection_after_the_scan": ({"RadiopharmaceuticalStartDateTime": "20240229113000"}, "contradict each other"),
    "no_decay_correction": ({"DecayCorrection": "NONE"}, "DecayCorrection is neither START nor ADMIN"),
    "decay_correction": ({"DecayCorrection": None}, "DecayCorrection is missing"),
    "not_attenuation_corrected": ({"CorrectedImage": "DECY\\NORM"}, "CorrectedImage does not say ATTN"),
    "not_decay_corrected": ({"CorrectedImage": "ATTN"}, "CorrectedImage does not say DECY"),
    "units": ({"Units": None}, "Units is missing"),
    "other_units": ({"Units": "CPS"}, "Units is none of BQML, CNTS and GML"),
    "lean_body_mass": ({"Units": "GML", "SUVType": "LBMJANMA"}, "SUVType is not BW"),
    "counts": ({"Units": "CNTS"}, "Philips' SUV scale factor (7053,1000) is missing"),
}


@pytest.mark.parametrize("name", MISSING)
def test_B6_what_the_suv_needs_and_the_header_lacks_is_named(name: str) -> None:
    changes, word = MISSING[name]
    found = pet_units([texts(changes)] * 3)
    assert found.factor is None and word in found.missing
    assert not [secret for secret in ("80", "400", "4e8", "0825", "1015", "2020", "2024") if secret in found.missing]


def test_B6_slices_that_disagree_have_no_suv() -> None:
    found = pet_units([texts({}), texts({"PatientWeight": "81"})])
    assert found.factor is None and found.missing == "PatientWeight differs between the slices"


def test_B6_without_suv_the_values_are_raw_and_said_to_be(tmp_path: Path) -> None:
    folder = pet_series(PatientWeight=None).write(tmp_path / "scan")
    volume = read_volume(folder)
    assert volume.units == "BQML" and volume.why_not_suv == "PatientWeight is missing"
    (note,) = volume.warnings
    assert "raw units (BQML)" in note and "PatientWeight is missing" in note
    np.testing.assert_allclose(volume.voxels, uptake() / HAND_FACTOR, rtol=1e-3, atol=3)
    (way,) = ways_out(note)
    chosen = read_volume(folder, series=way.cell)
    assert chosen.warnings == () and np.array_equal(chosen.voxels, volume.voxels)
    with pytest.raises(ScanError, match="no SUV can be computed: PatientWeight is missing") as caught:
        read_volume(folder, series="units=suv")
    assert ways_out(str(caught.value)) == [way]


def test_raw_units_are_another_scan_to_the_cache(tmp_path: Path) -> None:
    folder = pet_series().write(tmp_path / "scan")
    raw, suv = read_volume(folder, series="units=raw"), read_volume(folder, series="units=suv")
    np.testing.assert_allclose(raw.voxels * np.float32(HAND_FACTOR), suv.voxels, rtol=1e-5)
    assert content_hash(folder, series="units=raw") != content_hash(folder) == content_hash(folder, series="units=suv")


def test_a_ct_has_no_units_to_choose(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="only a PET has several"):
        read_volume(make_series().write(tmp_path / "scan"), series="units=raw")


def test_pet_without_slopes_has_no_suv(tmp_path: Path) -> None:
    volume = read_volume(pet_series(RescaleSlope=None, RescaleIntercept=None).write(tmp_path / "scan"))
    assert volume.units == "BQML" and "RescaleSlope is missing" in volume.warnings[0]


def test_philips_counts_with_their_private_factor(tmp_path: Path) -> None:
    series = pet_series(Units="CNTS", PatientWeight=None)
    for dataset in series.slices:
        block = dataset.private_block(0x7053, "Philips PET Private Group", create=True)
        block.add_new(0x00, "DS", "0.00071")
    volume = read_volume(series.write(tmp_path / "scan"))
    assert volume.units == "SUVbw"
    np.testing.assert_allclose(volume.voxels, uptake() / HAND_FACTOR * 0.00071, rtol=1e-3, atol=3e-3)


@pytest.mark.parametrize("units", ["", "suv", "raw"])
def test_B10_a_view_in_suv_takes_suv_alone(tmp_path: Path, units: str) -> None:
    folder = pet_series(**({} if units != "raw" else {"PatientWeight": None})).write(tmp_path / "scan")
    volume = read_volume(folder, series=f"units={units}" if units else None)
    if units == "raw":
        with pytest.raises(ScanError, match=r"expected SUV .* raw units \(BQML\)") as caught:
            prepare_view(volume, SUV)
        assert "normalise: percentile" in str(caught.value)
        return
    prepared = prepare_view(volume, SUV)
    assert prepared.slices.max() == 1.0, "the body is beyond the window"
    assert prepared.slices.min() == 0.0


def test_B10_what_says_no_units_is_taken_at_its_word(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", uptake())
    volume = read_volume(tmp_path / "a.npy", spacing=(0.9, 1.1, 2.5))
    by_file = prepare_view(read_volume(pet_series().write(tmp_path / "scan")), SUV)
    plain = prepare_view(volume, SUV)
    assert volume.units is None
    assert abs(float(plain.slices.mean()) - float(by_file.slices.mean())) < 1e-2


def test_G1_nothing_of_the_injection_is_ever_said(tmp_path: Path) -> None:
    secrets = ("88.25", "399123456", "061234", "18880229", *PHI)
    item = injection(RadionuclideTotalDose=399123456.0, RadiopharmaceuticalStartTime="061234")
    from pydicom.sequence import Sequence as Items

    for number, gone in enumerate(("DecayCorrection", "CorrectedImage", "Units", "PatientWeight")):
        tags = {"PatientWeight": 88.25, "SeriesDate": "18880229", gone: None}
        series = pet_series(RadiopharmaceuticalInformationSequence=Items([item]), **tags)
        said = " ".join(read_volume(series.write(tmp_path / str(number))).warnings)
        assert not [secret for secret in secrets if secret in said]
    assert WEIGHT_KG
