"""One running service for the tests of its interface, with the tiny plugin of the journey."""

import socket
import threading

import httpx
import pytest
import uvicorn

from anymc3d.serve.node_settings import OBJECTS, NodeSettings
from anymc3d.serve.server import configured
from anymc3d.serve.service import Service
from anymc3d.serve.settings import ServeSettings


@pytest.fixture(scope="session")
def service(journey, tmp_path_factory):
    settings = ServeSettings(
        plugins=(str(journey.plugin),),
        store=tmp_path_factory.mktemp("store"),
        device="cpu",
        max_upload_bytes=5_000_000,
        node=NodeSettings(objects=tuple(OBJECTS), dicom_port=0, allow_ae=("SENDER", "ORTHANC@127.0.0.1"), quiet_s=0.3),
    )
    with Service(settings) as running:
        yield running


@pytest.fixture(scope="session")
def url(service):
    """Where the service answers."""
    opened = socket.socket()
    opened.bind(("127.0.0.1", 0))
    opened.listen()  # who comes before the server runs waits for it
    server = uvicorn.Server(configured(service))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{opened.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


@pytest.fixture
def client(url):
    with httpx.Client(base_url=url, timeout=60) as one:
        yield one
