"""DICOMweb in: parts become one study, whatever is broken is said, and the next request is answered."""

import pytest
from senders import arrived, known, study

import dicom_makers as dicom

TYPE = 'multipart/related; type="application/dicom"; boundary=b0'


def body(*parts):
    head = b"--b0\r\nContent-Type: application/dicom\r\n\r\n"
    return b"".join(head + part + b"\r\n" for part in parts) + b"--b0--\r\n"


def post(client, content, kind=TYPE, of=""):
    return client.post(f"/dicom-web/studies{of}", content=content, headers={"content-type": kind})


def test_instances_of_two_requests_are_one_study(client, service):
    slices, before = [dicom.content(one) for one in study(31).slices], known(service)
    answers = [post(client, body(*slices[:5])), post(client, body(*slices[5:]))]
    assert [answer.status_code for answer in answers] == [200, 200]
    stored = [item["00081155"]["Value"][0] for answer in answers for item in answer.json()["00081199"]["Value"]]
    assert stored == [one.SOPInstanceUID for one in study(31).slices]
    assert answers[0].headers["content-type"] == "application/dicom+json"
    job = arrived(service, before)
    assert job.state == "done" and job.source.startswith("stow ")


def test_a_part_that_is_no_dicom_is_said_and_the_study_is_no_answer(client, service):
    slices, before = [dicom.content(one) for one in study(32).slices], known(service)
    answer = post(client, body(*slices[:4], b"no dicom" * 50, *slices[4:]))
    assert answer.status_code == 202 and len(answer.json()["00081199"]["Value"]) == len(slices)
    assert answer.json()["0008119A"]["Value"] == [{"00081197": {"vr": "US", "Value": [0xC000]}}]
    job = arrived(service, before)
    assert job.state == "error" and "not whole" in job.message
    assert post(client, body(b"no dicom")).status_code == 409


def test_of_the_study_that_a_request_names_and_of_no_other(client, service):
    slices, before = study(33).slices, known(service)
    whole, uid = [dicom.content(one) for one in slices], slices[0].StudyInstanceUID
    assert post(client, body(*whole), of=f"/{uid}9").status_code == 409
    assert post(client, body(*whole), of="/a-name").status_code == 422
    answer = post(client, body(*whole), of=f"/{uid}")
    assert answer.status_code == 200 and len(answer.json()["00081199"]["Value"]) == len(slices)
    assert arrived(service, before).state == "done"


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"--b0--", "application/dicom", 415),
        (b"--b0--", 'multipart/related; type="application/dicom+json"; boundary=b0', 415),
        (b"--b0--", "multipart/related", 400),
        (b"hello", TYPE, 400),
        (b"", TYPE, 400),
        (body(b"x" * 500)[:-20], TYPE, 400),
        (b"x" * 6_000_000, TYPE, 413),
    ],
)
def test_what_is_no_store_request_is_refused_and_leaves_nothing(client, service, content, kind, status):
    before = known(service)
    assert post(client, content, kind).status_code == status
    assert not [path for path in service.incoming.root.iterdir() if path.is_file()] and known(service) == before
