"""Clients that are slow, send twice, or send more than there is room for; each is refused and the next is served."""

import io
import json
import socket
import time
from types import SimpleNamespace

import pytest
from waiting import ended

from anymc3d.serve import guard, server, uploads

HEAD = b"POST /v1/jobs HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: multipart/form-data; boundary=b\r\n"


def closed_after(url, sent, *, then=None, limit_s=20):
    """How long the service leaves a connection open that sends this and no more, and what it answers."""
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=limit_s) as connection:
        connection.sendall(sent)
        begun, answer = time.monotonic(), b""
        while piece := connection.recv(65536):
            answer += piece
            if then and b"\r\n\r\n" in answer:
                connection.sendall(then)
                begun, then = time.monotonic(), None
        return time.monotonic() - begun, answer


def test_E4_a_header_that_does_not_end_closes_the_connection(url, client, monkeypatch):
    monkeypatch.setattr(server, "HEADER_S", 0.3)
    monkeypatch.setattr(server, "KEEP_ALIVE_S", 0.2)
    took, answer = closed_after(url, b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\nx: ")
    assert took < 10 and answer == b""
    whole = b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"
    took, answer = closed_after(url, whole, then=b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\nx: ")
    assert took < 10 and answer.count(b"200 OK") == 1
    assert client.get("/healthz").text == "ok"


def test_E4_a_body_that_stops_is_given_up(url, client, monkeypatch):
    monkeypatch.setattr(guard, "IDLE_S", 0.3)
    took, answer = closed_after(url, HEAD + b"content-length: 5000\r\n\r\n--b\r\n")
    assert took < 10 and b" 408 " in answer.partition(b"\r\n")[0]
    assert client.get("/healthz").text == "ok"


def test_a_refusal_reaches_a_client_that_sends_all_before_it_reads(url):
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(HEAD + b"content-length: 6000000\r\n\r\n")
        time.sleep(0.1)  # by now it is refused; a connection closed here resets what is sent below
        for _ in range(6):
            connection.sendall(b"0" * 1_000_000)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b" 413 " in head.partition(b"\r\n")[0] and json.loads(body)["status"] == 413


def full(_):
    return SimpleNamespace(total=1000 * 2**30, free=19 * 2**30)


def test_E3_E12_a_nearly_full_disk_refuses_before_and_while_a_body_comes(client, service, journey, monkeypatch):
    content = journey.scans[0].read_bytes() + b"0" * 200_000
    before = sum(service.jobs.counts().values()), sorted((service.settings.store / "jobs").glob("??/*"))
    monkeypatch.setattr(uploads.shutil, "disk_usage", full)
    assert client.post("/v1/jobs", files={"file": content}).status_code == 503

    def pieces():
        yield (b'--b\r\ncontent-disposition: form-data; name="file"; filename="x"\r\n\r\n')
        for _ in range(20):
            yield b"0" * 100_000

    monkeypatch.setattr(guard, "CHECK_EVERY", 500_000)
    words = {"content-type": "multipart/form-data; boundary=b"}
    answer = client.post("/v1/jobs", content=pieces(), headers=words)
    assert answer.status_code == 503 and "nearly full" in answer.json()["detail"]
    monkeypatch.undo()
    assert (sum(service.jobs.counts().values()), sorted((service.settings.store / "jobs").glob("??/*"))) == before
    assert client.post("/v1/jobs", files={"file": journey.scans[0].read_bytes()}).status_code == 202


def test_a_disk_that_fills_while_a_file_is_stored_leaves_no_folder(tmp_path, monkeypatch):
    def fails(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(uploads, "check_room", lambda *_: None)
    source = io.BytesIO(b"\x1f\x8b" + b"0" * 500)
    monkeypatch.setattr(uploads, "_private", fails)
    with pytest.raises(uploads.DiskFullError):
        uploads.store_file(source, tmp_path / "a" / "b" / "input")
    assert list((tmp_path / "a").iterdir()) == []


def test_a_study_that_is_sent_again_under_its_key_is_the_same_job(client, service, journey):
    files = {"file": journey.scans[3].read_bytes()}
    first, again = (client.post("/v1/jobs", files=files, headers={"idempotency-key": "k-1"}) for _ in range(2))
    other = client.post("/v1/jobs", files=files, headers={"idempotency-key": "k-2"})
    assert first.json() == again.json() and first.json() != other.json() and again.status_code == 202
    assert len(list((service.settings.store / "jobs").glob(f"??/{first.json()['id']}"))) == 1
    ended(client, other.json()["id"])
    client.delete(f"/v1/jobs/{first.json()['id']}")
    assert client.post("/v1/jobs", files=files, headers={"idempotency-key": "k-1"}).json() != first.json()
    assert client.post("/v1/jobs", files=files, headers={"idempotency-key": "x" * 101}).status_code == 422
