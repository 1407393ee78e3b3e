"""What comes from an address: continued where it broke off, bounded, and the token goes to one host alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from anymc3d.errors import DownloadError, UsageError
from anymc3d.files import hub
from anymc3d.files.download import Request, fetched

CONTENT = bytes(range(256)) * 300
BOUNDS = Request(max_bytes=1 << 20, token="secret-token", other_hosts=False)


class Server(BaseHTTPRequestHandler):
    """Serves CONTENT with ranges; the first answer ends after 1000 bytes where ``breaks``."""

    breaks = False
    tag = '"one"'
    seen: list[tuple[str, str | None, str | None]] = []
    other = ""

    def do_GET(self) -> None:
        part = self.headers.get("Range") if self.headers.get("If-Range") == self.tag else None
        self.seen.append((self.path, self.headers.get("Range"), self.headers.get("Authorization")))
        targets = {"/moved": "/file", "/away": f"{self.other}/file", "/disk": "file:///etc/hostname"}
        if self.path in targets:
            self.send_response(302)
            self.send_header("Location", targets[self.path])
            self.end_headers()
            return
        start = int(part.removeprefix("bytes=").rstrip("-")) if part else 0
        self.send_response(206 if part else 200)
        if part:
            shift = 1 if self.path == "/shifted" else 0
            self.send_header("Content-Range", f"bytes {start + shift}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.send_header("Content-Length", str(len(CONTENT) - start))
        if self.tag:
            self.send_header("ETag", self.tag)
        self.end_headers()
        broken, type(self).breaks = self.breaks, False
        self.wfile.write(CONTENT[start : start + 1000] if broken else CONTENT[start:])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(autouse=True)
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("ANYMC3D_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    running = HTTPServer(("127.0.0.1", 0), Server)
    thread = Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setattr(Server, "seen", [])
    monkeypatch.setattr(Server, "other", f"http://localhost:{running.server_port}")
    yield f"http://127.0.0.1:{running.server_port}"
    running.shutdown()
    thread.join()
    running.server_close()


def whole(address: str, request: Request = BOUNDS, sha256: str | None = None) -> bytes:
    with fetched(address, "thing", request, sha256=sha256) as (file, found):
        content = file.read_bytes()
        assert found == hashlib.sha256(content).hexdigest()
    return content


def left(home: Path) -> list[Path]:
    return list((home / "home" / "downloads").rglob("thing"))


@pytest.mark.parametrize(("tag", "asked"), [('"one"', "bytes=1000-"), ("", None), ('W/"weak"', None)])
def test_what_broke_off_is_continued_where_the_server_knows_the_file(server, tmp_path, monkeypatch, tag, asked):
    monkeypatch.setattr(Server, "tag", tag)
    monkeypatch.setattr(Server, "breaks", True)
    with pytest.raises(DownloadError, match=f"the connection ended after 1000 of {len(CONTENT)} bytes"):
        whole(f"{server}/file")
    assert len(left(tmp_path)) == (asked is not None)
    assert whole(f"{server}/file") == CONTENT
    assert Server.seen[-1][1] == asked and left(tmp_path) == []


def test_a_file_that_changed_meanwhile_is_fetched_from_its_beginning(server, monkeypatch):
    monkeypatch.setattr(Server, "breaks", True)
    with pytest.raises(DownloadError, match="the same command continues there"):
        whole(f"{server}/file")
    monkeypatch.setattr(Server, "tag", '"two"')
    assert whole(f"{server}/file") == CONTENT and Server.seen[-1][1] == "bytes=1000-"


def test_another_part_than_was_asked_for_is_refused(server, monkeypatch):
    monkeypatch.setattr(Server, "breaks", True)
    with pytest.raises(DownloadError, match="ended after 1000"):
        whole(f"{server}/shifted")
    with pytest.raises(DownloadError, match="another part of the file"):
        whole(f"{server}/shifted")


def test_another_hash_or_too_much_leaves_nothing(server, tmp_path):
    with pytest.raises(DownloadError, match=r"expected sha256 00ff, got .*; nothing was kept"):
        whole(f"{server}/file", sha256="00FF")
    with pytest.raises(DownloadError, match=f"at most 100 bytes, the server announces {len(CONTENT)}"):
        whole(f"{server}/file", Request(max_bytes=100))
    assert left(tmp_path) == []


def test_redirects_stay_on_the_host_or_lose_the_token(server):
    assert whole(f"{server}/moved") == CONTENT
    assert [token for *_, token in Server.seen] == ["Bearer secret-token"] * 2
    with pytest.raises(DownloadError, match=r"redirected to another host \(localhost\)"):
        whole(f"{server}/away")
    with pytest.raises(DownloadError, match="redirected to what is not an https address"):
        whole(f"{server}/disk")
    assert whole(f"{server}/away", Request(max_bytes=1 << 20, token="secret-token")) == CONTENT
    assert [token for *_, token in Server.seen[-2:]] == ["Bearer secret-token", None]


def test_an_address_is_named_without_its_secrets(server):
    address = server.replace("http://", "http://me:hidden@") + "/file?signature=hidden"
    with pytest.raises(DownloadError) as caught:
        whole(address, Request(max_bytes=1))
    assert "hidden" not in str(caught.value) and "/file" in str(caught.value)


@pytest.mark.parametrize("text", ["hf://../x", "hf://a", "hf://a/b/c", "hf://a/..", "hf://a/b@../x", "hf://a/b?x=1"])
def test_a_repository_is_an_owner_and_a_name(text):
    with pytest.raises(UsageError, match="expected hf://OWNER/NAME"):
        hub.parse_repository(text)
    assert hub.parse_repository("hf://own-er/na.me_1@v1.0") == ("own-er/na.me_1", "v1.0")


def test_a_token_that_is_none_is_not_shown(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hidden\nX-Other: 1")
    with pytest.raises(UsageError, match="HF_TOKEN: expected a token") as caught:
        hub.token()
    assert "hidden" not in str(caught.value)
