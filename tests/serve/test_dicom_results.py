"""What a DICOM study leaves as DICOM: report, segmentation, map and capture, which other programs find no error in."""

import io
import zipfile

import httpx
import pydicom
import pytest
from waiting import ended

import dicom_makers as dicom
from dicom_judges import validated


def zipped(series):
    """A series as the bytes of an archive."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for number, dataset in enumerate(series.slices):
            archive.writestr(f"{number}.dcm", dicom.content(dataset))
    return content.getvalue()


@pytest.fixture(scope="module")
def job(url):
    """A study that was answered, and a client."""
    content = zipped(dicom.make_series(sop_class=dicom.MR))
    with httpx.Client(base_url=url, timeout=60) as client:
        sent = client.post("/v1/jobs", files={"file": ("study.zip", content)}, data={"case": "c-1"})
        yield client, ended(client, sent.json()["id"])


def test_a_dicom_study_leaves_dicom_objects_of_its_study(job, tmp_path):
    client, found = job
    names = [name for name in found["files"] if name.endswith(".dcm")]
    assert {name.rpartition(".")[0].rpartition(".")[2] for name in names} == {"sr", "seg", "map", "sc"}
    source, classes, uids = dicom.make_series(sop_class=dicom.MR).slices[0], set(), set()
    for name in names:
        answer = client.get(f"/v1/jobs/{found['id']}/dicom/{name}")
        assert answer.headers["content-type"] == "application/dicom"
        (tmp_path / name).write_bytes(answer.content)
        made = pydicom.dcmread(io.BytesIO(answer.content))
        assert (made.StudyInstanceUID, made.PatientID) == (source.StudyInstanceUID, source.PatientID)
        assert "RESEARCH ONLY" in made.SeriesDescription and made.Manufacturer == "anymc3d"
        classes.add(made.SOPClassUID.name)
        uids |= {made.SOPInstanceUID, made.SeriesInstanceUID}
        assert validated(tmp_path / name) == [], name
    assert len(classes) == 4 and len(uids) == 2 * len(names)
    assert client.get(f"/v1/jobs/{found['id']}/sr").content[128:132] == b"DICM"
    assert not found["record"]["notes"]


def test_of_a_nifti_there_is_no_dicom(client, journey):
    sent = client.post("/v1/jobs", files={"file": ("s.nii.gz", journey.scans[0].read_bytes())})
    found = ended(client, sent.json()["id"])
    assert found["status"] == "done" and not [name for name in found["files"] if name.endswith(".dcm")]
    assert client.get(f"/v1/jobs/{found['id']}/sr").status_code == 404


def test_what_cannot_be_made_is_a_note_and_the_answer_stands(client):
    series = dicom.make_series(sop_class=dicom.MR)
    for dataset in series.slices:
        del dataset.FrameOfReferenceUID
    sent = client.post("/v1/jobs", files={"file": ("study.zip", zipped(series))})
    found = ended(client, sent.json()["id"])
    assert found["status"] == "done" and any(name.endswith(".html") for name in found["files"])
    assert any("no structured report" in note and "FrameOfReferenceUID" in note for note in found["record"]["notes"])
    assert "--dicom" not in " ".join(found["record"]["notes"])  # nobody typed a command
