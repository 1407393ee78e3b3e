"""Scans read in child processes, each forked from one warm process: how each ends, and what it costs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

MOST_SECONDS = 15
MOST_BYTES_ABOVE_IDLE = 1_500_000_000

DRIVER = """
import gc, json, os, resource, sys, time, traceback
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
    if job.get("oracle"):
        compare(volume.voxels, pydicom.dcmread(job["oracle"]))
    finite = bool(numpy.isfinite(volume.voxels).all() and numpy.isfinite(volume.affine).all())
    return "warn" if volume.warnings else "ok", [*volume.warnings, *([] if finite else ["NOT FINITE"])]

def compare(voxels, dataset):
    slope, intercept = float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0))
    expected = (dataset.pixel_array.T * slope + intercept).astype(numpy.float32)
    assert voxels.shape == (*expected.shape, 1) and (voxels[:, :, 0] == expected).all(), "not what pydicom decodes"

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
    while not done and time.monotonic() - began < 8 * limit:  # on a busy machine the clock runs ahead of the work
        done, status, used = os.wait4(pid, os.WNOHANG)
        time.sleep(0.001)
    if not done:
        os.kill(pid, 9)
        _, status, used = os.wait4(pid, 0)
    content = b"".join(iter(lambda: os.read(read, 65536), b""))
    os.close(read)
    state, said = json.loads(content) if content else ("signal" if done else "hang", [])
    costs = {"seconds": used.ru_utime + used.ru_stime, "bytes": used.ru_maxrss * 1024}
    return {"state": state, "said": said, "status": status} | costs

jobs, limit = json.load(sys.stdin), float(sys.argv[1])
gc.freeze()  # no child copies memory for nothing
idle = int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
json.dump({"idle": idle, "results": [run(job, limit) for job in jobs]}, open(sys.argv[2], "w"))
"""


def read_in_children(jobs: list[dict[str, Any]], root: Path) -> list[dict[str, Any]]:
    """The outcome of each job, in order: ``state`` (ok, warn, error, traceback, signal, hang), what it said, costs.

    A job: ``reference``, and where it matters ``spacing``, ``series``, ``reader`` (scan or manifest) and ``oracle``,
    the one DICOM file whose pixels as pydicom decodes them the voxels have to equal.
    """
    jobs = [
        {"spacing": None, "series": None, "reader": "scan", "log": str(root / f"{number}.log")} | job
        for number, job in enumerate(jobs)
    ]
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
    return [
        result | {"job": job, "above_idle": result["bytes"] - found["idle"], "printed": Path(job["log"]).read_text()}
        for job, result in zip(jobs, found["results"], strict=True)
    ]


def assert_ended_well(result: dict[str, Any]) -> None:
    """One of the three verdicts, within the limits, in lines of text, and nothing printed."""
    assert result["state"] in ("ok", "warn", "error"), "\n".join(result["said"])
    assert result["status"] == 0
    assert result["seconds"] < MOST_SECONDS
    assert result["above_idle"] < MOST_BYTES_ABOVE_IDLE
    assert result["printed"] == ""
    assert all(line and "\n" not in line for line in result["said"])
    assert "NOT FINITE" not in result["said"]
    if result["state"] == "error" and result["job"]["reader"] == "scan":
        (line,) = result["said"]
        assert ": cannot be read (" not in line, "a library stumbled where a check of ours should have spoken"
