"""Atomic writes keep the old file whatever happens in between."""

import stat

import pytest

from anymc3d.files import atomic


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
    read = type(path).read_bytes

    def vanishes(self):
        self.unlink()
        return read(self)

    monkeypatch.setattr(type(path), "read_bytes", vanishes)
    atomic.write_text(path, "same")
    monkeypatch.undo()
    assert path.read_text() == "same"
