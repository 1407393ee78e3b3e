"""Atomic writes keep the old file whatever happens in between."""

import os
import resource
import stat

import numpy as np
import pytest
from safetensors.numpy import save_file

from anymc3d.errors import OutputError
from anymc3d.files import atomic, regular


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_behind(tmp_path):
    path = tmp_path / "result.csv"
    atomic.write_text(path, "old")
    with pytest.raises(RuntimeError, match="midway"), atomic.replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("midway")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["result.csv"]


def test_G6_files_are_private_to_the_user(tmp_path):
    atomic.write_json(tmp_path / "a.json", {"x": 1})
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o600


def test_json_refuses_nan_because_json_has_none(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        atomic.write_json(tmp_path / "a.json", {"x": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_an_unchanged_file_is_left_alone_and_one_that_vanishes_meanwhile_is_written(tmp_path, monkeypatch):
    path = tmp_path / "result.csv"
    atomic.write_text(path, "same")
    before = path.stat().st_mtime_ns
    atomic.write_text(path, "same")
    assert path.stat().st_mtime_ns == before
    read, vanished = regular.read_bytes, []

    def vanishes(path):
        path.unlink()
        vanished.append(path)
        return read(path)

    monkeypatch.setattr(regular, "read_bytes", vanishes)
    atomic.write_text(path, "same")
    monkeypatch.undo()
    assert path.read_text() == "same" and vanished


def test_D8_what_cannot_be_written_is_named_with_its_bytes_and_the_old_file_stays(tmp_path):
    path = tmp_path / "result.csv"
    atomic.write_text(path, "old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(OutputError, match=r"result.csv: cannot be written \(File too large\); it needs 5000 bytes"):
            atomic.write_text(path, "x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["result.csv"]


def test_D8_what_the_system_said_to_safetensors_is_heard(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(OutputError, match="File too large"), atomic.replacing(tmp_path / "x") as temporary:
            save_file({"x": np.zeros(1000)}, temporary)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("in_the_way", ["a file above", "a folder"])
def test_D8_what_is_in_the_way_is_said(tmp_path, in_the_way):
    path = tmp_path / "out" / "result.csv"
    if in_the_way == "a folder":
        (path / "mine").mkdir(parents=True)
    else:
        path.parent.write_text("mine")
    with pytest.raises(OutputError, match=r"a (file|folder) stands where a (file|folder) should be"):
        atomic.write_text(path, "new")


def test_G6_folders_above_are_made_private_and_those_that_are_there_are_left_alone(tmp_path):
    (tmp_path / "theirs").mkdir(mode=0o755)
    umask = os.umask(0)
    try:
        atomic.write_text(tmp_path / "theirs" / "a" / "b" / "c.csv", "")
    finally:
        os.umask(umask)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("theirs", "theirs/a", "theirs/a/b")]
    assert modes == [0o755, 0o700, 0o700]
