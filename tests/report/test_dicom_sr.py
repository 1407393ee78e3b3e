"""The structured report: read back by highdicom, found without errors by dciodvfy and dsrdump, and nobody's name."""

import csv
from dataclasses import replace

import pydicom
import pytest

import dicom_makers as dicom
from anymc3d.cli.main import main
from anymc3d.errors import ScanError, UsageError
from anymc3d.plugins import load_plugin
from anymc3d.predict.study import study_case
from anymc3d.report.dicom_sr import answer_of, private_code, write_report
from anymc3d.report.finding_codes import read_codes
from dicom_judges import dumped, validated

highdicom = pytest.importorskip("highdicom", reason="needs highdicom: pip install 'anymc3d[dicom]'")


@pytest.fixture(scope="module")
def plugin(journey):
    return load_plugin(journey.plugin)


@pytest.fixture(scope="module")
def run(journey, tmp_path_factory):
    """A series, its prediction run with a report, and codes for the finding."""
    folder = tmp_path_factory.mktemp("sr")
    dicom.make_series(sop_class=dicom.MR).write(folder / "series")
    codes = folder / "codes.yaml"
    codes.write_text("format: 1\nfindings:\n  block: {value: '52988006', scheme: SCT, meaning: Lesion}\n")
    words = ["predict", "-p", str(journey.plugin), "-i", str(folder / "series"), "-o", str(folder / "out")]
    assert main([*words, "--dicom-sr", "--sr-codes", str(codes), "--device", "cpu", "--quiet"]) == 0
    return folder


def row_of(label="block", **changed):
    cells = {"case": "c", "status": "ok", "message": "", f"probability.{label}": 0.75, f"logit.{label}": 1.0986}
    return cells | {f"decision.{label}": 1} | changed


def test_the_report_says_what_the_table_says_and_which_plugin_and_images(run, plugin):
    (row,) = csv.DictReader((run / "out" / "predictions.csv").read_text().splitlines())
    report = highdicom.sr.srread(run / "out" / "sr" / "series.dcm")
    assert report.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.34"
    (group,) = report.content.get_image_measurement_groups()
    values = {one.name.meaning: one.value for one in group.get_measurements()}
    assert values["Probability"] == pytest.approx(float(row["probability.block"]), abs=1e-9)
    assert values["Logit before calibration"] == pytest.approx(float(row["logit.block"]), abs=1e-6)
    assert 0 < values["Threshold Value"] < 1
    (decision,) = [one for one in group.get_qualitative_evaluations() if one.name.value == "DECISION"]
    assert decision.value.meaning == ("Negative", "Positive")[int(row["decision.block"])]
    assert (group.finding_type.value, group.finding_type.scheme_designator) == ("52988006", "SCT")
    sources = {image.referenced_sop_instance_uid for image in group.source_images}
    assert sources == {one.SOPInstanceUID for one in dicom.make_series(sop_class=dicom.MR).slices}
    content = (run / "out" / "sr" / "series.dcm").read_bytes()
    assert plugin.hash.encode() in content and b"Research use only" in content
    assert report.StudyInstanceUID == dicom.ROOT + "7" and report.VerificationFlag == "UNVERIFIED"


def test_other_programs_find_no_error(run):
    path = run / "out" / "sr" / "series.dcm"
    assert validated(path) == []
    assert "Research use only" in dumped(path)


def test_G1_without_the_patients_link_nothing_but_uids_goes_out(run, plugin):
    content = (run / "out" / "sr" / "series.dcm").read_bytes()
    assert not [word for word in dicom.PHI if word.encode() in content] and content[:128] == bytes(128)
    case = study_case(run / "series", None, case="c")
    write_report(run / "named.dcm", [(case, [answer_of(plugin, row_of())])], link="patient")
    named = pydicom.dcmread(run / "named.dcm")
    assert named.PatientID == "PHI_ID_77" and named.PatientName == "PHI_NAME^X"


@pytest.mark.parametrize("is_unlike", [True, False])
def test_the_comment_begins_with_what_forbids_its_use(run, plugin, is_unlike):
    message = "a note; the header says CT, the plugin was trained on MR scans" if is_unlike else "a note"
    case = study_case(run / "series", None, case="c")
    write_report(
        run / "unlike.dcm", [(case, [answer_of(plugin, row_of(status="warn", message=message))])], link="linked"
    )
    words = b"Do not use: unlike the training scans. block: probability"
    assert (words in (run / "unlike.dcm").read_bytes()) is is_unlike


@pytest.mark.parametrize("kind", ["enhanced", "gaps", "two scans", "long label"])
def test_sources_of_every_kind_are_referred_to(tmp_path, plugin, kind):
    series = dicom.make_enhanced() if kind == "enhanced" else dicom.make_series(sop_class=dicom.MR)
    if kind == "gaps":
        del series.slices[3]
    case = study_case(series.write(tmp_path / "a"), None, case="c", series="gaps=allow" if kind == "gaps" else None)
    if kind == "two scans":
        other = dicom.make_series(sop_class=dicom.MR, series=2, orientation=dicom.OBLIQUE).write(tmp_path / "b")
        case = study_case(None, {"axial": tmp_path / "a", "sagittal": other}, case="c")
    answer = answer_of(plugin, row_of(message="a warning", status="warn"))
    if kind == "long label":
        label = "a label with more than sixteen letters, and a \\ in it: " + "ö" * 40
        answer = replace(answer, findings=(replace(answer.findings[0], label=label),))
        assert len(private_code(label)) == 16
    write_report(tmp_path / "r.dcm", [(case, [answer])], link="linked")
    (group,) = highdicom.sr.srread(tmp_path / "r.dcm").content.get_image_measurement_groups()
    assert len(group.source_images) == {"enhanced": 1, "gaps": 7, "two scans": 16, "long label": 8}[kind]
    assert validated(tmp_path / "r.dcm") == []


def test_scans_of_two_studies_have_no_common_report(tmp_path, plugin):
    one, other = (dicom.make_series(sop_class=dicom.MR, series=number) for number in (1, 2))
    for dataset in other.slices:
        dataset.StudyInstanceUID = dicom.ROOT + "77"
    case = study_case(None, {"a": one.write(tmp_path / "a"), "b": other.write(tmp_path / "b")}, case="c")
    with pytest.raises(ScanError, match="several studies"):
        write_report(tmp_path / "r.dcm", [(case, [answer_of(plugin, row_of())])], link="linked")


def test_what_no_report_can_be_made_of_is_refused_before_any_work(journey, tmp_path, capsys):
    words = ["predict", "-p", str(journey.plugin), "-o", str(tmp_path / "out"), "-i"]
    assert main([*words, str(journey.scans[0]), "--dicom-sr"]) == 2
    assert "leave out --dicom-sr" in capsys.readouterr().err and not (tmp_path / "out").exists()
    assert main([*words, str(journey.scans[0]), "--dicom-sr", "patiend"]) == 2
    assert "did you mean 'patient'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("format: 2\n", "format"),
        ("format: 1\nfinding: {}\n", "did you mean 'findings'"),
        ("format: 1\nfindings: {a: {value: '12', scheme: SCT}}\n", "meaning"),
        ("format: 1\nfindings: {a: {value: 'a code of more than 16', scheme: SCT, meaning: x}}\n", "1 to 16"),
        ("format: 1\nfindings: {a: {value: 12, scheme: SCT, meaning: x}}\n", "in quotes"),
    ],
)
def test_a_wrong_file_of_codes_says_where(tmp_path, text, expected):
    (tmp_path / "codes.yaml").write_text(text)
    with pytest.raises(UsageError, match=expected):
        read_codes(tmp_path / "codes.yaml")


@pytest.mark.real_data
def test_other_programs_accept_the_report_on_a_real_series(journey, shared, tmp_path):
    """A tilted CT with gaps, to which the plugin answers with warnings: it was trained on other scans."""
    series = shared / "data" / "dicom_ct_gantry_tilt" / "In" / "GE"
    words = ["predict", "-p", str(journey.plugin), "-i", str(series), "-o", str(tmp_path / "out")]
    words += ["--allow-tilt", "--allow-gaps", "--device", "cpu", "--quiet"]
    assert main([*words, "--dicom-sr"]) == 0
    (path,) = (tmp_path / "out" / "sr").glob("*.dcm")
    assert validated(path) == []
    assert "Probability" in dumped(path)
    sources = [pydicom.dcmread(one, stop_before_pixels=True) for one in sorted(series.glob("*.dcm"))]
    report = highdicom.sr.srread(path)
    assert {report.StudyInstanceUID} == {one.StudyInstanceUID for one in sources}
    (group,) = report.content.get_image_measurement_groups()
    named = {image.referenced_sop_instance_uid for image in group.source_images}
    assert named == {one.SOPInstanceUID for one in sources}
