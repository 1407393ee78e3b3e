"""Answers are sent to peers that the configuration names: again until they arrive, across restarts, and never twice."""

import http.server
import socket
import threading
from types import SimpleNamespace

import pytest

import dicom_makers as dicom
from anymc3d.errors import UsageError
from anymc3d.serve import deliveries
from anymc3d.serve.deliveries import FAILED, SENDING, SENT, WAITING, Deliveries, to_send
from anymc3d.serve.jobs import DONE, JobStore
from anymc3d.serve.node_settings import NodeSettings
from anymc3d.serve.peers import SendError, peer_of, read_headers


class Peer:
    """Takes files, or fails as it is told."""

    name = "ARCHIVE@127.0.0.1:104"

    def __init__(self, *faults):
        self.faults, self.stored = list(faults), []

    def send(self, path):
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None:
            raise fault
        self.stored.append(path.name)

    def has(self, path):
        return path.name in self.stored


@pytest.fixture
def service(tmp_path):
    """A queue with one ended job, of which two files are to be sent."""
    jobs = JobStore(tmp_path / "queue.sqlite3")
    job_id = jobs.add(source="test", case="c", request={})
    jobs.take()
    files = ["answers.sr.dcm", "p.html", "p.seg.dcm"]
    for name in files:
        (tmp_path / name).write_bytes(b"x")
    send = to_send([Peer.name], {"files": files})
    assert jobs.finish(job_id, DONE, record={"files": files}, send=send)
    assert not jobs.finish(job_id, DONE, send=send)
    yield SimpleNamespace(jobs=jobs, job=job_id, results=lambda job: tmp_path)
    jobs.close()


def states(service):
    return [(one["file"], one["state"], one["attempts"]) for one in service.jobs.deliveries.of(service.job)]


def sent_all(service, peer, monkeypatch, hours=48):
    """Send until nothing is due within so many hours."""
    now = [1e9]
    monkeypatch.setattr(deliveries.time, "time", lambda: now[0])
    while now[0] < 1e9 + hours * 3600:
        if not Deliveries(service, [peer]).send_one(peer.name):  # each a new one, as after a restart
            now[0] += 60


def test_what_may_have_arrived_is_asked_for_before_it_is_sent_again(service, monkeypatch):
    class Deaf(Peer):
        def send(self, path):
            super().send(path)
            raise SendError("the peer broke off", is_unsure=True)

    peer = Deaf()
    sent_all(service, peer, monkeypatch)
    assert sorted(peer.stored) == ["answers.sr.dcm", "p.seg.dcm"]
    assert {state for _, state, _ in states(service)} == {SENT}


def test_a_silent_peer_does_not_hold_up_the_end(tmp_path, monkeypatch):
    dataset = dicom.make_series(sop_class=dicom.MR).slices[0]
    (tmp_path / "x.dcm").write_bytes(dicom.content(dataset))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        peer = peer_of(f"HANG@127.0.0.1:{silent.getsockname()[1]}", ae_title="ANYMC3D", headers={})
        faults = []

        def send():
            with pytest.raises(SendError) as raised:
                peer.send(tmp_path / "x.dcm")
            faults.append(raised.value)

        before = set(threading.enumerate())
        sender = threading.Thread(target=send)
        sender.start()
        connection, _ = silent.accept()
        while not peer._open:
            sender.join(0.01)
        peer.break_off()
        sender.join(20)
        assert not sender.is_alive() and len(faults) == 1
        for thread in set(threading.enumerate()) - before:
            thread.join(20)
            assert not thread.is_alive()  # none is left that the program would wait for
        connection.close()


def test_dicom_objects_are_sent_once_and_failures_again(service, monkeypatch):
    peer = Peer(SendError("not there"), SendError("not there"))
    sent_all(service, peer, monkeypatch)
    assert sorted(peer.stored) == ["answers.sr.dcm", "p.seg.dcm"]
    assert sorted(attempts for _, state, attempts in states(service) if state == SENT) == [1, 3] or [
        attempts for _, state, attempts in states(service)
    ] == [2, 2]
    assert "sent .sr" in {line["what"] for line in service.jobs.audit.lines()}


def test_what_was_being_sent_when_the_service_ended_is_asked_for_and_not_sent_twice(service, monkeypatch):
    class Killed(BaseException):
        pass

    class Dying(Peer):
        def send(self, path):
            super().send(path)
            raise Killed

    peer = Dying()
    with pytest.raises(Killed):
        Deliveries(service, [peer]).send_one(peer.name)
    assert states(service)[0][1] == SENDING
    alive = Peer()
    alive.stored = peer.stored
    sent_all(service, alive, monkeypatch)
    assert sorted(alive.stored) == ["answers.sr.dcm", "p.seg.dcm"]
    assert {state for _, state, _ in states(service)} == {SENT}


def test_what_is_refused_for_good_or_never_arrives_is_given_up(service, monkeypatch):
    peer = Peer(SendError("status 0xA900", for_good=True), *[SendError("not there")] * 100)
    sent_all(service, peer, monkeypatch)
    assert states(service) == [("answers.sr.dcm", FAILED, 1), ("p.seg.dcm", FAILED, deliveries.MAX_ATTEMPTS)]
    assert peer.stored == [] and service.jobs.deliveries.of(service.job)[0]["message"] == "status 0xA900"


def test_peers_that_are_no_longer_named_are_sent_nothing(service):
    other = Peer()
    other.name = "OTHER@127.0.0.1:104"
    assert not Deliveries(service, [other]).send_one(other.name)
    assert {state for _, state, _ in states(service)} == {WAITING}
    service.jobs.remove(service.job)
    assert service.jobs.deliveries.of(service.job) == []


def test_E9_a_redirect_is_not_followed_and_a_peer_that_is_not_there_is_said(tmp_path):
    asked = []

    class Redirecting(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            asked.append(self.headers["Authorization"])
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(307)
            self.send_header("Location", "http://127.0.0.1:1/studies")
            self.end_headers()

        def log_message(self, *_):
            pass

    (tmp_path / "x.dcm").write_bytes(b"x")
    with http.server.HTTPServer(("127.0.0.1", 0), Redirecting) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/dicom-web/studies"
        with pytest.raises(SendError, match="status 307"):
            peer_of(url, ae_title="A", headers={"Authorization": "Basic eA=="}).send(tmp_path / "x.dcm")
    assert asked == ["Basic eA=="]
    with pytest.raises(SendError, match="no connection"):
        peer_of("http://127.0.0.1:1/studies", ae_title="A", headers={}).send(tmp_path / "x.dcm")


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"send_to": ("ARCHIVE@127.0.0.1",)}, "AE@host:port"),
        ({"send_to": ("ARCHIVE@127.0.0.1:99999",)}, "AE@host:port"),
        ({"send_to": ("ftp://127.0.0.1/studies",)}, "AE@host:port"),
        ({"send_to": ("http://user:secret@127.0.0.1/studies",)}, "no password"),
        ({"send_to": ("A@h:1",), "objects": ()}, "nothing would be sent"),
        ({"send_to": ("A@h:1",), "link": "linked"}, "cannot file"),
    ],
)
def test_peers_that_are_named_wrongly_are_refused(changed, text):
    with pytest.raises(UsageError, match=text):
        NodeSettings(**changed)


def test_headers_come_out_of_a_file_that_is_private(tmp_path):
    path = tmp_path / "headers"
    path.write_text("Authorization: Basic abc=\n")
    path.chmod(0o600)
    assert read_headers(path) == {"Authorization": "Basic abc="}
    path.chmod(0o644)
    with pytest.raises(UsageError, match="other users"):
        read_headers(path)
    path.chmod(0o600)
    path.write_text("Authorization\n")
    with pytest.raises(UsageError, match="line 1"):
        read_headers(path)


def test_a_delivery_put_off_by_a_clock_that_was_wrong_does_not_wait_for_that_day(service):
    due = service.jobs.deliveries.due(Peer.name, 1e9)
    service.jobs.deliveries.note(due["number"], WAITING, next_at=1e9 + 3600)
    assert service.jobs.deliveries.due(Peer.name, 1e9)["number"] != due["number"]
    service.jobs.deliveries.note(due["number"], WAITING, next_at=1e9 + 400 * 86400)
    assert service.jobs.deliveries.due(Peer.name, 1e9)["number"] == due["number"]
