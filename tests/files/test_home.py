"""Where things are kept, also for a user without a home folder."""

from pathlib import Path

import pytest

from anymc3d.errors import UsageError
from anymc3d.files.home import cache_folder, home_folder


def test_the_variable_wins_then_the_cache_folder_then_the_home(monkeypatch):
    monkeypatch.setenv("HOME", "/h")
    monkeypatch.setenv("XDG_CACHE_HOME", "/c")
    monkeypatch.setenv("ANYMC3D_HOME", "/a")
    assert home_folder() == Path("/a")
    monkeypatch.delenv("ANYMC3D_HOME")
    assert home_folder() == Path("/c/anymc3d")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path("/h/.cache/anymc3d/prepared")


def test_a_user_without_home_is_told_what_to_set(monkeypatch):
    for name in ("ANYMC3D_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)

    def homeless(_):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", classmethod(homeless))
    with pytest.raises(UsageError, match="no home folder: set ANYMC3D_HOME"):
        home_folder()
