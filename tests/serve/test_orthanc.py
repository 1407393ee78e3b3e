"""The whole way with a real archive: Orthanc gets a study, routes it here, and has the answers in the same study."""

import json
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from senders import arrived, known, study

import dicom_makers as dicom
from anymc3d.serve.deliveries import Deliveries

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
PROGRAM = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
ROUTE = """
function OnStableStudy(study, tags, metadata)
  RestApiPost('/modalities/anymc3d/store', '{"Resources": ["' .. study .. '"], "Synchronous": false}')
end
"""


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextmanager
def orthanc(folder, node_port, http_port, dicom_port):
    """An Orthanc of its own on loopback, which sends every study that is complete to the service."""
    if PROGRAM is None or not PLUGIN.is_file():
        pytest.skip("needs Orthanc and its DICOMweb plugin, of Debian's orthanc and orthanc-dicomweb")
    (folder / "route.lua").write_text(ROUTE)
    settings = {
        "Name": "archive",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "Plugins": [str(PLUGIN)],
        "LuaScripts": [str(folder / "route.lua")],
        "HttpPort": http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomAet": "ORTHANC",
        "DicomPort": dicom_port,
        "DicomModalities": {"anymc3d": ["ANYMC3D", "127.0.0.1", node_port]},
        "DicomAlwaysAllowStore": False,
        "StableAge": 1,
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    log = (folder / "log").open("wb")
    with log, subprocess.Popen([PROGRAM, str(folder / "orthanc.json")], stdout=log, stderr=log) as process:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{http_port}", timeout=30) as client:
                waited(lambda: answers(client), "Orthanc did not start")
                yield client
        finally:
            process.terminate()


def answers(client):
    try:
        return client.get("/system").status_code == 200
    except httpx.TransportError:
        return False


def waited(holds, what, seconds=90):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


@pytest.fixture
def archive(service, tmp_path, monkeypatch):
    """An Orthanc that sends complete studies to the service, and is sent the answers by C-STORE and by STOW-RS."""
    http_port, dicom_port = free_port(), free_port()
    peers = (f"ORTHANC@127.0.0.1:{dicom_port}", f"http://127.0.0.1:{http_port}/dicom-web/studies")
    node = replace(service.settings.node, send_to=peers)
    with orthanc(tmp_path, service.listener.port, http_port, dicom_port) as client:
        monkeypatch.setattr(service.supervisor, "_settings", replace(service.settings, node=node))
        deliveries = Deliveries(service, node.peers())
        deliveries.start()
        yield client, node.peers()
        deliveries.stop()


def test_a_study_in_orthanc_has_its_answers_beside_it(service, archive):
    """Sent back both ways, of which the archive keeps one copy; what comes back with the study is no new study."""
    client, peers = archive
    series, before = study(51), known(service)
    uid = series.slices[0].StudyInstanceUID
    for dataset in series.slices:
        assert client.post("/instances", content=dicom.content(dataset)).status_code == 200
    job = arrived(service, before)
    assert job.state == "done" and job.source == "dicom ORTHANC"

    def sent():
        return service.jobs.deliveries.of(job.id)

    def found(level):
        return client.get(f"/dicom-web/studies/{uid}/{level}", headers={"Accept": "application/dicom+json"}).json()

    waited(lambda: {one["state"] for one in sent()} == {"sent"}, "something was not sent")
    modalities = sorted(item["00080060"]["Value"][0] for item in found("series"))
    assert modalities == ["MR", "OT", "OT", "SEG", "SR"]  # a parametric map is of the modality OT too
    assert len(client.get("/studies").json()) == 1 and len(found("instances")) == len(series.slices) + 4
    time.sleep(2.5)  # the study is stable again, and comes again with the answers in it
    assert known(service) - before == {job.id} and len(found("instances")) == len(series.slices) + 4
    assert [one["attempts"] for one in sent()] == [1] * 8
    assert all(one.has(service.results(job.id) / sent()[0]["file"]) for one in peers)
