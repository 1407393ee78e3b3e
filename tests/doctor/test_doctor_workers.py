"""D6, A5: a scan that breaks, blocks or bloats its reader costs one row; the others, and their order, stay."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from data_set_makers import body, save

from anymc3d.doctor import workers
from anymc3d.doctor.facts import Job
from anymc3d.doctor.workers import Limits, measure_all

TROUBLE = """
import os, sys, time
import anymc3d.doctor.measure as measure_module
from anymc3d.doctor import workers
whole = measure_module.measure
def measure(job):
    if "crash" in job.reference:
        os.abort()
    if "hang" in job.reference:
        time.sleep(600)
    if "odd" in job.reference:
        raise RuntimeError("secret text of the file")
    if "bloat" in job.reference:
        block = bytearray(8 << 30)
    return whole(job)
measure_module.measure = measure
workers._limit_memory(int(sys.argv[1]))
workers.serve(sys.stdin.buffer, sys.stdout.buffer)
"""


@pytest.fixture
def scans(tmp_path):
    return [Job(str(save(tmp_path / f"{name}.nii", body(i)))) for i, name in enumerate("abc")]


@pytest.fixture
def troubled(monkeypatch):
    """Children in which a file's name brings the trouble."""
    real = workers.subprocess.Popen

    def start(command, **options):
        return real([command[0], "-c", TROUBLE, command[-1]], **options)

    monkeypatch.setattr(workers.subprocess, "Popen", start)


def test_results_come_in_the_order_of_the_jobs_whoever_reads_them_and_no_child_is_left(scans):
    jobs = [*scans, *reversed(scans)]
    here = measure_all(jobs, processes=0)
    counted = []
    there = measure_all(jobs, processes=2, progress=counted.append)
    assert there == here
    assert here[0] == here[5] != here[1]
    assert sum(counted) == len(jobs)
    assert there[0].voxels.profile == here[0].voxels.profile, "every number is kept on its journey"
    assert np.array_equal(there[0].voxels.vector(), here[0].voxels.vector())
    assert np.array_equal(there[0].grid.matrix, here[0].grid.matrix)
    listed = " ".join(path.read_text() for path in Path("/proc/self/task").glob("*/children")).split()
    commands = [Path(f"/proc/{child}/cmdline").read_text() for child in listed]
    assert not [command for command in commands if "anymc3d.doctor.workers" in command]


def test_A5_D6_a_broken_reader_costs_its_own_row(scans, troubled):
    jobs = [scans[0], Job("crash.nii"), Job("hang.nii"), Job("odd.nii"), Job("bloat.nii"), scans[1]]
    facts = measure_all(jobs, processes=1, limits=Limits(scan_seconds=2, memory_bytes=4 << 30))
    whole = measure_all(scans[:2], processes=0)
    assert [facts[0], facts[5]] == whole
    assert "broke down" in facts[1].error
    assert "did not end within 2 s" in facts[2].error
    assert facts[3].error == "it cannot be measured (RuntimeError); check the file"
    assert "MemoryError" in facts[4].error


def test_A16_a_pipe_is_one_row(tmp_path):
    os.mkfifo(tmp_path / "pipe.nii.gz")
    (facts,) = measure_all([Job(str(tmp_path / "pipe.nii.gz"))], processes=1)
    assert "regular file" in facts.error  # a reader of the pipe would be given up as too slow
