"""Plugins that travel: what arrives is the file that was pushed, pinned, signed and checked, or nothing arrives."""

from __future__ import annotations

import base64
import datetime
import hashlib
import ipaddress
import json
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from anymc3d.cli.main import main
from anymc3d.errors import AnyMC3DError, PluginError, UsageError
from anymc3d.plugins import sharing
from anymc3d.plugins.hub_page import METRICS
from anymc3d.plugins.sharing import place_of, pull, push
from anymc3d.plugins.signature import check_signature, make_key, named_keys, sign
from strangers import forged

pytest.importorskip("cryptography", reason="needs the extra sign")
FILE = "/team/tumour/plugin.safetensors"
SECRETS = {"HF_TOKEN": "hf_secret", "ANYMC3D_MIRROR_TOKEN": "mirror_secret"}


class Server(BaseHTTPRequestHandler):
    """A mirror that takes GET and PUT, and the routes of a hub that its client uses for one commit."""

    files: dict[str, bytes] = {}
    tokens: list[str | None] = []
    away = ""

    def do_GET(self) -> None:
        self.tokens.append(self.headers.get("Authorization"))
        if self.away:
            self.send_response(302)
            self.send_header("Location", self.away)
            self.end_headers()
            return
        content = self.files.get(self.path.replace("/resolve/main", ""))
        if content is None:
            self.send_error(404)
            return
        self.answer(content)

    def do_PUT(self) -> None:
        self.tokens.append(self.headers.get("Authorization"))
        if self.headers.get("Authorization") != "Bearer mirror_secret":
            self.send_error(401)
            return
        self.files[self.path] = self.body()
        self.answer(b"")

    def do_POST(self) -> None:
        self.tokens.append(self.headers.get("Authorization"))
        body = self.body()
        if self.headers.get("Authorization") != "Bearer hf_secret":
            self.send_error(403)
        elif self.path == "/api/validate-yaml":
            self.answer(b'{"errors": [], "warnings": []}')
        elif self.path == "/api/repos/create":
            self.answer(json.dumps({"url": f"http://{self.headers['Host']}/team/tumour"}).encode())
        elif "/preupload/" in self.path:
            asked = json.loads(body)["files"]
            modes = [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False} for one in asked]
            self.answer(json.dumps({"files": modes}).encode())
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.files[f"/team/tumour/{line['value']['path']}"] = base64.b64decode(line["value"]["content"])
            url = f"http://{self.headers['Host']}/team/tumour/commit/abc"
            self.answer(json.dumps({"success": True, "commitUrl": url, "commitOid": "abc"}).encode())

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers["Content-Length"]))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def answer(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


def serving(context: ssl.SSLContext | None = None) -> Iterator[int]:
    server = HTTPServer(("127.0.0.1", 0), Server)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(Server, "files", {})
    monkeypatch.setattr(Server, "tokens", [])
    monkeypatch.setenv("ANYMC3D_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    for port in serving():
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}/team/tumour"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    path = tmp_path_factory.mktemp("keys") / "maker.key"
    return path, make_key(path)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_folder_takes_and_gives_the_same_bytes(journey, keys, tmp_path):
    key, public = keys
    pushed = push(journey.plugin, str(tmp_path / "share"), key=key)
    assert pushed.sha256 == digest(journey.plugin) and pushed.signed_by == public
    assert sorted(p.name for p in (tmp_path / "share").iterdir()) == [
        "README.md", "plugin.safetensors", "plugin.safetensors.sig",
    ]  # fmt: skip
    out = tmp_path / "here.safetensors"
    assert pull(str(tmp_path / "share"), out, sha256=pushed.sha256, keys=[public]).signed_by == public
    assert out.read_bytes() == journey.plugin.read_bytes() and out.stat().st_mode & 0o777 == 0o600
    assert main(["plugin", "verify", str(out), "--signed-by", f"{key}.pub"]) == 0
    push(journey.plugin, str(tmp_path / "share"))
    with pytest.raises(PluginError, match=r"not signed \(no .sig beside it\)"):
        pull(str(tmp_path / "share"), tmp_path / "other.safetensors", keys=[public])


def test_the_page_is_a_model_card_of_the_hub(journey, tmp_path):
    hub = pytest.importorskip("huggingface_hub", reason="needs the extra hub")
    push(journey.plugin, str(tmp_path / "share"))
    page = hub.ModelCard.load(tmp_path / "share" / "README.md")
    assert page.data.library_name == "anymc3d" and page.data.license == "unknown"
    assert page.data.eval_results and {one.metric_type for one in page.data.eval_results} <= set(METRICS)
    assert digest(journey.plugin) in page.text and "Research use only" in page.text
    assert str(tmp_path) not in page.content and str(journey.plugin.parent) not in page.content


def test_a_mirror_is_written_with_its_token_and_read_with_a_pin(journey, mirror, monkeypatch, tmp_path, caplog):
    with pytest.raises(UsageError, match=r"the server answered 401.*ANYMC3D_MIRROR_TOKEN"):
        push(journey.plugin, mirror)
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    pushed = push(journey.plugin, mirror)
    out = tmp_path / "here.safetensors"
    with pytest.raises(UsageError, match="by http; give --sha256 or https"):
        pull(mirror, out)
    assert pull(mirror, out, sha256=f"sha256:{pushed.sha256}").sha256 == pushed.sha256
    before = len(Server.tokens)
    pull(mirror, out, sha256=pushed.sha256)
    assert len(Server.tokens) == before, "what is here with the pinned hash is not fetched again"
    assert "hf_secret" not in str(Server.tokens) and "secret" not in caplog.text


def test_a_hub_takes_one_commit_and_gives_it_back(journey, mirror, keys, monkeypatch, tmp_path, capsys):
    client = pytest.importorskip("huggingface_hub", reason="needs the extra hub")
    monkeypatch.setattr(client.constants, "HF_HUB_OFFLINE", False)
    key, public = keys
    with pytest.raises(UsageError, match="needs your own token"):
        monkeypatch.delenv("HF_TOKEN", raising=False)
        push(journey.plugin, "hf://team/tumour")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(UsageError, match="the hub answered 403") as caught:
        push(journey.plugin, "hf://team/tumour")
    assert "hf_wrong" not in str(caught.value)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert main(["plugin", "push", str(journey.plugin), "hf://team/tumour", "--sign", str(key)]) == 0
    assert sorted(Server.files) == ["/team/tumour/README.md", FILE, f"{FILE}.sig"]
    out, lock = tmp_path / "here.safetensors", tmp_path / "plugins.lock"
    command = ["plugin", "pull", "hf://team/tumour", "-o", str(out), "--lock", str(lock), "--signed-by", public]
    assert main(command) == 0 and out.read_bytes() == journey.plugin.read_bytes()
    assert lock.read_text() == f"sha256:{digest(journey.plugin)}  hf://team/tumour@main\n"
    Server.files[FILE] = Server.files[FILE][:-1] + b"x"
    assert main(command) == 2
    shown = capsys.readouterr()
    assert "expected sha256" in shown.err and "hf_secret" not in shown.out + shown.err


BAD = {
    "damaged": (lambda content: content[: len(content) // 2], r"expected a safetensors file|cannot be read"),
    "a page": (lambda content: b"<html>log in</html>", "cannot be read"),
    "not a plugin": (lambda content: b"", "nothing was kept"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_whole_plugin_is_not_put_in_place(journey, mirror, tmp_path, name):
    change, message = BAD[name]
    content = Server.files[FILE] = change(journey.plugin.read_bytes())
    out = tmp_path / "here.safetensors"
    with pytest.raises(AnyMC3DError, match=message):
        pull(mirror, out, sha256=hashlib.sha256(content).hexdigest())
    assert not out.exists() and not list((tmp_path / "home" / "downloads").rglob("*.safetensors"))


def test_a_card_that_names_a_program_does_not_arrive(journey, tmp_path):
    def change(card):
        card["method"]["weights"] = "/bin/sh"

    forged(journey.plugin, tmp_path / "share" / "plugin.safetensors", change)
    with pytest.raises(PluginError, match=r"method.weights: .*nothing was kept"):
        pull(str(tmp_path / "share"), tmp_path / "here.safetensors")
    assert not (tmp_path / "here.safetensors").exists()


def test_pins_bounds_and_redirects_hold(journey, mirror, monkeypatch, tmp_path):
    out, right = tmp_path / "here.safetensors", digest(journey.plugin)
    Server.files[FILE] = journey.plugin.read_bytes()
    with pytest.raises(AnyMC3DError, match=r"expected sha256 0{64}, got .*; nothing was kept"):
        pull(mirror, out, sha256="0" * 64)
    with pytest.raises(UsageError, match="expected 64 hexadecimal digits"):
        pull(mirror, out, sha256="0" * 63)
    out.write_bytes(b"mine")
    with pytest.raises(UsageError, match="holds something else"):
        pull(mirror, out, sha256=right)
    assert out.read_bytes() == b"mine"
    out.unlink()
    monkeypatch.setenv("ANYMC3D_MIRROR_TOKEN", "mirror_secret")
    for target in (mirror.replace("127.0.0.1", "localhost"), "file:///etc/passwd", "ftp://127.0.0.1/x"):
        monkeypatch.setattr(Server, "away", target)
        with pytest.raises(AnyMC3DError, match="redirected "):
            pull(mirror, out, sha256=right)
    monkeypatch.setattr(Server, "away", "")
    monkeypatch.setattr(sharing, "MAX_BASELINE_BYTES", 1000)
    with pytest.raises(AnyMC3DError, match="expected at most 1000 bytes"):
        pull(mirror, out, sha256=right)
    with pytest.raises(AnyMC3DError, match="expected at most 1000 bytes"):
        pull(str(journey.plugin), out)
    assert not out.exists()


@pytest.mark.parametrize(
    "text",
    ["https://me:secret@host/x", "https://host/x?key=secret", "https://host/../x", "https://host/%2e%2e/x", "file:///x",
     "s3://bucket/x", "https:///x"],
)  # fmt: skip
def test_a_place_that_is_none_is_refused_without_its_secrets(text):
    with pytest.raises(UsageError, match="expected") as caught:
        place_of(text)
    assert "secret" not in str(caught.value)


def test_a_signature_binds_the_file_and_the_key(keys, tmp_path):
    key, public = keys
    text, other = sign("a" * 64, key), make_key(tmp_path / "other.key")
    assert check_signature(text, "a" * 64, [other, public], "x") == public
    for changed, trusted, message in (
        (text, [other], "none of the 1 keys that are trusted"),
        (text.replace(public, other), [other], "does not fit the file"),
        (text + "more", [public], "damaged"),
        (None, [public], "not signed"),
    ):
        with pytest.raises(PluginError, match=message):
            check_signature(changed, "a" * 64, trusted, "x")
    with pytest.raises(PluginError, match="does not fit the file"):
        check_signature(text, "b" * 64, [public], "x")
    assert key.stat().st_mode & 0o777 == 0o600
    with pytest.raises(UsageError, match="never written over"):
        make_key(key)
    with pytest.raises(UsageError, match="this is a private key"):
        named_keys([str(key)])


def test_a_key_may_have_a_passphrase_and_pinned_keys_hold_for_every_pull(journey, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("ANYMC3D_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ANYMC3D_KEY_PASSPHRASE", "open sesame")
    make_key(tmp_path / "my.key")
    push(journey.plugin, str(tmp_path / "share"), key=tmp_path / "my.key")
    monkeypatch.delenv("ANYMC3D_KEY_PASSPHRASE")
    with pytest.raises(UsageError, match="passphrase is wrong or missing"):
        sign("a" * 64, tmp_path / "my.key")
    (tmp_path / "home").mkdir()
    shutil.copy(f"{tmp_path / 'my.key'}.pub", tmp_path / "home" / "trusted-keys")
    command = ["plugin", "pull", str(tmp_path / "share"), "-o", str(tmp_path / "here.safetensors")]
    assert main(command) == 0
    push(journey.plugin, str(tmp_path / "share"))
    assert main([*command, "--overwrite"]) == 2 and "not signed" in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl program")
def test_openssl_agrees_with_the_signature(keys, tmp_path):
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

    key, _ = keys
    public = load_pem_private_key(key.read_bytes(), None).public_key()
    (tmp_path / "pub.pem").write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    (tmp_path / "text").write_text(f"anymc3d plugin 1\nsha256:{'c' * 64}\n")
    (tmp_path / "raw").write_bytes(base64.b64decode(sign("c" * 64, key).split()[-1]))
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-rawin", "-inkey", "pub.pem", "-in", "text"]
    command += ["-sigfile", "raw"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 0
    (tmp_path / "text").write_text(f"anymc3d plugin 1\nsha256:{'d' * 64}\n")
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode != 0


def test_https_is_checked_by_its_certificate(journey, monkeypatch, tmp_path):
    monkeypatch.setenv("ANYMC3D_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    certificate = self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    monkeypatch.setattr(Server, "files", {FILE: journey.plugin.read_bytes()})
    for port in serving(context):
        address = f"https://127.0.0.1:{port}{FILE}"
        with pytest.raises(AnyMC3DError, match="CERTIFICATE_VERIFY_FAILED"):
            pull(address, tmp_path / "here.safetensors")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert pull(address, tmp_path / "here.safetensors").sha256 == digest(journey.plugin)
        monkeypatch.setattr(Server, "away", f"http://127.0.0.1:{port}/x")
        with pytest.raises(AnyMC3DError, match="redirected from https to http"):
            pull(address, tmp_path / "other.safetensors")


def self_signed(folder: Path) -> Path:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(days=1))
    made = builder.add_extension(names, critical=True).sign(key, hashes.SHA256())
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = folder / "server.pem"
    path.write_bytes(key.private_bytes(*form) + made.public_bytes(serialization.Encoding.PEM))
    return path
