"""The real S3 protocol on loopback (moto's server): ``--remote``, ``data fetch``, credentials that do not hold."""

from __future__ import annotations

import gc
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from anymc3d.cli.main import main
from anymc3d.data import remote
from anymc3d.data.readers import read_volume
from anymc3d.errors import ScanError
from anymc3d.files.tables import read_table, write_table

pytestmark = pytest.mark.filterwarnings("ignore")  # of boto's and moto's own, on every new Python

server_module = pytest.importorskip("moto.server", reason="needs moto[server]")
s3fs = pytest.importorskip("s3fs", reason="needs the extra remote")
boto3 = pytest.importorskip("boto3", reason="needs moto[server]")
STORE = "s3://hospital/scans/"
SECRET = "wJalrXUtnFEMI-hidden"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    running = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()
    gc.collect()  # connections that nobody closed warn here, where it is ignored


@pytest.fixture
def scan(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """One scan, also at ``s3://hospital/scans/a.nii.gz``."""
    path = tmp_path / "a.nii.gz"
    volume = np.random.default_rng(0).normal(size=(8, 9, 10)).astype(np.float32)
    nib.save(nib.Nifti1Image(volume, np.diag([1.0, 1.0, 2.0, 1.0])), path)
    known = {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in {**known, "AWS_ENDPOINT_URL": server, "no_proxy": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("ANYMC3D_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(remote, "_known", {})
    client = boto3.client("s3", endpoint_url=server)
    client.create_bucket(Bucket="hospital")
    client.put_object(Bucket="hospital", Key="scans/a.nii.gz", Body=path.read_bytes())
    s3fs.S3FileSystem.clear_instance_cache()
    yield path
    told(server, "/moto-api/reset-auth", b"1000000")
    client.close()
    s3fs.S3FileSystem.clear_instance_cache()
    gc.collect()


def told(server: str, path: str, body: bytes = b"") -> None:
    asked = urllib.request.Request(server + path, data=body, headers={"Content-Type": "text/plain"})
    urllib.request.urlopen(asked, timeout=10).close()


def test_a_scan_of_a_bucket_is_the_scan(scan: Path) -> None:
    with remote.allowing([STORE]):
        assert (read_volume(f"{STORE}a.nii.gz").voxels == read_volume(scan).voxels).all()
        with pytest.raises(ScanError, match=r"cannot be fetched \(FileNotFoundError"):
            read_volume(f"{STORE}b.nii.gz")


def test_data_fetch_brings_what_the_manifest_names(scan: Path, tmp_path: Path) -> None:
    write_table(tmp_path / "remote.csv", ("case", "image"), [{"case": "a", "image": f"{STORE}a.nii.gz"}])
    command = ["data", "fetch", str(tmp_path / "remote.csv"), "--remote", STORE, "--to", str(tmp_path / "scans")]
    assert main([*command, "-o", str(tmp_path / "here.csv")]) == 0
    (row,) = read_table(tmp_path / "here.csv")
    assert (tmp_path / row["image"]).read_bytes() == scan.read_bytes()


def test_credentials_that_no_longer_hold_are_one_clear_line(scan: Path, server: str, caplog) -> None:
    told(server, "/moto-api/reset-auth", b"0")  # from now on every request needs a key that the server knows
    with remote.allowing([STORE]), pytest.raises(ScanError) as caught:
        read_volume(f"{STORE}a.nii.gz")
    message = str(caught.value)
    assert caught.value.code == "E-credentials" and "the store refuses the credentials" in message
    assert "\n" not in message and SECRET not in message + caplog.text and "AKIAEXAMPLE" not in message
