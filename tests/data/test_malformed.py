"""Every malformed or misleading file ends as its table says: no traceback, no signal, no hang, no flood of memory.

Each entry of the table names the promise that it keeps: A1, A2, A3, A4, A5, A6, A7, A8, A9, A10, A14, A16, B1, B2, B3,
B4, B5, B6, B7, B8, B9, B12 or G5.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from malformed import VOXELS, table

TABLE = table()
MOST_SECONDS = 15
MOST_BYTES_ABOVE_IDLE = 1_500_000_000

DRIVER = """
import json, os, resource, sys, time, traceback
import numpy, pydicom, pydicom.pixels, SimpleITK
from anymc3d.data.manifest import inspect_manifest
from anymc3d.data.readers import content_hash, read_header, read_volume
from anymc3d.errors import ScanError

def scan(job):
    spacing, series = job["spacing"] and tuple(job["spacing"]), job["series"]
    try:
        volume = read_volume(job["reference"], spacing=spacing, series=series)
    except ScanError as error:
        for other in (read_header, content_hash):
            try:
                other(job["reference"], series=series, **({"spacing": spacing} if other is read_header else {}))
            except ScanError:
                pass
        return "error", [str(error)]
    read_header(job["reference"], spacing=spacing, series=series)
    finite = bool(numpy.isfinite(volume.voxels).all() and numpy.isfinite(volume.affine).all())
    return "warn" if volume.warnings else "ok", [*volume.warnings, *([] if finite else ["NOT FINITE"])]

def manifest(job):
    _, problems = inspect_manifest(job["reference"])
    return "error" if problems else "ok", problems

def in_child(job, out):
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.dup2(out, 1), os.dup2(out, 2)
    try:
        state, said = {"scan": scan, "manifest": manifest}[job["reader"]](job)
    except BaseException:
        state, said = "traceback", [traceback.format_exc()]
    os.write(3, json.dumps([state, said]).encode())
    os._exit(0)

def run(job, limit):
    read, write = os.pipe()
    log = os.open(job["log"], os.O_WRONLY | os.O_CREAT)
    began = time.monotonic()
    pid = os.fork()
    if not pid:
        os.dup2(write, 3)
        in_child(job, log)
    os.close(write), os.close(log)
    done = 0
    while not done and time.monotonic() - began < limit:
        done, status, used = os.wait4(pid, os.WNOHANG)
        time.sleep(0.001)
    seconds = time.monotonic() - began
    if not done:
        os.kill(pid, 9)
        _, status, used = os.wait4(pid, 0)
    content = b"".join(iter(lambda: os.read(read, 65536), b""))
    os.close(read)
    state, said = json.loads(content) if content else ("signal" if done else "hang", [])
    return {"state": state, "said": said, "seconds": seconds, "bytes": used.ru_maxrss * 1024, "status": status}

jobs, limit = json.load(sys.stdin), float(sys.argv[1])
idle = int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
json.dump({"idle": idle, "results": [run(job, limit) for job in jobs]}, open(sys.argv[2], "w"))
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> dict[str, dict]:
    """Every entry, read in a process of its own that is forked from a warm one."""
    root = tmp_path_factory.mktemp("malformed")
    jobs = []
    for number, entry in enumerate(TABLE.values()):
        folder = root / str(number)
        folder.mkdir()
        log = str(root / f"{number}.log")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom warns of what is written wrong on purpose
            reference = entry.make(folder)
        jobs.append(
            {
                "reference": reference,
                "spacing": entry.spacing,
                "series": entry.series,
                "reader": entry.reader,
                "log": log,
            }
        )
    told = root / "told.json"
    subprocess.run(
        [sys.executable, "-c", DRIVER, str(MOST_SECONDS), str(told)],
        input=json.dumps(jobs).encode(),
        cwd=root,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
        timeout=280,
    )
    found = json.loads(told.read_text())
    for job, result in zip(jobs, found["results"], strict=True):
        result |= {"job": job, "above_idle": result["bytes"] - found["idle"], "printed": Path(job["log"]).read_text()}
    return dict(zip(TABLE, found["results"], strict=True))


@pytest.mark.parametrize("name", TABLE)
def test_A1_A2_A3_A4_B8_an_entry_ends_as_the_table_says(outcomes, name: str) -> None:
    result = outcomes[name]
    assert result["state"] == TABLE[name].verdict, "\n".join(result["said"])
    assert result["status"] == 0
    assert result["seconds"] < MOST_SECONDS
    assert result["above_idle"] < MOST_BYTES_ABOVE_IDLE
    assert result["printed"] == ""
    assert all(line and "\n" not in line for line in result["said"])
    assert "NOT FINITE" not in result["said"]
    if result["state"] == "error" and TABLE[name].reader == "scan":
        (line,) = result["said"]
        assert ": cannot be read (" not in line, "a library stumbled where a check of ours should have spoken"


def test_the_table_is_large_and_has_all_verdicts_and_kinds() -> None:
    verdicts = Counter(entry.verdict for entry in TABLE.values())
    assert len(TABLE) > 400 and min(verdicts["ok"], verdicts["warn"]) > 30 and verdicts["error"] > 250
    assert {"nifti", "nifti2", "npy", "npz", "dicom", "dicom2", "text", "numpy", "table"} == {
        name.partition("/")[0] for name in TABLE
    }


def test_no_entry_leaves_a_canary(outcomes, tmp_path_factory) -> None:
    root = Path(next(iter(outcomes.values()))["job"]["log"]).parent
    assert not list(root.rglob("*canary*"))


@pytest.mark.parametrize(
    "name", [name for name, entry in TABLE.items() if name.startswith("text/") and entry.verdict == "ok"]
)
def test_B1_the_same_scan_in_every_text_format_is_the_same_volume(tmp_path: Path, name: str) -> None:
    from anymc3d.data.readers import read_volume

    volume = read_volume(TABLE[name].make(tmp_path))
    assert np.array_equal(volume.voxels, VOXELS.astype(np.float32))
    affine = np.diag([-0.9, -1.1, 2.5, 1.0])
    affine[:3, 3] = [20, -5, 40]
    np.testing.assert_allclose(volume.affine, affine, atol=1e-6)
