"""Heatmaps as DICOM: the same voxels at the same places as the NIfTI, linked to the slices, and nobody's name."""

from __future__ import annotations

import json
import logging
import re
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

import dicom_makers as dicom
from anymc3d.cli.main import main
from anymc3d.data.case import Case
from anymc3d.data.dicom.references import source_series
from anymc3d.data.readers import read_volume
from anymc3d.errors import ScanError
from anymc3d.explain.dicom_objects import DicomSettings, DicomWriter
from anymc3d.explain.heatmaps import Heatmap

pytest.importorskip("highdicom", reason="needs highdicom: pip install 'anymc3d[dicom]'")

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def case_of(folder: Path, name: str = "case one") -> Case:
    return Case(
        id=name,
        patient=name,
        images={"image": str(folder)},
        masks={},
        cells={},
        split=None,
        fold=None,
        spacing=None,
        center=None,
        row=0,
    )


def write(folder: Path, link: str = "linked", label: str = "block") -> tuple[Heatmap, list[str]]:
    """Random heat over a made series, as DICOM beside it."""
    scan = read_volume(str(folder))
    values = np.random.default_rng(3).random(scan.shape, dtype=np.float32)
    heat = Heatmap(label, "image", "grad-rollout", "image", values, scan.affine, 0.0, 1.0)
    writer = DicomWriter(case_of(folder), DicomSettings(link=link), "hash")
    return heat, writer.write(folder.parent, "heat", heat)


def frames_in_space(path: Path) -> dict[tuple[float, ...], np.ndarray]:
    """Frame position (LPS mm, rounded) -> pixels, read by pydicom alone."""
    dataset = pydicom.dcmread(path)
    pixels = dataset.pixel_array
    places = [item.PlanePositionSequence[0].ImagePositionPatient for item in dataset.PerFrameFunctionalGroupsSequence]
    return {tuple(round(float(v), 3) for v in place): frame for place, frame in zip(places, pixels, strict=True)}


SERIES = {
    "straight": dicom.make_series,
    "oblique": lambda: dicom.make_series(orientation=dicom.OBLIQUE),
    "MR": lambda: dicom.make_series(sop_class=dicom.MR),
    "enhanced": dicom.make_enhanced,
}


@pytest.mark.parametrize("kind", SERIES)
def test_every_voxel_lies_where_the_heatmap_has_it(tmp_path, kind):
    series = SERIES[kind]()
    heat, names = write(series.write(tmp_path / "series"))
    assert names == ["heat.map.dcm", "heat.seg.dcm"]
    to_lps = LPS_TO_RAS @ heat.affine
    for name, expected in (("heat.map.dcm", heat.values), ("heat.seg.dcm", heat.values >= 0.5)):
        found = frames_in_space(tmp_path / name)
        assert len(found) == heat.values.shape[2]
        for k in range(heat.values.shape[2]):
            place = tuple(round(float(v), 3) for v in (to_lps @ [0, 0, k, 1])[:3])
            np.testing.assert_array_equal(found[place], expected[:, :, k].T)
        shared = pydicom.dcmread(tmp_path / name).SharedFunctionalGroupsSequence[0]
        row, column = np.split(np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float), 2)
        between_rows, between_columns = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
        np.testing.assert_allclose(to_lps[:3, 0], row * between_columns, atol=1e-6)
        np.testing.assert_allclose(to_lps[:3, 1], column * between_rows, atol=1e-6)


@pytest.mark.parametrize("kind", SERIES)
def test_highdicom_reads_the_same_volume(tmp_path, kind):
    import highdicom

    heat, _ = write(SERIES[kind]().write(tmp_path / "series"))
    volume = highdicom.imread(tmp_path / "heat.map.dcm").get_volume()
    affine = LPS_TO_RAS @ volume.affine
    to_heat = np.round(np.linalg.inv(heat.affine) @ affine, 3)
    index = np.indices(volume.array.shape).reshape(3, -1)
    i, j, k = np.round(to_heat[:3, :3] @ index + to_heat[:3, 3:]).astype(int)
    np.testing.assert_array_equal(volume.array.ravel(), heat.values[i, j, k])


def test_simpleitk_stacks_the_source_on_the_same_grid(tmp_path):
    """The other way round: somebody else's reader of the source, and the frames of the map."""
    folder = dicom.make_series(orientation=dicom.OBLIQUE).write(tmp_path / "series")
    write(folder)
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    image = sitk.ReadImage(list(names))
    found = frames_in_space(tmp_path / "heat.map.dcm")
    for k in range(image.GetSize()[2]):
        place = tuple(round(v, 3) for v in image.TransformIndexToPhysicalPoint((0, 0, k)))
        assert place in found


@pytest.mark.parametrize("kind", SERIES)
def test_every_frame_refers_to_the_slice_at_its_place(tmp_path, kind):
    series = SERIES[kind]()
    write(series.write(tmp_path / "series"))
    if kind == "enhanced":
        (file,) = series.slices
        items = file.PerFrameFunctionalGroupsSequence
        sources = {
            (file.SOPInstanceUID, n): item.PlanePositionSequence[0].ImagePositionPatient
            for n, item in enumerate(items, start=1)
        }
    else:
        sources = {(one.SOPInstanceUID, None): one.ImagePositionPatient for one in series.slices}
    for name in ("heat.map.dcm", "heat.seg.dcm"):
        dataset = pydicom.dcmread(tmp_path / name)
        first = series.slices[0]
        assert dataset.FrameOfReferenceUID == first.FrameOfReferenceUID
        assert dataset.StudyInstanceUID == first.StudyInstanceUID
        assert dataset.SeriesInstanceUID != first.SeriesInstanceUID
        for item in dataset.PerFrameFunctionalGroupsSequence:
            (reference,) = item.DerivationImageSequence[0].SourceImageSequence
            number = int(reference.ReferencedFrameNumber) if "ReferencedFrameNumber" in reference else None
            expected = sources[reference.ReferencedSOPInstanceUID, number]
            np.testing.assert_allclose(item.PlanePositionSequence[0].ImagePositionPatient, expected, atol=1e-4)


def test_G1_nothing_but_uids_goes_out_unless_the_patient_was_asked_for(tmp_path):
    folder = dicom.make_series().write(tmp_path / "series")
    write(folder)
    content = (tmp_path / "heat.map.dcm").read_bytes() + (tmp_path / "heat.seg.dcm").read_bytes()
    assert not [word for word in dicom.PHI if word.encode() in content]
    linked = pydicom.dcmread(tmp_path / "heat.map.dcm")
    assert linked.PatientID == "case one" and not linked.PatientName
    write(folder, link="patient")
    patient = pydicom.dcmread(tmp_path / "heat.map.dcm")
    source = pydicom.dcmread(next(folder.glob("*.dcm")))
    for name in ("PatientID", "PatientName", "PatientBirthDate", "StudyInstanceUID"):
        assert patient[name].value == source[name].value
    assert patient.SOPInstanceUID != linked.SOPInstanceUID
    assert "PHI_PLACE" not in (tmp_path / "heat.map.dcm").read_bytes().decode("latin-1")


def test_G1_highdicom_logs_no_uid(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    write(dicom.make_series().write(tmp_path / "series"))
    assert dicom.ROOT not in caplog.text


def test_I1_research_use_stands_where_viewers_show_it_and_the_object_is_the_same_each_time(tmp_path):
    folder = dicom.make_series().write(tmp_path / "series")
    uids = []
    for _ in range(2):
        write(folder, label="a label that is much longer than a series description may ever be in DICOM, äöü")
        dataset = pydicom.dcmread(tmp_path / "heat.map.dcm")
        uids.append(dataset.SOPInstanceUID)
        assert dataset.SeriesDescription.startswith("RESEARCH ONLY heatmap: a label")
        assert len(dataset.SeriesDescription) <= 64
        assert dataset.ContentQualification == "RESEARCH"
    assert uids[0] == uids[1]
    assert pydicom.dcmread(tmp_path / "heat.seg.dcm").SegmentSequence[0].SegmentAlgorithmType == "AUTOMATIC"


@pytest.mark.parametrize("missing", ["FrameOfReferenceUID", "StudyInstanceUID"])
def test_a_series_that_nothing_can_refer_to_is_said(tmp_path, missing):
    series = dicom.make_series()
    for dataset in series.slices:
        del dataset[missing]
    folder = series.write(tmp_path / "series")
    with pytest.raises(ScanError, match=f"have no {missing}.*leave out --dicom"):
        source_series(folder)
    with pytest.raises(ScanError, match=f"^image: the files have no {missing}"):
        DicomWriter(case_of(folder), DicomSettings(link="linked"), "hash")


def test_a_map_below_the_threshold_has_no_segmentation(tmp_path):
    folder = dicom.make_series().write(tmp_path / "series")
    scan = read_volume(str(folder))
    flat = Heatmap("block", "image", "rollout", "image", np.zeros(scan.shape, np.float32), scan.affine, 0.0, 0.0)
    writer = DicomWriter(case_of(folder), DicomSettings(link="linked"), "hash")
    assert writer.write(tmp_path, "flat", flat) == ["flat.map.dcm"]


class TestTheCommand:
    @pytest.fixture
    def words(self, journey, tmp_path):
        folder = dicom.make_series(sop_class=dicom.MR).write(tmp_path / "source" / "series")
        start = ["explain", "-p", str(journey.plugin), "-i", str(folder), "-o", str(tmp_path / "out")]
        return [*start, "--device", "cpu"]

    def test_it_writes_nifti_and_dicom_that_agree_and_skips_what_is_done(self, words, tmp_path, capsys):
        assert main([*words, "--dicom", "--dicom-threshold", "0.25"]) == 0
        out = tmp_path / "out" / "series"
        record = json.loads((out / "explain.json").read_text())
        stem = "block.image.grad-rollout"
        endings = [name.removeprefix(stem) for name in record["heatmaps"][0]["files"]]
        assert endings == [".nii.gz", ".map.dcm", ".seg.dcm", ".png"]
        assert not re.search(r"1\.2\.|PHI", "".join(capsys.readouterr()))
        image = nib.load(out / f"{stem}.nii.gz")
        to_lps, values = LPS_TO_RAS @ image.affine, np.asarray(image.dataobj)
        heat, above = (frames_in_space(out / f"{stem}.{kind}.dcm") for kind in ("map", "seg"))
        for k in range(values.shape[2]):
            place = tuple(round(float(v), 3) for v in (to_lps @ [0, 0, k, 1])[:3])
            np.testing.assert_array_equal(heat[place], values[:, :, k].T)
            np.testing.assert_array_equal(above[place], values[:, :, k].T >= 0.25)
        before = (out / f"{stem}.map.dcm").stat().st_mtime_ns
        assert main([*words, "--dicom", "--dicom-threshold", "0.25"]) == 0
        assert (out / f"{stem}.map.dcm").stat().st_mtime_ns == before
        assert main(words) == 2
        assert "other settings" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("extra", "message"),
        [
            (["--dicom", "patents"], "did you mean 'patient'"),
            (["--dicom", "--pseudonymize", "KEY"], "not together with --pseudonymize"),
            (["--dicom", "--dicom-threshold", "0"], "--dicom-threshold: expected a value"),
            (["--dicom-threshold", "0.5"], "only together with --dicom"),
        ],
    )
    def test_bad_words_are_one_line(self, words, extra, message, tmp_path, capsys):
        extra = [str(tmp_path / "key") if word == "KEY" else word for word in extra]
        assert main([*words, *extra]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
        assert not (tmp_path / "out").exists() and not (tmp_path / "key").exists()

    def test_nifti_has_no_dicom_and_a_missing_package_is_named(self, journey, words, capsys, monkeypatch):
        nifti = ["explain", "-p", str(journey.plugin), "-i", str(journey.scans[0]), *words[5:], "--dicom"]
        assert main(nifti) == 2
        assert "image of case 'case00' is none" in capsys.readouterr().err
        monkeypatch.setitem(sys.modules, "highdicom", None)
        assert main([*words, "--dicom"]) == 2
        error = capsys.readouterr().err
        assert "pip install 'anymc3d[dicom]'" in error and error.count("\n") == 1
