"""The whole way with a real archive: Orthanc gets a study, routes it here, and has the answers in the same study."""

import json
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from senders import study

import dicom_makers as dicom
from anymc3d.serve.node_settings import NodeSettings
from anymc3d.serve.service import Service
from anymc3d.serve.settings import ServeSettings

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


def test_a_study_in_orthanc_has_its_answers_beside_it(journey, tmp_path):
    """Sent back both ways, by C-STORE and by STOW-RS, of which the archive keeps one copy."""
    http_port, dicom_port = free_port(), free_port()
    peers = (f"ORTHANC@127.0.0.1:{dicom_port}", f"http://127.0.0.1:{http_port}/dicom-web/studies")
    node = NodeSettings(dicom_port=0, allow_ae=("ORTHANC@127.0.0.1",), quiet_s=0.5, send_to=peers)
    settings = ServeSettings(plugins=(str(journey.plugin),), store=tmp_path / "store", device="cpu", node=node)
    series = study(51)
    with Service(settings) as service, orthanc(tmp_path, service.listener.port, http_port, dicom_port) as client:
        for dataset in series.slices:
            assert client.post("/instances", content=dicom.content(dataset)).status_code == 200
        uid = series.slices[0].StudyInstanceUID

        def modalities():
            found = client.get(f"/dicom-web/studies/{uid}/series", headers={"Accept": "application/dicom+json"})
            return sorted(item["00080060"]["Value"][0] for item in found.json())

        waited(lambda: modalities() == ["MR", "OT", "SEG", "SR"], "the answers did not come back")
        assert len(client.get("/studies").json()) == 1  # the study of the scan, and no other
        seen = modalities()
        time.sleep(2.5)  # the study is stable again, and comes again with the answers in it
        (job,) = service.jobs.latest()
        waited(lambda: {one["state"] for one in service.jobs.deliveries(job.id)} == {"sent"}, "something was not sent")
        sent = service.jobs.deliveries(job.id)
        assert job.state == "done" and job.source == "dicom ORTHANC"
        assert modalities() == seen and [one["attempts"] for one in sent] == [1] * 6
        whole = client.get(f"/dicom-web/studies/{uid}/instances", headers={"Accept": "application/dicom+json"}).json()
        assert len(whole) == len(series.slices) + 3
        path = service.results(job.id) / sent[0]["file"]
        assert all(one.has(path) for one in node.peers())
