"""Scans at addresses: only those that were named, with bounds, nothing secret said, the voxels that the disk has."""

import os
import shutil
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import fsspec
import pytest

from anymc3d.cli.main import main
from anymc3d.data import remote
from anymc3d.data.readers import content_hash, read_header, read_volume
from anymc3d.errors import ScanError, UsageError
from anymc3d.files.tables import read_table, write_table

STORE = "memory://bucket/scans/"


@pytest.fixture
def store(journey, home, monkeypatch):
    """Two scans in a store, one address that is empty, and one of a folder."""
    monkeypatch.setattr(remote, "_known", {})
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    for scan in journey.scans[:2]:
        memory.pipe(f"bucket/scans/{scan.name}", scan.read_bytes())
    yield memory
    memory.store.clear()
    shutil.rmtree(remote.remote_folder(), ignore_errors=True)


def test_a_scan_at_an_address_is_the_scan(store, journey):
    address = STORE + journey.scans[0].name
    with remote.allowing([STORE]):
        assert content_hash(address) == content_hash(journey.scans[0])
        assert (read_volume(address).voxels == read_volume(journey.scans[0]).voxels).all()
        assert read_header(address).shape == read_header(journey.scans[0]).shape
    (kept,) = remote.remote_folder().glob("*/*")
    assert kept.name == "scan.nii.gz", "the name of a scan may be a person's"
    assert kept.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "reference", ["memory://other/a.nii.gz", "memory://bucket/scans/../a.nii.gz", "memory://bucket/scans/a::b"]
)
def test_what_was_not_named_is_not_opened(store, reference, monkeypatch):
    monkeypatch.setattr(remote, "_fetched", lambda _: pytest.fail("opened"))
    with remote.allowing([STORE]), pytest.raises(ScanError, match=r"is opened only|is not opened"):
        read_volume(reference)
    with pytest.raises(ScanError, match="is opened only"):
        read_volume(STORE + "case00.nii.gz")


def test_a_changed_scan_is_fetched_again_also_where_the_store_says_nothing_of_it(store, journey, monkeypatch):
    name, said = journey.scans[0].name, type(store).info
    for silent in (False, True):
        if silent:
            monkeypatch.setattr(type(store), "info", lambda *given, **_: {"name": said(*given)["name"], "size": None})
        for scan in journey.scans[:2]:
            store.pipe(f"bucket/scans/{name}", scan.read_bytes())
            monkeypatch.setattr(remote, "_known", {})
            with remote.allowing([STORE]):
                assert content_hash(STORE + name) == content_hash(scan)


@pytest.mark.parametrize("prefix", ["s3://", "s3:///", "s3://bucket", "bucket/", "/scans/", "s3://bucket/../"])
def test_a_beginning_that_says_no_store_is_refused(prefix):
    with pytest.raises(UsageError, match="expected the beginning"), remote.allowing([prefix]):
        pass


def test_nothing_secret_is_said(store):
    address = "https://user:passw0rd@host.example:8443/a.nii.gz?X-Signature=s3cret#x"
    assert remote.without_secrets(address) == "https://host.example:8443/a.nii.gz"
    assert "s3cret" not in str(remote.why_not(address)) and "passw0rd" not in str(remote.why_not(address))


def test_bounds_and_faults_of_a_store_are_one_line(store, journey, monkeypatch):
    address = STORE + journey.scans[0].name
    with remote.allowing([STORE]):
        with pytest.raises(ScanError, match=r"cannot be fetched \(FileNotFoundError.*credentials"):
            read_volume(STORE + "gone.nii.gz")
        with pytest.raises(ScanError, match=r"a folder; a DICOM study at an address is one \.zip"):
            read_volume("memory://bucket/scans/")
        monkeypatch.setattr(remote, "MOST_BYTES", 100)
        with pytest.raises(ScanError, match="at most 100 are fetched"):
            read_volume(address)

        class Store(type(store)):
            def info(self, path, **more):
                return super().info(path, **more) | {"size": None}

            def open(self, path, mode="rb", **more):
                if "gone" in path:
                    raise PermissionError(13, "token abc123 expired")
                return super().open(path, mode, **more)

        monkeypatch.setattr(fsspec.core, "url_to_fs", lambda address: (Store(), address.removeprefix("memory:/")))
        with pytest.raises(ScanError, match="more than 100 bytes"):
            read_volume(address)
        store.pipe("bucket/scans/gone.nii.gz", b"x")
        with pytest.raises(ScanError) as caught:
            read_volume(STORE + "gone.nii.gz")
        assert caught.value.code == "E-credentials" and "abc123" not in str(caught.value)
    assert not list(remote.remote_folder().glob("*/*"))


def test_what_was_used_longest_ago_goes_first(tmp_path):
    for number in range(4):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "scan.nii").write_bytes(b"x" * 10)
        os.utime(tmp_path / str(number) / "scan.nii", (1000 + number, 1000 + number))
    os.utime(tmp_path / "0" / "scan.nii")
    assert remote.trim(tmp_path, 20) == 2
    assert sorted(path.parent.name for path in tmp_path.glob("*/scan.nii")) == ["0", "3"]


@pytest.fixture
def manifest(store, journey, tmp_path):
    rows = [{"case": f"c{i}", "image": STORE + scan.name, "sex": "F"} for i, scan in enumerate(journey.scans[:2])]
    rows.append({"case": "gone", "image": STORE + "gone.nii.gz", "sex": "M"})
    write_table(tmp_path / "remote.csv", ("case", "image", "sex"), rows)
    return tmp_path / "remote.csv"


class Expiring(BaseHTTPRequestHandler):
    """Serves the files of a folder; from now on, or no longer, it refuses those whose name ends with ``01.nii.gz``."""

    folder, answer = Path(), 403

    def do_HEAD(self):
        path = self.folder / Path(self.path.partition("?")[0]).name
        if self.answer != 200 and path.name.endswith("01.nii.gz"):
            self.send_error(self.answer)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(path.stat().st_size))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(path.read_bytes())

    do_GET = do_HEAD

    def log_message(self, *_):
        pass


@pytest.mark.filterwarnings("ignore")  # aiohttp's own, of connections that it closes late
@pytest.mark.parametrize("answer", [401, 403])
def test_refused_credentials_are_one_line_and_cost_their_cases_alone(
    journey, home, tmp_path, monkeypatch, capsys, answer
):
    pytest.importorskip("aiohttp", reason="needs the extra remote")
    monkeypatch.setattr(remote, "_known", {})
    monkeypatch.setattr(Expiring, "folder", journey.scans[0].parent)
    monkeypatch.setattr(Expiring, "answer", answer)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Expiring)
    Thread(target=server.serve_forever, daemon=True).start()
    store = f"http://127.0.0.1:{server.server_port}/"
    scans = [f"{store}{scan.name}?X-Signature=s3cret" for scan in journey.scans[:2]] + [str(journey.scans[2])]
    rows = [{"case": f"c{number}", "image": scan} for number, scan in enumerate(scans)]
    write_table(tmp_path / "m.csv", ("case", "image"), rows)
    words = ["predict", "-p", str(journey.plugin), "-i", str(tmp_path / "m.csv"), "--device", "cpu", "--quiet"]
    words += ["-o", str(tmp_path / "out"), "--remote", store]
    assert main(words) == 3
    printed = capsys.readouterr().err
    assert "warning: 1 case: a store refused the credentials; renew them" in printed and "s3cret" not in printed
    before = read_table(tmp_path / "out" / "predictions.csv")
    assert [row["status"] == "error" for row in before] == [False, True, False]
    assert before[1]["message"].endswith("[E-credentials]") and "127.0.0.1" not in before[1]["message"]
    fetch = ["data", "fetch", str(tmp_path / "m.csv"), "--remote", store, "--to", str(tmp_path / "scans"), "--quiet"]
    assert main([*fetch, "-o", str(tmp_path / "new.csv")]) == 3
    assert "warning: 1 file: a store refused the credentials" in capsys.readouterr().err
    monkeypatch.setattr(Expiring, "answer", 200)
    assert main(words) == 0
    printed = capsys.readouterr().err
    assert "credentials" not in printed and "127.0.0.1" not in printed and "s3cret" not in printed
    after = read_table(tmp_path / "out" / "predictions.csv")
    assert (after[0], after[2]) == (before[0], before[2]) and after[1]["status"] != "error"
    assert len((tmp_path / "out" / "journal.jsonl").read_text().splitlines()) == 4, "the one case was computed anew"
    server.shutdown()
    server.server_close()
    shutil.rmtree(remote.remote_folder(), ignore_errors=True)


def test_predict_needs_the_beginning_on_the_command_line(manifest, journey, tmp_path, capsys):
    common = ["predict", "-p", str(journey.plugin), "-i", str(manifest), "--device", "cpu", "--quiet", "-o"]
    assert main([*common, str(tmp_path / "no")]) == 2
    assert "--remote memory://bucket/" in capsys.readouterr().err
    assert main([*common, str(tmp_path / "yes"), "--remote", STORE]) == 3
    local = ["predict", "-p", str(journey.plugin), "-i", str(journey.scans[0]), "--device", "cpu", "--quiet"]
    assert main([*local, "-o", str(tmp_path / "local")]) == 0
    rows = read_table(tmp_path / "yes" / "predictions.csv")
    assert [row["status"] for row in rows] == ["ok", "ok", "error"]
    assert "memory://" not in (tmp_path / "yes" / "predictions.csv").read_text(), "a scan is named by its column"
    (alone,) = read_table(tmp_path / "local" / "predictions.csv")
    assert [rows[0][name] for name in alone if name != "case"] == [alone[name] for name in alone if name != "case"]


def test_an_address_at_the_keyboard_names_itself(store, journey, tmp_path):
    address = STORE + journey.scans[0].name
    command = ["predict", "-p", str(journey.plugin), "-i", address, "--device", "cpu", "--quiet", "-o", str(tmp_path)]
    assert main(command) == 0
    assert [row["case"] for row in read_table(tmp_path / "predictions.csv")] == ["case00"]


def test_scans_are_fetched_for_training(manifest, journey, tmp_path, capsys):
    assert main(["doctor", str(manifest)]) == 2
    assert "anymc3d data fetch" in capsys.readouterr().out
    fetch = ["data", "fetch", str(manifest), "--remote", STORE, "--to", str(tmp_path / "scans"), "-o"]
    assert main([*fetch, str(tmp_path / "here.csv")]) == 3
    assert "gone: image: cannot be fetched" in capsys.readouterr().err
    rows = read_table(tmp_path / "here.csv")
    assert [row["sex"] for row in rows] == ["F", "F", "M"]
    assert content_hash(tmp_path / rows[0]["image"]) == content_hash(journey.scans[0])
